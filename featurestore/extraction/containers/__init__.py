"""The amount of sound in a container format, found by walking the file without the decoder.

libsndfile silently reads files that are truncated, damaged or concatenated. So the container is
walked first, in bounded time and memory:

    parts      the parts to decode one after another, with the number of samples of each
    source     random access to an open file
    ogg, flac, mpeg      streams of pages or frames, each checked
    chunked, headers     containers that declare a number of bytes
    foreign    formats that are recognised but not read

A file that contains less than it declares is TRUNCATED, a damaged one UNREADABLE, and one in a
format that is not read UNSUPPORTED.
"""

from collections.abc import Callable
from dataclasses import replace

from featurestore.extraction.containers import chunked, headers
from featurestore.extraction.containers.flac import MAGIC as FLAC
from featurestore.extraction.containers.flac import ends_whole, walk_flac
from featurestore.extraction.containers.foreign import refuse_foreign
from featurestore.extraction.containers.mpeg import after_tags, find_mpeg, walk_mpeg
from featurestore.extraction.containers.mpegframe import parse
from featurestore.extraction.containers.ogg import MAGIC as OGG
from featurestore.extraction.containers.ogg import walk_ogg
from featurestore.extraction.containers.parts import Container, Part, unsupported
from featurestore.extraction.containers.source import Source
from featurestore.extraction.containers.tags import skip_tags

__all__ = ["Container", "Part", "Source", "ends_whole", "unsupported", "walk"]

_BY_MAGIC: tuple[tuple[bytes, bytes, Callable[[Source], Container]], ...] = (
    (b"RIFF", b"WAVE", chunked.walk_riff),
    (b"RIFX", b"WAVE", chunked.walk_riff),
    (b"RF64", b"WAVE", chunked.walk_riff),
    (b"FORM", b"AIFF", chunked.walk_aiff),
    (b"FORM", b"AIFC", chunked.walk_aiff),
    (b"FORM", b"8SVX", chunked.walk_iff),
    (b"FORM", b"16SV", chunked.walk_iff),
    (b"riff\x2e\x91\xcf\x11", b"", chunked.walk_w64),
    (b"caff", b"", chunked.walk_caf),
    (b".snd", b"", headers.walk_au),
    (b"dns.", b"", headers.walk_au),
    (b"NIST_1A", b"", headers.walk_sphere),
    (b"Creative Voice File\x1a", b"", headers.walk_voc),
    (b"2BIT", b"", headers.walk_avr),
    (b"ALawSoundFile**\0", b"", headers.walk_wve),
    (b"\1\4", b"", headers.walk_mpc),
)


def walk(source: Source, max_duration_s: float) -> Container | None:
    """Walk the container of a file, whatever its format.

    Args:
        source: The open file.
        max_duration_s: Maximum duration of MPEG audio to walk, in seconds.

    Returns:
        The parts to decode; None for an unknown format. The decoder may read it, but truncated
        files could not be detected.

    Raises:
        AudioError: The file is truncated, damaged, or in a format that is not read.
        OSError: The file could not be read.
    """
    walker = _walker_at(source, 0)
    if walker is not None:
        return walker(source)
    start = skip_tags(source, 0)
    for position in (0, start):
        refuse_foreign(source, position)
    walker = _walker_at(source, start)
    if walker is not None:
        container = walker(source.behind(start))
        return Container(container.name, tuple(_moved(part, start) for part in container.parts))
    return _walk_streams(source, start, max_duration_s)


def _walker_at(source: Source, position: int) -> Callable[[Source], Container] | None:
    head = source.at(position, 32)
    for magic, form, walker in _BY_MAGIC:
        if head.startswith(magic) and head[8 : 8 + len(form)] == form:
            return walker
    return None


def _moved(part: Part, by: int) -> Part:
    """Return a part of what lies behind a tag as a part of the file."""
    return replace(part, start=part.start + by, stop=part.stop + by)


def _walk_streams(source: Source, start: int, max_duration_s: float) -> Container | None:
    """Walk streams, which may lie behind a tag or, MPEG audio, behind anything."""
    head = source.at(start, 4)
    if head == OGG:
        return walk_ogg(source, start)
    if head == FLAC:
        return walk_flac(source, start)
    after_tags(source, 0)  # which may hide frames
    if parse(head) is not None:
        return walk_mpeg(source, start, max_duration_s)
    first = find_mpeg(source, start, certain=start > 0)
    return None if first is None else walk_mpeg(source, first, max_duration_s)

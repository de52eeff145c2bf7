"""Formats by magic number: formats that are not read, and files concatenated to others."""

import re

from featurestore.extraction.containers.parts import damaged, unsupported
from featurestore.extraction.containers.source import Source
from featurestore.extraction.containers.tags import skip_tags

_NOT_READ = (
    (4, b"ftyp", "MP4 (M4A, AAC, ALAC)"),
    (0, b"\x1aE\xdf\xa3", "Matroska or WebM"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "Windows Media (ASF)"),
    (0, b"#!AMR", "AMR"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"MPCK", "Musepack"),
    (0, b"MP+", "Musepack"),
    (0, b"TTA1", "True Audio"),
    (0, b"tBaK", "TAK"),
    (0, b"OFR ", "OptimFROG"),
    (0, b"ajkg", "Shorten"),
    (0, b"DSD ", "DSD"),
    (0, b"FRM8", "DSD"),
    (0, b".ra\xfd", "RealAudio"),
    (0, b".RMF", "RealMedia"),
    (0, b"MThd", "MIDI, which holds notes and no sound,"),
    (0, b"\x0bw", "AC-3"),
    (0, b"\x7f\xfe\x80\x01", "DTS"),
    (0, b"BW64", "BW64"),
    (0, b"FLV\x01", "Flash video"),
    # libsndfile fills up what is missing of it, and prints to standard output.
    (0, b"\xf0\x7e\0\x01", "MIDI sample dump (SDS)"),
    # Their declared lengths are not compared by libsndfile, nor here.
    (0, b"MATLAB 5.0 MAT-file", "MATLAB's MAT"),
    (0, b"Extended Instrument: ", "FastTracker's XI"),
    (0, b"ADIF", "AAC"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"PK\x03\x04", "ZIP archive"),
    (0, b"\x1f\x8b\x08", "gzip archive"),
    (8, b"AVI ", "AVI video"),
)
_MOST_TAIL = 4096
"""Maximum number of bytes after a file's declared end that are accepted as junk."""
# fmt: off
_MAGICS = (
    b"RIFF", b"RIFX", b"RF64", b"FORM", b"caff", b".snd", b"dns.", b"NIST_1A", b"2BIT",
    b"riff\x2e\x91\xcf\x11", b"Creative", b"ALawSoun", b"fLaC", b"OggS",
)
# fmt: on


def refuse_foreign(source: Source, position: int) -> None:
    """Raise an error for a recognised format that is not read.

    Raises:
        AudioError: The format is one of these; its status is UNSUPPORTED.
    """
    head = source.at(position, 32)
    for offset, magic, name in _NOT_READ:
        if head[offset : offset + len(magic)] == magic:
            raise unsupported(f"{name} is not supported")


def joined(source: Source, positions: set[int]) -> None:
    """Raise an error if another sound file begins at a position where this one may end.

    Raises:
        AudioError: One does; the decoder would read the first file only.
    """
    for position in sorted(positions):
        if 0 < position < source.size and source.at(position, 8).startswith(_MAGICS):
            raise damaged(
                f"a second file begins at byte {position}: only the first would be read; split them"
            )


def joined_behind(source: Source, end: int) -> None:
    """Raise an error if another sound file follows the end of a stream, or tags and zeros there.

    Raises:
        AudioError: See `joined`.
    """
    joined(source, {end, source.after_zeros(skip_tags(source, end), source.size)})


def find_joined(source: Source, start: int, stop: int) -> list[int]:
    """Return the positions in [start, stop) at which another sound file may begin, in order."""
    return sorted(
        start + match.start()
        for match in re.finditer(b"|".join(map(re.escape, _MAGICS)), source.at(start, stop - start))
    )


def check_tail(source: Source, end: int) -> None:
    """Check that only a few bytes, a tag, text or zeros follow the declared end of a file.

    Raises:
        AudioError: Something else follows, which may be sound: the declared size is too small.
    """
    behind = source.after_zeros(skip_tags(source, end), source.size)
    if source.size - behind <= _MOST_TAIL or _is_text(source.at(behind, 4)):
        return
    raise damaged(
        f"{source.size - end} bytes follow the declared end at byte {end}: the size is wrong"
    )


def _is_text(data: bytes) -> bool:
    """Whether these bytes may name a chunk, or begin a text."""
    return all(0x20 <= byte < 0x7F or byte in b"\t\n\r\xa9" for byte in data)

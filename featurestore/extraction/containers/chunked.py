"""Chunked containers: WAV (RIFF, RIFX, RF64), W64, AIFF and AIFC, CAF, IFF.

Each declares how many bytes of sound it contains; libsndfile silently accepts fewer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from featurestore.extraction.containers.parts import (
    Container,
    Part,
    damaged,
    truncated,
    unsupported,
)
from featurestore.extraction.containers.source import Source
from featurestore.extraction.containers.tail import check_tail, joined, refuse_within

_MOST_CHUNKS = 1000
"""Maximum number of chunks searched for the sound: a file can have a chunk in every eight bytes."""
_SLACK = 1 << 16
_LARGEST_HEADER = 1 << 20
_LARGEST_CAF = (1 << 64) - 1
_SSND_HEADER = 8
"""Bytes in an AIFF's chunk of sound before the samples."""
_CAF_EDITS = 4
"""Bytes in a CAF's chunk of sound before the samples."""
_UNCODED = frozenset((1, 3, 6, 7, 0xFFFE))
"""WAV formats with a fixed size per sample frame: PCM, float, A-law, µ-law, extensible."""
_READ = _UNCODED | {2, 0x11, 0x31, 0x38, 0x40, 0x55}
"""WAV formats that are read: the uncompressed ones, ADPCM, GSM 6.10, G.721 and MP3."""
_NOT_READ = {
    0x50: "MP2",
    0xFF: "AAC",
    0x160: "Windows Media",
    0x161: "Windows Media",
    0x162: "Windows Media",
    0x1610: "AAC",
    0x2000: "AC-3",
    0x674F: "Vorbis",
    0xF1AC: "FLAC",
}
Order = Literal["big", "little"]


@dataclass(frozen=True)
class Chunk:
    """One chunk: its name, the position of its body, and its declared size in bytes."""

    name: bytes
    body: int
    size: int


def is_unknown(size: int, bits: int = 32) -> bool:
    """Return whether a declared size is a placeholder for an unknown size.

    Programs write 0, or the largest signed or unsigned number, or slightly less: rounded down to
    whole sample frames or pages, or reduced by the header.
    """
    return size == 0 or any(0 <= largest - size <= _SLACK for largest in (2**bits, 2 ** (bits - 1)))


def walk_riff(source: Source, start: int = 0) -> Container:
    """Walk a WAVE file: RIFF, RIFX (big-endian) or RF64 (64-bit sizes)."""
    head = source.at(start, 12)
    order: Order = "big" if head[:4] == b"RIFX" else "little"
    total = int.from_bytes(head[4:8], order)
    long_sizes = form = None
    for chunk in _chunks(source, start + 12, order):
        if chunk.name == b"ds64":
            long_sizes = chunk.body
        if chunk.name == b"fmt ":
            form = _form(source, chunk, order)
        if chunk.name != b"data":
            continue
        size, bits = chunk.size, 32
        if long_sizes is not None and is_unknown(size):
            sizes = source.at(long_sizes, 16)
            total, size = (int.from_bytes(half, "little") for half in (sizes[:8], sizes[8:]))
            bits = 64
        end = _check_sound(source, chunk.body, size, bits, order)
        if end is not None:
            whole = None if is_unknown(total, bits) else 8 + start + total
            _check_rest(source, end, whole, order)
            _check_sole(source, end, chunk.name, order)
        stop = source.size if end is None else end
        frames = (stop - chunk.body) // form if form else None
        part = _part(source, chunk, order, end is None)
        if bits == 64 and end is None:
            part = _with_long_size(source, chunk, long_sizes or 0)
        return Container("WAV", (replace(part, num_frames=frames, exact=True),))
    return _without_sound("WAV", source, total + 8)


def _form(source: Source, chunk: Chunk, order: Order) -> int | None:
    """Return the bytes of a sample frame, of samples that all have the same size; None of others.

    Raises:
        AudioError: The samples are coded in a way that is not read.
    """
    form = source.at(chunk.body, 16)
    code, align = int.from_bytes(form[:2], order), int.from_bytes(form[12:14], order)
    if code not in _READ:
        name = _NOT_READ.get(code, "an unknown codec")
        raise unsupported(f"WAV with {name} (format 0x{code:04x}) is not supported")
    return align if code in _UNCODED and align else None


def _part(source: Source, chunk: Chunk, order: Order, unknown: bool) -> Part:
    """Return the file as a part; a size of 0 that was not known yet is replaced by the actual one.

    libsndfile understands the other ways to say so, and takes 0 at its word.
    """
    if not unknown or chunk.size or chunk.body > _LARGEST_HEADER:
        return Part(0, source.size)
    size = min(source.size - chunk.body, 0xFFFFFFFF)
    prefix = source.at(0, chunk.body - 4) + size.to_bytes(4, order)
    return Part(chunk.body, source.size, prefix)


def _with_long_size(source: Source, chunk: Chunk, sizes_at: int) -> Part:
    """Return an RF64 whose sizes were unknown, with those that are there."""
    if chunk.body > _LARGEST_HEADER:
        return Part(0, source.size)
    sizes = (source.size - 8, source.size - chunk.body)
    put = b"".join(size.to_bytes(8, "little") for size in sizes)
    prefix = source.at(0, sizes_at) + put + source.at(sizes_at + 16, chunk.body - sizes_at - 16)
    return Part(chunk.body, source.size, prefix)


def _check_sound(source: Source, body: int, size: int, bits: int, order: Order) -> int | None:
    """Return the end of the sound; None if its size is unknown.

    Raises:
        AudioError: Less is there than declared.
    """
    present = source.size - body
    if size == 0 and present > 0 and _only_chunks(source, body, order):
        return body
    if is_unknown(size, bits) and size != present:
        refuse_within(source, body)
        return None
    if present < size:
        raise truncated(f"{present} of {size} bytes of samples")
    return body + size


def _only_chunks(source: Source, position: int, order: Order) -> bool:
    """Return whether whole chunks, up to the end of the file, follow an empty one."""
    for chunk in _chunks(source, position, order):
        if not _is_name(chunk.name):
            return False
        position = chunk.body + chunk.size + chunk.size % 2
    return position == source.size


def _check_rest(source: Source, end: int, total: int | None, order: Order) -> None:
    """Check that what follows the sound is chunks, or little, or another file.

    Args:
        source: The file.
        end: End of the sound in bytes.
        total: Bytes of the file, as declared; None if that is not known.
        order: Of the sizes of chunks.

    Raises:
        AudioError: It is none of these: the declared size is too small, and sound would be lost.
    """
    totals = set() if total is None else {total, total + total % 2}
    joined(source, totals | {end, end + end % 2})
    if total is None:
        check_tail(source, _after_chunks(source, end, order))
        return
    check_tail(source, max(end, total))
    if min(total, source.size) - end < 8:
        return
    names = [source.at(position, 4) for position in {end, end + end % 2}]
    if not any(_is_name(name) or not any(name) for name in names):
        raise damaged(f"what follows the declared {end} bytes is no chunk: the size is wrong")
    if not any(_is_name(name) for name in names):  # zeros, of padding or of silence
        check_tail(source, end, total)


def _after_chunks(source: Source, position: int, order: Order) -> int:
    """Return the end of the last whole chunk that follows the sound."""
    for chunk in _chunks(source, position + position % 2, order):
        if not _is_name(chunk.name) or chunk.body + chunk.size > source.size:
            break
        position = chunk.body + chunk.size
    return position


def _check_sole(source: Source, end: int, name: bytes, order: Order) -> None:
    """No more sound follows in a second chunk.

    Raises:
        AudioError: It does, and the decoder would read the first one only.
    """
    for chunk in _chunks(source, end + end % 2, order):
        if not _is_name(chunk.name):
            return
        if chunk.name == name and chunk.size:
            text = name.decode()
            raise unsupported(f"a file with sound in several chunks {text!r} is not supported")


def _is_name(name: bytes) -> bool:
    return all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in name)


def _chunks(source: Source, position: int, order: Order) -> Iterator[Chunk]:
    for _ in range(_MOST_CHUNKS):
        header = source.at(position, 8)
        if len(header) < 8:
            return
        chunk = Chunk(header[:4], position + 8, int.from_bytes(header[4:], order))
        yield chunk
        position = chunk.body + chunk.size + chunk.size % 2


def _without_sound(name: str, source: Source, total: int) -> Container:
    if source.size < total and not is_unknown(total - 8):
        raise truncated(f"{source.size} of {total} bytes, without samples")
    return Container(name, (Part(0, source.size),))


def walk_aiff(source: Source, start: int = 0) -> Container:
    """Walk AIFF or AIFC: the sound is in the chunk SSND."""
    return _walk_form(source, start, "AIFF", b"SSND")


def walk_iff(source: Source, start: int = 0) -> Container:
    """Walk Amiga's 8SVX or 16SV: the sound is in the chunk BODY."""
    return _walk_form(source, start, "IFF", b"BODY")


def _walk_form(source: Source, start: int, name: str, sound: bytes) -> Container:
    total = int.from_bytes(source.at(start + 4, 4))
    frames, coding = 0, b""
    for chunk in _chunks(source, start + 12, "big"):
        if chunk.name == b"COMM":
            form = source.at(chunk.body, 22)
            frames, coding = int.from_bytes(form[2:6]), form[18:]
        if chunk.name == sound:
            if sound == b"SSND" and chunk.size == _SSND_HEADER:
                chunk = _without_header(source, chunk)
            if coding == b"DWVW" and not frames and chunk.size != _SSND_HEADER:
                raise unsupported("AIFC with DWVW of unknown length is not supported")
            end = _check_sound(source, chunk.body, chunk.size, 32, "big")
            if end is not None:
                whole = None if is_unknown(total) else 8 + start + total
                _check_rest(source, end, whole, "big")
                _check_sole(source, end, sound, "big")
            part = _part(source, chunk, "big", end is None)
            if sound == b"BODY" and end is not None:
                part = replace(part, stop=end)  # the decoder takes what follows for samples
            known = frames if end is not None and not is_unknown(frames) else None
            return Container(name, (replace(part, num_frames=known),))
    return _without_sound(name, source, total + 8)


def _without_header(source: Source, chunk: Chunk) -> Chunk:
    """Return an empty chunk of sound whose size is unknown if more than chunks follows it."""
    behind = chunk.body + _SSND_HEADER
    return chunk if _only_chunks(source, behind, "big") else replace(chunk, size=0)


def walk_w64(source: Source, start: int = 0) -> Container:
    """Walk Sony's Wave64: 16-byte names, and 64-bit sizes that include the header."""
    total = int.from_bytes(source.at(start + 16, 8), "little")
    position, form = start + 40, None
    for _ in range(_MOST_CHUNKS):
        header = source.at(position, 24)
        if len(header) < 24:
            break
        size = int.from_bytes(header[16:], "little")
        if header[:4] == b"fmt ":
            form = _form(source, Chunk(b"fmt ", position + 24, size), "little")
        if header[:4] == b"data":
            end = _check_sound(source, position + 24, max(0, size - 24), 64, "little")
            if end is not None:
                joined(source, {start + total, end, end + -end % 8})
                unknown = is_unknown(total, 64)
                check_tail(source, _after_w64(source, end) if unknown else max(end, start + total))
            stop = source.size if end is None else end
            frames = (stop - position - 24) // form if form else None
            # What follows the declared whole would be counted as samples.
            whole = source.size if end is None else max(end, min(source.size, start + total))
            return Container("W64", (Part(0, whole, num_frames=frames, exact=True),))
        position += max(24, size + -size % 8)
    return _without_sound("W64", source, total)


def _after_w64(source: Source, position: int) -> int:
    """Return the end of the last whole chunk that follows the sound."""
    for _ in range(_MOST_CHUNKS):
        header = source.at(position + -position % 8, 24)
        size = int.from_bytes(header[16:], "little")
        if len(header) < 24 or not _is_name(header[:4]) or not 24 <= size <= source.size - position:
            break
        position += -position % 8 + size
    return position


def walk_caf(source: Source, start: int = 0) -> Container:
    """Walk Apple's Core Audio Format: 64-bit sizes, -1 if unknown."""
    position = start + 8
    for _ in range(_MOST_CHUNKS):
        header = source.at(position, 12)
        if len(header) < 12:
            break
        size = int.from_bytes(header[4:], signed=True)
        if header[:4] == b"data":
            present = source.size - position - 12
            unknown = is_unknown(size & _LARGEST_CAF, 64) or size == _CAF_EDITS
            if unknown and _only_caf_chunks(source, position + 12 + max(0, size)):
                unknown = False
            if present < size and not unknown:
                raise truncated(f"{present} of {size} bytes of samples")
            if not unknown or position > _LARGEST_HEADER:
                _check_caf_rest(source, position + 12 + size)
                return Container("CAF", (Part(0, source.size),))
            refuse_within(source, position + 12)
            # libsndfile does not read a size that says it is not known.
            prefix = source.at(0, position + 4) + present.to_bytes(8)
            return Container("CAF", (Part(position + 12, source.size, prefix),))
        position += 12 + max(0, size)
    if position > source.size:
        raise truncated(f"{source.size} of {position} bytes, without samples")
    return Container("CAF", (Part(0, source.size),))


def _check_caf_rest(source: Source, end: int) -> None:
    joined(source, {end, end + end % 2})
    for position in _ends_of_caf_chunks(source, end):
        end = position
        joined(source, {end})
    check_tail(source, end)


def _only_caf_chunks(source: Source, start: int) -> bool:
    """Return whether whole chunks, up to the end of the file, follow empty sound."""
    return max(_ends_of_caf_chunks(source, start), default=start) == source.size


def _ends_of_caf_chunks(source: Source, position: int) -> Iterator[int]:
    """Yield the ends of whole chunks that follow one another."""
    for _ in range(_MOST_CHUNKS):
        header = source.at(position, 12)
        size = int.from_bytes(header[4:], signed=True)
        if len(header) < 12 or not _is_name(header[:4]):
            return
        if not 0 <= size <= source.size - position - 12:
            return
        position += 12 + size
        yield position

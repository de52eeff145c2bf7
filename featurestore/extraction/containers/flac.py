"""FLAC (RFC 9639): number of samples by the last frame, and concatenated streams.

A stream of unknown length, as written to a pipe, gets the length found here in its header, so that
the decoder knows where it ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from featurestore.errors import AudioError
from featurestore.extraction.containers.crc16 import crc16
from featurestore.extraction.containers.parts import Container, Part, damaged, truncated
from featurestore.extraction.containers.source import Source
from featurestore.extraction.containers.tags import end_without_tags
from featurestore.extraction.containers.tail import check_tail, find_starts

MAGIC = b"fLaC"
_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
_MOST_BLOCKS = 10_000
_MOST_STREAMS = 1000
_UNKNOWN = (1 << 36) - 1
"""Number of samples that says it is not known; 0 is what the standard has for it."""
_MOST_FRAME_HEADER = 64
"""Bytes of a frame that are no samples, rounded up: its header, those of channels, checksum."""
_TAILS = (1 << 16, 1 << 20, 1 << 24)
"""Sizes of the tail of a file searched for the last frame, in turn; no frame exceeds 16 MiB."""


@dataclass(frozen=True)
class _Info:
    """STREAMINFO, and where the frames begin."""

    position: int
    frames_at: int
    block_size: int
    rate: int
    total: int
    most_bytes: int
    """Bytes of a frame of samples as they are, than which no encoder writes more."""


@dataclass(frozen=True)
class _Frame:
    position: int
    first_sample: int
    num_samples: int


def walk_flac(source: Source, position: int) -> Container:
    """Find the streams and the length of each.

    Args:
        source: The open file.
        position: Byte position of the stream's `fLaC`.

    Raises:
        AudioError: A header is damaged, or a stream has fewer samples than it declares.
    """
    infos = [_read_info(source, position)]
    while (start := _next_stream(source, infos[-1].frames_at)) >= 0:
        infos.append(_read_info(source, start))
        if len(infos) > _MOST_STREAMS:
            raise damaged(f"more than {_MOST_STREAMS} FLAC streams")
    stops = [info.position for info in infos[1:]] + [source.size]
    parts = tuple(_part(source, info, stop) for info, stop in zip(infos, stops, strict=True))
    for info, part, stop in zip(infos, parts, stops, strict=True):
        _check_tail(source, info, part, stop)
    return Container("FLAC", parts)


def _check_tail(source: Source, info: _Info, part: Part, stop: int) -> None:
    """Check that nothing that may be sound follows the last frame: the decoder would not read it.

    Where that frame ends its checksum says, which is 0 there, and by chance elsewhere.
    """
    if part.last_at is None:
        return
    end = end_without_tags(source, part.last_at, stop)
    most = min(end, part.last_at + info.most_bytes)
    start = next(find_starts(source, part.last_at, end), None)
    if end == most and start is None:
        return
    ends = [part.last_at + size for size in _zeros_of_checksum(source, part.last_at, most)]
    refusal = None
    for position in [end for end in ends if start is None or end <= start] or ends:
        try:
            check_tail(source, position, stop)
        except AudioError as error:
            refusal = error
        else:
            return
    if refusal:
        raise refusal


def _zeros_of_checksum(source: Source, start: int, stop: int) -> Iterator[int]:
    """Yield numbers of bytes from `start` on whose checksum is 0."""
    crc = 0
    for size, byte in enumerate(source.at(start, stop - start), start=1):
        crc = crc16(bytes((byte,)), crc)
        if crc == 0:
            yield size


def _next_stream(source: Source, start: int) -> int:
    positions = [source.find(magic, start, source.size) for magic in _STARTS]
    return min((position for position in positions if position >= 0), default=-1)


def _read_info(source: Source, position: int) -> _Info:
    data = source.at(position + 4, 38)
    if len(data) < 38:
        raise truncated("the FLAC header is cut short")
    if data[0] & 0x7F or int.from_bytes(data[1:4]) != 34:
        raise damaged("FLAC without STREAMINFO at its start")
    numbers = int.from_bytes(data[14:22])
    rate, total = numbers >> 44, numbers & _UNKNOWN
    block_size = int.from_bytes(data[6:8])
    if not rate:
        raise damaged("the FLAC header gives a rate of 0 Hz")
    channels, bits = (numbers >> 41 & 7) + 1, (numbers >> 36 & 31) + 1
    most = block_size * channels * (bits + 1) // 8 + _MOST_FRAME_HEADER
    frames_at = _after_blocks(source, position + 4)
    return _Info(position, frames_at, block_size, rate, total if total < _UNKNOWN else 0, most)


def _after_blocks(source: Source, position: int) -> int:
    for _ in range(_MOST_BLOCKS):
        header = source.at(position, 4)
        if len(header) < 4:
            break
        position += 4 + int.from_bytes(header[1:])
        if header[0] & 0x80:
            return position
    raise truncated("the FLAC metadata are cut short")


def _part(source: Source, info: _Info, stop: int) -> Part:
    end = end_without_tags(source, info.frames_at, stop)
    last = _last_frame(source, info, end)
    present = last.first_sample + last.num_samples if last else 0
    if info.total and present < info.total:
        raise truncated(f"{present} of {info.total} samples, in whole and in part")
    if info.total and present > info.total:
        raise damaged(f"the header declares {info.total} samples, the frames hold {present}")
    if info.total or not present:
        last_at = last.position if last else None
        return Part(info.position, stop, num_frames=info.total or None, last_at=last_at)
    prefix, last_at = _with_length(source, info, present), last.position if last else None
    return Part(info.position + 26, end, prefix, num_frames=present, last_at=last_at)


def _with_length(source: Source, info: _Info, total: int) -> bytes:
    """Return the stream's first 26 bytes, with its number of samples in the last 36 bits."""
    start = source.at(info.position, 26)
    return start[:18] + (int.from_bytes(start[18:]) & ~_UNKNOWN | total).to_bytes(8)


def _last_frame(source: Source, info: _Info, stop: int) -> _Frame | None:
    for size in _TAILS:
        start = max(info.frames_at, stop - size)
        data = source.at(start, stop - start)
        position = len(data)
        while (position := data.rfind(b"\xff", 0, position)) >= 0:
            frame = _frame(data[position : position + 20], info)
            if frame:
                return _Frame(start + position, *frame)
        if start == info.frames_at:
            break
    return None


_RATES = (0, 88_200, 176_400, 192_000, 8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)


def _frame(header: bytes, info: _Info) -> tuple[int, int] | None:
    """First sample and number of samples of a frame, if a frame's header with its CRC lies here."""
    if len(header) < 6 or header[1] & 0xFE != 0xF8 or header[3] & 1:
        return None
    number, used = _coded_number(header[4:])
    size_code, rate_code = header[2] >> 4, header[2] & 15
    extra = {6: 1, 7: 2}.get(size_code, 0)
    end = 4 + used + extra + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if not used or not size_code or rate_code == 15 or len(header) <= end:
        return None
    if _crc8(header[:end]) != header[end]:
        return None
    if rate_code < 12 and rate_code and _RATES[rate_code] != info.rate:
        return None
    samples = _block_size(size_code, header[4 + used : 4 + used + extra])
    return (number if header[1] & 1 else number * info.block_size), samples


def _block_size(code: int, extra: bytes) -> int:
    if extra:
        return int.from_bytes(extra) + 1
    if code == 1:
        return 192
    return 576 << (code - 2) if code < 6 else 256 << (code - 8)


def _coded_number(data: bytes) -> tuple[int, int]:
    """Return a number coded as UTF-8 codes characters, up to seven bytes, and how many they are."""
    first = data[0]
    if first < 0x80:
        return first, 1
    size = 8 - (first ^ 0xFF).bit_length()
    if size < 2 or size > 7 or len(data) < size:
        return 0, 0
    value = first & (0x7F >> size)
    for byte in data[1:size]:
        if byte & 0xC0 != 0x80:
            return 0, 0
        value = value << 6 | byte & 0x3F
    return value, size


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc


def ends_whole(source: Source, part: Part) -> bool:
    """Return whether the last frame of a stream is complete, by its CRC."""
    if part.last_at is None:
        return True
    stop = end_without_tags(source, part.last_at, part.stop)
    return crc16(source.at(part.last_at, stop - part.last_at)) == 0

"""A range of an MP3's frames as a stream of its own, for fast access to parts of long files.

libmpg123 seeks by reading every frame before the target each time a file is opened: 0.4 s for an
hour. The walk has seen all frames, and remembers the positions of some of them.
"""

from array import array
from dataclasses import dataclass, field

from featurestore.extraction.containers.mpegframe import DECODER_DELAY, FrameHeader, parse
from featurestore.extraction.containers.source import Source

EVERY = 256
"""Interval in frames between remembered positions: 4 kB per hour."""
LEADS = 32, 37, 43
"""Number of frames to decode before the first of interest, tried in turn. Its data may begin up to
511 bytes earlier (bit reservoir), which is up to 26 frames, and it overlaps with the two before it.
The first frames of a range lack their reservoir, which the decoder reports as an error for 1 in
100."""


@dataclass(frozen=True)
class FrameIndex:
    """Positions of the frames of a layer III stream.

    Attributes:
        head: Header of one of the frames, four bytes.
        header: The same header, parsed.
        count: Number of frames.
        dropped: Samples that the decoder drops at the start of the whole stream.
        positions: Byte position of every `EVERY`th frame.
    """

    head: bytes
    header: FrameHeader
    count: int
    dropped: int = 0
    positions: "array[int]" = field(default_factory=lambda: array("Q"), compare=False)


@dataclass(frozen=True)
class Cut:
    """A stream that contains a range of samples.

    Attributes:
        data: Bytes of the stream.
        skip: Number of decoded samples before the first of interest.
    """

    data: bytes
    skip: int


def cut(source: Source, index: FrameIndex, start: int, stop: int, lead: int) -> Cut | None:
    """Return a stream that decodes to a range containing samples [start, stop) of the whole.

    Args:
        source: The open file.
        index: Positions of its frames.
        start: First sample, as counted by the decoder in the whole stream.
        stop: Sample after the last.
        lead: Number of frames before the first of interest; one of `LEADS`.

    Returns:
        The stream; None if the frames are not contiguous.
    """
    samples = index.header.num_samples
    first = max(0, (start + index.dropped) // samples - lead)
    last = min(index.count, -(-(stop + index.dropped) // samples))
    begin = _position(source, index, first)
    end = None if begin is None else _after(source, index, begin, last - first)
    if begin is None or end is None:
        return None
    prefix = silent_start(index.head, last - first)
    skip = first_sample(index.header) + start + index.dropped - first * samples
    return Cut(prefix + source.at(begin, end - begin), skip)


def _position(source: Source, index: FrameIndex, frame: int) -> int | None:
    known, further = divmod(frame, EVERY)
    return _after(source, index, index.positions[known], further)


def _after(source: Source, index: FrameIndex, position: int, frames: int) -> int | None:
    for _ in range(frames):
        header = parse(source.at(position, 4))
        if header is None or header.kind != index.header.kind or not header.num_bytes:
            return None
        position += header.num_bytes
    return position


def first_sample(header: FrameHeader) -> int:
    """Return the number of samples that `silent_start` adds before a stream's own."""
    return header.num_samples - DECODER_DELAY


def silent_start(head: bytes, count: int) -> bytes:
    """Return a frame with an Info header that declares one frame more, and that frame, silent.

    The decoder drops its delay from the start of a stream with an Info header, which would be
    sound; so it is dropped from the silence instead. Both frames have the lowest bit rate that
    fits, since the decoder would otherwise use their zeros as the bit reservoir of the following
    frames.

    Args:
        head: Header of a frame of the stream, four bytes.
        count: Number of frames that follow.
    """
    for bit_rate in range(1, 10):
        first = bytes((0xFF, head[1] | 1, bit_rate << 4 | head[2] & 0x0C, head[3] & 0xC0))
        header = parse(first)
        if header is not None and header.num_bytes >= header.side_info + 12:
            break
    assert header is not None, "bits of a header that was parsed"  # noqa: S101
    info = b"Info" + (1).to_bytes(4) + (count + 1).to_bytes(4)
    silence = first + bytes(header.num_bytes - 4)
    before = first + bytes(header.side_info - 4) + info
    return before.ljust(header.num_bytes, b"\0") + silence


def without_sound(source: Source, start: int, orphans: list[int]) -> bytes:
    """Return the first frames of a stream, with those silenced that need sound from before it.

    The decoder would take the silence in front for it, and report damage. Their data stay where
    they are, and how far they reach back: the decoder finds the sound of other frames by that.

    Args:
        source: The file.
        start: Position of the stream's first frame.
        orphans: Positions of these frames, in order.

    Returns:
        The bytes from the first frame to the last orphan; none if something else is between them.
    """
    data, position = b"", start
    while orphans and position <= orphans[-1]:
        header = parse(source.at(position, 4))
        if header is None or not header.num_bytes:
            return b""
        frame = source.at(position, header.num_bytes)
        if position in orphans:
            frame = _silenced(frame, header)
        data += frame
        position += header.num_bytes
    return data


def _silenced(frame: bytes, header: FrameHeader) -> bytes:
    """Return a frame whose side information says how far it reaches back, and that it is silent."""
    side = 4 if frame[1] & 1 else 6
    end = side + header.side_info - 4
    reach = int.from_bytes(frame[side : side + 2]) & (0xFF80 if header.mpeg1 else 0xFF00)
    return frame[:side] + reach.to_bytes(2).ljust(end - side, b"\0") + frame[end:]

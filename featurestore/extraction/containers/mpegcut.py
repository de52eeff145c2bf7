"""A run of an MP3's frames as a stream of its own, so that a part of a long file is quickly found.

libmpg123 finds a far place by reading every frame before it, each time a file is opened: 0.4 s of
an hour. The walk has seen all frames, and remembers where some of them are.
"""

from array import array
from dataclasses import dataclass, field

from featurestore.extraction.containers.mpegframe import DECODER_DELAY, FrameHeader, parse
from featurestore.extraction.containers.source import Source

EVERY = 256
"""Frames between two whose position is remembered: 4 kB per hour."""
LEADS = 32, 37, 43
"""Frames decoded before the first one of interest, to be tried in turn. It may begin its sound up
to 511 bytes before itself, which is up to 26 frames, and overlaps with the two before it. Of a run
of frames the first lack what they have in those before: one in a hundred is an error for it."""


@dataclass(frozen=True)
class FrameIndex:
    """Positions of the frames of a stream of layer III.

    Attributes:
        head: Header of one of them, four bytes.
        header: What it says.
        count: Number of frames.
        dropped: Samples that the decoder drops at the start of the whole stream.
        positions: Where every `EVERY`th frame is.
    """

    head: bytes
    header: FrameHeader
    count: int
    dropped: int = 0
    positions: "array[int]" = field(default_factory=lambda: array("Q"), compare=False)


@dataclass(frozen=True)
class Cut:
    """A stream that holds a run of samples.

    Attributes:
        data: All of its bytes.
        skip: Samples that the decoder gives before the first one of interest.
    """

    data: bytes
    skip: int


def cut(source: Source, index: FrameIndex, start: int, stop: int, lead: int) -> Cut | None:
    """Return a stream whose decoding holds the samples [start, stop) of the whole stream's.

    Args:
        source: The file.
        index: Where its frames are.
        start: First sample of the run, as the decoder counts those of the whole stream.
        stop: Sample after the last.
        lead: Frames before the first one of interest; one of `LEADS`.

    Returns:
        The stream; None if something else lies between the frames.
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
    """Return how many samples of a stream with `silent_start` precede those of its own frames."""
    return header.num_samples - DECODER_DELAY


def silent_start(head: bytes, count: int) -> bytes:
    """Return a frame with an Info header that promises one frame more, and that frame, of silence.

    The decoder drops its own delay from the start of a stream with a header, which would be sound:
    so it is dropped from the silence. Both frames are of the lowest bit rate that has room: of a
    stream cut out of a longer one the decoder would take their zeros for what came before.

    Args:
        head: Header of a frame of the stream.
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

"""Result of walking a container: the parts to decode, with the number of frames of each."""

from dataclasses import dataclass

from featurestore.errors import AudioError
from featurestore.extraction.containers.mpegcut import FrameIndex
from schemas import ClipStatus


@dataclass(frozen=True)
class Part:
    """A range of a file's bytes that the decoder reads as one stream.

    Attributes:
        start: Position of its first byte.
        stop: Position after its last byte.
        prefix: Bytes to insert before it that tell the decoder what the stream itself does not,
            such as its length.
        skip: Number of decoded sample frames to drop from the start.
        num_frames: Number of sample frames (samples per channel) after `skip`, as counted by the
            walk; None if the container does not tell.
        rate: Sample rate in Hz at which `num_frames` is counted; None for that of the decoded
            samples.
        tolerance: Number of sample frames by which decoding may fall short.
        exact: Whether decoding must not give more frames, either.
        at_most: Whether decoded frames beyond `num_frames` are dropped.
        last_at: Position of the last frame, for streams whose frames end with a CRC.
        frames: Positions of the frames, for an MP3 from which ranges can be cut.
    """

    start: int
    stop: int
    prefix: bytes = b""
    skip: int = 0
    num_frames: int | None = None
    rate: int | None = None
    tolerance: int = 0
    exact: bool = False
    at_most: bool = False
    last_at: int | None = None
    frames: FrameIndex | None = None


@dataclass(frozen=True)
class Container:
    """A container that was walked.

    Attributes:
        name: Name for messages, such as `Ogg`.
        parts: At least one part, in order; several for concatenated streams.
    """

    name: str
    parts: tuple[Part, ...]


def truncated(detail: str) -> AudioError:
    """Return the error for a file that ends too early."""
    return AudioError(ClipStatus.TRUNCATED, detail)


def damaged(detail: str) -> AudioError:
    """Return the error for a damaged file."""
    return AudioError(ClipStatus.UNREADABLE, detail)


def unsupported(detail: str) -> AudioError:
    """Return the error for an intact file in a format that is not read."""
    return AudioError(ClipStatus.UNSUPPORTED, f"{detail}; convert it to WAV or FLAC")

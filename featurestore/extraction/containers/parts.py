"""Result of walking a container: parts to decode, with the number of frames of each."""

from dataclasses import dataclass

from featurestore.errors import AudioError
from featurestore.extraction.containers.mpegcut import FrameIndex
from schemas import ClipStatus


@dataclass(frozen=True)
class Part:
    """A run of a file's bytes that the decoder reads from start to end as one stream.

    Attributes:
        start: Position of its first byte.
        stop: Position after its last byte.
        prefix: Bytes to put before them, so that the decoder knows what the stream itself does not
            say, such as its length.
        skip: Sample frames to drop from the start of what the decoder gives.
        num_frames: Sample frames (samples per channel) that the walk counted after `skip`; None
            if the container does not tell.
        rate: Hz that `num_frames` is counted at; None if it is the rate of the decoded samples.
        tolerance: Sample frames by which the decoder may give fewer.
        exact: Whether it may not give more, either.
        at_most: Whether what the decoder gives beyond `num_frames` is dropped.
        last_at: Position of the last frame, of a stream whose frames end with a checksum.
        frames: Where the frames are, of an MP3 of which runs can be cut out.
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
        name: For messages, such as `Ogg`.
        parts: In order, at least one; several if streams were joined.
    """

    name: str
    parts: tuple[Part, ...]


def truncated(detail: str) -> AudioError:
    """Return the error of a file that ends too early."""
    return AudioError(ClipStatus.TRUNCATED, detail)


def damaged(detail: str) -> AudioError:
    """Return the error of a file that is broken."""
    return AudioError(ClipStatus.UNREADABLE, detail)


def unsupported(detail: str) -> AudioError:
    """Return the error of a whole file in a format that is not read."""
    return AudioError(ClipStatus.UNSUPPORTED, f"{detail}; convert it to WAV or FLAC")

"""MPEG audio (MP1, MP2, MP3): the header of every frame, and the length in an Info header.

libsndfile estimates the length of a stream without an Info header, and stops there. So the frames
are counted here, and a stream without such a header gets one.
"""

from array import array
from dataclasses import dataclass, field

from featurestore.errors import AudioError
from featurestore.extraction.containers.mpegcut import (
    EVERY,
    FrameIndex,
    first_sample,
    silent_start,
    without_sound,
)
from featurestore.extraction.containers.mpegframe import (
    SYNC,
    FrameHeader,
    Lame,
    declared_by,
    follow,
    info_at,
    lame_in,
    parse,
)
from featurestore.extraction.containers.mpegsound import FrameChecks, check_lame
from featurestore.extraction.containers.parts import (
    Container,
    Part,
    damaged,
    truncated,
    unsupported,
)
from featurestore.extraction.containers.source import Source
from featurestore.extraction.containers.tags import skip_tags
from featurestore.extraction.containers.tail import check_tail, joined, refuse_joined
from schemas import ClipStatus

_SEARCHED = 1 << 20
"""Maximum bytes of junk searched for the first or the next frame."""
_MOST_PARTS = 1000
_MOST_TAIL = 1 << 16
"""Maximum bytes of zeros or junk after the last frame."""
_SURE = 4
"""Number of consecutive frames that prove MPEG audio in a file that begins with something else."""
_TAG_END = 1 << 14
"""Bytes at the end of a tag that are searched for frames, in case the tag's size is too large."""


@dataclass
class _Stream:
    """Frames of one kind that follow one another."""

    start: int
    header: FrameHeader
    head: bytes
    declared: int | None = None
    """Frames that an Info header promises; None without one that does."""
    info: bool = False
    trimmed: int = 0
    """Samples that the Info header says the encoder added."""
    dropped: int = 0
    """Samples of `trimmed` that are at the start."""
    lame: Lame | None = None
    """Checksums of a stream that LAME made."""
    count: int = 0
    positions: "array[int]" = field(default_factory=lambda: array("Q"))
    """Positions in bytes of every `EVERY`th frame."""
    stop: int = 0
    checks: FrameChecks = field(default_factory=FrameChecks)


def find_mpeg(source: Source, start: int, certain: bool) -> int | None:
    """Return the position of the first frame at or after `start`, after tags, zeros and junk.

    Args:
        source: The open file.
        start: Position at which to begin.
        certain: Whether the file is known to be MPEG audio; two consecutive frames are then proof.

    Raises:
        AudioError: The first frame's header is damaged.
    """
    position = after_tags(source, source.after_zeros(after_tags(source, start), source.size))
    first = _next_sync(source, position, 2 if certain else _SURE)
    if (
        first is not None
        and first > position
        and _was_a_frame(source.at(position, 4), source.at(first, 4))
    ):
        raise damaged(f"the header of the first MPEG frame, at byte {position}, is damaged")
    return first


def after_tags(source: Source, start: int) -> int:
    """Return the position after all tags that begin at a position.

    Raises:
        AudioError: MPEG frames lie at their end: the size of a tag is too large.
    """
    behind = skip_tags(source, start)
    first = max(start, behind - _TAG_END)
    for match in SYNC.finditer(source.at(first, behind - first)):
        if follow(source, first + match.start(), _SURE):
            raise damaged(
                f"the tag at byte {start} is said to end at byte {behind}, but MPEG frames lie in "
                f"it, from byte {first + match.start()} on: its size is wrong"
            )
    return behind


def _was_a_frame(junk: bytes, head: bytes) -> bool:
    """Return whether what lies before the first frame was a frame's header but for one byte."""
    return sum(junk[at : at + 1] == head[at : at + 1] for at in (0, 1, 3)) >= 2


def _next_sync(source: Source, start: int, frames: int) -> int | None:
    data = source.at(start, _SEARCHED)
    for match in SYNC.finditer(data):
        if follow(source, start + match.start(), frames):
            return start + match.start()
    return None


def walk_mpeg(source: Source, first: int, max_duration_s: float) -> Container:
    """Walk all frames.

    Args:
        source: The open file.
        first: Position of the first frame.
        max_duration_s: Maximum duration to walk, in seconds.

    Raises:
        AudioError: Frames are missing, not contiguous, or too many.
    """
    streams: list[_Stream] = []
    seconds = 0.0
    position, cut = first, False
    while position < source.size:
        head = source.at(position, 4)
        header = parse(head)
        if header is None:
            after = _after_junk(source, position, streams)
            if after is None:
                break
            position = after
            continue
        if not header.num_bytes:
            if streams:
                raise damaged(f"the header of the MPEG frame at byte {position} is damaged")
            raise unsupported("MPEG audio of free format is not supported")
        if position + header.num_bytes > source.size:
            cut = True
            break
        _add(source, streams, header, head, position)
        position += header.num_bytes
        streams[-1].stop = position
        seconds += header.num_samples / header.rate
        if seconds > max_duration_s + 1:
            raise AudioError(ClipStatus.TOO_LONG, f"MPEG audio of more than {max_duration_s:g} s")
        if len(streams) > _MOST_PARTS:
            raise damaged(f"more than {_MOST_PARTS} MPEG streams one after another")
    _check_counts(streams, cut)
    _check_sound(source, streams)
    return Container("MPEG", tuple(_part(source, stream) for stream in streams))


def _after_junk(source: Source, position: int, streams: list[_Stream]) -> int | None:
    """Return the position of the next frame behind a tag or padding; None if the sound has ended.

    Raises:
        AudioError: Something else is between two frames.
    """
    behind_tags = after_tags(source, position)
    behind = source.after_zeros(behind_tags, source.size)
    joined(source, {position, behind})
    if behind == source.size and behind - behind_tags <= _MOST_TAIL:
        return None
    if parse(source.at(behind, 4)) and behind_tags > position and follow(source, behind, 2):
        return behind
    sync = _next_sync(source, position, 2)
    if sync is not None:
        header = parse(source.at(sync, 4))
        if header and info_at(source, sync, header):
            check_tail(source, position, sync)
            return sync  # another file was put behind this one, and padding between them
        raise damaged(
            f"{sync - position} bytes at byte {position} are no MPEG frames: sound is lost there"
        )
    last = streams[-1]
    if last.declared is not None and last.count >= last.declared:
        check_tail(source, position)
        return None
    refuse_joined(source, position)
    if source.size - position < last.header.num_bytes and not _frame_in(source, position, last):
        return None  # too little to be sound
    if source.size - position > _MOST_TAIL or not _is_tag(source.at(position, 16)):
        raise damaged(
            f"the last {source.size - position} bytes, from byte {position} on, are neither MPEG "
            "frames nor a tag"
        )
    return None


def _frame_in(source: Source, position: int, stream: _Stream) -> bool:
    """Return whether a frame of the stream's kind begins in the rest of the file."""
    rest = source.at(position, source.size - position)
    heads = (parse(rest[match.start() : match.start() + 4]) for match in SYNC.finditer(rest))
    return any(head is not None and head.kind == stream.header.kind for head in heads)


def _is_tag(data: bytes) -> bool:
    """Return whether these bytes may begin a tag that is not known here: they are text."""
    return data[:3].isalnum() and data[:3].isascii()


def _add(
    source: Source, streams: list[_Stream], header: FrameHeader, head: bytes, position: int
) -> None:
    if info := info_at(source, position, header):
        stream = _Stream(position, header, head, info=True)
        stream.declared, stream.trimmed, stream.dropped = declared_by(info)
        stream.lame = lame_in(info, header.side_info)
        streams.append(stream)
        return
    if not streams or streams[-1].header.kind != header.kind:
        streams.append(_Stream(position, header, head))
    if streams[-1].count % EVERY == 0:
        streams[-1].positions.append(position)
    streams[-1].count += 1
    streams[-1].checks.add(source, position, header)


def _check_counts(streams: list[_Stream], cut: bool) -> None:
    if not any(stream.count for stream in streams):
        raise damaged("no whole MPEG frame of sound")
    for stream in streams:
        short = stream is streams[-1] and cut
        if stream.declared is None:
            if short:
                raise truncated(f"the last MPEG frame, after {stream.count} whole ones, is cut")
        elif stream.count + (not short) < stream.declared:
            raise truncated(f"{stream.count} of {stream.declared} MPEG frames")
    if sum(stream.count for stream in streams) < 2:
        raise damaged("one MPEG frame only: too short to be recognised as MPEG audio")


def _check_sound(source: Source, streams: list[_Stream]) -> None:
    for stream in streams:
        stream.checks.check_checksums()
        if stream.lame is not None:
            check_lame(source, stream.start, stream.stop, stream.header, stream.lame)


def _part(source: Source, stream: _Stream) -> Part:
    samples = stream.header.num_samples
    total = stream.count * samples
    if stream.declared in (stream.count, stream.count + 1):
        # As it lies, without tags: the decoder believes its header, which is right.
        expected = max(0, total - stream.trimmed)
        # Only of a header that says what was added is known what the decoder drops.
        frames = _index(stream, stream.dropped) if stream.trimmed else None
        return Part(
            stream.start, stream.stop, num_frames=expected, tolerance=samples, frames=frames
        )
    if stream.header.layer < 3:
        # The decoder estimates from the number of bytes: some more than enough of them.
        return Part(stream.start, stream.stop, num_frames=total, tolerance=samples, at_most=True)
    frames_at = stream.start + (stream.header.num_bytes if stream.info else 0)
    prefix, skip = silent_start(stream.head, stream.count), first_sample(stream.header)
    silenced = without_sound(source, frames_at, stream.checks.orphans)
    return Part(
        frames_at + len(silenced),
        stream.stop,
        prefix + silenced,
        skip,
        total,
        tolerance=samples // 2,
        frames=_index(stream, 0),
    )


def _index(stream: _Stream, dropped: int) -> FrameIndex | None:
    if stream.header.layer != 3:
        return None
    return FrameIndex(stream.head, stream.header, stream.count, dropped, stream.positions)

"""Tags that programs put before, between and after the sound: ID3, APE, Lyrics3."""

from featurestore.extraction.containers.source import Source

_MOST_TAGS = 100
_SEARCHED = 1 << 16
"""Number of bytes next to the sound that are searched for a tag."""


def skip_tags(source: Source, position: int) -> int:
    """Return the position after all tags that begin at a position."""
    for _ in range(_MOST_TAGS):
        size = _tag_size(source.at(position, 32))
        if not size or position + size > source.size:
            break
        position += size
    return position


def _tag_size(head: bytes) -> int:
    """Return the bytes of the tag that begins here, 0 if none does."""
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 0x80:
        size = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        return 10 + size + (10 if head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) >= 32:
        # The size counts the footer, not the header, and this may be either.
        header = bool(head[23] & 0x20)
        return 32 + (int.from_bytes(head[12:16], "little") if header else 0)
    if head[:4] == b"TAG+":
        return 227
    if head[:3] == b"TAG":
        return 128
    return 0


def end_without_tags(source: Source, start: int, stop: int) -> int:
    """Return the end of the sound in [start, stop), before the tags that follow it."""
    for _ in range(_MOST_TAGS):
        size = _size_before(source, stop)
        if not size or stop - size < start:
            break
        stop -= size
    return stop


def _size_before(source: Source, stop: int) -> int:
    """Return the bytes of the tag that ends here, 0 if none does."""
    if source.at(stop - 128, 3) == b"TAG":
        return 128
    if source.at(stop - 227, 4) == b"TAG+":
        return 227
    foot = source.at(stop - 32, 32)
    if foot[:8] == b"APETAGEX":
        return int.from_bytes(foot[12:16], "little") + (32 if foot[23] & 0x80 else 0)
    if foot[-9:] == b"LYRICS200" and foot[-15:-9].isdigit():
        return int(foot[-15:-9]) + 15
    if foot[-10:-7] == b"3DI" and max(foot[-4:]) < 0x80:
        sizes = zip(foot[-4:], (21, 14, 7, 0), strict=True)
        return 20 + sum(byte << shift for byte, shift in sizes)
    return 0


def marks_near(source: Source, start: int, stop: int, marks: tuple[bytes, ...]) -> bool:
    """Return whether any of some marks occurs in the tags before `start` or after `stop`."""
    before = max(0, start - _SEARCHED)
    near = source.at(before, start - before), source.at(stop, _SEARCHED)
    return any(mark in data for mark in marks for data in near)

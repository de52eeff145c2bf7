"""Sounds inside shards: a row of a Parquet or Arrow file, or a member of a tar.

A clip in a shard is identified by the shard's path and an `item`: the row, or the byte offset of
the member's header. It is never the name in a cell, since base names repeat. Shards are not
trusted, so the size of an item is checked before it is read.

    read_item, copy_item, item_sha256   the bytes of one sound
    parquet, arrow, tar    the three kinds, distinguished by their first bytes

Shards stay open, and formats that are read in groups of rows have a forward reader: reading the
items of a shard in order reads every group once.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from featurestore.errors import AudioError
from featurestore.extraction.sources import FileIdentity, identify, open_source
from schemas import ClipStatus

PARQUET, ARROW_STREAM = b"PAR1", b"\xff\xff\xff\xff"
"""Magic numbers of the file formats."""
_ANY_SIZE = 2**62
_MOST_OPEN = 4
"""Maximum number of shards that a thread keeps open."""
_PIECE = 1 << 20


class Shard(Protocol):
    """An open shard."""

    def item(self, number: int) -> memoryview | tuple[int, int]:
        """Return the bytes of a sound, or their offset and length in the file.

        Raises:
            AudioError: There is no such item, or it cannot be read.
        """
        ...

    def close(self) -> None:
        """Release all resources except the file descriptor."""
        ...


class _Opened(threading.local):
    """The shards that a thread has open, the last used at the end."""

    def __init__(self) -> None:
        self.shards: OrderedDict[FileIdentity, tuple[int, Shard]] = OrderedDict()


_opened = _Opened()


def read_item(path: Path, item: int, max_bytes: int) -> bytes:
    """Return the bytes of a sound in a shard.

    Args:
        path: Path of the shard.
        item: Item of the sound.
        max_bytes: Maximum size of the sound in bytes.

    Raises:
        AudioError: The shard or the sound is missing, damaged, empty or too large.
        OSError: The file could not be read.
    """
    return b"".join(_pieces(path, item, max_bytes))


def copy_item(path: Path, item: int, max_bytes: int, file: IO[bytes]) -> int:
    """Copy the bytes of a sound to an open file and return their number; see `read_item`."""
    return sum(map(file.write, _pieces(path, item, max_bytes)))


def item_sha256(path: Path, item: int) -> bytes:
    """Return the SHA-256 digest of a sound of any size (32 bytes); see `read_item`."""
    digest = hashlib.sha256()
    for piece in _pieces(path, item, _ANY_SIZE):
        digest.update(piece)
    return digest.digest()


def _pieces(path: Path, item: int, max_bytes: int) -> Iterator[bytes | memoryview]:
    descriptor, shard = _shard(path)
    place = shard.item(item)
    size = place.nbytes if isinstance(place, memoryview) else place[1]
    if not size:
        raise AudioError(ClipStatus.EMPTY, "0 bytes")
    if size > max_bytes:
        raise AudioError(ClipStatus.TOO_LONG, f"{size} bytes; max_duration_s allows {max_bytes}")
    if isinstance(place, memoryview):
        yield place
        return
    position, stop = place[0], place[0] + size
    while position < stop:
        piece = os.pread(descriptor, min(_PIECE, stop - position), position)
        if not piece:
            raise AudioError(ClipStatus.TRUNCATED, "the shard ends within it")
        yield piece
        position += len(piece)


def _shard(path: Path) -> tuple[int, Shard]:
    """Return an open shard, opened by this thread before if it still is the same file."""
    descriptor, _ = open_source(path, _ANY_SIZE)
    key = identify(path, descriptor)
    known = _opened.shards
    if key in known:
        os.close(descriptor)
        known.move_to_end(key)
        return known[key]
    try:
        shard = _open(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    known[key] = descriptor, shard
    _close(len(known) - _MOST_OPEN)
    return known[key]


def close_all() -> None:
    """Close all shards that this thread has open."""
    _close(len(_opened.shards))


def _close(count: int) -> None:
    for _ in range(count):
        descriptor, shard = _opened.shards.popitem(last=False)[1]
        shard.close()
        os.close(descriptor)


def _open(descriptor: int) -> Shard:
    start = os.pread(descriptor, 4, 0)
    if start not in (PARQUET, ARROW_STREAM):
        from featurestore.extraction.shards.tar import TarShard

        return TarShard(descriptor)
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise AudioError(
            ClipStatus.UNSUPPORTED,
            "Parquet and Arrow are read by pyarrow, which is not installed: "
            "pip install 'featurestore[tables]'",
        ) from error
    if start == PARQUET:
        from featurestore.extraction.shards.parquet import ParquetShard

        return ParquetShard(descriptor)
    from featurestore.extraction.shards.arrow import ArrowShard

    return ArrowShard(descriptor)

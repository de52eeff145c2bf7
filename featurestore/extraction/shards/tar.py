"""Tars: indexed once by their headers, with members read by offset.

Nothing is ever unpacked, and names are never used as paths. Declared sizes beyond the end of the
file are refused; links, sparse files and devices are not sounds.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from featurestore.errors import AudioError
from schemas import ClipStatus

BLOCK = tarfile.BLOCKSIZE
_MOST_EXTENDED = 1 << 20
"""Maximum size in bytes of an extended header, which holds a path."""
_NAMES = {tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE}
_SKIPPED = {tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE}
_FILES = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE}
_SPARSE = "GNU.sparse."


class TarError(Exception):
    """A tar that cannot be walked; the message says why and at which byte."""


@dataclass(frozen=True)
class Member:
    """A member of a tar.

    Attributes:
        name: Name in the tar.
        at: Byte offset of its header, which its content follows.
        size: Size of its content in bytes.
        other: Kind of member if it is not a regular file, such as `links`.
    """

    name: str
    at: int
    size: int
    other: str = ""


def walk_tar(descriptor: int) -> Iterator[Member]:
    """Yield the members of a tar, reading its headers only.

    Raises:
        TarError: The file is damaged, truncated or not a tar.
        OSError: The file could not be read.
    """
    size = os.fstat(descriptor).st_size
    position, extended = 0, dict[str, str]()
    while position < size:
        header = _header(descriptor, position)
        if header is None:
            return  # a block of zeros ends a tar
        length = header.size
        if header.type in _FILES and "size" in extended:
            length = _number(extended["size"], position)
        stop = position + BLOCK + -(-length // BLOCK) * BLOCK
        if length < 0 or position + BLOCK + length > size:
            raise TarError(
                f"the member {header.name[:80]!r} at byte {position} is said to have {length} "
                f"bytes, and the tar ends at {size}"
            )
        if header.type in _NAMES:
            extended |= _extended(descriptor, position, header, length)
        elif header.type not in _SKIPPED:
            yield _member(header, position, length, extended)
            extended = {}
        position = stop


def _header(descriptor: int, position: int) -> tarfile.TarInfo | None:
    """Return the header at a byte; None of the block of zeros at the end."""
    data = os.pread(descriptor, BLOCK, position)
    if data == bytes(BLOCK):
        return None
    try:
        return tarfile.TarInfo.frombuf(data, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise TarError(f"there is no header of a member at byte {position} ({error})") from error


def _number(text: str, position: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise TarError(f"the header at byte {position} has the size {text[:80]!r}")
    return int(text)


def _extended(
    descriptor: int, position: int, header: tarfile.TarInfo, length: int
) -> dict[str, str]:
    """Return what a header says of the next one."""
    if length > _MOST_EXTENDED:
        raise TarError(f"the header at byte {position} has {length} bytes of names")
    data = os.pread(descriptor, length, position + BLOCK)
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    return dict(_records(data, position))


def _records(data: bytes, position: int) -> Iterator[tuple[str, str]]:
    """Yield the records `LENGTH KEY=VALUE` of a pax header."""
    at = 0
    while at < len(data) and data[at]:
        length, space, _ = data[at : at + 20].partition(b" ")
        stop = at + int(length) if space and length.isdigit() else at
        key, equals, value = data[at + len(length) + 1 : stop - 1].partition(b"=")
        if stop <= at or stop > len(data) or not equals:
            raise TarError(f"the pax header at byte {position} is damaged")
        yield key.decode("utf-8", "replace"), value.decode("utf-8", "surrogateescape")
        at = stop


def _member(
    header: tarfile.TarInfo, position: int, length: int, extended: dict[str, str]
) -> Member:
    name = extended.get("path", header.name)
    if header.type == tarfile.GNUTYPE_SPARSE or any(key.startswith(_SPARSE) for key in extended):
        other = "sparse files"
    elif header.type in _FILES:
        other = "directories" if name.endswith("/") else ""
    elif header.type == tarfile.DIRTYPE:
        other = "directories"
    else:
        other = "links" if header.issym() or header.islnk() else "special files"
    if not other and length != header.size:
        other = "files of 8 GB and more"
    return Member(name, position, length, other)


class TarShard:
    """An open tar, whose members are read by offset without reading the others."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    def item(self, number: int) -> tuple[int, int]:
        """Return offset and size of a member's content."""
        try:
            header = _header(self._descriptor, number)
        except TarError as error:
            raise AudioError(ClipStatus.UNREADABLE, f"the shard is damaged: {error}") from error
        if header is None or header.type not in _FILES:
            raise AudioError(ClipStatus.MISSING, f"the shard has no file at byte {number}")
        if header.size < 0 or number + BLOCK + header.size > self._size:
            raise AudioError(ClipStatus.TRUNCATED, "the shard ends within it")
        return number + BLOCK, header.size

    def close(self) -> None:
        """Do nothing: only the descriptor is held."""

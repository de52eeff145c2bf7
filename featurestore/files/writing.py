"""Atomic writes of files, which replace whatever had the name."""

import errno
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from featurestore.files.locking import locked
from featurestore.files.opening import check_plain, create_new, open_plain, write_all

TEMPORARY: Final = ".partial"
"""Part of the name of every file that is being written; see `is_temporary`."""

_TEMPORARY_NAME = re.compile(r"\.(.+)\.[0-9a-f]{32}\.partial(\.[^.]{1,15})?", re.DOTALL)
_WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_WITHOUT_DIRECTORY_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF)


def replace_file(path: Path, data: bytes | memoryview, durable: bool = True) -> None:
    """Write a file atomically: at any moment, `path` has all old bytes or all new bytes.

    A link, pipe or device with that name is replaced as well, and never written to.

    Args:
        path: The file.
        data: New content.
        durable: Whether that must hold after a power cut, too; not needed for what can be
            recreated.

    Raises:
        OSError: The file could not be written; the old one is unchanged.
    """
    with _written_aside(path, data, durable) as aside:
        aside.replace(path)
    if durable:
        flush_directory(path.parent)


def create_file(path: Path, data: bytes | memoryview) -> bool:
    """Write a file atomically, unless it exists.

    If several processes do so at once, one succeeds; on a file system without hard links, a lock
    decides which.

    Returns:
        Whether this call created the file; False if it existed.

    Raises:
        OSError: The file could not be written.
    """
    if os.path.lexists(path):
        return False
    with _written_aside(path, data) as aside:
        try:
            os.link(aside, path, follow_symlinks=False)
            created = True
        except FileExistsError:
            # NFS: the link was made, the answer was lost, and the question was asked again.
            created = os.path.samestat(os.lstat(aside), os.lstat(path))
        except OSError as error:
            if error.errno not in _WITHOUT_LINKS:
                raise
            created = _create_without_links(path, aside)
    flush_directory(path.parent)
    return created


def _create_without_links(path: Path, aside: Path) -> bool:
    with locked(path.with_name(f".{path.name[:40]}.lock"), wait_s=30):
        if os.path.lexists(path):
            return False
        aside.replace(path)
        return True


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of an empty file that replaces `path` unless the block fails.

    For files written by a library; it has the suffix of `path`. The permissions of a replaced file
    are kept.

    Raises:
        UnusableFileError: `path` is not a plain file.
        OSError: The file could not be written; the old one is unchanged.
    """
    permissions = None
    with suppress(FileNotFoundError):
        status = os.lstat(path)
        check_plain(path, status, None)
        permissions = stat.S_IMODE(status.st_mode)
    aside = _temporary(path, path.suffix if len(path.suffix) < 16 else "")
    try:
        os.close(create_new(aside))
        yield aside
        _flush(aside, permissions)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    flush_directory(path.parent)


def write_output(path: Path, data: bytes | memoryview) -> None:
    """Write a file named by the user; see `replacing`."""
    with replacing(path) as aside:
        aside.write_bytes(data)


def check_output(path: Path) -> None:
    """Check that a file can be written, before work is done for it.

    Raises:
        UnusableFileError: The path is not a plain file.
        OSError: Its directory cannot be written.
    """
    with suppress(FileNotFoundError):
        check_plain(path, os.lstat(path), None)
    if path.parent.is_dir():  # whoever makes missing ones finds out then
        with _written_aside(path, b"", durable=False):
            pass


def is_temporary(name: str) -> bool:
    """Return whether a name is that of an unfinished file, such as one left by a killed process."""
    return _TEMPORARY_NAME.fullmatch(name) is not None


def _temporary(path: Path, suffix: str = "") -> Path:
    """Return a name next to `path` that nobody can guess, and that is not too long."""
    return path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}{TEMPORARY}{suffix}")


@contextmanager
def _written_aside(path: Path, data: bytes | memoryview, durable: bool = True) -> Iterator[Path]:
    """Yield a file next to `path` with the data, on the disk; gone afterwards if still there."""
    aside = _temporary(path)
    try:
        descriptor = create_new(aside)
        try:
            write_all(descriptor, data)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def _flush(path: Path, permissions: int | None) -> None:
    descriptor = open_plain(path, os.O_RDONLY)
    try:
        if permissions is not None:
            os.fchmod(descriptor, permissions)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_directory(directory: Path) -> None:
    """Flush a directory's entries to disk, if its file system supports it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _WITHOUT_DIRECTORY_FSYNC:
            raise
    finally:
        os.close(descriptor)

"""Writing files so that they appear whole or not at all, in place of whatever had the name."""

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
"""In the name of every file that is being written; see `is_temporary`."""

_TEMPORARY_NAME = re.compile(r"\.(.+)\.[0-9a-f]{32}\.partial(\.[^.]{1,15})?", re.DOTALL)
_WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_WITHOUT_DIRECTORY_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF)


def replace_file(path: Path, data: bytes | memoryview, durable: bool = True) -> None:
    """Write a file so that at any moment `path` holds all of the old bytes or all of the new.

    A link, a pipe or a device of that name is replaced, too, and never written to.

    Args:
        path: The file.
        data: All of its bytes.
        durable: Also after a power cut; not needed for what can be made again.

    Raises:
        OSError: It could not be written; what was there is still there.
    """
    with _written_aside(path, data, durable) as aside:
        aside.replace(path)
    if durable:
        flush_directory(path.parent)


def create_file(path: Path, data: bytes | memoryview) -> bool:
    """Write a file, whole, unless there is one.

    Of several processes that do so at once, one succeeds; on a file system without hard links,
    a lock decides.

    Returns:
        Whether the file is this call's; False if the name was taken.

    Raises:
        OSError: It could not be written.
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
    """Yield the path of an empty file, which becomes `path` when the block has ended well.

    For files that a library writes; it has the suffix of `path`. One that is replaced hands down
    its permissions.

    Raises:
        UnusableFileError: `path` is something else than a plain file.
        OSError: It could not be written; what was there is still there.
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
    """Write a file that the user has named; see `replacing`."""
    with replacing(path) as aside:
        aside.write_bytes(data)


def check_output(path: Path) -> None:
    """Refuse a file that could not be written, before work is done for it.

    Raises:
        UnusableFileError: Something else than a plain file is there.
        OSError: Its directory cannot be written.
    """
    with suppress(FileNotFoundError):
        check_plain(path, os.lstat(path), None)
    if path.parent.is_dir():  # whoever makes missing ones finds out then
        with _written_aside(path, b"", durable=False):
            pass


def is_temporary(name: str) -> bool:
    """Return whether a file of this name is one that a killed process has not finished."""
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
    """Put a directory's entries on the disk, where its file system can."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _WITHOUT_DIRECTORY_FSYNC:
            raise
    finally:
        os.close(descriptor)

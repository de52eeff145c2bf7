"""Opening plain files, and nothing else."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

_SAFELY = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_PIECE = 1 << 14


class UnusableFileError(OSError):
    """A path holds no plain file, or one that is too large to be what it should be."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def open_regular(path: Path, max_bytes: int | None = None, follow: bool = False) -> int:
    """Open a plain file for reading, without ever waiting for it.

    Args:
        path: The file.
        max_bytes: A larger file is refused; None for any size.
        follow: Whether the path may be a symbolic link: only where the user has given it.

    Returns:
        A descriptor, for the caller to close.

    Raises:
        UnusableFileError: It is a link, directory, pipe, socket or device, or is too large.
        OSError: It is missing or cannot be opened.
    """
    return open_plain(path, os.O_RDONLY, max_bytes, follow)


def read_regular(path: Path, max_bytes: int, follow: bool = False) -> bytes:
    """Return the bytes of a plain file of at most `max_bytes`; see `open_regular`."""
    descriptor = open_regular(path, max_bytes, follow)
    try:
        return _read_to_end(descriptor, path, max_bytes)
    finally:
        os.close(descriptor)


def open_plain(path: Path, flags: int, max_bytes: int | None = None, follow: bool = False) -> int:
    """Open a plain file, or nothing."""
    if not follow:
        flags |= os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags | _SAFELY, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.EMLINK):
            raise _not_plain(path, error) from error
        raise
    except ValueError as error:  # a NUL in the name
        raise UnusableFileError(errno.EINVAL, str(error), os.fspath(path)) from error
    try:
        check_plain(path, os.fstat(descriptor), max_bytes)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def check_plain(path: Path, status: os.stat_result, max_bytes: int | None) -> None:
    """Refuse what is no plain file, or too large, by its status."""
    if not stat.S_ISREG(status.st_mode):
        raise UnusableFileError(errno.EINVAL, _misfit(status.st_mode), os.fspath(path))
    if max_bytes is not None and status.st_size > max_bytes:
        raise _too_large(path, f"{status.st_size:,}", max_bytes)


def _not_plain(path: Path, error: OSError) -> OSError:
    """Describe what is in the way of opening a path."""
    with suppress(OSError):
        mode = os.lstat(path).st_mode
        if not stat.S_ISREG(mode):
            return UnusableFileError(error.errno, _misfit(mode), os.fspath(path))
    return error


def _misfit(mode: int) -> str:
    kinds = (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    )
    kind = next((name for is_kind, name in kinds if is_kind(mode)), "a device")
    return f"it is {kind}, not a plain file"


def _too_large(path: Path, num_bytes: str, max_bytes: int) -> UnusableFileError:
    message = f"it has {num_bytes} bytes, where at most {max_bytes:,} make sense"
    return UnusableFileError(errno.EFBIG, message, os.fspath(path))


def _read_to_end(descriptor: int, path: Path, max_bytes: int) -> bytes:
    pieces, left = [], max_bytes + 1  # one more, in case it grows meanwhile
    ask = max(os.fstat(descriptor).st_size, 1)
    while left and (piece := os.read(descriptor, min(left, ask))):
        pieces.append(piece)
        left -= len(piece)
        # To see that it ends; a large buffer would take ten times the time of the reading.
        ask = _PIECE
    if not left:
        raise _too_large(path, f"more than {max_bytes:,}", max_bytes)
    return b"".join(pieces)


def open_own(path: Path) -> int:
    """Open a file for appending, and for reading back; it is made where it is missing.

    Raises:
        UnusableFileError: It is no plain file, or has a second name, under which it may be
            somebody else's.
        OSError: It cannot be opened.
    """
    descriptor = open_plain(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise UnusableFileError(
            errno.EMLINK, "it is a hard link to a file that has another name", os.fspath(path)
        )
    return descriptor


def create_new(path: Path) -> int:
    """Make a file, which must not be there, and open it for writing."""
    return open_plain(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of the data, which `os.write` alone need not do."""
    left = memoryview(data).cast("B")
    while left:
        left = left[os.write(descriptor, left) :]

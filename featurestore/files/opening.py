"""Opening plain files, and nothing else."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

_SAFELY = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_PIECE = 1 << 14


class UnusableFileError(OSError):
    """A path is not a plain file, or the file is too large."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def open_regular(path: Path, max_bytes: int | None = None, follow: bool = False) -> int:
    """Open a plain file for reading, without ever blocking.

    Args:
        path: The file.
        max_bytes: Maximum size in bytes; None for any size.
        follow: Whether the path may be a symbolic link: only for paths given by the user.

    Returns:
        A file descriptor, to be closed by the caller.

    Raises:
        UnusableFileError: The path is a link, directory, pipe, socket or device, or too large.
        OSError: The file is missing or cannot be opened.
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
    """Open a plain file with flags of `os.open`; see `open_regular`."""
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
    """Refuse, by its status, a path that is not a plain file or is too large."""
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
    """Open a file for appending and reading; it is created if missing.

    Raises:
        UnusableFileError: The path is not a plain file, or the file has another hard link, under
            which it may be somebody else's.
        OSError: The file cannot be opened.
    """
    descriptor = open_plain(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise UnusableFileError(
            errno.EMLINK, "it is a hard link to a file that has another name", os.fspath(path)
        )
    return descriptor


def create_new(path: Path) -> int:
    """Create a file that must not exist, and open it for writing."""
    return open_plain(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all data, which a single `os.write` need not do."""
    left = memoryview(data).cast("B")
    while left:
        left = left[os.write(descriptor, left) :]

"""From a clip's path to an open file that is safe to decode: below the root, regular, bounded.

Neither the files nor the tables that name them are trusted. The content is left to `audio`.
"""

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from featurestore.errors import AudioError
from schemas import ClipStatus

_HASHED_AT_ONCE = 1 << 20
_FAULTS_OF_THE_PATH = frozenset((
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENXIO,  # a socket, or a device without a driver
    errno.ENODEV,
))  # fmt: skip


def clip_file(root: Path, path: str) -> Path:
    """Return the resolved path of a clip's file, which must lie below the root.

    The root itself may be a symbolic link, and so may anything below it that stays below it.

    Args:
        root: Root of the dataset.
        path: Path of the clip, relative to it, with `/`.

    Raises:
        AudioError: The path is absolute, has a `..`, or follows a link out of the root.
    """
    place, steps = os.fspath(root), path.split("/")
    if ".." in steps or path.startswith("/"):
        raise AudioError(ClipStatus.MISSING, "the path leaves the dataset's root")
    for step in steps:
        place = f"{place}/{step}"
        if os.path.islink(place):  # noqa: PTH114  (a third of a Path's time, for every clip)
            _check_links(root, path)
            break
    return root / path


def _check_links(root: Path, path: str) -> None:
    real = Path(os.path.realpath(root / path))
    if not real.is_relative_to(os.path.realpath(root)):
        raise AudioError(
            ClipStatus.MISSING,
            f"a link leads out of the dataset's root, to {real}; copy the file, or give a root "
            "that holds both",
        )


def open_source(path: Path, max_bytes: int) -> tuple[int, int]:
    """Open a regular file of bounded size for reading.

    Nothing blocks: a pipe without a writer is refused like any other special file.

    Returns:
        A file descriptor, to be closed by the caller, and the file's size in bytes, at least 1.

    Raises:
        AudioError: The file is missing, cannot be opened, is not regular, empty or too large.
        OSError: Opening failed for a reason other than the file itself.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno not in _FAULTS_OF_THE_PATH:
            raise
        raise AudioError(ClipStatus.MISSING, str(error.strerror)) from error
    except ValueError as error:
        raise AudioError(ClipStatus.MISSING, f"no file can have this name: {error}") from error
    try:
        return descriptor, _checked_size(os.fstat(descriptor), max_bytes)
    except AudioError:
        os.close(descriptor)
        raise


def _checked_size(status: os.stat_result, max_bytes: int) -> int:
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(ClipStatus.MISSING, "not a regular file")
    if not status.st_size:
        raise AudioError(ClipStatus.EMPTY, "0 bytes")
    if status.st_size > max_bytes:
        raise AudioError(
            ClipStatus.TOO_LONG, f"{status.st_size} bytes; max_duration_s allows {max_bytes}"
        )
    return status.st_size


@dataclass(frozen=True)
class FileIdentity:
    """Identity of a file, which changes if the file is replaced."""

    path: str
    device: int
    inode: int
    size: int
    changed_ns: int


def identify(path: Path, descriptor: int) -> FileIdentity:
    """Return the identity of an open file."""
    status = os.fstat(descriptor)
    return FileIdentity(str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def file_sha256(descriptor: int, start: bytes = b"") -> bytes:
    """Return the SHA-256 digest (32 bytes) of an open file of which `start` has been read."""
    digest = hashlib.sha256(start)
    while piece := os.read(descriptor, _HASHED_AT_ONCE):
        digest.update(piece)
    return digest.digest()

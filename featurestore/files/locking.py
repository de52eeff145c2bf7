"""Advisory file lock of both programs, which the system releases when its holder dies."""

import errno
import fcntl
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from featurestore.files.opening import UnusableFileError, create_new, open_plain, write_all

_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_OWNER = re.compile(r"process \d{1,10} on [\w.-]{1,100}")
_MOST_OWNER_BYTES = 200
_POLL_S = 0.05
_IN_USE = "in use by "


class LockedError(BlockingIOError):
    """Another process holds the lock."""

    @property
    def holder(self) -> str:
        """Return a description of the holder: its process and machine, if known."""
        return str(self.strerror).removeprefix(_IN_USE)


@contextmanager
def locked(
    path: Path, wait_s: float = 0.0, waiting: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold an advisory lock, which the system releases when this process dies.

    The file at `path` names the holder, and exists only while the lock is held. One left by a
    killed process is taken over. On a shared file system the lock works across machines if the file
    system supports locks; if it does not, nobody is kept out.

    Args:
        path: Path of the lock file, in an existing directory.
        wait_s: Seconds to wait for another holder.
        waiting: Called before each wait.

    Raises:
        LockedError: Another process still holds the lock.
        UnusableFileError: `path` is something other than a lock file; it is left alone.
        OSError: The directory cannot be written.
    """
    descriptor = _acquire(path, time.monotonic() + wait_s, waiting)
    try:
        yield
    finally:
        _unlink(descriptor, path)
        os.close(descriptor)


def lock_descriptor(descriptor: int) -> bool:
    """Lock an open file unless another process holds it; True if locks are not supported.

    Closing the descriptor releases the lock.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is still at this path: it may have been removed or renamed."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _unlink(descriptor: int, path: Path) -> None:
    """Remove the name of an open file, and never that of another which has taken its place.

    A name cannot be compared and removed in one step, but a file that was moved aside can be
    looked at and put back.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    with suppress(FileNotFoundError):
        if not is_at(descriptor, path):
            return
        path.rename(aside)
        if not is_at(descriptor, aside):
            with suppress(FileExistsError):  # yet another one is there by now
                os.link(aside, path, follow_symlinks=False)
        aside.unlink()


def _acquire(path: Path, deadline: float, waiting: Callable[[], None] | None) -> int:
    # One more look: the holder that was seen may be one that is just taking away a dead one's file.
    looked_again = False
    while True:
        try:
            return _take(path)
        except LockedError:
            if looked_again and time.monotonic() >= deadline:
                raise
            if looked_again and waiting:
                waiting()
        looked_again = True
        time.sleep(_POLL_S)


def _take(path: Path) -> int:
    """Take a lock now: by a file made for it, never by writing into one that is there."""
    while True:
        with suppress(FileExistsError):
            descriptor = create_new(path)
            try:
                if lock_descriptor(descriptor) and is_at(descriptor, path):
                    _sign(descriptor, path)
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # another took it for a dead one's, between our two steps
        _remove_dead(path)


def _sign(descriptor: int, path: Path) -> None:
    try:
        write_all(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _remove_dead(path: Path) -> None:
    """Remove the file of a lock that nobody holds.

    Raises:
        LockedError: Somebody does.
        UnusableFileError: It is no file of ours.
    """
    with suppress(FileNotFoundError):
        descriptor = open_plain(path, os.O_RDWR)  # NFS locks no file that is open for reading only
        try:
            owner = os.read(descriptor, _MOST_OWNER_BYTES).decode(errors="replace").strip("\0\n ")
            if not lock_descriptor(descriptor):
                named = _OWNER.fullmatch(owner)
                holder = owner if named else "another process"
                raise LockedError(errno.EWOULDBLOCK, _IN_USE + holder, os.fspath(path))
            if not is_at(descriptor, path):
                return
            _check_ours(descriptor, path, owner)
            _unlink(descriptor, path)
        finally:
            os.close(descriptor)


def _check_ours(descriptor: int, path: Path, owner: str) -> None:
    """Refuse a file that was put in the place of a lock; a full disk may have cut ours short."""
    status = os.fstat(descriptor)
    is_ours = "process ".startswith(owner[:8]) and status.st_size <= _MOST_OWNER_BYTES
    if not is_ours or status.st_nlink > 1:
        raise UnusableFileError(
            errno.EEXIST, "it is no lock of ours; move it away if it is yours", os.fspath(path)
        )

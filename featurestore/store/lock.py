"""One writer of a store at a time: an advisory lock that the system drops when its process dies.

The lock is on a file in the store, so that builds on several machines that share a file system see
each other wherever that file system has locks at all. It is there only while somebody writes; one
that a killed build leaves behind is taken over by the next.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from featurestore.errors import BusyError, StorageError
from featurestore.storage import LocalStorage, Storage
from featurestore.storage.local import LOCK

_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(storage: Storage) -> Iterator[None]:
    """Hold the lock of a store in a directory, which is made where it is absent.

    Object stores have no locks: there, whoever claims a dataset first decides what its features are
    (`creation`), all who build it write the same bytes, and the root, which datasets share, is
    replaced only if it has not changed since it was read.

    Raises:
        BusyError: Another process holds it.
        StorageError: The directory cannot be written.
    """
    if not isinstance(storage, LocalStorage):
        yield
        return
    path, place = storage.path, storage.path / LOCK
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = _acquire(place)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}. Put this right and run the same "
            "command again, or name another place"
        ) from error
    with file:
        try:
            yield
        finally:
            place.unlink(missing_ok=True)


def remove_left(storage: Storage) -> None:
    """Remove the lock that a killed process left, if it may be removed and nobody holds it."""
    if isinstance(storage, LocalStorage) and (storage.path / LOCK).exists():
        with suppress(BusyError, StorageError, OSError), locked(storage):
            pass


def _acquire(place: Path) -> TextIO:
    while True:
        file = place.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            with file:
                owner = file.read() or "another process"
            raise BusyError(
                f"{place.parent} is being written by {owner}: wait for it to end, or stop it, and "
                "run the same command again"
            ) from error
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
        if _is_at(file, place):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            return file
        file.close()  # its holder ended, and took the file away, between our two steps


def _is_at(file: TextIO, place: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), place.stat())
    except FileNotFoundError:
        return False

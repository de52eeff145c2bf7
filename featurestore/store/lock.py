"""Lock against concurrent writers of a store, on a file in the store.

The file exists only while the lock is held; one left by a killed build is taken over by the next.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from featurestore import files
from featurestore.errors import BusyError, StorageError, cause
from featurestore.files import LockedError
from featurestore.storage import LocalStorage, Storage
from featurestore.storage.local import LOCK
from featurestore.store.records import has_records, remove_records
from schemas import StoreManifest


@contextmanager
def locked(storage: Storage) -> Iterator[None]:
    """Hold the lock of a store; its directory is created if missing.

    Object stores have no locks. There, the first build to claim a dataset determines its features
    (`creation`), all builds of it write the same bytes, and the root, which datasets share, is
    replaced only if it has not changed since it was read.

    Raises:
        BusyError: Another process holds the lock.
        StorageError: The directory cannot be written, or the lock's path is something else.
    """
    if not isinstance(storage, LocalStorage):
        yield
        return
    path, place = storage.path, storage.path / LOCK
    with ExitStack() as held:
        try:
            path.mkdir(parents=True, exist_ok=True)
            held.enter_context(files.locked(place))
        except LockedError as error:
            raise BusyError(
                f"{path} is being written by {error.holder}: wait for it to end, or stop it, and "
                "rerun the same command"
            ) from error
        except OSError as error:
            raise StorageError(
                f"cannot write {error.filename or path}: {cause(error)}. Fix this "
                "and rerun the same command, or name another place"
            ) from error
        yield


def remove_left(storage: Storage, manifest: StoreManifest) -> None:
    """Remove leftovers of a process that was killed just after completing a dataset.

    These are its lock, if nobody holds it, and records of blocks.
    """
    with suppress(BusyError, StorageError, OSError):
        is_local = isinstance(storage, LocalStorage)
        if has_records(storage, manifest) or (is_local and storage.exists(LOCK)):
            with locked(storage):
                remove_records(storage, manifest)

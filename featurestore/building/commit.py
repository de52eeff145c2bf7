"""Writing a block into the store it was made for, and never into another that replaced it.

A worker may still be extracting when its build has been stopped, the store deleted and another one
built in the same place. So the manifest is read again before anything of a block is written, and
before its commit; and a directory is written to through the descriptor opened then, not by name.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from featurestore.errors import BuildError, CorruptError, FingerprintError, StorageError
from featurestore.storage import LocalStorage, Storage
from featurestore.store.arrays import StoredArrays
from featurestore.store.documents import read_manifest
from featurestore.store.metadata import DOCUMENT, Columns
from featurestore.store.plan import Block
from schemas import StoreManifest

_DESCRIPTORS = Path("/proc/self/fd")


def commit(
    arrays: StoredArrays, fingerprint: str, block: Block, values: Columns, paths: Sequence[str]
) -> None:
    """Write the rows of a block, `status` last, if the store is still the one they were made for.

    Args:
        arrays: Arrays of the store.
        fingerprint: Fingerprint of the features that the values belong to.
        block: Whole chunks of a fold.
        values: Array name to rows (len(block), ...).
        paths: Paths of the block's clips, which the values were made from.

    Raises:
        FingerprintError: The store now holds other features.
        BuildError: The store was deleted.
        StorageError: It cannot be written.
    """
    with held(arrays, fingerprint) as held_arrays:
        # Compared again when all but `status` is written: an object store cannot be held.
        check = partial(check_current, held_arrays, fingerprint)
        held_arrays.write_block(block, values, paths, check)


@contextmanager
def held(arrays: StoredArrays, fingerprint: str) -> Iterator[StoredArrays]:
    """Yield the arrays of the directory as opened now, after comparing its manifest.

    Raises:
        FingerprintError: The store now holds other features.
        BuildError: The store was deleted, also while the context lasts.
    """
    with _held(arrays.storage) as storage:
        held_arrays = replace(arrays, storage=storage)
        manifest = check_current(held_arrays, fingerprint)
        yield replace(held_arrays, manifest=manifest)


def check_current(arrays: StoredArrays, fingerprint: str) -> StoreManifest:
    """Return the current manifest, provided that it is still of the features the blocks are for.

    Raises:
        FingerprintError: The store now holds other features.
        BuildError: The store was deleted.
        CorruptError: The manifest is damaged.
    """
    storage, name = arrays.storage, arrays.manifest.card.name
    try:
        manifest = read_manifest(storage, name)
    except CorruptError as error:
        if storage.exists(f"{name}/{DOCUMENT}"):
            raise
        raise gone(storage) from error
    if manifest.fingerprint != fingerprint:
        raise FingerprintError(
            f"{storage} was replaced while {name} was being built: it holds other features now, so "
            "what was extracted for the old one is dropped. Run the same command with another "
            "--store"
        )
    return manifest


def gone(storage: Storage) -> BuildError:
    """Return the error for a deleted store, which workers do not recreate."""
    return BuildError(
        f"{storage} is gone: it was deleted or moved while it was being built. Put it back, or run "
        "the same command to start again"
    )


@dataclass(frozen=True)
class _HeldStorage(LocalStorage):
    """A directory that is open: whatever is renamed or made at its name, it stays the same one."""

    shown: str = ""

    def __str__(self) -> str:
        return self.shown


@contextmanager
def _held(storage: Storage) -> Iterator[Storage]:
    """Yield the store's directory as it is now. Deleted, nothing can be made in it any more.

    An object store has no such thing, and systems without /proc do not show it.
    """
    if not isinstance(storage, LocalStorage) or not _DESCRIPTORS.is_dir():
        yield storage
        return
    try:
        # What is put at the same path from now on is another directory, and gets none of this.
        descriptor = os.open(storage.path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError as error:
        raise gone(storage) from error
    try:
        yield _HeldStorage(_DESCRIPTORS / str(descriptor), str(storage))
    except StorageError as error:
        # A directory that was deleted while it is open has no link left.
        if os.fstat(descriptor).st_nlink == 0:
            raise gone(storage) from error
        raise
    finally:
        os.close(descriptor)

"""The documents of a store: its root, and the manifest of each dataset in it.

The root's attributes mark the store as ours and name its datasets; a dataset's attributes are its
manifest.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache

from featurestore.errors import CorruptError, NewerError, StorageError, cause
from featurestore.storage import Storage
from featurestore.store import metadata
from featurestore.store.agreement import with_additions
from featurestore.store.fingerprint import meaning, signed
from featurestore.store.metadata import Columns
from featurestore.store.parsing import (
    DOCUMENT,
    MARK,
    attributes_in,
    parse_manifest,
    parsed,
)
from featurestore.store.root import Root, dataset_names, read_root, root_in
from schemas import PLAIN_VERSION, StoreManifest

__all__ = ["MARK", "dataset_names"]

_WRITERS = 8
"""Number of files written concurrently: the disk flushes several in the time of one."""


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Translate write errors of a storage into StorageError with advice."""
    try:
        yield
    except (OSError, StorageError) as error:
        raise StorageError(
            f"cannot write {what}: {cause(error)}. Finished blocks are safe; "
            "fix the problem and rerun the same command"
        ) from error


def store_documents(manifests: Iterable[StoreManifest]) -> dict[str, bytes]:
    """Return all zarr.json documents of a store with these datasets, by key.

    The root includes copies of all others.
    """
    manifests = sorted(manifests, key=lambda manifest: manifest.card.name)
    documents: dict[str, bytes] = {}
    for manifest in manifests:
        documents |= dataset_documents(manifest)
    mark = {
        "format_version": max((m.format_version for m in manifests), default=PLAIN_VERSION),
        "datasets": [manifest.card.name for manifest in manifests],
    }
    root = metadata.group_document({MARK: mark})
    if manifests:
        root = metadata.with_copies(root, documents)
    return documents | {DOCUMENT: root}


def dataset_documents(manifest: StoreManifest) -> dict[str, bytes]:
    """Return all zarr.json documents of a dataset, by key."""
    name = manifest.card.name
    documents = {f"{name}/{DOCUMENT}": manifest_document(manifest)}
    for fold in manifest.folds:
        for key, data in metadata.fold_objects(manifest, fold.num_clips).items():
            documents[f"{name}/fold{fold.fold}/{key}"] = data
    for key, data in metadata.checksums_documents(manifest).items():
        documents[f"{name}/{key}"] = data
    return documents


def manifest_document(manifest: StoreManifest) -> bytes:
    """Return the zarr.json of a dataset's group."""
    return metadata.group_document(meaning(signed(manifest)))


def table_objects(manifest: StoreManifest, fold: int, table: Columns) -> dict[str, bytes]:
    """Return the chunks of a fold's clip table, by key.

    Args:
        manifest: Manifest of the dataset.
        fold: Number of the fold.
        table: Columns of `TABLE`, (num_clips,) each, in row order.
    """
    group = f"{manifest.card.name}/fold{fold}"
    chunks = metadata.table_chunks(manifest, table)
    return {f"{group}/{key}": data for key, data in chunks.items()}


def write_all(storage: Storage, objects: Mapping[str, bytes]) -> None:
    """Write objects by key, each atomically.

    Raises:
        StorageError: An object cannot be written.
    """
    with writing(str(storage)), ThreadPoolExecutor(max(_WRITERS, storage.threads)) as pool:
        list(pool.map(storage.write, objects.keys(), objects.values()))


def put_manifest(storage: Storage, manifest: StoreManifest) -> None:
    """Replace a dataset's manifest, and keep what others have added to its document.

    Raises:
        StorageError: The store cannot be written.
    """
    key = f"{manifest.card.name}/{DOCUMENT}"
    with writing(str(storage)):
        storage.write(key, with_additions(manifest_document(manifest), present(storage, key)))


def present(storage: Storage, key: str) -> bytes | None:
    """Return the content of an object; None if it cannot be read."""
    try:
        return storage.read(key)
    except OSError:
        return None


def put_in_root(storage: Storage, manifest: StoreManifest) -> None:
    """Add or update a dataset in the root, with a copy of its manifest.

    The copies of other datasets are kept. An object store replaces the root only if it has not
    changed since it was read, so concurrent builds do not undo each other's entries.

    Raises:
        StorageError: The store cannot be written.
    """

    def changed(data: bytes) -> bytes:
        root = root_in(storage, data)
        other_manifests = [
            _any_manifest(storage, root, name)
            for name in root.datasets
            if name != manifest.card.name
        ]
        names = (*root.datasets, manifest.card.name)
        return with_additions(store_documents([*other_manifests, manifest])[DOCUMENT], data, names)

    with writing(str(storage)):
        storage.update(DOCUMENT, changed)


def _any_manifest(storage: Storage, root: Root, name: str) -> StoreManifest:
    """Return the manifest of a dataset in the root, by its copy; a damaged copy is replaced."""
    try:
        return manifest_copy(storage, root, name)
    except CorruptError:
        return read_manifest(storage, name)


def read_manifest(storage: Storage, dataset: str) -> StoreManifest:
    """Read the manifest of a dataset.

    Raises:
        NewerError: It was made by a newer version.
        CorruptError: The manifest is missing or damaged.
    """
    return _manifest_in(
        storage, dataset, lambda: _parse_stored(storage.read(f"{dataset}/{DOCUMENT}"), dataset)
    )


@lru_cache(maxsize=4)
def _parse_stored(data: bytes, dataset: str) -> StoreManifest:
    """Return the manifest in a document. Every commit reads it twice, and it is mostly the same."""
    return parse_manifest(attributes_in(parsed(data)), dataset)


def manifest_copy(storage: Storage, root: Root, dataset: str) -> StoreManifest:
    """Return the root's copy of a manifest.

    Raises:
        NewerError: It was made by a newer version.
        CorruptError: The copy is missing or damaged.
    """

    def parse_copy() -> StoreManifest:
        return parse_manifest(attributes_in(root.copies[dataset]), dataset)

    return _manifest_in(storage, dataset, parse_copy, "the root's copy of ")


def trusted_manifest(
    storage: Storage, root: Root, dataset: str, *, from_copy: bool = False
) -> StoreManifest:
    """Return the manifest of a dataset, checked as far as possible without its arrays.

    A complete manifest must equal the root's copy: its own digest does not distinguish it from that
    of another build of the dataset.

    Args:
        storage: Storage of the store.
        root: Root of the store.
        dataset: Name of the dataset.
        from_copy: Whether to use the root's copy alone, if there is one; not for format version
            1, which has no digest.

    Raises:
        NewerError: It was made by a newer version.
        CorruptError: It is missing or damaged, or differs from the copy.
    """
    if from_copy and dataset in root.copies:
        manifest = manifest_copy(storage, root, dataset)
        if manifest.format_version > 1:
            return manifest
    else:
        manifest = read_manifest(storage, dataset)
    if manifest.state != "complete" or _is_copied(storage, root, manifest):
        return manifest
    # It may have been completed since the root was read.
    root, manifest = read_root(storage), read_manifest(storage, dataset)
    if manifest.state == "complete" and not _is_copied(storage, root, manifest):
        raise CorruptError(
            f"{storage}: the manifest of {dataset} and the root's copy of it differ. "
            f"`featurestore repair {storage} --dataset {dataset}` finds which is right"
        )
    return manifest


def _is_copied(storage: Storage, root: Root, manifest: StoreManifest) -> bool:
    """Return whether the root has the same manifest; from format version 2 on it may have none."""
    name = manifest.card.name
    if name not in root.copies and manifest.format_version > 1:
        return True
    return manifest_copy(storage, root, name) == manifest


def _manifest_in(
    storage: Storage, dataset: str, read: Callable[[], StoreManifest], which: str = ""
) -> StoreManifest:
    """Return a manifest, with what is wrong with it as an error of the store.

    Raises:
        NewerError: It was made by a newer version.
        CorruptError: The manifest is missing or damaged.
    """
    try:
        return read()
    except NewerError as error:
        raise NewerError(f"{storage}: {dataset} was made by a newer version: {error}") from error
    except (OSError, KeyError, ValueError) as error:
        reason = "there is none" if isinstance(error, KeyError) else cause(error)
        raise CorruptError(
            f"{storage}: {which}the manifest of {dataset} is damaged: {reason}. "
            f"`featurestore repair {storage} --dataset {dataset}` repairs it from a copy"
        ) from error

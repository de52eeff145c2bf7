"""The documents of a store: its root, and the manifest of each dataset in it.

The root's attributes mark the store as ours and name its datasets; a dataset's are its manifest.
What they say of arrays and chunks is used in `store`.
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
"""Files written at once: each waits for the disk, which flushes several in the time of one."""


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn a storage's refusal into an error that says what to do."""
    try:
        yield
    except (OSError, StorageError) as error:
        raise StorageError(
            f"cannot write {what}: {cause(error)}. Finished blocks are safe; "
            "fix the problem and rerun the same command"
        ) from error


def store_documents(manifests: Iterable[StoreManifest]) -> dict[str, bytes]:
    """Return every zarr.json of a store that holds these datasets, by its key.

    The root has a copy of all others.
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
    """Return every zarr.json of a dataset, by its key."""
    name = manifest.card.name
    documents = {f"{name}/{DOCUMENT}": manifest_document(manifest)}
    for fold in manifest.folds:
        for key, data in metadata.fold_objects(manifest, fold.num_clips, {}).items():
            documents[f"{name}/fold{fold.fold}/{key}"] = data
    for key, data in metadata.checksums_documents(manifest).items():
        documents[f"{name}/{key}"] = data
    return documents


def manifest_document(manifest: StoreManifest) -> bytes:
    """Return the zarr.json of a dataset."""
    return metadata.group_document(meaning(signed(manifest)))


def table_objects(manifest: StoreManifest, fold: int, table: Columns) -> dict[str, bytes]:
    """Return the chunks of a fold's clip table, by their keys.

    Args:
        manifest: Manifest of the dataset.
        fold: Number of the fold.
        table: The columns of `TABLE`, (num_clips,) each, in row order.
    """
    objects = metadata.fold_objects(manifest, len(table["clip_id"]), table)
    group = f"{manifest.card.name}/fold{fold}"
    return {f"{group}/{k}": data for k, data in objects.items() if not k.endswith(DOCUMENT)}


def write_all(storage: Storage, objects: Mapping[str, bytes]) -> None:
    """Write objects by their keys, each whole or not at all.

    Raises:
        StorageError: One cannot be written.
    """
    with writing(str(storage)), ThreadPoolExecutor(max(_WRITERS, storage.threads)) as pool:
        list(pool.map(storage.write, objects.keys(), objects.values()))


def put_manifest(storage: Storage, manifest: StoreManifest) -> None:
    """Replace a dataset's manifest where it lies; what others have added to it stays.

    Raises:
        StorageError: The store cannot be written.
    """
    key = f"{manifest.card.name}/{DOCUMENT}"
    with writing(str(storage)):
        storage.write(key, with_additions(manifest_document(manifest), present(storage, key)))


def present(storage: Storage, key: str) -> bytes | None:
    """Return an object, if it can be read."""
    try:
        return storage.read(key)
    except OSError:
        return None


def put_in_root(storage: Storage, manifest: StoreManifest) -> None:
    """Name a dataset in the root, with a copy of its manifest, in place of the one that is there.

    Of other datasets, the copies that are there stay: they follow from nothing but the root itself,
    which an object store replaces only if it has not changed since. So of several builds that do
    this at once none undoes what another did.

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
        NewerError: A newer version made it.
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
        NewerError: A newer version made it.
        CorruptError: There is none, or it is damaged.
    """

    def parse_copy() -> StoreManifest:
        return parse_manifest(attributes_in(root.copies[dataset]), dataset)

    return _manifest_in(storage, dataset, parse_copy, "the root's copy of ")


def trusted_manifest(
    storage: Storage, root: Root, dataset: str, *, from_copy: bool = False
) -> StoreManifest:
    """Return the manifest of a dataset, as far as it can be checked without its arrays.

    A complete one must be what the root's copy is: its own digest does not tell it from that of
    another build of the dataset.

    Args:
        storage: Storage of the store.
        root: Root of the store.
        dataset: Name of the dataset.
        from_copy: Take the root's copy, where there is one, and ask for no other, unless the
            format version is 1, which has no digest.

    Raises:
        NewerError: A newer version made it.
        CorruptError: It is missing or damaged, or the two differ.
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
        NewerError: A newer version made it.
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

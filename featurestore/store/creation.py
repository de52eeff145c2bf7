"""Creation of a dataset in a store: claiming its name, and making its arrays."""

from collections.abc import Mapping

from featurestore.storage import Place, locate
from featurestore.store.arrays import StoredArrays
from featurestore.store.documents import (
    dataset_documents,
    dataset_names,
    manifest_document,
    put_in_root,
    read_manifest,
    store_documents,
    table_objects,
    trusted_manifest,
    write_all,
    writing,
)
from featurestore.store.metadata import DOCUMENT, Columns
from featurestore.store.root import read_root
from schemas import StoreManifest


def find_arrays(place: Place, dataset: str) -> StoredArrays | None:
    """Return the arrays of a dataset for writing; None if the store does not have the dataset.

    Raises:
        StoreError: `place` exists and is not a store.
        CorruptError: The dataset's manifest is damaged.
    """
    storage = locate(place)
    if storage.is_blank():
        return None
    root = read_root(storage)
    if dataset in root.datasets:
        return StoredArrays(storage, trusted_manifest(storage, root, dataset))
    if storage.exists(f"{dataset}/{DOCUMENT}"):  # claimed, and not yet in the root
        return StoredArrays(storage, read_manifest(storage, dataset))
    return None


def claim_arrays(place: Place, manifest: StoreManifest) -> StoredArrays:
    """Write the manifest of a new dataset, unless it has one, before anything else of it.

    If several builds start at once, the first manifest wins, also in an object store, which has no
    locks: the others receive it, and must not continue if it differs from theirs.

    Args:
        place: Path or URL of the store; created if missing.
        manifest: Manifest in the state `building`.

    Returns:
        The arrays with the winning manifest; they may not exist yet.

    Raises:
        StoreError: `place` exists and is not a store.
        StorageError: The store cannot be written.
    """
    storage, name = locate(place), manifest.card.name
    with writing(str(storage)):
        if storage.is_blank():  # a root without our mark would be taken for somebody else's
            storage.create(DOCUMENT, store_documents([])[DOCUMENT])
    dataset_names(storage)
    with writing(str(storage)):
        storage.create(f"{name}/{DOCUMENT}", manifest_document(manifest))
    return StoredArrays(storage, read_manifest(storage, name))


def create_arrays(arrays: StoredArrays, tables: Mapping[int, Columns]) -> None:
    """Create all arrays of a claimed dataset in full shape, and write the clip table.

    The dataset is added to the root last: until then, a later build repeats the creation, which
    writes the same objects.

    Args:
        arrays: Arrays from `claim_arrays`.
        tables: Columns of `TABLE`, (num_clips,) each, in row order, by fold.

    Raises:
        StorageError: The store cannot be written.
    """
    storage, manifest = arrays.storage, arrays.manifest
    name = manifest.card.name
    documents = dataset_documents(manifest)
    del documents[f"{name}/{DOCUMENT}"]
    write_all(storage, documents)
    for fold, table in tables.items():
        write_all(storage, table_objects(manifest, fold, table))
    put_in_root(storage, manifest)


def remove_partial(place: Place) -> int:
    """Delete partial files of killed writers; returns their number."""
    return locate(place).remove_partial()

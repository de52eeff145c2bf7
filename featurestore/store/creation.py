"""A dataset's place in a store: found, claimed for one set of features, and made."""

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
    """Return the arrays of a dataset for writing, or None if the store does not have them yet.

    Raises:
        StoreError: `place` exists and is something else.
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
    """Put the manifest of a new dataset where there is none, before anything else of it.

    Of several builds that begin at once, the first one's stays, also in an object store, which has
    no locks: the others get it, and must not continue if it is not what they want.

    Args:
        place: Path or URL of the store; made where it does not exist.
        manifest: In state `building`.

    Returns:
        The arrays with the manifest that is there. Of them, nothing may be there yet.

    Raises:
        StoreError: `place` exists and is something else.
        StorageError: It cannot be written.
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
    """Make every array of a claimed dataset at its full shape and write the clip table.

    The root names the dataset last: until then, the next build starts its creation again, and
    writes the same objects.

    Args:
        arrays: As claimed.
        tables: For each fold, the columns of `TABLE`, (num_clips,) each, in row order.

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
    """Delete what killed writers left half written; returns how many files."""
    return locate(place).remove_partial()

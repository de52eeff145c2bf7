"""The dataset from which a store was built, read again as recorded in its manifest."""

from pathlib import Path

from featurestore.datasets import Dataset, load_dataset
from featurestore.datasets.collection import Naming, load_collection
from featurestore.datasets.finding import ELSEWHERE
from featurestore.datasets.kinds import known_names
from featurestore.errors import CorruptError, DatasetError, FeatureStoreError
from featurestore.storage import Place, Storage, locate
from featurestore.store.arrays import StoredArrays
from featurestore.store.cliptable import stored_clips
from featurestore.store.documents import manifest_copy, read_manifest
from featurestore.store.root import read_root
from schemas import Collection, StoreManifest


def reread_dataset(place: Place, name: str, root: Path | None) -> Dataset:
    """Read the dataset of a store again, under its name in the store.

    Args:
        place: Path or URL of the store.
        name: Name of the dataset in it.
        root: Directory of its audio; required for custom collections.

    Raises:
        DatasetError: The dataset cannot be read, or no root is given.
        CorruptError: Neither the manifest nor the dataset's name says how it was read.
    """
    storage = locate(place)
    try:
        manifest = _any_manifest(storage, name)
    except CorruptError:
        return load_dataset(name, root)  # which refuses a name that it does not know
    dataset_name, spec_name = manifest.dataset_name, manifest.spec_name
    if dataset_name in known_names() and manifest.collection == Collection():
        return load_dataset(dataset_name, root).with_spec_name(spec_name)
    if root is None:
        raise DatasetError(
            f"{name} is a collection of your own: give the directory of its audio with --root"
        )
    if manifest.collection.table == ELSEWHERE:
        return _from_store(StoredArrays(storage, manifest), root)
    card = manifest.card
    naming = Naming(dataset_name, card.title, card.licence, card.citation)
    return load_collection(root, naming, manifest.collection).with_spec_name(spec_name)


def _any_manifest(storage: Storage, name: str) -> StoreManifest:
    """Return a dataset's manifest, or the root's copy of one that is damaged."""
    try:
        return read_manifest(storage, name)
    except CorruptError:
        return manifest_copy(storage, read_root(storage), name)


def _from_store(arrays: StoredArrays, root: Path) -> Dataset:
    """Return the dataset as the store's clip table has it: its own table lies elsewhere."""
    manifest: StoreManifest = arrays.manifest
    try:
        clips = stored_clips(arrays)
    except FeatureStoreError as error:
        raise DatasetError(
            f"{arrays.storage}: the clip table is damaged, and {manifest.card.name} was built from "
            "a table that is not in --root: build it again from that table"
        ) from error
    return Dataset(
        manifest.card,
        root,
        clips,
        fold_names=manifest.fold_names,
        collection=manifest.collection,
        official_clips=manifest.official_clips,
        spec_name=manifest.spec_name,
    )

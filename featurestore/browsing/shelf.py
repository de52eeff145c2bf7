"""The stores that are shown: one, or all in a directory, with the state of their builds."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from featurestore.errors import CorruptError, FeatureStoreError, StoreError
from featurestore.storage import LocalStorage, Place, Storage, locate
from featurestore.store.arrays import open_arrays
from featurestore.store.counts import status_counts
from featurestore.store.parsing import DOCUMENT
from featurestore.store.reader import StoredDataset, open_store
from featurestore.store.root import read_root
from featurestore.text import file_name, json_text, mask_url

_MOST_STORES = 500
"""Maximum number of stores listed per directory."""


class Shelf:
    """A store, or the stores in a directory.

    Args:
        place: Path or URL of a store, or path of a directory of stores.

    Raises:
        StoreError: The place is neither.
    """

    def __init__(self, place: Place) -> None:
        self._storage = locate(place)
        self.several = _holds_stores(self._storage)

    @property
    def place(self) -> str:
        """Human-readable name of the store or the directory."""
        storage = self._storage
        return json_text(storage.path if isinstance(storage, LocalStorage) else mask_url(storage))

    def open(self, store: str, dataset: str) -> StoredDataset:
        """Open a dataset, complete or not.

        Args:
            store: Key of the store.
            dataset: Name of the dataset.

        Raises:
            KeyError: There is no store with that key.
            StoreError: The store is damaged, or has no such dataset.
        """
        return open_store(self._stores()[store], dataset, committed_only=True)

    def describe(self) -> list[dict[str, Any]]:
        """Return key, name and datasets of each store, with state and counts, or an error."""
        return [_described(key, storage) for key, storage in self._stores().items()]

    def fingerprints(self) -> list[str]:
        """Return the fingerprints of all datasets of all stores.

        Raises:
            StoreError: A store is damaged.
        """
        return [
            open_arrays(storage, name, copies=storage.remote).manifest.fingerprint
            for storage in self._stores().values()
            for name in read_root(storage).datasets
        ]

    def _stores(self) -> Mapping[str, Storage]:
        if not self.several:
            return {_key(self._storage): self._storage}
        stores: dict[str, Storage] = {}
        for storage in _children(self._storage):
            key = _key(storage)
            # Two names may become one key.
            stores[key if key not in stores else f"{key}-{len(stores)}"] = storage
        return stores


def _holds_stores(storage: Storage) -> bool:
    """Return whether a place is a directory of stores instead of a store.

    Raises:
        StoreError: It is neither.
    """
    if not isinstance(storage, LocalStorage) or not storage.path.is_dir():
        read_root(storage)
        return False
    try:
        read_root(storage)
    except CorruptError:
        # A store without its root, or a directory whose stores look like the datasets of one.
        return any(map(_is_store, _children(storage)))
    except StoreError:
        if (storage.path / DOCUMENT).exists():
            raise
        return True
    return False


def _children(storage: Storage) -> Iterator[Storage]:
    assert isinstance(storage, LocalStorage), "only directories hold several"  # noqa: S101
    children = (path for path in sorted(storage.path.iterdir()) if (path / DOCUMENT).is_file())
    for path, _ in zip(children, range(_MOST_STORES), strict=False):
        yield LocalStorage(path)


def _is_store(storage: Storage) -> bool:
    try:
        read_root(storage)
    except FeatureStoreError:
        return False
    return True


def _key(storage: Storage) -> str:
    return file_name(Path(str(storage)).name or "store")


def _described(key: str, storage: Storage) -> dict[str, Any]:
    name = json_text(Path(str(storage)).name)
    try:
        root = read_root(storage)
        datasets = [_dataset(storage, dataset) for dataset in root.datasets]
    except (FeatureStoreError, OSError) as error:
        return {"key": key, "name": name, "datasets": [], "error": mask_url(error)}
    return {"key": key, "name": name, "datasets": datasets, "error": ""}


def _dataset(storage: Storage, name: str) -> dict[str, Any]:
    described: dict[str, Any] = {"name": name, "error": ""}
    try:
        arrays = open_arrays(storage, name, copies=storage.remote)
        manifest = arrays.manifest
        complete = manifest.state == "complete"
        counts = manifest.counts if complete else status_counts(arrays)
    except (FeatureStoreError, OSError) as error:
        return described | {"error": mask_url(error)}
    return described | {
        "title": manifest.card.title,
        "state": manifest.state,
        "num_clips": manifest.num_clips,
        "counts": counts,
        "classes": len(manifest.card.class_names),
        "folds": len(manifest.folds),
        "arrays": len(manifest.spec.arrays),
    }

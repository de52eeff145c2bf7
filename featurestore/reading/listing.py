"""The stores in a directory and the datasets in each, as data for `featurestore ls`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featurestore.errors import FeatureStoreError, NotAStoreError
from featurestore.storage import LocalStorage, Storage, locate
from featurestore.store.arrays import open_arrays
from featurestore.store.counts import status_counts
from featurestore.store.metadata import DOCUMENT
from featurestore.store.root import dataset_names
from featurestore.text import json_text

_SUFFIX = ".zarr"


def list_datasets(place: str) -> Iterator[dict[str, Any]]:
    """Yield a description of each dataset of a store, or of all stores in a directory.

    Args:
        place: Path or URL of a store, or path of a directory of stores.

    Yields:
        `store`, `dataset`, `state` (`complete`, `building` or `damaged`), `num_clips`, `counts` (by
        outcome, at present), `folds`, `num_classes`, `arrays`, `bytes` (None for a web server,
        which cannot list files), `fingerprint`, and `problem`: why it cannot be read, in which
        case unknown values are None. For an empty store, `dataset` is None.

    Raises:
        StoreError: The place does not exist, or is neither a store nor a directory.
    """
    for storage in _stores(place):
        try:
            names = dataset_names(storage)
        except FeatureStoreError as error:
            if not _in_directory(storage, place):
                raise
            if isinstance(error, NotAStoreError):  # Zarr of somebody else's
                continue
            yield _row(storage) | {"state": "damaged", "problem": str(error)}
            continue
        for name in names:
            yield _row(storage) | {"dataset": name} | _dataset(storage, name)
        if not names:
            yield _row(storage) | {"state": "building"}


def _stores(place: str) -> Iterator[Storage]:
    """Yield the store at a place, or those in the directory there, by name."""
    storage = locate(place)
    if not isinstance(storage, LocalStorage) or _may_be_store(storage.path):
        yield storage
        return
    if not storage.path.is_dir():
        yield storage  # which says that nothing is there
        return
    for child in sorted(Path(place).iterdir()):  # named as the place was, to be typed again
        if _may_be_store(child):
            yield locate(child)


def _may_be_store(path: Path) -> bool:
    """Return whether a path looks like a store; others are not opened, for they may be large."""
    return path.is_dir() and (path.suffix == _SUFFIX or (path / DOCUMENT).is_file())


def _in_directory(storage: Storage, place: str) -> bool:
    return storage != locate(place)


def _row(storage: Storage) -> dict[str, Any]:
    known = ("dataset", "num_clips", "counts", "folds", "num_classes", "arrays", "bytes")
    empty = dict.fromkeys((*known, "fingerprint", "problem"))
    return {"store": json_text(storage), "state": "", **empty}


def _dataset(storage: Storage, name: str) -> dict[str, Any]:
    try:
        arrays = open_arrays(storage, name, copies=storage.remote)
        manifest = arrays.manifest
        counts = manifest.counts if manifest.state == "complete" else status_counts(arrays)
    except FeatureStoreError as error:
        return {"state": "damaged", "problem": str(error)}
    sizes = [size for _, size in storage.sizes(name)] if storage.listable else None
    return {
        "state": manifest.state,
        "num_clips": manifest.num_clips,
        "counts": dict(counts),
        "folds": [fold.label for fold in manifest.folds],
        "num_classes": len(manifest.card.class_names),
        "arrays": list(manifest.spec.arrays),
        "bytes": None if sizes is None else sum(sizes),
        "fingerprint": manifest.fingerprint,
    }

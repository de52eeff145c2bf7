"""What a store holds, how it was made, what failed and why: as data, finished or not."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.storage import Place, Storage, locate
from featurestore.store.arrays import StoredArrays, open_arrays
from featurestore.store.counts import check_counts
from featurestore.store.root import dataset_names
from featurestore.text import json_text
from schemas import ClipStatus


def describe(path: Place) -> dict[str, Any]:
    """A JSON-ready description of a store.

    Returns:
        `path`, `bytes` and `files` (None for a web server, which lists nothing), and under
        `datasets`, by name, the manifest with `counts` as they stand now and `failures`: clip_id,
        path, fold, status, reason.

    Raises:
        StoreError: There is no store at `path`, or it is damaged.
    """
    storage = locate(path)
    names = dataset_names(storage)
    num_bytes, num_files = _sizes(storage)
    return {
        "path": json_text(storage),
        "bytes": num_bytes,
        "files": num_files,
        "datasets": {
            name: _dataset(open_arrays(storage, name, copies=storage.remote)) for name in names
        },
    }


def _sizes(storage: Storage) -> tuple[int | None, int | None]:
    if not storage.listable:
        return None, None
    sizes = [size for _, size in storage.sizes()]
    return sum(sizes), len(sizes)


def _dataset(arrays: StoredArrays) -> dict[str, Any]:
    status = {fold.fold: arrays.read(fold.fold, "status") for fold in arrays.manifest.folds}
    return arrays.manifest.model_dump(mode="json") | {
        "counts": check_counts(arrays, list(status.values())),
        "failures": [f for fold in status for f in _failures(arrays, fold, status[fold])],
    }


def _failures(arrays: StoredArrays, fold: int, status: NDArray[np.uint8]) -> list[dict[str, Any]]:
    rows = np.flatnonzero(status > ClipStatus.OK)
    if not rows.size:
        return []
    ids, paths = arrays.read(fold, "clip_id"), arrays.read(fold, "path")
    return [
        {
            "clip_id": str(ids[row]),
            "path": str(paths[row]),
            "fold": fold,
            "status": ClipStatus(status[row]).name.lower(),
            "reason": ClipStatus(status[row]).reason,
        }
        for row in rows
    ]

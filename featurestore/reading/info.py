"""Description of a store as data: contents, settings, failures and reasons, complete or not."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptError
from featurestore.storage import Place, Storage, locate
from featurestore.store.arrays import StoredArrays, open_arrays
from featurestore.store.counts import check_counts
from featurestore.store.layout import LABELS
from featurestore.store.plan import Block
from featurestore.store.root import dataset_names
from featurestore.text import json_text
from schemas import ClipStatus

QUIETEST = 2**-15
"""Peak below which a clip counts as silent: one quantisation step of 16-bit samples."""


def describe(path: Place) -> dict[str, Any]:
    """Return a JSON-ready description of a store.

    Returns:
        `path`, `bytes` and `files` (None for a web server, which cannot list files), and under
        `datasets`, by name, the manifest with the current `counts`, `silent` (see
        `count_silent`), `clips_by_class`, and `failures`: clip_id, path, fold, status, reason.

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
        "silent": _silent(arrays, status),
        "failures": [f for fold in status for f in _failures(arrays, fold, status[fold])],
        "clips_by_class": _clips_by_class(arrays),
    }


def _clips_by_class(arrays: StoredArrays) -> dict[str, int]:
    """Return the number of clips of each class; a clip of several labels counts for each."""
    names = arrays.manifest.card.class_names
    counts = np.zeros(len(names), np.int64)
    for fold in arrays.manifest.folds:
        if arrays.manifest.multilabel:
            counts += arrays.read(fold.fold, LABELS).sum(axis=0, dtype=np.int64)
        else:
            counts += np.bincount(arrays.read(fold.fold, "class_id"), minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


def count_silent(path: Place, dataset: str) -> int | None:
    """Count the clips with features that are silent after mixing their channels.

    These are digital silence, and stereo whose channels cancel each other.

    Args:
        path: Path or URL of the store.
        dataset: Name of the dataset.

    Raises:
        StoreError: The store cannot be read.
    """
    arrays = open_arrays(locate(path), dataset)
    folds = [fold.fold for fold in arrays.manifest.folds]
    return _silent(arrays, {fold: arrays.read(fold, "status") for fold in folds})


def _silent(arrays: StoredArrays, status: Mapping[int, NDArray[np.uint8]]) -> int | None:
    """Count the clips that are silent; None if a peak is damaged, which is unknown, not 0."""
    try:
        return sum(_num_silent(arrays, fold, outcomes) for fold, outcomes in status.items())
    except CorruptError:
        return None


def _num_silent(arrays: StoredArrays, fold: int, status: NDArray[np.uint8]) -> int:
    # Of a block that is not built yet there are no peaks.
    size = len(status) if arrays.manifest.state == "complete" else arrays.manifest.block_clips
    num_silent = 0
    for start in range(0, len(status), max(1, size)):
        rows = slice(start, start + size)
        stored = status[rows] == ClipStatus.OK
        if stored.any():
            num_silent += int(
                np.count_nonzero((arrays.read(fold, "peak", rows) < QUIETEST) & stored)
            )
    return num_silent


def _failures(arrays: StoredArrays, fold: int, status: NDArray[np.uint8]) -> list[dict[str, Any]]:
    rows = np.flatnonzero(status > ClipStatus.OK)
    if not rows.size:
        return []
    ids, paths = arrays.read(fold, "clip_id"), arrays.addresses(Block(fold, 0, len(status)))
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

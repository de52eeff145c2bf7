"""Range checks of decoded values before they are returned.

A checksum proves that a chunk is what was written, not that this program wrote it.
"""

from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptError
from schemas import ClipStatus, StoreManifest

_HIGHEST_STATUS = max(ClipStatus)
_BITS = {2: (np.uint16, 0x3C00), 4: (np.uint32, 0x3F80_0000)}
"""Unsigned integer type and bits of 1.0, by bytes per value. Positive floats are ordered like their
bits, and NaN, infinity and negative values have larger ones."""


def check_values(name: str, values: NDArray[Any], manifest: StoreManifest) -> None:
    """Check that a build could have written these values.

    Args:
        name: Name of the array.
        values: Rows of the array.
        manifest: Manifest of the dataset.

    Raises:
        CorruptError: A label is not a class, an index not a row of the table, an outcome unknown,
            an image outside [0, 1], or a feature not finite or outside its bounds.
    """
    if not values.size:
        return
    if (feature := manifest.spec.feature(name)) is not None:
        _check_bounds(values, *feature.bounds)
    elif name in manifest.spec.arrays:
        _check_images(values)
    elif name == "class_id":
        lowest = -1 if manifest.multilabel else 0
        _check_range("class_id", values, len(manifest.card.class_names), lowest)
    elif name == "labels":
        _check_range("labels", values, 2)
    elif name == "index":
        _check_range("index", values, manifest.num_clips)
    elif name == "status":
        _check_range("status", values, _HIGHEST_STATUS + 1)
        if manifest.state == "complete" and not values.all():
            raise CorruptError("clips are not committed, although the dataset is complete")


def check_primary(class_id: NDArray[Any], labels: NDArray[np.uint8]) -> None:
    """Check that the primary class of each clip is among its labels.

    Args:
        class_id: (n,) int, -1 if there is none.
        labels: (n, classes) uint8, multi-hot.

    Raises:
        CorruptError: A primary class is not.
    """
    rows = np.flatnonzero(class_id >= 0)
    if not labels[rows, class_id[rows]].all():
        raise CorruptError("a clip's class_id is not among its labels")


def _check_range(name: str, values: NDArray[Any], stop: int, start: int = 0) -> None:
    lowest, highest = int(values.min()), int(values.max())
    if lowest < start or highest >= stop:
        wrong = lowest if lowest < start else highest
        raise CorruptError(f"{name} {wrong} is outside {start} to {stop - 1}")


def _check_bounds(values: NDArray[Any], low: float | None, high: float | None) -> None:
    lowest, highest = float(values.min()), float(values.max())  # NaN if any is
    if not (isfinite(lowest) and isfinite(highest)):
        raise CorruptError("values are not finite")
    if (low is not None and lowest < low) or (high is not None and highest > high):
        raise CorruptError(f"values from {lowest:g} to {highest:g} are outside {low} to {high}")


def _check_images(values: NDArray[Any]) -> None:
    if values.dtype.kind != "f":
        return  # of every uint8 the feature is in [0, 1]
    kind, one = _BITS[values.dtype.itemsize]
    if values.view(kind).max() <= one:
        return
    # Only now is time spent on NaN, which compares as false, and -0.0, which is 0.
    if not ((values >= 0) & (values <= 1)).all():
        raise CorruptError("values are outside [0, 1]")

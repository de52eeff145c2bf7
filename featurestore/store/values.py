"""Possible stored values: whatever was decoded is checked before anybody sees it.

A checksum says that a chunk is what was written, not that it was written by us.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptError
from schemas import ClipStatus, StoreManifest

_HIGHEST_STATUS = max(ClipStatus)
_BITS = {2: (np.uint16, 0x3C00), 4: (np.uint32, 0x3F80_0000)}
"""By bytes per value: an unsigned integer of that size, and the bits of 1.0. Positive floats are
ordered as their bits are, and NaN, infinity and what is negative have larger ones."""


def check_values(name: str, values: NDArray[Any], manifest: StoreManifest) -> None:
    """Refuse values that no build writes.

    Args:
        name: Name of the array.
        values: Rows of it.
        manifest: Manifest of the dataset.

    Raises:
        CorruptError: A label is no class, a row no row of the table, an outcome unknown, a feature
            outside [0, 1].
    """
    if not values.size:
        return
    if name in manifest.spec.arrays:
        _check_features(values)
    elif name == "class_id":
        _check_range("class_id", values, len(manifest.card.class_names))
    elif name == "index":
        _check_range("index", values, manifest.num_clips)
    elif name == "status":
        _check_range("status", values, _HIGHEST_STATUS + 1)
        if manifest.state == "complete" and not values.all():
            raise CorruptError("clips are not committed, although the dataset is complete")


def _check_range(name: str, values: NDArray[Any], stop: int) -> None:
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest >= stop:
        wrong = lowest if lowest < 0 else highest
        raise CorruptError(f"{name} {wrong} is outside 0 to {stop - 1}")


def _check_features(values: NDArray[Any]) -> None:
    if values.dtype.kind != "f":
        return  # of every uint8 the feature is in [0, 1]
    kind, one = _BITS[values.dtype.itemsize]
    if values.view(kind).max() <= one:
        return
    # Only now is time spent on NaN, which compares as false, and -0.0, which is 0.
    if not ((values >= 0) & (values <= 1)).all():
        raise CorruptError("values are outside [0, 1]")

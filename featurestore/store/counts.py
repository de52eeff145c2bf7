"""Number of clips by outcome."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptError
from featurestore.store.arrays import StoredArrays
from schemas import ClipStatus


def status_counts(arrays: StoredArrays) -> dict[str, int]:
    """Return the number of clips by lower-case name of ClipStatus, without zeros."""
    return counted([arrays.read(fold.fold, "status") for fold in arrays.manifest.folds])


def counted(status: Sequence[NDArray[np.uint8]]) -> dict[str, int]:
    """Return the number of clips by outcome, given the status (num_clips,) of each fold."""
    codes, counts = np.unique(np.concatenate(status), return_counts=True)
    return {
        ClipStatus(code).name.lower(): int(count) for code, count in zip(codes, counts, strict=True)
    }


def check_counts(arrays: StoredArrays, status: Sequence[NDArray[np.uint8]]) -> dict[str, int]:
    """Return the counts by outcome, compared with the manifest if the dataset is complete.

    Raises:
        CorruptError: They differ.
    """
    counts, manifest = counted(status), arrays.manifest
    if manifest.state == "complete" and counts != manifest.counts:
        raise CorruptError(
            f"{arrays.storage}: the manifest of {manifest.card.name} counts {manifest.counts}, the "
            f"rows are {counts}. `featurestore verify {arrays.storage}` says more, and "
            "`featurestore repair` repairs it"
        )
    return counts

"""One block of a damaged store, rebuilt from its files. Runs in a worker process, as `block`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.building.block import BlockTask, extract_block
from featurestore.building.commit import commit
from featurestore.building.fitness import check_fit
from featurestore.errors import CorruptError
from featurestore.store.arrays import StoredArrays, open_arrays
from featurestore.store.layout import written_arrays
from featurestore.store.plan import Block
from featurestore.store.sourcecheck import TOLERANCE, distance
from schemas import ClipStatus, FeatureSpec


@dataclass(frozen=True)
class RebuiltBlock:
    """Result of repairing a block: the arrays rewritten, or the files that have changed."""

    block: Block
    arrays: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def rebuild_block(task: BlockTask, starting: Callable[[int], object] = int) -> RebuiltBlock:
    """Rewrite the arrays of a block that differ from what its files give.

    Nothing is written if a file is not the one from which the features were made.

    Raises:
        UnfitWorkerError: This process cannot do the task, but another worker may.
        FingerprintError: The store now holds other features.
        BuildError: The store was deleted.
        StorageError: The store cannot be written.
        OSError: Reading failed for a reason other than the file itself, such as a disk error.
    """
    check_fit(task.store, task.dataset, task.root, task.witness)
    arrays = open_arrays(task.store, task.dataset)
    if arrays.checksums.fault(task.block.fold):
        arrays = arrays.unsealed()  # a chunk is then known by nothing but itself
    stored = dict(_readable(arrays, task.block))
    status = stored.get("status", np.empty(0, np.uint8))
    crashed = {int(row): "as before" for row in np.flatnonzero(status == ClipStatus.CRASH)}
    extracted = extract_block(replace(task, crashed={**crashed, **task.crashed}), starting)
    fresh = extracted.values
    changed = _changed_rows(stored, fresh, arrays.manifest.spec)
    if changed.any():
        paths = arrays.read(task.block.fold, "path", task.block.rows)[changed]
        return RebuiltBlock(task.block, changed=tuple(paths))
    wrong = {
        name: values
        for name, values in fresh.items()
        if name not in stored or _differ(name, stored[name], values, arrays.manifest.spec).any()
    }
    commit(arrays, task.fingerprint, task.block, wrong, extracted.paths)
    return RebuiltBlock(task.block, tuple(wrong))


def _readable(arrays: StoredArrays, block: Block) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the arrays of a block that are undamaged; `status` only where it says anything."""
    for name in written_arrays(arrays.manifest):
        try:
            values = arrays.read(block.fold, name, block.rows)
        except CorruptError:
            continue
        if name != "status" or values.all():
            yield name, values


def _changed_rows(
    stored: Mapping[str, NDArray[Any]], fresh: Mapping[str, NDArray[Any]], spec: FeatureSpec
) -> NDArray[np.bool_]:
    """Return (len(block),): which files have changed, judged by the best evidence that is left.

    That is their digest; without it, the features that are undamaged.
    """
    witnesses = {"status", "source_sha256"} & stored.keys()
    if "source_sha256" not in witnesses:
        witnesses = stored.keys() - {"duration_s", "peak", "trimmed_s"}
    changed = np.zeros(len(fresh["status"]), bool)
    for name in witnesses:
        changed |= _differ(name, stored[name], fresh[name], spec)
    return changed


def _differ(
    name: str, one: NDArray[Any], other: NDArray[Any], spec: FeatureSpec
) -> NDArray[np.bool_]:
    """Return (n,): rows that differ; for features, by more than another library's last digits."""
    axes = tuple(range(1, one.ndim))
    if name in spec.arrays:
        return distance(one, other, spec, name, axes) > TOLERANCE
    same: NDArray[np.bool_] = (one == other) | ((one != one) & (other != other))
    return np.asarray(~same.all(axis=axes))

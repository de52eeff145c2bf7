"""The clips of a stored dataset as columns: clip table and outcomes of the build."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.arguments import typed_methods
from featurestore.cliplist import ITEM, NO_ITEM, address
from featurestore.store.arrays import StoredArrays
from featurestore.store.layout import LABELS, SPAN_COLUMNS
from featurestore.store.metadata import Columns
from featurestore.store.plan import fold_blocks
from featurestore.store.values import check_primary

_FROM_TABLE = ("clip_id", "class_id", "path", "source")


@typed_methods
@dataclass(frozen=True)
class ClipTable:
    """Columns with one value per clip, in the order in which images are read.

    Attributes:
        clip_id: str; unique in the dataset.
        fold: int64.
        row: int64, row in the fold's arrays.
        class_id: int64; if clips may have several labels (see `StoredDataset.labels`), the primary
            class, or -1.
        path: str, path of the file relative to the dataset's root.
        source: str, the recording from which the clip was cut, or empty.
        start_s: float64, start of the clip in its file in seconds; NaN for the file's start.
        end_s: float64, end of the clip in its file in seconds; NaN for the file's end.
        item: int64, row of the clip in a Parquet or Arrow file, or byte offset in a tar; -1 for a
            plain file.
        duration_s: float32, duration of the clip in seconds.
        peak: float32, largest absolute sample; 0 for silence.
        trimmed_s: float32, duration after trimming in seconds: later frames repeat the clip or
            are empty. NaN in a store without coordinates.
        status: uint8, a ClipStatus.
    """

    clip_id: NDArray[np.object_]
    fold: NDArray[np.int64]
    row: NDArray[np.int64]
    class_id: NDArray[np.int64]
    path: NDArray[np.object_]
    source: NDArray[np.object_]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    item: NDArray[np.int64]
    duration_s: NDArray[np.float32]
    peak: NDArray[np.float32]
    trimmed_s: NDArray[np.float32]
    status: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.clip_id)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns by name, for instance for `pandas.DataFrame`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def address(self, row: int) -> str:
        """Return a clip's path, with its part of the file or item of the shard, as one string."""
        place = float(self.start_s[row]), float(self.end_s[row]), int(self.item[row])
        return address(str(self.path[row]), *place)

    def where(self, mask: NDArray[np.bool_] | Sequence[bool]) -> "ClipTable":
        """Return the rows selected by a boolean mask (n,)."""
        rows = mask if isinstance(mask, np.ndarray) else np.array(list(mask), np.bool_)
        return ClipTable(**{name: column[rows] for name, column in self.columns().items()})


def join_columns(folds: Sequence[Columns]) -> ClipTable:
    """Return the concatenated table of several folds, from the columns of each."""
    names = [field.name for field in fields(ClipTable)]
    return ClipTable(**{name: np.concatenate([fold[name] for fold in folds]) for name in names})


def fold_columns(stored: StoredArrays, fold: int) -> Columns:
    """Return the columns of `ClipTable`, and labels if stored, for all rows of a fold.

    Raises:
        CorruptError: A column is damaged.
    """
    status = stored.read(fold, "status")
    columns = {name: stored.read(fold, name) for name in _FROM_TABLE}
    columns |= {name: _outcome(stored, fold, name, status) for name in ("duration_s", "peak")}
    columns["status"] = status
    size = len(status)
    columns["trimmed_s"] = np.full(size, np.nan, np.float32)
    if stored.manifest.coordinates:
        columns["trimmed_s"] = _outcome(stored, fold, "trimmed_s", status)
    for name in SPAN_COLUMNS:
        known = stored.manifest.parts
        columns[name] = stored.read(fold, name) if known else np.full(size, np.nan)
    known = stored.manifest.shards
    columns[ITEM] = stored.read(fold, ITEM) if known else np.full(size, NO_ITEM)
    columns["class_id"] = columns["class_id"].astype(np.int64)
    if stored.manifest.multilabel:
        columns[LABELS] = stored.read(fold, LABELS)
        check_primary(columns["class_id"], columns[LABELS])
    return columns | {"fold": np.full(size, fold), "row": np.arange(size)}


def _outcome(stored: StoredArrays, fold: int, name: str, status: NDArray[np.uint8]) -> NDArray[Any]:
    """Return a column that blocks write: NaN in those that are not committed."""
    if status.all():
        return stored.read(fold, name)
    values = np.full(status.shape, np.nan, np.float32)
    for block in fold_blocks(fold, len(status), stored.manifest.block_clips):
        if status[block.rows].all():
            values[block.rows] = stored.read(fold, name, block.rows)
    return values

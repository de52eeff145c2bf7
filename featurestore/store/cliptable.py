"""The clip table: from a dataset's clips to columns in row order, and back."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.cliplist import TEXT, ClipList
from featurestore.errors import BuildError, CorruptError
from featurestore.store import plan
from featurestore.store.arrays import StoredArrays
from featurestore.store.documents import table_objects, write_all
from featurestore.store.layout import (
    ITEM_COLUMN,
    LABELS,
    MAX_TEXT_BYTES,
    SPAN_COLUMNS,
    TABLE,
    table_columns,
)
from featurestore.store.values import check_primary
from schemas import StoreManifest

_TEXTS = tuple(name for name, dtype in TABLE.items() if dtype is str)
_LATER = (*SPAN_COLUMNS, *ITEM_COLUMN, LABELS)


def clip_tables(clips: ClipList, manifest: StoreManifest) -> dict[int, dict[str, NDArray[Any]]]:
    """Return the columns of the clip table by fold, in row order.

    Raises:
        BuildError: A text is longer than readers accept.
    """
    _refuse_long_texts(clips)
    columns = clips.columns() | {
        "class_id": clips.class_id.astype(np.int32),
        "index": np.arange(len(clips), dtype=np.int64),
    }
    tables = {}
    for fold in manifest.folds:
        (members,) = np.nonzero(clips.fold == fold.fold)
        rows = members[_row_order(len(members), fold.fold, manifest)]
        tables[fold.fold] = {name: columns[name][rows] for name in table_columns(manifest)}
    return tables


def _row_order(num_clips: int, fold: int, manifest: StoreManifest) -> NDArray[np.int64]:
    if manifest.run_clips:
        return plan.run_order(num_clips, fold, manifest.run_clips, manifest.order_seed)
    return plan.row_order(num_clips, fold, manifest.order_seed)


def differing_columns(
    arrays: StoredArrays, fold: int, table: Mapping[str, NDArray[Any]]
) -> tuple[str, ...]:
    """Return the columns of a fold's stored clip table that are damaged or differ from `table`."""

    def differs(column: str) -> bool:
        try:
            equal_nan = column in SPAN_COLUMNS
            return not np.array_equal(arrays.read(fold, column), table[column], equal_nan)
        except CorruptError:
            return True

    return tuple(filter(differs, table_columns(arrays.manifest)))


def write_columns(
    arrays: StoredArrays, fold: int, columns: Collection[str], table: Mapping[str, NDArray[Any]]
) -> tuple[str, ...]:
    """Rewrite columns of a fold's clip table; returns their keys.

    Raises:
        StorageError: The store cannot be written.
    """
    group = f"{arrays.manifest.card.name}/fold{fold}"
    keys = tuple(f"{group}/{column}" for column in columns)
    starts = tuple(f"{key}/" for key in keys)
    objects = table_objects(arrays.manifest, fold, table) if columns else {}
    write_all(arrays.storage, {k: data for k, data in objects.items() if k.startswith(starts)})
    return keys


def stored_clips(arrays: StoredArrays) -> ClipList:
    """Return the clips of a store in the order of the dataset's original table.

    Raises:
        CorruptError: The clip table is damaged.
    """
    folds = arrays.manifest.folds
    table = {
        name: np.concatenate([_column(arrays, fold.fold, name) for fold in folds])
        for name in table_columns(arrays.manifest)
    }
    numbers = np.repeat([fold.fold for fold in folds], [fold.num_clips for fold in folds])
    order = np.argsort(table["index"], kind="stable")
    if not np.array_equal(table["index"][order], np.arange(len(order))):
        raise CorruptError(
            f"{arrays.storage}: the clip table: `index` has a row of the dataset's table twice"
        )
    for name in ("clip_id", "path"):
        if (table[name] == "").any():
            raise CorruptError(f"{arrays.storage}: the clip table: {name} is empty in a row")
    if LABELS in table:
        try:
            check_primary(table["class_id"], table[LABELS])
        except CorruptError as error:
            raise CorruptError(f"{arrays.storage}: the clip table: {error}") from error
    return ClipList(
        clip_id=table["clip_id"][order],
        path=table["path"][order],
        fold=numbers[order].astype(np.int64),
        class_id=table["class_id"][order].astype(np.int64),
        source=table["source"][order],
        **{name: table[name][order] for name in _LATER if name in table},
    )


def _column(arrays: StoredArrays, fold: int, name: str) -> NDArray[Any]:
    values = arrays.read(fold, name)
    return values.astype(TEXT) if name in _TEXTS else values


def _refuse_long_texts(clips: ClipList) -> None:
    for name in _TEXTS:
        column = getattr(clips, name)
        for row in np.flatnonzero(4 * np.strings.str_len(column) > MAX_TEXT_BYTES):
            if len(column[row].encode()) > MAX_TEXT_BYTES:
                raise BuildError(
                    f"the {name} of {clips.clip_id[row][:60]!r}… has more than {MAX_TEXT_BYTES} "
                    "bytes, which is longer than any path: shorten it"
                )

"""The clip table: from a dataset's clips to columns in row order, and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from featurestore.errors import BuildError, CorruptError, first_problem
from featurestore.store import plan
from featurestore.store.arrays import StoredArrays
from featurestore.store.layout import MAX_TEXT_BYTES, TABLE
from schemas import Clip, StoreManifest


def clip_tables(
    clips: Sequence[Clip], manifest: StoreManifest
) -> dict[int, dict[str, NDArray[Any]]]:
    """Return, for each fold, the columns of the clip table in row order.

    Raises:
        BuildError: A text is longer than a reader accepts.
    """
    _refuse_long_texts(clips)
    text = np.dtypes.StringDType()
    columns: dict[str, NDArray[Any]] = {
        "clip_id": np.array([clip.clip_id for clip in clips], text),
        "path": np.array([clip.path for clip in clips], text),
        "source": np.array([clip.source for clip in clips], text),
        "class_id": np.array([clip.class_id for clip in clips], np.int32),
        "index": np.arange(len(clips), dtype=np.int64),
    }
    folds = np.array([clip.fold for clip in clips])
    tables = {}
    for fold in manifest.folds:
        (members,) = np.nonzero(folds == fold.fold)
        rows = members[plan.row_order(len(members), fold.fold, manifest.order_seed)]
        tables[fold.fold] = {name: column[rows] for name, column in columns.items()}
    return tables


def stored_clips(arrays: StoredArrays) -> list[Clip]:
    """Return the clips of a store, in the order of the dataset's table.

    Raises:
        CorruptError: The clip table is damaged.
    """
    rows: list[tuple[int, Clip]] = []
    for fold in arrays.manifest.folds:
        table = {name: arrays.read(fold.fold, name).tolist() for name in TABLE}
        for clip_id, path, source, class_id, index in zip(*table.values(), strict=True):
            try:
                clip = Clip(
                    clip_id=clip_id, path=path, fold=fold.fold, class_id=class_id, source=source
                )
            except ValidationError as error:
                raise CorruptError(
                    f"{arrays.storage}: the clip table: {first_problem(error)}"
                ) from error
            rows.append((index, clip))
    rows.sort(key=lambda row: row[0])
    if any(index != place for place, (index, _) in enumerate(rows)):
        raise CorruptError(
            f"{arrays.storage}: the clip table: `index` has a row of the dataset's table twice"
        )
    return [clip for _, clip in rows]


def _refuse_long_texts(clips: Sequence[Clip]) -> None:
    for clip in clips:
        for name in ("clip_id", "path", "source"):
            text: str = getattr(clip, name)
            if 4 * len(text) > MAX_TEXT_BYTES < len(text.encode()):
                raise BuildError(
                    f"the {name} of {clip.clip_id[:60]!r}… has more than {MAX_TEXT_BYTES} bytes, "
                    "which is longer than any path: shorten it"
                )

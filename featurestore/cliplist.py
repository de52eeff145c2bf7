"""The clips of a dataset as columns: a million of them are a few arrays, not a million objects."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from schemas import Clip

TEXT = np.dtypes.StringDType()
"""dtype of a column of strings."""
BATCH_ROWS = 1 << 16
"""Number of rows converted to Python objects at once."""
_TEXTS = frozenset(("clip_id", "path", "source"))
SPAN = ("start_s", "end_s")
"""Columns present if clips are parts of their files."""
ITEM = "item"
"""Column present if clips are in shards."""
NO_ITEM = -1
"""Value of `item` for a clip in a plain audio file."""
LABELS = "labels"
"""Column present if clips may have several labels or none: multi-hot, (n, classes) uint8."""


def _dtype(name: str) -> Any:  # noqa: ANN401  (NumPy's)
    if name in SPAN:
        return np.float64
    return TEXT if name in _TEXTS else np.int64


def _column(name: str, values: list[Any]) -> NDArray[Any]:
    if name == ITEM:
        values = [NO_ITEM if value is None else value for value in values]
    return np.array(values, _dtype(name))


@dataclass(frozen=True, eq=False)
class ClipList(Sequence[Clip]):
    """The clips of a dataset, in the order of its table: a sequence of `Clip`, kept as columns.

    Attributes:
        clip_id: (n,) strings, unique in the dataset.
        path: (n,) strings, the file relative to the dataset's root, with `/`.
        fold: (n,) int64.
        class_id: (n,) int64; with `labels`, the primary class, or -1 if there is none.
        source: (n,) strings, the recording from which the clip was cut, or empty.
        start_s: (n,) float64, start of the clip in its file in seconds, NaN for the file's start;
            None if every clip is a whole file.
        end_s: (n,) float64, end of the clip in its file in seconds, NaN for the file's end; None
            if every clip is a whole file.
        item: (n,) int64, position of the clip in a shard: the row of a Parquet or Arrow file, or
            the byte offset of a tar member's header; `NO_ITEM` for a plain file; None if every
            clip has a file of its own.
        labels: (n, classes) uint8, 1 for each label of a clip; None if `class_id` is the only
            label of every clip.
    """

    clip_id: NDArray[Any]
    path: NDArray[Any]
    fold: NDArray[np.int64]
    class_id: NDArray[np.int64]
    source: NDArray[Any]
    start_s: NDArray[np.float64] | None = None
    end_s: NDArray[np.float64] | None = None
    item: NDArray[np.int64] | None = None
    labels: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, clips: Iterable[Clip], num_classes: int = 0) -> "ClipList":
        """Return clips as columns; a `ClipList` is returned unchanged.

        Args:
            clips: The clips.
            num_classes: Minimum number of columns of the labels. Default: highest class_id + 1.
        """
        if isinstance(clips, ClipList):
            return clips
        rows = list(clips)
        parts = any(clip.start_s is not None or clip.end_s is not None for clip in rows)
        absent = () if parts else SPAN
        if all(clip.item is None for clip in rows):
            absent = (*absent, ITEM)
        names = [f.name for f in fields(cls) if f.name not in (*absent, LABELS)]
        return cls(
            **{name: _column(name, [getattr(clip, name) for clip in rows]) for name in names},
            labels=_labels_of(rows, num_classes),
        )

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns by name, without those that are None."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: column for name, column in named.items() if column is not None}

    def __len__(self) -> int:
        return len(self.clip_id)

    @overload
    def __getitem__(self, rows: int) -> Clip: ...

    @overload
    def __getitem__(self, rows: slice | NDArray[Any]) -> "ClipList": ...

    def __getitem__(self, rows: int | slice | NDArray[Any]) -> "Clip | ClipList":
        if isinstance(rows, slice | np.ndarray):
            return ClipList(**{name: column[rows] for name, column in self.columns().items()})
        row = range(len(self))[rows]
        return next(iter(self[row : row + 1]))

    def __iter__(self) -> Iterator[Clip]:
        for batch in self.batches():
            for values in zip(*batch.values(), strict=True):
                fields = dict(zip(batch, values, strict=True))
                if fields.get(ITEM) == NO_ITEM:
                    del fields[ITEM]
                # NaN is the only value that differs from itself.
                yield Clip(**{name: value for name, value in fields.items() if value == value})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClipList):
            return NotImplemented
        one, two = self.columns(), other.columns()
        return one.keys() == two.keys() and all(
            np.array_equal(column, two[name], equal_nan=name in SPAN)
            for name, column in one.items()
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have none

    def batches(self, names: Sequence[str] = ()) -> Iterator[dict[str, list[Any]]]:
        """Yield columns (default: all) as lists of values, a bounded number of rows at a time.

        Labels are tuples of class_ids, ascending.
        """
        chosen = {name: getattr(self, name) for name in names} or self.columns()
        for start in range(0, len(self), BATCH_ROWS):
            rows = slice(start, start + BATCH_ROWS)
            yield {
                name: class_ids(column[rows]) if name == LABELS else column[rows].tolist()
                for name, column in chosen.items()
            }


def _labels_of(clips: Sequence[Clip], num_classes: int) -> NDArray[np.uint8] | None:
    """Return the labels of some clips; None if each is of its class alone."""
    if all(clip.labels is None for clip in clips):
        return None
    ids = [(clip.class_id,) if clip.labels is None else clip.labels for clip in clips]
    highest = max((max(some) for some in ids if some), default=-1)
    return multi_hot(ids, max(num_classes, highest + 1))


def multi_hot(ids: Sequence[Sequence[int]], num_classes: int) -> NDArray[np.uint8]:
    """Return multi-hot labels (n, num_classes) uint8 of rows of class_ids."""
    hot = np.zeros((len(ids), num_classes), np.uint8)
    rows = np.repeat(np.arange(len(ids)), [len(some) for some in ids])
    hot[rows, np.array([number for some in ids for number in some], np.int64)] = 1
    return hot


def class_ids(labels: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """Return the ascending class_ids of each row of multi-hot labels (n, classes)."""
    rows, numbers = np.nonzero(labels)
    ends = np.cumsum(np.bincount(rows, minlength=len(labels))).tolist()
    listed = numbers.tolist()
    return [tuple(listed[start:stop]) for start, stop in pairwise((0, *ends))]


def texts(values: Iterable[str]) -> NDArray[Any]:
    """Return a column of strings."""
    return np.array(list(values), TEXT)


def factorize(column: NDArray[Any]) -> tuple[NDArray[np.int64], list[Any]]:
    """Return integer codes (n,) int64 of a column, and its values in order of first occurrence."""
    numbers: dict[Any, int] = {}
    codes = np.empty(len(column), np.int64)
    for start in range(0, len(column), BATCH_ROWS):
        batch = column[start : start + BATCH_ROWS].tolist()
        codes[start : start + len(batch)] = [numbers.setdefault(v, len(numbers)) for v in batch]
    return codes, list(numbers)


def repeated(column: NDArray[Any]) -> dict[int, int]:
    """Return the rows that repeat the text of an earlier row, each with the first row that has it.

    Strings are compared only if their hashes agree: a set of ten million would need a gigabyte.
    """
    hashes = np.empty(len(column), np.int64)
    for start in range(0, len(column), BATCH_ROWS):
        batch = column[start : start + BATCH_ROWS].tolist()
        hashes[start : start + len(batch)] = [hash(value) for value in batch]
    ordered = np.sort(hashes)
    shared = ordered[1:][ordered[1:] == ordered[:-1]]
    if not shared.size:
        return {}
    first: dict[str, int] = {}
    first_rows: dict[int, int] = {}
    for row in np.flatnonzero(np.isin(hashes, shared)).tolist():
        known = first.setdefault(column[row], row)
        if known != row:
            first_rows[row] = known
    return first_rows


def address(
    path: str, start_s: float = math.nan, end_s: float = math.nan, item: int = NO_ITEM
) -> str:
    """Return a file, and the part of it that is a clip, as one string: `tape.wav#t=2.5,7.5`.

    For a clip in a shard: `a.parquet#item=7`, or `a.parquet#item=7&t=2.5,7.5`.

    Source: W3C, Media Fragments URI 1.0, temporal dimension.
    """
    start, end = ("" if value != value else repr(value) for value in (start_s, end_s))
    steps = [f"item={item}"] if item != NO_ITEM else []
    steps += [f"t={start},{end}"] if start or end else []
    return f"{path}#{'&'.join(steps)}" if steps else path

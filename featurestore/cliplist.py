"""The clips of a dataset as columns: a million of them are a few arrays, not a million objects."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from schemas import Clip

TEXT = np.dtypes.StringDType()
"""dtype of a column of texts."""
BATCH_ROWS = 1 << 16
"""Rows that are turned into Python's objects at once."""
_TEXTS = frozenset(("clip_id", "path", "source"))


@dataclass(frozen=True, eq=False)
class ClipList(Sequence[Clip]):
    """The clips of a dataset, in the order of its table: a sequence of `Clip`, kept as columns.

    Attributes:
        clip_id: (n,) texts; unique in the dataset.
        path: (n,) texts; of the file, relative to the dataset's root, with `/`.
        fold: (n,) int64.
        class_id: (n,) int64.
        source: (n,) texts; recording the clip was cut from, or empty.
    """

    clip_id: NDArray[Any]
    path: NDArray[Any]
    fold: NDArray[np.int64]
    class_id: NDArray[np.int64]
    source: NDArray[Any]

    @classmethod
    def of(cls, clips: Iterable[Clip]) -> "ClipList":
        """Return the columns of some clips; of a list of columns, itself."""
        if isinstance(clips, ClipList):
            return clips
        rows = list(clips)
        return cls(
            **{
                field.name: np.array(
                    [getattr(clip, field.name) for clip in rows],
                    TEXT if field.name in _TEXTS else np.int64,
                )
                for field in fields(cls)
            }
        )

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

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
                yield Clip(**dict(zip(batch, values, strict=True)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClipList):
            return NotImplemented
        return all(map(np.array_equal, self.columns().values(), other.columns().values()))

    __hash__ = None  # type: ignore[assignment]  # arrays have none

    def batches(self, names: Sequence[str] = ()) -> Iterator[dict[str, list[Any]]]:
        """Yield some columns (all), a bounded number of rows at a time, as lists of values."""
        chosen = {name: getattr(self, name) for name in names} or self.columns()
        for start in range(0, len(self), BATCH_ROWS):
            rows = slice(start, start + BATCH_ROWS)
            yield {name: column[rows].tolist() for name, column in chosen.items()}


def texts(values: Iterable[str]) -> NDArray[Any]:
    """Return a column of texts."""
    return np.array(list(values), TEXT)


def factorize(column: NDArray[Any]) -> tuple[NDArray[np.int64], list[Any]]:
    """Return the number of each value, and the values in the order of their first row."""
    numbers: dict[Any, int] = {}
    codes = np.empty(len(column), np.int64)
    for start in range(0, len(column), BATCH_ROWS):
        batch = column[start : start + BATCH_ROWS].tolist()
        codes[start : start + len(batch)] = [numbers.setdefault(v, len(numbers)) for v in batch]
    return codes, list(numbers)


def repeated(column: NDArray[Any]) -> dict[int, int]:
    """Return the rows whose text is in an earlier row, each with the first row that has it.

    Texts are compared where their hashes agree: a set of ten million would need a gigabyte.
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
    found: dict[int, int] = {}
    for row in np.flatnonzero(np.isin(hashes, shared)).tolist():
        known = first.setdefault(column[row], row)
        if known != row:
            found[row] = known
    return found

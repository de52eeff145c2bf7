"""Rows of clips that lie in shards: columns as a table has them, and where each clip is.

Whatever the kind of shard, a row is a file below the root, an item in it (see
`extraction.shards`), and what its labels say. A clip's id is made of these, never of the name in a
cell, for base names repeat, nor of a cut's id, which is another one each time.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.cliplist import BATCH_ROWS, TEXT, factorize, texts
from featurestore.datasets.splits import is_split
from featurestore.datasets.table import Table, quoted
from featurestore.errors import DatasetError

SHARD, ITEM, IDENTITY = "(shard)", "(item)", "(id)"
"""Columns that all rows have: the file, where in it the clip is, and the clip's id."""
MEMBER, PLACE = "(member)", "(place)"
"""Columns that some have: a member's name; where a row is, for messages, if not its id."""
START, END = "(start)", "(end)"
SPLIT = "split"
"""Column of the split in the files' names."""
_MOST_COLUMNS = 256
_NUMBERED = re.compile(r"(.+?)-[0-9]{5}-of-[0-9]{5}")
"""Names that Hugging Face gives the files of a split that has a name of its own."""
_SAVED = "data"
"""Names that `save_to_disk` gives the files of any split, each in a directory of its name."""
_PIECES = re.compile(r"[-._ 0-9]+")


@dataclass(frozen=True)
class Shards:
    """Clips in shards, before it is chosen which columns mean what.

    Attributes:
        what: What they are, for people.
        header: Names of the columns, without those of where a clip is.
        read: Returns the table of some of the columns, and of where each clip is.
        class_names: Names by number, of columns that hold numbers of classes.
        class_columns: Columns to take the class from if none has an obvious name.
        has_parts: Whether there are columns `START` and `END`.
        in_groups: Whether neighbours are read together.
        left_out: What else is there, by kind and number.
    """

    what: str
    header: Sequence[str]
    read: Callable[[Sequence[str]], Table]
    class_names: Mapping[str, tuple[str, ...]]
    class_columns: tuple[str, ...] = ()
    has_parts: bool = False
    in_groups: bool = False
    left_out: tuple[str, ...] = ()


class RowGatherer:
    """Gathers rows of any keys into columns, a bounded number of them as Python's objects."""

    def __init__(self) -> None:
        self._batch: list[Mapping[str, str]] = []
        self._pieces: dict[str, list[NDArray[Any]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count + len(self._batch)

    def add(self, row: Mapping[str, str]) -> None:
        """Add a row; a column that it lacks is empty in it."""
        self._batch.append(row)
        if len(self._batch) == BATCH_ROWS:
            self._gather()

    def _gather(self) -> None:
        for name in dict.fromkeys(chain(self._pieces, *self._batch)):
            pieces = self._pieces.setdefault(name, [np.zeros(self._count, TEXT)])
            pieces.append(texts(row.get(name, "") for row in self._batch))
        if len(self._pieces) > _MOST_COLUMNS:
            raise DatasetError(
                f"the labels have more than {_MOST_COLUMNS} different names, such as "
                f"{', '.join(map(quoted, list(self._pieces)[:5]))}"
            )
        self._count += len(self._batch)
        self._batch.clear()

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns of all rows."""
        self._gather()
        return {name: np.concatenate(pieces) for name, pieces in self._pieces.items()}


def relative_path(root: Path, path: str) -> str:
    """Return a path relative to the root, also of one that is absolute and below it."""
    for place in (root.resolve(), root.absolute()):
        path = path.removeprefix(f"{place}/")
    return path


def shard_table(where: Path, columns: Mapping[str, NDArray[Any]]) -> Table:
    """Return rows as a table whose messages name a clip by its id.

    Raises:
        DatasetError: There is no row.
    """
    identities = columns.get(IDENTITY)
    if identities is None or not len(identities):
        raise DatasetError(f"{where}: the shards hold no sound")
    rows = np.arange(len(identities), dtype=np.int64)
    places = columns.get(PLACE, identities)
    return Table(where, rows, columns, place=lambda row: str(places[row]))


def split_of(file: str) -> str:
    """Return the split in the name of a file or of a directory it is in; empty if there is none.

    Names are read as Hugging Face reads them: `train/0.parquet`, `birds_test.tar`, and
    `data/clean-00000-of-00002.parquet`, in which any name is a split's.
    """
    path = PurePosixPath(file)
    if named := next((part for part in path.parts[:-1] if is_split(part)), ""):
        return named
    stem = path.name.partition(".")[0]
    if numbered := _NUMBERED.fullmatch(stem):
        saved = numbered[1] == _SAVED and len(path.parts) > 1
        return path.parts[-2] if saved else numbered[1]
    pieces = chain.from_iterable(map(_words, (*path.parts[:-1], stem)))
    return next(filter(is_split, pieces), "")


def _words(name: str) -> list[str]:
    return [word for piece in _PIECES.split(name) for word in piece.split("_")]


def with_splits(root: Path, columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the columns with one of the splits in the files' names, if there are several.

    Raises:
        DatasetError: Some files name a split and others do not.
    """
    codes, files = factorize(columns[SHARD])
    splits = [split_of(file) for file in files]
    if not all(splits) and any(splits):
        with_one, without = (files[list(map(bool, splits)).index(b)] for b in (True, False))
        raise DatasetError(
            f"{root}: {with_one} is named as a split, and {without} is not: rename one, or give "
            "one of them with --root"
        )
    if len(set(splits)) < 2:
        return columns
    return {**columns, SPLIT: texts(splits)[codes]}


def named_files(files: Iterable[str]) -> str:
    """Return the number of the shards and the first one's name, for people."""
    named = list(files)
    return named[0] if len(named) == 1 else f"{len(named)} files, {named[0]} …"

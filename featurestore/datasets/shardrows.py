"""Rows of clips in shards: columns as of a table, and the position of each clip.

For every kind of shard, a row has a file below the root, an item in it (see `extraction.shards`),
and labels. A clip's id is made from the former two, never from the name in a cell, since base names
repeat, nor from the id of a cut, which changes from export to export.
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
from featurestore.text import is_unicode

SHARD, ITEM, IDENTITY = "(shard)", "(item)", "(id)"
"""Columns of all rows: the file, the position of the clip in it, and the clip's id."""
MEMBER, PLACE = "(member)", "(place)"
"""Columns of some rows: a member's name; the row's position for messages, if not its id."""
START, END = "(start)", "(end)"
SPLIT = "split"
"""Column of the split that file names indicate."""
_MOST_COLUMNS = 256
_NUMBERED = re.compile(r"(.+?)-[0-9]{5}-of-[0-9]{5}")
"""File names that Hugging Face gives to splits with custom names."""
_SAVED = "data"
"""File names that `save_to_disk` gives in every split, in a directory named after the split."""
_PIECES = re.compile(r"[-._ 0-9]+")


@dataclass(frozen=True)
class Shards:
    """Clips in shards, before the columns are assigned to roles.

    Attributes:
        what: Human-readable description.
        header: Names of the columns, without those for the position of a clip.
        read: Returns the table of selected columns and of the position of each clip.
        class_names: Class names by number, for columns that hold class numbers.
        class_columns: Columns to use for the class if none has an obvious name.
        has_parts: Whether there are columns `START` and `END`.
        in_groups: Whether neighbours are read together.
        left_out: Other files, counted by kind.
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
    """Gathers rows with any keys into columns, holding a bounded number as Python objects."""

    def __init__(self) -> None:
        self._batch: list[Mapping[str, str]] = []
        self._pieces: dict[str, list[NDArray[Any]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count + len(self._batch)

    def add(self, row: Mapping[str, str]) -> None:
        """Add a row; columns that it lacks are empty."""
        self._batch.append(row)
        if len(self._batch) == BATCH_ROWS:
            self._gather()

    def _gather(self) -> None:
        for name in dict.fromkeys(chain(self._pieces, *self._batch)):
            pieces = self._pieces.setdefault(name, [np.zeros(self._count, TEXT)])
            try:
                pieces.append(texts(row.get(name, "") for row in self._batch))
            except UnicodeEncodeError as error:
                raise self._no_text(name) from error
        if len(self._pieces) > _MOST_COLUMNS:
            raise DatasetError(
                f"the labels have more than {_MOST_COLUMNS} different names, such as "
                f"{', '.join(map(quoted, list(self._pieces)[:5]))}"
            )
        self._count += len(self._batch)
        self._batch.clear()

    def _no_text(self, name: str) -> DatasetError:
        """Return the error for the first cell with half a character, as JSON can have it."""
        row = next(row for row in self._batch if not is_unicode(row.get(name, "")))
        return DatasetError(
            f"{row.get(PLACE) or row.get(IDENTITY)}: {quoted(name)} is {quoted(row[name])}, which "
            "is no text: half of a surrogate pair; correct it"
        )

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns of all rows."""
        self._gather()
        return {name: np.concatenate(pieces) for name, pieces in self._pieces.items()}


def relative_path(root: Path, path: str) -> str:
    """Return a path relative to the root, given relative to it or absolute."""
    for place in (root.resolve(), root.absolute()):
        path = path.removeprefix(f"{place}/")
    return path


def shard_table(where: Path, columns: Mapping[str, NDArray[Any]]) -> Table:
    """Return rows as a table that names clips by id in messages.

    Raises:
        DatasetError: There are no rows.
    """
    identities = columns.get(IDENTITY)
    if identities is None or not len(identities):
        raise DatasetError(f"{where}: the shards hold no sound")
    rows = np.arange(len(identities), dtype=np.int64)
    places = columns.get(PLACE, identities)
    return Table(where, rows, columns, place=lambda row: str(places[row]))


def split_of(file: str) -> str:
    """Return the split in the name of a file or of its directory; empty if there is none.

    Names are interpreted as by Hugging Face: `train/0.parquet`, `birds_test.tar`, and
    `data/clean-00000-of-00002.parquet`, where the split may have any name.
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
    """Return the columns, with a column of splits if the file names indicate several.

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
    """Return a phrase with the number of shards and the name of the first."""
    named = list(files)
    return named[0] if len(named) == 1 else f"{len(named)} files, {named[0]} …"

"""Clips with several labels or none: from the cells of a table to multi-hot labels."""

import ast
import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.cliplist import factorize, multi_hot, texts
from featurestore.datasets.table import Problems, Table
from featurestore.errors import DatasetError
from featurestore.text import is_unicode

_NO_PRIMARY = -1
_ADJACENT = re.compile(r"""(?<=['"])\s+(?=['"])""")
_MISSING = frozenset(("nan", "none", "null", "<na>", "nat"))
"""Words that programs write for a missing value, in lower case."""


@dataclass(frozen=True)
class ClipLabels:
    """The labels of the clips of a table, in table order.

    Attributes:
        names: Class names, in sorted or published order.
        hot: (n, classes) uint8, 1 for each label of a clip.
        primary: (n,) int64, class_id of the primary class, or -1 if there is none.
    """

    names: tuple[str, ...]
    hot: NDArray[np.uint8]
    primary: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        rows: Sequence[Sequence[str]],
        primary: Sequence[str] = (),
        names: Sequence[str] = (),
    ) -> "ClipLabels":
        """Return the labels from the class names of each clip.

        Args:
            rows: Class names of each clip.
            primary: Name of each clip's primary class, or empty. By default the only class of
                clips with exactly one.
            names: Names of all classes in the order of their numbers. Default: sorted.

        Raises:
            DatasetError: A class name is not in `names`.
        """
        used = {name for row in rows for name in row} | (set(primary) - {""})
        names = tuple(names) or tuple(sorted(used))
        numbers = {name: number for number, name in enumerate(names)}
        if unknown := used - numbers.keys():
            raise DatasetError(f"{min(unknown)!r} is no class; the classes are {', '.join(names)}")
        chosen = primary or [row[0] if len(row) == 1 else "" for row in rows]
        return cls(
            names,
            multi_hot([[numbers[name] for name in row] for row in rows], len(names)),
            np.array([numbers.get(name, _NO_PRIMARY) for name in chosen], np.int64),
        )

    def of_rows(self, rows: NDArray[np.int64]) -> "ClipLabels":
        """Return the labels of selected rows, which may repeat."""
        return ClipLabels(self.names, self.hot[rows], self.primary[rows])

    def described(self) -> str:
        """Return a phrase that says how many clips have one label, several and none."""
        return count_labels(self.hot)


def count_labels(hot: NDArray[np.uint8]) -> str:
    """Return a phrase that says how many clips have one label, several and none."""
    numbers = hot.sum(axis=1, dtype=np.int64)
    kinds = {
        "with one label": numbers == 1,
        "with several": numbers > 1,
        "with none": numbers == 0,
    }
    return "clips: " + ", ".join(f"{int(rows.sum()):,} {kind}" for kind, rows in kinds.items())


def table_labels(
    table: Table, roles: Mapping[str, str], names: Sequence[str] = ()
) -> tuple[Table, ClipLabels | None]:
    """Read the labels of a table's clips.

    The column with the role `class` holds one label, or a list in brackets; the one with the role
    `labels` a list. Labels of both are combined, and a single label in the former is the primary
    one.

    Args:
        table: The rows.
        roles: Columns by role.
        names: Names of all classes in the order of their numbers. Default: sorted.

    Returns:
        If every clip has exactly one label: the table with it in the column of the class, which is
        `roles["class"]` or `roles["labels"]`, and None. Else the table and the labels.

    Raises:
        DatasetError: A clip has no label in a table without lists of labels and parts of files.
    """
    of_class, of_list = roles.get("class"), roles.get("labels")
    columns = [(name, name == of_list) for name in (of_class, of_list) if name is not None]
    split = [_column_lists(table, name, several) for name, several in columns]
    codes, lists = [of for of, _ in split], [of for _, of in split]
    pairs, back = _distinct(codes)
    rows, primary = [], []
    for pair in pairs:
        by_column = [one[number] for one, number in zip(lists, pair, strict=True)]
        rows.append(sorted({name for names in by_column for name in names}))
        leading = by_column[0] if len(by_column[0]) == 1 else rows[-1]
        primary.append(leading[0] if len(leading) == 1 else "")
    if all(len(row) == 1 for row in rows):
        single = texts(row[0] for row in rows)[back]
        return _with(table, of_class or str(of_list), single), None
    listed = of_list is not None or any(len(row) > 1 for row in rows)
    if not (listed or {"start", "end"} & roles.keys() or _has_brackets(table, of_class)):
        problems = Problems.of(table)
        empty = np.array([not row for row in rows])[back]
        problems.add_where(table, empty, f"{of_class} is empty; write [] for a clip of no class")
        problems.raise_any()
    return table, ClipLabels.of(rows, primary, names).of_rows(back)


def comma_note(table: Table, roles: Mapping[str, str]) -> str:
    """Return a note if lists were split at commas that may be part of a name, else ""."""
    column = roles.get("labels")
    cells = [] if column is None else [c for c in factorize(table[column])[1] if c[:1] != "["]
    if _separator(cells) == ";" or not any(", " in cell for cell in cells):
        return ""
    return (
        f"{column!r} split at commas: a name with a comma in it is written in double quotes, or "
        "the labels are separated by ;"
    )


def missing_note(table: Table, roles: Mapping[str, str]) -> str:
    """Return a note if a class or group is named like a missing value; else an empty string.

    It may be the real name of a class, so it is kept as one.
    """
    for role in ("class", "labels", "group"):
        column = roles.get(role)
        if column is None or column not in table.columns:
            continue
        codes, cells = factorize(table[column])
        for number, cell in enumerate(cells):
            if cell.lower() in _MISSING:
                rows = int((codes == number).sum())
                return (
                    f"{rows} of {len(table)} cells of {column!r} are {cell!r}, which is taken for "
                    f"the name of a {'group' if role == 'group' else 'class'}; where a value is "
                    "missing, leave the cell empty"
                )
    return ""


def _distinct(
    codes: Sequence[NDArray[np.int64]],
) -> tuple[list[tuple[int, ...]], NDArray[np.int64]]:
    """Return the distinct rows of some columns of numbers, and which of them each row is."""
    distinct, back = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)
    return [tuple(row) for row in distinct.tolist()], back.reshape(-1)


def _has_brackets(table: Table, column: str | None) -> bool:
    cells = [] if column is None else factorize(table[column])[1]
    return any(_bracketed(cell) is not None for cell in cells)


def _column_lists(
    table: Table, column: str, several: bool
) -> tuple[NDArray[np.int64], list[list[str]]]:
    """Return the number of each row's cell, and the labels of each distinct cell."""
    codes, cells = factorize(table[column])
    lists = split_cells(cells, several=several)
    # JSON's and Python's escapes can write half of a character.
    broken = np.array([not is_unicode("".join(names)) for names in lists], np.bool_)
    problems = Problems.of(table)
    problems.add_cells(table, column, broken[codes], "with half of a surrogate pair")
    problems.raise_any()
    return codes, lists


def split_cells(cells: Sequence[str], *, several: bool) -> list[list[str]]:
    """Return the list of labels in each cell of a column.

    Lists are written as in JSON or Python, such as ["a", "b"] and ['a', 'b']. In a column of lists,
    labels may also be separated by semicolons or, if no cell has one, by commas, but not within
    double quotes.

    Args:
        cells: All cells of the column.
        several: Whether it is a column of lists; elsewhere a comma may be part of a name.
    """
    separator = _separator([cell for cell in cells if _bracketed(cell) is None])
    labels = []
    for cell in cells:
        names = _bracketed(cell)
        if names is None:
            names = _split(cell, separator) if several else [cell]
        labels.append([name for name in dict.fromkeys(map(str.strip, names)) if name])
    return labels


def _separator(cells: Iterable[str]) -> str:
    return ";" if any(len(_split(cell, ";")) > 1 for cell in cells if ";" in cell) else ","


def _split(cell: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([cell], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return [cell]


def _bracketed(cell: str) -> list[str] | None:
    """Return the labels of a list in brackets; None if the cell is none."""
    if not (cell.startswith("[") and cell.endswith("]")):
        return None
    # Python joins the texts of ['a' 'b'], which is how NumPy writes an array.
    for parse, text in ((json.loads, cell), (ast.literal_eval, _ADJACENT.sub(", ", cell))):
        try:
            labels = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(labels, list) and all(isinstance(one, str | int) for one in labels):
            return [str(one) for one in labels]
    return None


def _with(table: Table, name: str, values: NDArray[Any]) -> Table:
    return replace(table, columns={**table.columns, name: values})

"""From a table's rows to clips, with every row checked before any is used."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.cliplist import (
    BATCH_ROWS,
    NO_ITEM,
    TEXT,
    ClipList,
    address,
    factorize,
    repeated,
    texts,
)
from featurestore.datasets.alike import alike_names, folded, how_they_differ
from featurestore.datasets.labels import ClipLabels
from featurestore.datasets.paths import may_be_unsafe, path_fault, placed, plain_paths
from featurestore.datasets.table import Problems, Table, quoted
from featurestore.errors import DatasetError

MAX_DIGITS = 9
"""Maximum number of digits of a fold or class number."""
MAX_SECONDS = 1e9
_CONTROL = re.compile(r"[\x00-\x1f]")


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns by meaning, and the directory of the files.

    Without `class_name`, the labels of the clips are passed separately; without `class_id`, the
    class names are numbered in sorted order; without `clip_id`, a clip's id is its path; without
    `source`, it has none. With `start` or `end`, in seconds, a clip is a part of its file, which is
    its recording if there is no `source`. `directory` is relative to the dataset's root, with
    `{fold}` for the row's fold. With `item`, clips are in shards. `class_names` lists the classes
    in the order of their numbers if that is not the sorted order.
    """

    file: str
    fold: str
    class_name: str | None
    class_id: str | None = None
    clip_id: str | None = None
    source: str | None = None
    start: str | None = None
    end: str | None = None
    directory: str = ""
    item: str | None = None
    class_names: tuple[str, ...] = ()

    @property
    def needed(self) -> tuple[str, ...]:
        """Names of the columns that the table must have."""
        optional = (self.class_id, self.clip_id, self.source)
        return (self.file, self.fold, *filter(None, (self.class_name, *optional)))


@dataclass(frozen=True)
class CheckedClips:
    """The clips of a table, in table order, and the names of the classes that occur."""

    clips: ClipList
    names: Mapping[int, str]
    """Class names by class_id."""


def check_clips(table: Table, columns: Columns, labels: ClipLabels | None = None) -> CheckedClips:
    """Turn rows into clips.

    Args:
        table: The rows.
        columns: Names of the columns by meaning.
        labels: Labels of clips that may have several or none; the table then needs no classes.

    Raises:
        DatasetError: A fold or class is not a number, a text is missing, a file's path is
            absolute, leaves the root or contains a backslash, a clip occurs twice, the name and
            number of a class contradict each other, or two class names differ in case, spaces or
            Unicode form only; the message names the lines.
    """
    problems = Problems.of(table)
    _check_cells(table, columns, problems)
    # Two spellings of one path, a/b and a//b, are one file.
    paths = plain_paths(table[columns.file])
    spans = _spans(table, columns, problems)
    items = None if columns.item is None else table[columns.item].astype(np.int64)
    _check_unique(table, columns.file, _addresses(paths, spans, items), problems)
    if columns.clip_id not in (None, columns.file):
        _check_unique(table, columns.clip_id, table[columns.clip_id], problems)
    class_ids, names = _checked_classes(table, columns, labels, problems)
    problems.raise_any()
    folds = table[columns.fold].astype(np.int64)
    paths = placed(columns.directory, folds, paths)
    start_s, end_s = spans or (None, None)
    places = _addresses(paths, spans, items)
    inside = spans is not None or items is not None
    recordings = _addresses(paths, None, items) if inside else None
    clips = ClipList(
        clip_id=places if columns.clip_id is None else table[columns.clip_id],
        path=paths,
        fold=folds,
        class_id=class_ids,
        source=_sources(table, columns.source, None if spans is None else recordings),
        start_s=start_s,
        end_s=end_s,
        labels=None if labels is None else labels.hot,
        item=items,
    )
    return CheckedClips(clips, names)


def _checked_classes(
    table: Table, columns: Columns, labels: ClipLabels | None, problems: Problems
) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Return the class_id of each clip, and the names of the classes that occur, by class_id."""
    if labels is not None:
        _check_label_names(table, labels, problems)
        return labels.primary, dict(enumerate(labels.names))
    assert columns.class_name is not None, "there are labels, or a column"  # noqa: S101
    codes, names = factorize(table[columns.class_name])
    if columns.class_id is not None:
        _check_classes(table, columns.class_id, columns.class_name, problems)
    _, first = np.unique(codes, return_index=True)
    lines = dict(zip(names, table.lines[first].tolist(), strict=True))
    _check_alike(table, columns.class_name, lines, problems)
    if problems.any:
        return codes, {}
    numbers = _class_numbers(table, columns, codes, names)
    class_ids = np.array([numbers[name] for name in names], np.int64)[codes]
    return class_ids, {number: name for name, number in numbers.items()}


def _check_label_names(table: Table, labels: ClipLabels, problems: Problems) -> None:
    """Check names as the cells of a column of classes are."""
    used = np.flatnonzero(labels.hot.any(axis=0))
    lines = {labels.names[i]: int(table.lines[labels.hot[:, i].argmax()]) for i in used.tolist()}
    for name, line in lines.items():
        if _CONTROL.search(name):
            problems.add(line, f"the label {quoted(name)} has a control character")
    _check_alike(table, "the labels", lines, problems)


def _sources(table: Table, column: str | None, files: NDArray[Any] | None) -> NDArray[Any]:
    """Return the recordings: as the table has them; of parts without one, their files."""
    named = np.zeros(len(table), TEXT) if column is None else table[column]
    return named if files is None else np.where(named == "", files, named)


def _spans(
    table: Table, columns: Columns, problems: Problems
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return where each clip starts and ends in its file, in seconds; NaN for the file's ends.

    None of a table of whole files.
    """
    if columns.start is None and columns.end is None:
        return None
    start_s, end_s = (_seconds(table, name, problems) for name in (columns.start, columns.end))
    backwards = end_s <= np.where(np.isnan(start_s), 0, start_s)
    if columns.end is not None:
        problems.add_cells(table, columns.end, backwards, "which is not after the start")
    return start_s, end_s


def _seconds(table: Table, column: str | None, problems: Problems) -> NDArray[np.float64]:
    """Return a column of seconds; NaN where it is empty."""
    values = np.full(len(table), np.nan)
    if column is None:
        return values
    codes, cells = factorize(table[column])
    numbers = np.array([_number(cell) for cell in cells])
    wrong = np.array([cell != "" for cell in cells]) & np.isnan(numbers)
    problems.add_cells(table, column, wrong[codes], "expected seconds from 0, such as 12.5")
    return numbers[codes]


def _number(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        return np.nan
    if "_" in cell or not cell.isascii():  # which Python takes for digits, and no other program
        return np.nan
    return value if 0 <= value < MAX_SECONDS else np.nan


def _addresses(
    paths: NDArray[Any],
    spans: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    items: NDArray[np.int64] | None,
) -> NDArray[Any]:
    """Return where each clip is as one string: its path, if that says all."""
    if spans is None and items is None:
        return paths
    nan = np.full(len(paths), np.nan)
    start_s, end_s = spans or (nan, nan)
    inside = np.full(len(paths), NO_ITEM) if items is None else items
    columns = (paths, start_s, end_s, inside)
    return texts(map(address, *(column.tolist() for column in columns)))


def name_classes(
    table: Path,
    names: Mapping[int, str],
    official: tuple[str, ...] = (),
    column: str = "class_id",
) -> tuple[str, ...]:
    """Return the names of a dataset's classes by class_id.

    Args:
        table: Path of the table, for messages.
        names: Names of the classes that occur in it, by class_id.
        official: Official class names. If the table agrees with them, all are returned, so that
            a part of the dataset keeps all classes.
        column: Column of the class_id, for messages.

    Raises:
        DatasetError: A class_id below the highest has no name, or a name differs from the
            official one in case, spaces or Unicode form only.
    """
    by_number = dict(enumerate(official))
    if names.items() <= by_number.items():
        return official
    check_official(table, names, by_number, column)
    highest = max(names)
    if len(names) <= highest:
        absent = next(number for number in range(highest) if number not in names)
        raise DatasetError(
            f"{table}: the classes are numbered up to {highest}, but none is {absent}; "
            f"number them 0, 1, 2, … without a gap{_unofficial(names, by_number, column)}"
        )
    return tuple(names[number] for number in range(highest + 1))


def check_official(
    table: Path, names: Mapping[int, str], official: Mapping[int, str], column: str
) -> None:
    """Check that no class name is an official one spelt differently.

    Raises:
        DatasetError: A name is.
    """
    for number, name in sorted(names.items()):
        known = official.get(number, name)
        if known != name and folded(known) == folded(name):
            raise DatasetError(
                f"{table}: {column} {number} is named {quoted(name)}, but officially "
                f"{quoted(known)}; write it so, or put the original table back"
            )


def _unofficial(names: Mapping[int, str], official: Mapping[int, str], column: str) -> str:
    """Return the first name that is another than the official one, for a message."""
    for number, name in sorted(names.items()):
        if name != official.get(number, name):
            known = quoted(official[number])
            return f" ({column} {number} is named {quoted(name)}, officially {known})"
    return ""


def _check_cells(table: Table, columns: Columns, problems: Problems) -> None:
    for column in filter(None, (columns.fold, columns.class_id)):
        wrong = ~_are_numbers(table[column])
        problems.add_cells(table, column, wrong, "expected a whole number from 0")
    named = (columns.file, columns.class_name, columns.clip_id)
    for column in sorted(set(filter(None, named))):
        problems.add_where(table, table[column] == "", f"{column} is empty")
        controls = _have_controls(table[column])
        problems.add_cells(table, column, controls, "with a control character")
    files = table[columns.file]
    name = "the path" if columns.file.startswith("(") else columns.file  # of a shard's cell
    problems.add_where(
        table,
        may_be_unsafe(files),
        lambda row: f"{name} is {quoted(files[row])}, {path_fault(files[row])}",
    )


def _are_numbers(cells: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which cells are whole numbers in ASCII digits, of bounded length."""
    numbers: NDArray[np.bool_] = np.strings.isdecimal(cells)
    numbers &= np.strings.str_len(cells) <= MAX_DIGITS
    for row in np.flatnonzero(numbers) if not _is_ascii(cells) else ():
        numbers[row] = cells[row].isascii()
    return numbers


def _is_ascii(cells: NDArray[Any]) -> bool:
    return all("".join(batch).isascii() for batch in _batches(cells))


def _have_controls(cells: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which cells have a control character."""
    flags = np.zeros(len(cells), bool)
    for number, batch in enumerate(_batches(cells)):
        if _CONTROL.search("".join(batch)):
            rows = slice(number * BATCH_ROWS, number * BATCH_ROWS + len(batch))
            flags[rows] = [_CONTROL.search(cell) is not None for cell in batch]
    return flags


def _batches(cells: NDArray[Any]) -> Iterator[list[str]]:
    return (cells[s : s + BATCH_ROWS].tolist() for s in range(0, len(cells), BATCH_ROWS))


def _check_unique(table: Table, column: str, values: NDArray[Any], problems: Problems) -> None:
    again = repeated(values)
    wrong = np.zeros(len(table), bool)
    wrong[list(again)] = True
    wrong &= table[column] != ""
    cells, lines, place = table[column], table.lines, table.on_line
    problems.add_where(
        table,
        wrong,
        lambda row: f"{column} {quoted(cells[row])} is {place(lines[again[row]])} too",
    )


def _check_classes(table: Table, number: str, name: str, problems: Problems) -> None:
    """Check that a class_id has one name, and a name one class_id."""
    usable = table.where(_are_numbers(table[number]) & (table[name] != ""))
    for key, value in ((number, name), (name, number)):
        _check_one_value(usable, key, value, problems)


def _check_one_value(table: Table, key: str, value: str, problems: Problems) -> None:
    """Check that rows with one text in a column have one in another."""
    keys, values = table[key], table[value]
    _, firsts, back = np.unique(factorize(keys)[0], return_index=True, return_inverse=True)
    first = firsts[back]
    problems.add_where(
        table,
        values != values[first],
        lambda row: (
            f"{key} {quoted(keys[row])} has {value} {quoted(values[row])}, "
            f"but {quoted(values[first[row]])} {table.on_line(table.lines[first[row]])}"
        ),
    )


def _check_alike(table: Table, column: str, lines: Mapping[str, int], problems: Problems) -> None:
    """Check that no two names of classes look the same, which are given with their first lines."""
    for one, other in alike_names(list(lines)):
        problems.add(
            lines[other],
            f"{column} has {how_they_differ(one, other)} (the first {table.on_line(lines[one])})",
        )


def _class_numbers(
    table: Table, columns: Columns, codes: NDArray[np.int64], names: Sequence[str]
) -> dict[str, int]:
    """Return the class_id of each class name."""
    if columns.class_id is None:
        ordered = columns.class_names or sorted(names)
        there = set(names)
        return {name: number for number, name in enumerate(ordered) if name in there}
    _, first = np.unique(codes, return_index=True)
    return dict(zip(names, map(int, table[columns.class_id][first]), strict=True))

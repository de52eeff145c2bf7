"""From a table's rows to clips, with every row checked before any is used."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from featurestore.datasets.alike import alike_names, folded, how_they_differ
from featurestore.datasets.table import Problems, Row, quoted
from featurestore.errors import DatasetError
from schemas import Clip

MAX_DIGITS = 9
"""Most digits of a fold or class number."""


@dataclass(frozen=True)
class Columns:
    """Columns of a table by meaning, and the directory of the files.

    Without `class_id` the class names are numbered in sorted order; without `clip_id` a clip's
    id is its path; without `source` it has none. `directory` is relative to the dataset's root,
    with `{fold}` for the row's fold.
    """

    file: str
    fold: str
    class_name: str
    class_id: str | None = None
    clip_id: str | None = None
    source: str | None = None
    directory: str = ""

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns' names."""
        optional = (self.class_id, self.clip_id, self.source)
        return (self.file, self.fold, self.class_name, *filter(None, optional))


@dataclass(frozen=True)
class CheckedClips:
    """The clips of a table, in its order, and the names of the classes that occur."""

    clips: tuple[Clip, ...]
    names: Mapping[int, str]
    """Class names by class_id."""


def check_clips(table: Path, rows: Sequence[Row], columns: Columns) -> CheckedClips:
    """Turn rows into clips.

    Args:
        table: The file, for messages.
        rows: Its rows.
        columns: What they mean.

    Raises:
        DatasetError: Naming the lines where a fold or class is no number, a text is missing,
            a file's path is absolute, leaves the root or holds a backslash, a clip is there
            twice, a class's name and number do not go together, or two classes have names
            that differ in case, spaces or Unicode form only.
    """
    problems = Problems(table)
    for row in rows:
        _check_cells(row, columns, problems)
    # Two spellings of one path, a/b and a//b, are one file.
    paths = [PurePosixPath(row[columns.file]).as_posix() for row in rows]
    _check_unique(rows, columns.file, paths, problems)
    if columns.clip_id not in (None, columns.file):
        _check_unique(rows, columns.clip_id, [row[columns.clip_id] for row in rows], problems)
    if columns.class_id is not None:
        _check_classes(rows, columns.class_id, columns.class_name, problems)
    _check_alike(rows, columns.class_name, problems)
    problems.raise_any()
    numbers = _class_numbers(rows, columns)
    clips = tuple(_clip(row, columns, numbers[row[columns.class_name]]) for row in rows)
    return CheckedClips(clips, {number: name for name, number in numbers.items()})


def name_classes(
    table: Path,
    names: Mapping[int, str],
    official: tuple[str, ...] = (),
    column: str = "class_id",
) -> tuple[str, ...]:
    """Return the names of a dataset's classes by class_id.

    Args:
        table: The file, for messages.
        names: Names of the classes that occur in it, by class_id.
        official: The names the dataset is known by. A table that agrees with them has all of
            them, so that a part of the dataset keeps its classes.
        column: Column of the class_id, for messages.

    Raises:
        DatasetError: A class_id below the highest one has no name, or a name is the official one
            but for case, spaces or Unicode form.
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
    """Check that no name is an official one, written in another way.

    Raises:
        DatasetError: One is.
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


def _check_cells(row: Row, columns: Columns, problems: Problems) -> None:
    for column in filter(None, (columns.fold, columns.class_id)):
        if not _is_number(row[column]):
            problems.add(
                row.line, f"{column} is {quoted(row[column])}, expected a whole number from 0"
            )
    for column in sorted({columns.file, columns.class_name, columns.clip_id or columns.file}):
        if not row[column]:
            problems.add(row.line, f"{column} is empty")
        elif min(row[column]) < " ":
            problems.add(row.line, f"{column} is {quoted(row[column])}, with a control character")
    if fault := _path_fault(row[columns.file]):
        problems.add(row.line, f"{columns.file} is {quoted(row[columns.file])}, {fault}")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS


def _path_fault(path: str) -> str | None:
    """Return why a path must not be opened below a root, or None."""
    if "\\" in path:
        return "with a backslash; write / between directories"
    if path.startswith("/") or path[1:3] == ":/":
        return "an absolute path; give it relative to the dataset's root"
    if ".." in PurePosixPath(path).parts:
        return "which leaves the dataset's root; remove the '..'"
    return None


def _check_unique(
    rows: Sequence[Row], column: str, values: Sequence[str], problems: Problems
) -> None:
    first: dict[str, int] = {}
    for row, value in zip(rows, values, strict=True):
        line = first.setdefault(value, row.line)
        if row[column] and line != row.line:
            problems.add(row.line, f"{column} {quoted(row[column])} is on line {line} too")


def _check_classes(rows: Sequence[Row], number: str, name: str, problems: Problems) -> None:
    """Check that a class_id has one name, and a name one class_id."""
    for key, value in ((number, name), (name, number)):
        first: dict[str, Row] = {}
        for row in _rows_with_class(rows, number, name):
            known = first.setdefault(row[key], row)
            if known[value] != row[value]:
                problems.add(
                    row.line,
                    f"{key} {quoted(row[key])} has {value} {quoted(row[value])}, "
                    f"but {quoted(known[value])} on line {known.line}",
                )


def _check_alike(rows: Sequence[Row], column: str, problems: Problems) -> None:
    """Check that no two names of classes look the same."""
    lines = {row[column]: row.line for row in reversed(rows)}
    for one, other in alike_names(sorted(lines, key=lines.__getitem__)):
        problems.add(
            lines[other],
            f"{column} has {how_they_differ(one, other)} (the first on line {lines[one]})",
        )


def _rows_with_class(rows: Sequence[Row], number: str, name: str) -> Iterator[Row]:
    return (row for row in rows if _is_number(row[number]) and row[name])


def _class_numbers(rows: Sequence[Row], columns: Columns) -> dict[str, int]:
    """Return the class_id of each class name."""
    if columns.class_id is not None:
        return {row[columns.class_name]: int(row[columns.class_id]) for row in rows}
    return {name: i for i, name in enumerate(sorted({row[columns.class_name] for row in rows}))}


def _clip(row: Row, columns: Columns, class_id: int) -> Clip:
    fold = int(row[columns.fold])
    path = PurePosixPath(columns.directory.format(fold=fold), row[columns.file]).as_posix()
    return Clip(
        clip_id=path if columns.clip_id is None else row[columns.clip_id],
        path=path,
        fold=fold,
        class_id=class_id,
        source="" if columns.source is None else row[columns.source],
    )

"""A CSV table on disk, as columns that know their rows' lines. Every dataset's table is read here.

What the cells mean is left to `clips`; whether the audio files exist, to the build.
"""

import csv
import errno
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.cliplist import BATCH_ROWS, texts
from featurestore.errors import DatasetError, cause
from featurestore.files import UnusableFileError, open_regular, read_regular
from featurestore.text import quantity

MAX_SHOWN = 5
"""Problems of one table that a message spells out; the others are counted."""
_MOST_BYTES = 8 << 30
"""Largest size of a table in bytes: ten million clips have a fifth of it. It is read in pieces."""
MAX_CELL = 80
"""Characters of a cell that a message repeats."""


@dataclass(frozen=True)
class Table:
    """Some columns of a table.

    Attributes:
        path: The file.
        lines: (n,) int64, the first line of each row in the file; the header is on line 1.
        columns: (n,) texts by name, without spaces around them.
        unit: What messages call a line of `lines`: `row` for tables that have no lines.
        place: Returns what messages call a line, if not by its unit and number.
    """

    path: Path
    lines: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]]
    unit: str = "line"
    place: Callable[[int], str] | None = None

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, column: str) -> NDArray[Any]:
        return self.columns[column]

    def where(self, rows: NDArray[np.bool_]) -> "Table":
        """Return the rows at which `rows` (n,) is true."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return replace(self, lines=self.lines[rows], columns=columns)

    def on_line(self, line: int) -> str:
        """Return, for messages, where a line is: `on line 7`, `at a.tar#b.wav`."""
        return f"at {self.place(line)}" if self.place else f"on {self.unit} {line}"


class Problems:
    """Problems of one table, gathered so that all are reported at once.

    Args:
        table: The file they are in.
        unit: `line` or `row`; see `Table`.
        place: See `Table`.
    """

    def __init__(
        self, table: Path, unit: str = "line", place: Callable[[int], str] | None = None
    ) -> None:
        self._table = table
        self._place = place or (lambda line: f"{unit} {line}")
        self._count = 0
        self._shown: list[tuple[int, str]] = []

    @classmethod
    def of(cls, table: Table) -> "Problems":
        """Return an empty list of a table's problems."""
        return cls(table.path, table.unit, table.place)

    def add(self, line: int, what: str) -> None:
        """Note one problem of the row that starts at `line`."""
        self._count += 1
        self._shown.append((line, what))

    def add_where(
        self, table: Table, wrong: NDArray[np.bool_], what: str | Callable[[int], str]
    ) -> None:
        """Note a problem of each row at which `wrong` (n,) is true.

        Args:
            table: The rows.
            wrong: Which rows.
            what: The problem; or a function that returns that of a row, called for those that a
                message may show.
        """
        rows = np.flatnonzero(wrong)
        self._count += rows.size
        for row in rows[:MAX_SHOWN].tolist():
            shown = what if isinstance(what, str) else what(row)
            self._shown.append((int(table.lines[row]), shown))

    def add_cells(self, table: Table, column: str, wrong: NDArray[np.bool_], what: str) -> None:
        """Note the same problem of each cell of a column at which `wrong` (n,) is true."""
        cells = table[column]
        self.add_where(table, wrong, lambda row: f"{column} is {quoted(cells[row])}, {what}")

    @property
    def any(self) -> bool:
        """Whether there are problems."""
        return bool(self._count)

    def raise_any(self) -> None:
        """Raise an error if there are problems.

        Raises:
            DatasetError: There are problems; it spells out the first ones and counts them all.
        """
        if not self._count:
            return
        count = self._count
        first = sorted(self._shown)[:MAX_SHOWN]
        shown = [f"{self._place(line)}: {what}" for line, what in first]
        if count > MAX_SHOWN:
            shown.append(f"and {count - MAX_SHOWN} more")
        raise DatasetError(
            f"{self._table}: {quantity(count, 'problem')} in the table: {'; '.join(shown)}. "
            "Correct these rows or put the original table back"
        )


def quoted(text: str) -> str:
    """Return a cell as a message shows it: quoted, on one line, of bounded length."""
    return repr(text if len(text) <= MAX_CELL else text[:MAX_CELL] + "…")


def read_table(path: Path, needed: Iterable[str], optional: Iterable[str] = ()) -> Table:
    """Read columns of a comma-separated UTF-8 table with a header; blank lines do not count.

    Args:
        path: The file.
        needed: Columns that must be there.
        optional: Columns that are read where they are there. Others are passed over.

    Returns:
        Rows in the file's order, at least one.

    Raises:
        DatasetError: The file cannot be read, is not UTF-8 or not CSV, lacks a column, has rows
            of another length than the header, or has no rows.
    """
    columns = list(needed)

    def choose(header: Sequence[str]) -> list[str]:
        return [*columns, *(name for name in optional if name in header)]

    return csv_table(path, choose)


def csv_table(
    path: Path, choose: Callable[[Sequence[str]], Iterable[str]], delimiter: str = ","
) -> Table:
    """Read those columns of a table that `choose` takes from its header; see `read_table`."""
    with opened(path) as file:
        records = _records(path, csv.reader(file, strict=True, delimiter=delimiter))
        line, header = next(records, (0, []))
        if not header:
            raise DatasetError(f"{path}: the table is empty; put the original back")
        names = list(dict.fromkeys(choose(header)))
        check_header(f"{path}, line {line}", header, names)
        return _columns(path, header, names, records)


def read_lines(path: Path) -> list[str]:
    """Return the lines of a list that are not blank.

    Raises:
        DatasetError: It cannot be read, or is not UTF-8.
    """
    with opened(path) as file:
        return [line.strip() for line in file if line.strip()]


def _columns(
    path: Path,
    header: Sequence[str],
    names: Sequence[str],
    records: Iterator[tuple[int, list[str]]],
) -> Table:
    """Gather the columns, a bounded number of rows at a time as Python's texts."""
    problems, places = Problems(path), [header.index(name) for name in names]
    pieces: list[list[NDArray[Any]]] = [[] for _ in names]
    lines: list[NDArray[np.int64]] = []
    batch: list[tuple[int, list[str]]] = []

    def gather() -> None:
        for piece, place in zip(pieces, places, strict=True):
            piece.append(texts(cells[place] for _, cells in batch))
        lines.append(np.array([line for line, _ in batch], np.int64))
        batch.clear()

    for line, cells in records:
        if len(cells) != len(header):
            problems.add(line, f"{len(cells)} cells where the header has {len(header)}")
            continue
        batch.append((line, cells))
        if len(batch) == BATCH_ROWS:
            gather()
    problems.raise_any()
    gather()
    if not sum(map(len, lines)):
        raise DatasetError(f"{path}: the table has a header and no rows; put the original back")
    return Table(
        path,
        np.concatenate(lines),
        {name: np.concatenate(piece) for name, piece in zip(names, pieces, strict=True)},
    )


@contextmanager
def opened(path: Path) -> Iterator[io.TextIOWrapper]:
    """Open a plain file of UTF-8 text; errors while it is read become ours."""
    try:
        with opened_bytes(path) as data, io.TextIOWrapper(data, "utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error


@contextmanager
def opened_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """Open a plain file; errors while it is read become ours."""
    try:
        with os.fdopen(open_regular(path, _MOST_BYTES, follow=True), "rb") as file:
            yield file
    except UnusableFileError as error:
        what = error.strerror if error.errno == errno.EFBIG else "not a regular file"
        raise DatasetError(f"{path}: cannot read the table ({what})") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot read the table ({cause(error)})") from error


def _not_utf8(path: Path) -> DatasetError:
    """Return the error that says where a file stops being UTF-8."""
    data = read_regular(path, _MOST_BYTES, follow=True)
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return DatasetError(
            f"{path}, line {line}: expected UTF-8 text, got the byte 0x{data[error.start]:02x} "
            f"at offset {error.start}; save the table as UTF-8"
        )
    return DatasetError(f"{path}: the table changed while it was read; run the command again")


def _records(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:  # noqa: ANN401  (csv's)
    """Yield the first line and the cells of the header and of each row."""
    line = 1
    try:
        for raw in reader:
            cells = [cell.strip() for cell in raw]
            if any(cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DatasetError(
            f"{path}, line {line}: not a comma-separated table ({error}); correct this row"
        ) from error


def check_header(where: str, header: Sequence[str], needed: Iterable[str]) -> None:
    """Refuse a header that lacks a column, or has one twice.

    Raises:
        DatasetError: It names them, and those there are.
    """
    if missing := [column for column in needed if column not in header]:
        raise DatasetError(
            f"{where}: the table has no column {', '.join(missing)}; "
            f"it has: {', '.join(map(quoted, header))}. Add a header line, comma-separated, "
            "with the missing names"
        )
    if repeated := sorted({column for column in header if header.count(column) > 1} - {""}):
        raise DatasetError(
            f"{where}: the column {', '.join(repeated)} is there twice; remove or rename one"
        )

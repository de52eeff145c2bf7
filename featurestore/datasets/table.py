"""CSV tables as columns that know the line of each row. All tables of datasets are read here.

`clips` interprets the cells; whether the audio files exist is left to the build.
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
"""Maximum number of problems of a table that a message spells out; the others are counted."""
_MOST_BYTES = 8 << 30
"""Maximum size of a table in bytes, five times that of ten million clips. It is read in pieces."""
MAX_CELL = 80
"""Maximum number of characters of a cell in a message."""


@dataclass(frozen=True)
class Table:
    """Selected columns of a table.

    Attributes:
        path: Path of the file.
        lines: (n,) int64, the first line of each row in the file; the header is on line 1.
        columns: (n,) strings by name, stripped of surrounding whitespace.
        unit: Name of a line in messages; `row` for tables without lines.
        place: Returns the description of a line for messages, if not unit and number.
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
        """Return the rows selected by a mask (n,)."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return replace(self, lines=self.lines[rows], columns=columns)

    def on_line(self, line: int) -> str:
        """Return the position of a line for messages: `on line 7`, `at a.tar#b.wav`."""
        return f"at {self.place(line)}" if self.place else f"on {self.unit} {line}"


class Problems:
    """Problems of one table, collected to report all at once.

    Args:
        table: Path of the table.
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
        """Return an empty collection of problems for a table."""
        return cls(table.path, table.unit, table.place)

    def add(self, line: int, what: str) -> None:
        """Add a problem with the row that starts at `line`."""
        self._count += 1
        self._shown.append((line, what))

    def add_where(
        self, table: Table, wrong: NDArray[np.bool_], what: str | Callable[[int], str]
    ) -> None:
        """Add a problem with each row selected by a mask.

        Args:
            table: Table with the rows.
            wrong: Mask (n,) of the rows.
            what: The problem; or a function from a row to its problem, called only for rows that
                a message may show.
        """
        rows = np.flatnonzero(wrong)
        self._count += rows.size
        for row in rows[:MAX_SHOWN].tolist():
            shown = what if isinstance(what, str) else what(row)
            self._shown.append((int(table.lines[row]), shown))

    def add_cells(self, table: Table, column: str, wrong: NDArray[np.bool_], what: str) -> None:
        """Add the same problem with each cell of a column selected by a mask (n,)."""
        cells = table[column]
        self.add_where(table, wrong, lambda row: f"{column} is {quoted(cells[row])}, {what}")

    @property
    def any(self) -> bool:
        """Whether there are problems."""
        return bool(self._count)

    def raise_any(self) -> None:
        """Raise an error if there are problems.

        Raises:
            DatasetError: There are problems; the message spells out the first and counts them all.
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
    """Return a cell for a message: quoted, on one line, of bounded length."""
    return repr(text if len(text) <= MAX_CELL else text[:MAX_CELL] + "…")


def read_table(path: Path, needed: Iterable[str], optional: Iterable[str] = ()) -> Table:
    """Read columns of a comma-separated UTF-8 table with a header; blank lines do not count.

    Args:
        path: Path of the file.
        needed: Required columns.
        optional: Columns that are read if present. Others are ignored.

    Returns:
        At least one row, in file order.

    Raises:
        DatasetError: The file cannot be read, is not UTF-8 or not CSV, lacks a column, has rows
            whose length differs from the header's, or has no rows.
    """
    columns = list(needed)

    def choose(header: Sequence[str]) -> list[str]:
        return [*columns, *(name for name in optional if name in header)]

    return csv_table(path, choose)


def csv_table(
    path: Path, choose: Callable[[Sequence[str]], Iterable[str]], delimiter: str = ","
) -> Table:
    """Read the columns of a table that `choose` selects from its header; see `read_table`."""
    with opened(path) as file:
        records = _records(path, csv.reader(file, strict=True, delimiter=delimiter))
        line, header = next(records, (0, []))
        if not header:
            raise DatasetError(f"{path}: the table is empty; put the original back")
        names = list(dict.fromkeys(choose(header)))
        check_header(f"{path}, line {line}", header, names)
        return _columns(path, header, names, records)


def read_lines(path: Path) -> list[str]:
    """Return the non-blank lines of a text file.

    Raises:
        DatasetError: The file cannot be read, or is not UTF-8.
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
    """Open a plain UTF-8 file; errors while it is read become DatasetError."""
    try:
        with opened_bytes(path) as data, io.TextIOWrapper(data, "utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error


@contextmanager
def opened_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """Open a plain file; errors while it is read become DatasetError."""
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
    """Refuse a header that lacks a column or repeats one.

    Raises:
        DatasetError: Columns are missing or repeated; the message names them and all columns.
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

"""A CSV table on disk, as rows that know their line. Every dataset's table is read here.

What the cells mean is left to `clips`; whether the audio files exist, to the build.
"""

import csv
import errno
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from featurestore.errors import DatasetError
from featurestore.files import UnusableFileError, read_regular

MAX_SHOWN = 5
"""Problems of one table that a message spells out; the others are counted."""
_MOST_BYTES = 256 << 20
"""Largest size of a table in bytes: a million clips have half of it."""
MAX_CELL = 80
"""Characters of a cell that a message repeats."""


@dataclass(frozen=True)
class Row:
    """One row: its first line in the file (the header is on line 1) and its cells by column."""

    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


class Problems:
    """Problems of one table, gathered so that all are reported at once.

    Args:
        table: The file they are in.
    """

    def __init__(self, table: Path) -> None:
        self._table = table
        self._found: list[tuple[int, str]] = []

    def add(self, line: int, what: str) -> None:
        """Note one problem of the row that starts at `line`."""
        self._found.append((line, what))

    def raise_any(self) -> None:
        """Raise an error if there are problems.

        Raises:
            DatasetError: There are problems; it spells out the first ones and counts them all.
        """
        if not self._found:
            return
        count = len(self._found)
        shown = [f"line {line}: {what}" for line, what in sorted(self._found)[:MAX_SHOWN]]
        if count > MAX_SHOWN:
            shown.append(f"and {count - MAX_SHOWN} more")
        raise DatasetError(
            f"{self._table}: {count} problem{'s' * (count > 1)} in the table: {'; '.join(shown)}. "
            "Correct these rows or put the original table back"
        )


def quoted(text: str) -> str:
    """Return a cell as a message shows it: quoted, on one line, of bounded length."""
    return repr(text if len(text) <= MAX_CELL else text[:MAX_CELL] + "…")


def read_table(path: Path, needed: Iterable[str]) -> tuple[Row, ...]:
    """Read a comma-separated UTF-8 table with a header; blank lines do not count.

    Spaces around a cell are removed.

    Args:
        path: The file.
        needed: Columns that must be there; others may be.

    Returns:
        One `Row` a row, at least one, in the file's order.

    Raises:
        DatasetError: The file cannot be read, is not UTF-8 or not CSV, lacks a column, has rows
            of another length than the header, or has no rows.
    """
    (header_line, header), *records = _records(path)
    _check_header(path, header_line, header, needed)
    if not records:
        raise DatasetError(f"{path}: the table has a header and no rows; put the original back")
    problems = Problems(path)
    for line, cells in records:
        if len(cells) != len(header):
            problems.add(line, f"{len(cells)} cells where the header has {len(header)}")
    problems.raise_any()
    return tuple(Row(line, dict(zip(header, cells, strict=True))) for line, cells in records)


def _text(path: Path) -> str:
    try:
        data = read_regular(path, _MOST_BYTES, follow=True)
    except UnusableFileError as error:
        what = error.strerror if error.errno == errno.EFBIG else "not a regular file"
        raise DatasetError(f"{path}: cannot read the table ({what})") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot read the table ({error.strerror})") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DatasetError(
            f"{path}, line {line}: expected UTF-8 text, got the byte 0x{data[error.start]:02x} "
            f"at offset {error.start}; save the table as UTF-8"
        ) from error


def _records(path: Path) -> list[tuple[int, list[str]]]:
    """Return the first line and the cells of the header and of each row."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    records = []
    line = 1
    try:
        for raw in reader:
            cells = [cell.strip() for cell in raw]
            if any(cells):
                records.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DatasetError(
            f"{path}, line {line}: not a comma-separated table ({error}); correct this row"
        ) from error
    if not records:
        raise DatasetError(f"{path}: the table is empty; put the original back")
    return records


def _check_header(path: Path, line: int, header: Sequence[str], needed: Iterable[str]) -> None:
    where = f"{path}, line {line}"
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

"""Tables in any format: CSV with any delimiter, JSON Lines, Parquet, data frames.

Every cell becomes the string that a CSV would have: numbers are written out, a list is JSON, and a
missing value is empty.
"""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.cliplist import BATCH_ROWS, texts
from featurestore.datasets.arrowcells import ParquetColumns, arrow_errors, cell_values
from featurestore.datasets.table import (
    Table,
    check_header,
    csv_table,
    opened,
    opened_bytes,
    quoted,
)
from featurestore.errors import DatasetError

Choose = Callable[[Sequence[str]], Iterable[str]]
"""Function that selects, from the names of all columns, those to read."""
DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
_CSV, _JSON_LINES, _PARQUET = (".csv", ".tsv", ".txt"), (".jsonl", ".ndjson"), (".parquet", ".pq")
SUFFIXES = frozenset((".csv", ".tsv", *_JSON_LINES, *_PARQUET))
"""Suffixes of files that may be the table of a root."""


def any_table(path: Path, choose: Choose) -> Table:
    """Read columns of a table in any format, which the file's suffix determines.

    Args:
        path: CSV with any of `DELIMITERS`, JSON Lines, or Parquet.
        choose: Called with the names of all columns; returns those to read.

    Raises:
        DatasetError: The file cannot be read, or is not in the format of its suffix.
    """
    suffix = path.suffix.lower()
    if suffix in _JSON_LINES:
        return _json_lines(path, choose)
    if suffix in _PARQUET:
        return _parquet(path, choose)
    if suffix in _CSV:
        return csv_table(path, choose, _delimiter(path))
    kinds = ", ".join(sorted({*_CSV, *_JSON_LINES, *_PARQUET}))
    raise DatasetError(f"{path}: expected a table ending in one of {kinds}; save it as CSV")


def frame_table(frame: Any, choose: Choose, name: str = "the table") -> Table:  # noqa: ANN401
    """Return columns of a pandas data frame, an Arrow table, or a mapping of names to columns.

    Args:
        frame: Any object with `columns` or `column_names` whose columns have `tolist` or
            `to_pylist` or are iterable.
        choose: See `any_table`.
        name: Name of the table in messages.

    Raises:
        DatasetError: The object is not a table, has no rows, or a cell is not a string, number or
            list.
    """
    path = Path(name)
    header = _names(frame)
    if header is None:
        raise DatasetError(
            f"{name}: expected a pandas data frame, an Arrow table or a mapping of names to "
            f"columns, got {type(frame).__name__}"
        )
    names = list(dict.fromkeys(choose(header)))
    check_header(name, header, names)
    keys = dict(zip(header, _keys(frame), strict=True))  # pandas also has numbers for names
    columns = {n: cells_of(path, n, _values(name, n, frame[keys[n]])) for n in names}
    return _checked(Table(path, _rows(columns), columns, "row"))


def _names(frame: Any) -> list[str] | None:  # noqa: ANN401
    keys = _keys(frame)
    return None if keys is None else [str(key) for key in keys]


def _keys(frame: Any) -> Any:  # noqa: ANN401
    if isinstance(frame, Mapping):
        return list(frame)
    return getattr(frame, "column_names", getattr(frame, "columns", None))


def _values(name: str, title: str, column: Any) -> Sequence[Any]:  # noqa: ANN401
    if isinstance(column, str | bytes) or not isinstance(column, Iterable):
        raise DatasetError(
            f"{name}: expected the cells of the column {quoted(title)}, one per row, got "
            f"{quoted(repr(column))}"
        )
    for method in ("to_pylist", "tolist"):
        if hasattr(column, method):
            return list(getattr(column, method)())
    return list(column)


def _rows(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Return the numbers of the rows, from 1."""
    return np.arange(1, 1 + max(map(len, columns.values()), default=0))


def _checked(table: Table) -> Table:
    if {len(column) for column in table.columns.values()} - {len(table)}:
        raise DatasetError(f"{table.path}: the columns have different numbers of rows")
    if not len(table):
        raise DatasetError(f"{table.path}: the table has no rows")
    return table


def _delimiter(path: Path) -> str:
    """Return what separates the cells: what splits the header into the most; a comma in doubt."""
    with opened(path) as file:
        header = next((line for line in file if line.strip()), "")

    def cells(delimiter: str) -> int:
        return max(map(len, csv.reader([header], delimiter=delimiter)), default=0)

    return max(DELIMITERS, key=cells)


def _json_lines(path: Path, choose: Choose) -> Table:
    """Read a table of one JSON object per line; the columns are the names in any of them."""
    names: dict[str, None] = {}
    for _, row in _objects(path):
        names |= dict.fromkeys(row)
    if not names:
        raise DatasetError(f"{path}: the table is empty; put the original back")
    chosen = list(dict.fromkeys(choose(list(names))))
    check_header(str(path), list(names), chosen)
    pieces: dict[str, list[NDArray[Any]]] = {name: [] for name in chosen}
    lines: list[int] = []
    batch: list[dict[str, Any]] = []

    def gather() -> None:
        for name, piece in pieces.items():
            piece.append(cells_of(path, name, [row.get(name) for row in batch], lines))
        batch.clear()

    for line, row in _objects(path):
        lines.append(line)
        batch.append(row)
        if len(batch) == BATCH_ROWS:
            gather()
    gather()
    columns = {name: np.concatenate(piece) for name, piece in pieces.items()}
    return _checked(Table(path, np.array(lines, np.int64), columns))


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with opened(path) as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = json_value(text)
            except (ValueError, RecursionError) as error:
                raise DatasetError(
                    f"{path}, line {line}: expected one JSON object per line ({error})"
                ) from error
            if not isinstance(row, dict):
                raise DatasetError(
                    f"{path}, line {line}: expected a JSON object, got {quoted(text.strip())}"
                )
            yield line, row


def json_value(text: str | bytes) -> Any:  # noqa: ANN401
    """Return the value of a JSON text in which no object has a key twice.

    Raises:
        ValueError: It is not JSON, or a key is there twice; Python would take the last of them.
        RecursionError: It is nested too deep.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text), "surrogatepass")  # as `json.loads` does
    return _JSON.decode(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for at, name in enumerate(names) if name in names[:at])
        raise ValueError(f"{quoted(repeated)} is there twice")
    return values


_JSON = json.JSONDecoder(object_pairs_hook=_object)


def _parquet(path: Path, choose: Choose) -> Table:
    """Read columns of a Parquet file, one row group's batch after another."""
    _needs_pyarrow(path)
    with opened_bytes(path) as opened_file, arrow_errors(path):
        file = ParquetColumns(opened_file.fileno())
        header = file.schema.names
        names = list(dict.fromkeys(choose(header)))
        check_header(str(path), header, names)
        pieces: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        for group in range(file.metadata.num_row_groups):
            for batch in file.batches(group, names):
                for name in names:
                    pieces[name].append(cells_of(path, name, cell_values(batch.column(name))))
        file.close()
    empty = texts([])
    columns = {name: np.concatenate([empty, *piece]) for name, piece in pieces.items()}
    return _checked(Table(path, _rows(columns), columns, "row"))


def _needs_pyarrow(path: Path) -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise DatasetError(
            f"{path}: Parquet is read by pyarrow, which is not installed: "
            "pip install 'featurestore[tables]'"
        ) from error


def cells_of(
    path: Path, column: str, values: Sequence[Any], lines: Sequence[int] = ()
) -> NDArray[Any]:
    """Return the values of a column as strings."""
    try:
        return texts(value.strip() if type(value) is str else cell_text(value) for value in values)
    except (TypeError, UnicodeEncodeError) as error:
        row, value = next((r, v) for r, v in enumerate(values) if not _is_plain(v))
        where = f"line {lines[row - len(values)]}" if lines else f"row {row + 1}"
        raise DatasetError(
            f"{path}, {where}: {column} is {quoted(repr(value))}, expected a text, a number or "
            "a list of texts"
        ) from error


def _is_plain(value: Any) -> bool:  # noqa: ANN401
    try:
        cell_text(value).encode()
    except (TypeError, UnicodeEncodeError):
        return False
    return True


def cell_text(value: Any) -> str:  # noqa: ANN401  (a cell of any kind of table)
    """Return a cell as the string that a CSV would have.

    Raises:
        TypeError: The cell is not a string, a number or a list of these.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, PurePath):  # in data frames that are made with pathlib
        return str(value)
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isnan(number):
            return ""
        # pandas makes floats of whole numbers where one is missing.
        return str(int(number)) if number.is_integer() else repr(number)
    if isinstance(value, list | tuple | np.ndarray):
        return _list_text(value)
    if type(value).__name__ in ("NAType", "NaTType"):  # pandas, which need not be installed
        return ""
    raise TypeError(type(value).__name__)


def _list_text(values: Iterable[Any]) -> str:
    if any(isinstance(value, list | tuple | np.ndarray) for value in values):
        raise TypeError("a list of lists")
    return json.dumps([cell_text(value) for value in values], ensure_ascii=False)

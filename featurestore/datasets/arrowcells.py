"""Cells of Parquet and Arrow columns as Python's values, checked before anything is followed.

A file says where each cell lies, how large a page is unpacked, and how often a cell is repeated: an
offset may lead out of the file, and one word of a megabyte may stand for each of a million rows.
"""

import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.cliplist import BATCH_ROWS
from featurestore.errors import DatasetError
from featurestore.extraction.shards.pages import (
    DIFFERENCES,
    LENGTHS,
    PLAIN,
    PageError,
    column_range,
    encodings,
    largest_page,
)

_MOST_BYTES = 1 << 28
"""Maximum size in bytes of a batch of labels in one column, with every repeated cell counted."""
_MOST_GROUP_BYTES = 1 << 29
"""Maximum size in bytes of a column of labels in a row group, by its footer and its pages."""
_EVER_ROWS = 1 << 20
"""Number of rows that a Parquet file may have regardless of its size in bytes."""
_ROWS_A_BYTE = 64
"""Maximum number of rows per byte of a larger file; a list of windows of a recording has 50."""


class CellsError(ValueError):
    """Cells that are no labels, or would take too much memory."""


@contextmanager
def arrow_errors(path: Path) -> Iterator[None]:
    """Turn errors about what is in a Parquet or Arrow file into ours, in one line."""
    import pyarrow as pa

    try:
        yield
    except DatasetError:
        raise
    except (OSError, ValueError, LookupError, OverflowError, pa.ArrowException) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DatasetError(
            f"{path}: cannot read the table ({first}); write the file again"
        ) from error


def cell_values(column: Any) -> list[Any]:  # noqa: ANN401  (pyarrow has no types)
    """Return the cells of a column: None, texts, bytes, numbers, or lists of them.

    Raises:
        CellsError: They are of another type, or too large.
        ArrowException: The column is damaged.
    """
    import pyarrow as pa

    column.validate(full=True)
    if (size := _written_out(column)) > _MOST_BYTES:
        raise CellsError(f"{len(column):,} cells have {size:,} bytes, which are no labels")
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values: list[Any] = column.to_pylist()
    return values


def _written_out(array: Any) -> int:  # noqa: ANN401
    """Return at least the bytes of all cells, also of those that lie in the file only once."""
    import pyarrow as pa

    is_, kind = pa.types, array.type
    if is_.is_dictionary(kind):
        return len(array) * _largest(array.dictionary)
    if is_.is_run_end_encoded(kind):
        return len(array) * _largest(array.values)
    if is_.is_list(kind) or is_.is_large_list(kind) or is_.is_fixed_size_list(kind):
        return int(array.nbytes) + _written_out(array.flatten())
    if is_.is_string_view(kind):
        views = np.frombuffer(array.buffers()[1], np.int32)[: 4 * (array.offset + len(array))]
        return int(views[::4].sum(dtype=np.int64))
    is_text = is_.is_string(kind) or is_.is_large_string(kind)
    is_bytes = is_.is_binary(kind) or is_.is_large_binary(kind)
    is_number = is_.is_integer(kind) or is_.is_floating(kind) or is_.is_boolean(kind)
    if not (is_text or is_bytes or is_number or is_.is_null(kind)):
        raise CellsError(f"the cells are of type {kind}, expected texts, numbers or lists of texts")
    return max(int(array.nbytes), 8 * len(array))


def _largest(array: Any) -> int:  # noqa: ANN401
    """Return at least the bytes of the largest cell."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return (pc.max(pc.binary_length(array)).as_py() or 0) + 8
    return _written_out(array)


class ParquetColumns:
    """An open Parquet file of which some columns are read.

    Args:
        descriptor: Of the file, which stays open.

    Raises:
        CellsError: More rows are declared than the file can have.
    """

    def __init__(self, descriptor: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        # Mapped, so that the sounds between the labels are never read.
        self._mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        self._buffer = pa.py_buffer(self._mapped)
        self._file = pq.ParquetFile(pa.BufferReader(self._buffer))
        self.metadata = self._file.metadata
        self.schema = self._file.schema_arrow
        groups = range(self.metadata.num_row_groups)
        rows = sum(self.metadata.row_group(group).num_rows for group in groups)
        if rows > max(_EVER_ROWS, _ROWS_A_BYTE * len(self._mapped)):
            raise CellsError(f"it is said to have {rows:,} rows, in {len(self._mapped):,} bytes")

    def batches(self, group: int, names: Sequence[str]) -> Iterator[Any]:
        """Yield batches of some columns of a row group.

        Args:
            group: Number of the row group.
            names: Names of columns, or paths of what is in them.

        Raises:
            CellsError: A column would take too much memory.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows, texts, most = self.metadata.row_group(group), [], BATCH_ROWS
        for number in range(rows.num_columns):
            column, leaf = rows.column(number), self._file.schema.column(number)
            if not _is_in(leaf.path, names):
                continue
            largest, kinds = self._pages(column)
            if (size := max(largest, column.total_uncompressed_size)) > _MOST_GROUP_BYTES:
                raise CellsError(
                    f"the column {leaf.path!r} has {size:,} bytes in row group {group}"
                )
            if leaf.physical_type != "BYTE_ARRAY" or leaf.logical_type.type == "DECIMAL":
                continue
            if kinds <= {PLAIN, LENGTHS}:  # each cell has bytes of its own
                continue
            if kinds & {LENGTHS, DIFFERENCES}:
                # A cell may repeat another of up to a page, and pyarrow writes it out.
                most = min(most, max(1, _MOST_BYTES // (32 * max(1, largest))))
            else:
                texts.append(leaf.path)  # in memory once, however often it is repeated
        source = pa.BufferReader(self._buffer)
        file = pq.ParquetFile(source, metadata=self.metadata, read_dictionary=texts)
        size = 0
        for batch in file.iter_batches(
            most, row_groups=[group], columns=list(names), use_threads=False
        ):
            size += batch.nbytes
            if size > _MOST_GROUP_BYTES * len(names):
                raise CellsError(f"the cells of row group {group} have {size:,} bytes or more")
            yield batch

    def _pages(self, column: Any) -> tuple[int, set[int]]:  # noqa: ANN401
        """Return the unpacked size of a column's largest page, and how its cells are encoded."""
        with memoryview(self._mapped) as data:
            try:
                place = column_range(column)
                return largest_page(data, *place), encodings(data, *place)
            except PageError as error:
                raise CellsError(str(error)) from error

    def close(self) -> None:
        """Close the file; the descriptor stays open."""
        self._file.close()


def _is_in(path: str, names: Sequence[str]) -> bool:
    """Return whether a column of a Parquet file is one of these, or lies in one of them."""
    return any(path == name or path.startswith(f"{name}.") for name in names)

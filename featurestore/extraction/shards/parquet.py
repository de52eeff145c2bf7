"""Parquet: rows read in groups by a forward reader."""

import mmap
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.errors import AudioError
from featurestore.extraction.shards.columns import (
    BYTES,
    arrow_errors,
    cell,
    cells,
    only_sound_column,
)
from featurestore.extraction.shards.pages import (
    PageError,
    column_range,
    largest_page,
    plain_cells,
)
from schemas import ClipStatus

MOST_GROUP_BYTES = 1 << 29
"""Maximum size in bytes of the sounds in a compressed row group, whose pages, which may be that
large, are decompressed in memory."""
MOST_PLAIN_BYTES = 1 << 32
"""Maximum size in bytes of the sounds in an uncompressed row group, copied one by one."""


class ParquetShard:
    """An open Parquet file."""

    def __init__(self, descriptor: int) -> None:
        # Reading by copies takes five times as long.
        self._mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        with arrow_errors():
            self._file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(self._mapped)))
            metadata = self._file.metadata
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            self._column = only_sound_column(self._file.schema_arrow)
            self._leaves = [sound_leaves(group, self._column) for group in groups]
            self._stops = list(accumulate(group.num_rows for group in groups))
            self._level = _plain_level(self._file.schema, self._column)
        self._cells: list[tuple[int, int]] | None = None
        self._group, self._next = -1, 0
        self._rows: Iterator[Any] = iter(())
        self._last: tuple[int, Any] = -1, None

    def item(self, number: int) -> memoryview:
        """Return the bytes of a row. Reading rows in order reads each group once."""
        with arrow_errors():
            if number == self._last[0]:
                return cell(self._last[1], 0)
            group = bisect_right(self._stops, number)
            if group == len(self._stops):
                raise AudioError(ClipStatus.MISSING, f"the shard has no row {number}")
            if group != self._group or (self._cells is None and number < self._next):
                self._start(group)
            if self._cells is not None:
                at, size = self._cells[number - self._next]
                return memoryview(self._mapped)[at : at + size]
            while self._next <= number:
                self._last = self._next, cells(self._next_row(), self._column)
                self._next += 1
            return cell(self._last[1], 0)

    def _next_row(self) -> Any:  # noqa: ANN401  (pyarrow has no types)
        for batch in self._rows:
            return batch
        raise AudioError(ClipStatus.UNREADABLE, "the shard has fewer rows than it says")

    def _start(self, group: int) -> None:
        if fault := group_fault(group, self._file.metadata.row_group(group), self._column):
            raise AudioError(ClipStatus.TOO_LONG, fault)
        self._check_pages(group)
        self._mapped.madvise(mmap.MADV_DONTNEED)  # what was read does not count as ours any more
        self._group = -1  # if this fails, no row may be looked for among those of another group
        self._cells = self._plain_cells(group)
        if self._cells is None:
            # One row at a time: a cell may stand for any number of rows, and only one is copied.
            self._rows = iter(
                self._file.iter_batches(
                    1,
                    row_groups=[group],
                    columns=[leaf.path_in_schema for leaf in self._leaves[group]],
                    use_threads=False,
                )
            )
        self._group, self._next = group, self._stops[group - 1] if group else 0

    def _plain_cells(self, group: int) -> list[tuple[int, int]] | None:
        """Return where the cells of a group are, if they can be taken as they lie in the file.

        pyarrow would copy every row up to the one that is wanted: of folds that alternate, each row
        several times.
        """
        leaves = self._leaves[group]
        if self._level is None or len(leaves) != 1 or _is_compressed(leaves[0]):
            return None
        cells = None
        with suppress(PageError), memoryview(self._mapped) as data:  # pyarrow reads up to damage
            first = self._stops[group - 1] if group else 0
            num_rows = self._stops[group] - first
            cells = plain_cells(data, *column_range(leaves[0]), self._level, num_rows)
        return cells

    def _check_pages(self, group: int) -> None:
        """Refuse a group of which a page is larger than the footer says, before it is unpacked."""
        try:
            with memoryview(self._mapped) as data:
                for leaf in filter(_is_compressed, self._leaves[group]):
                    size = largest_page(data, *column_range(leaf))
                    if size > MOST_GROUP_BYTES:
                        raise AudioError(
                            ClipStatus.TOO_LONG, _too_large(group, size, MOST_GROUP_BYTES)
                        )
        except PageError as error:
            raise AudioError(ClipStatus.UNREADABLE, f"the shard is damaged: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._rows, self._last, self._cells = iter(()), (-1, None), None
        self._file.close()


def _plain_level(schema: Any, name: str) -> int | None:  # noqa: ANN401  (untyped)
    """Return the definition level of a sound that is there; None if sounds are no plain bytes."""
    for leaf in map(schema.column, range(len(schema))):
        if leaf.path in (name, f"{name}.{BYTES}"):
            is_plain = leaf.physical_type == "BYTE_ARRAY" and not leaf.max_repetition_level
            return leaf.max_definition_level if is_plain else None
    return None


def group_fault(group: int, metadata: Any, name: str) -> str | None:  # noqa: ANN401  (untyped)
    """Return why a row group is not read (its sounds are too large by its metadata), or None."""
    leaves = sound_leaves(metadata, name)
    size = sum(leaf.total_uncompressed_size for leaf in leaves)
    most = MOST_GROUP_BYTES if any(map(_is_compressed, leaves)) else MOST_PLAIN_BYTES
    return _too_large(group, size, most) if size > most else None


def sound_leaves(group: Any, name: str) -> list[Any]:  # noqa: ANN401
    """Return the metadata of the column chunks with the bytes of a column."""
    columns = (group.column(number) for number in range(group.num_columns))
    return [leaf for leaf in columns if leaf.path_in_schema in (name, f"{name}.{BYTES}")]


def _is_compressed(leaf: Any) -> bool:  # noqa: ANN401
    return bool(leaf.compression != "UNCOMPRESSED")


def _too_large(group: int, size: int, most: int) -> str:
    return (
        f"row group {group} has {size / 2**20:,.0f} MiB of sounds, and at most {most >> 20} MiB "
        "are read at once; write it again with smaller row groups"
    )

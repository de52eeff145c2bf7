"""Arrow streams, as `save_to_disk` of Hugging Face's datasets writes them: mapped, not read."""

import mmap
from bisect import bisect_right
from typing import Any

import pyarrow as pa

from featurestore.errors import AudioError
from featurestore.extraction.shards.columns import arrow_errors, cell, cells, only_sound_column
from schemas import ClipStatus


class ArrowShard:
    """An open stream of record batches. They are indexed as far as they are needed."""

    def __init__(self, descriptor: int) -> None:
        self._mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        with arrow_errors():
            self._reader = pa.ipc.open_stream(pa.BufferReader(pa.py_buffer(self._mapped)))
            self._column = only_sound_column(self._reader.schema)
        self._stops: list[int] = []
        self._arrays: list[Any] = []

    def item(self, number: int) -> memoryview:
        """Return the bytes of a row."""
        with arrow_errors():
            while not self._stops or self._stops[-1] <= number:
                self._index_next(number)
            batch = bisect_right(self._stops, number)
            return cell(self._arrays[batch], number - (self._stops[batch - 1] if batch else 0))

    def _index_next(self, number: int) -> None:
        try:
            array = cells(self._reader.read_next_batch(), self._column)
        except StopIteration:
            raise AudioError(ClipStatus.MISSING, f"the shard has no row {number}") from None
        array.validate(full=True)  # offsets that lead out of the file are not followed
        self._stops.append(len(array) + (self._stops[-1] if self._stops else 0))
        self._arrays.append(array)

    def close(self) -> None:
        """Let go of the mapping."""
        self._arrays.clear()
        self._reader = None

"""Arrow streams, as written by `save_to_disk` of Hugging Face datasets: memory-mapped, not read."""

import mmap
import struct
from bisect import bisect_right
from typing import Any

import pyarrow as pa

from featurestore.errors import AudioError
from featurestore.extraction.shards.columns import arrow_errors, cell, cells, only_sound_column
from schemas import ClipStatus

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_HEADER_TYPE, _HEADER, _BATCH_OF_DICTIONARY, _COMPRESSION = 1, 2, 1, 3
"""Field numbers in Arrow's `Message.fbs`."""


class ArrowShard:
    """An open stream of record batches, which are indexed on demand."""

    def __init__(self, descriptor: int) -> None:
        self._mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        with arrow_errors():
            self._reader = open_stream(pa.py_buffer(self._mapped))
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
        """Release the memory map."""
        self._arrays.clear()
        self._reader = None


def open_stream(buffer: Any) -> Any:  # noqa: ANN401  (pyarrow has no types)
    """Return a zero-copy reader of the record batches in a buffer.

    Raises:
        AudioError: They are compressed, and would have to be decompressed as a whole.
        ArrowException: The buffer is not a stream, or its start is damaged.
    """
    messages = pa.ipc.MessageReader.open_stream(pa.BufferReader(buffer))
    try:
        for message in messages:
            if _is_compressed(message.metadata):
                raise AudioError(
                    ClipStatus.UNSUPPORTED, "the Arrow stream is compressed; save it uncompressed"
                )
    except (pa.ArrowException, OSError):
        pass  # of a stream cut short, what comes before can be read
    return pa.ipc.open_stream(pa.BufferReader(buffer))


def _is_compressed(metadata: Any) -> bool:  # noqa: ANN401
    """Return whether a message is a batch whose buffers are compressed.

    Source: Arrow's `format/Message.fbs`, and FlatBuffers' layout of tables.
    """
    data = memoryview(metadata)
    try:
        message = struct.unpack_from("<I", data)[0]
        kind_at = _field(data, message, _HEADER_TYPE)
        kind = data[kind_at] if kind_at else 0
        at = _field(data, message, _HEADER)
        if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH) or not at:
            return False
        batch = at + struct.unpack_from("<I", data, at)[0]
        if kind == _DICTIONARY_BATCH and (at := _field(data, batch, _BATCH_OF_DICTIONARY)):
            batch = at + struct.unpack_from("<I", data, at)[0]
        return bool(_field(data, batch, _COMPRESSION))
    except (struct.error, IndexError):
        return True  # so far from Arrow that nothing of it is to be unpacked


def _field(data: memoryview, table: int, number: int) -> int:
    """Return where a field of a FlatBuffers table is; 0 if it has its default."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if vtable < 0:
        raise IndexError(vtable)
    size = struct.unpack_from("<H", data, vtable)[0]
    if 4 + 2 * number + 2 > size:
        return 0
    offset = struct.unpack_from("<H", data, vtable + 4 + 2 * number)[0]
    return table + offset if offset else 0

"""Encoding and decoding of whole chunks and whole shards, as defined by Zarr v3.

The codecs are those named in the arrays' metadata (little-endian bytes, Blosc LZ4 with byte
shuffle, crc32c), so that any Zarr reader can read the result. Zarr's own pipeline does the same
through an event loop, which takes twice as long for whole chunks. `files` decides where the bytes
go.
"""

from collections.abc import Sequence
from typing import Any, Final

import google_crc32c
import numpy as np
from numcodecs import blosc
from numcodecs.vlen import VLenUTF8
from numpy.typing import NDArray

from featurestore.errors import CorruptError

blosc.use_threads = False  # the work is divided among processes and threads already

CNAME: Final = "lz4"
CLEVEL: Final = 5
_CRC_BYTES = 4
OVERHEAD_BYTES: Final = 16 + _CRC_BYTES
"""Maximum number of bytes added to an incompressible chunk: Blosc's header and the checksum."""
_CRC_OF_CHECKED = 0x48674BC7
"""crc32c of any data followed by its own crc32c."""
_SIZE_IN_HEADER = slice(4, 8)
"""Position of the uncompressed size in Blosc's header."""
_STORED_IN_HEADER = slice(12, 16)
"""Position of the compressed size in Blosc's header, up to which Blosc reads."""
_ENTRY_BYTES = 16
_COUNT_BYTES = 4
CHECKSUM_BYTES = _CRC_BYTES
"""Size of the checksum at the end of every chunk, in bytes."""
_ABSENT = 2**64 - 1
"""Entry in a shard's index for a missing chunk."""


def encode_chunk(values: NDArray[np.generic], chunk_clips: int, fill: float) -> bytes:
    """Encode a chunk of `chunk_clips` rows, padded with `fill` if there are fewer.

    Args:
        values: (n, ...), with n at most chunk_clips.
        chunk_clips: Number of rows of the chunk.
        fill: Fill value of the array.
    """
    if len(values) < chunk_clips:
        whole = np.full((chunk_clips, *values.shape[1:]), fill, values.dtype)
        whole[: len(values)] = values
        values = whole
    codec = blosc.Blosc(CNAME, CLEVEL, blosc.SHUFFLE)
    return _with_checksum(bytes(codec.encode(np.ascontiguousarray(values))))


def decode_chunk(data: bytes, out: NDArray[np.generic]) -> None:
    """Decode a whole chunk into a contiguous array of its size.

    Raises:
        CorruptError: The checksum or the size is wrong.
    """
    body = _checked(data)
    num_bytes = _decoded_size(body)
    if num_bytes != out.nbytes:
        raise CorruptError(f"{num_bytes} bytes, expected {out.nbytes}")
    _decode(body, out)


def decode_texts(data: bytes, num_texts: int, max_bytes: int) -> NDArray[Any]:
    """Decode a whole chunk of strings, (num_texts,).

    Args:
        data: The chunk.
        num_texts: How many it must hold.
        max_bytes: Maximum size in bytes before compression.

    Raises:
        CorruptError: The checksum, the size or the number of strings is wrong.
    """
    body = _checked(data)
    num_bytes = _decoded_size(body)
    if not _COUNT_BYTES <= num_bytes <= max_bytes:
        raise CorruptError(f"{num_bytes} bytes, expected {_COUNT_BYTES} to {max_bytes}")
    decoded = np.empty(num_bytes, np.uint8)
    _decode(body, decoded)
    count = int.from_bytes(decoded[:_COUNT_BYTES].tobytes(), "little")
    if count != num_texts:
        raise CorruptError(f"{count} texts, expected {num_texts}")
    try:
        return np.array(VLenUTF8().decode(decoded), np.dtypes.StringDType())
    except ValueError as error:
        raise CorruptError(f"not decodable: {error}") from error


def _decode(body: memoryview, out: NDArray[np.generic]) -> None:
    try:
        blosc.Blosc().decode(body, out)
    except (RuntimeError, ValueError) as error:
        raise CorruptError(f"not decodable: {error}") from error


def _decoded_size(body: memoryview) -> int:
    """Return the size of a chunk before compression, if its header is true of what is there."""
    if len(body) != int.from_bytes(body[_STORED_IN_HEADER], "little"):
        raise CorruptError(f"{len(body)} bytes, which is not what the chunk's header says")
    return int.from_bytes(body[_SIZE_IN_HEADER], "little")


def encode_shard(chunks: Sequence[bytes], num_slots: int) -> bytes:
    """Concatenate chunks and append the index of `num_slots` pairs (offset, size)."""
    index = np.full((num_slots, 2), _ABSENT, "<u8")
    offset = 0
    for slot, chunk in enumerate(chunks):
        index[slot] = offset, len(chunk)
        offset += len(chunk)
    return b"".join([*chunks, _with_checksum(index.tobytes())])


def shard_index_bytes(num_slots: int) -> int:
    """Return the size in bytes of the index at the end of a shard."""
    return num_slots * _ENTRY_BYTES + _CRC_BYTES


def decode_shard_index(data: bytes) -> NDArray[np.uint64]:
    """Return offset and size of each chunk in a shard, (num_slots, 2).

    Raises:
        CorruptError: The checksum is wrong.
    """
    return np.frombuffer(_checked(data), "<u8").reshape(-1, 2).astype(np.uint64)


def _with_checksum(data: bytes) -> bytes:
    return data + checksum(data)


def checksum(data: bytes) -> bytes:
    """Return the CRC-32C of bytes as at the end of chunks: four bytes."""
    value: int = google_crc32c.value(data)
    return value.to_bytes(_CRC_BYTES, "little")


def _checked(data: bytes) -> memoryview:
    """Return the data without its checksum, which must match; not a copy."""
    if len(data) < _CRC_BYTES or google_crc32c.value(data) != _CRC_OF_CHECKED:
        raise CorruptError("the checksum does not match")
    return memoryview(data)[:-_CRC_BYTES]

"""Chunks written here are what Zarr would write, and what Zarr reads."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from featurestore.errors import CorruptError
from featurestore.store import chunks

CODECS = (BloscCodec(cname=chunks.CNAME, clevel=chunks.CLEVEL, shuffle="shuffle"), Crc32cCodec())


def values(dtype: str, rows: int = 8) -> np.ndarray:
    return (np.random.default_rng(0).random((rows, 6, 10)) * 200).astype(dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
@pytest.mark.parametrize("rows", [8, 3])
def test_a_chunk_is_the_bytes_that_zarr_writes(tmp_path: Path, dtype: str, rows: int) -> None:
    data = values(dtype, rows)
    array = zarr.create_array(
        tmp_path / "a", shape=data.shape, chunks=(8, 6, 10), dtype=dtype, compressors=CODECS
    )
    array[:] = data
    assert chunks.encode_chunk(data, 8, 0) == (tmp_path / "a/c/0/0/0").read_bytes()


def test_zarr_reads_a_shard_made_here_and_this_reads_a_shard_of_zarr(tmp_path: Path) -> None:
    data = values("float16", 20)
    array = zarr.create_array(
        tmp_path / "a",
        shape=(20, 6, 10),
        chunks=(4, 6, 10),
        shards=(16, 6, 10),
        dtype="float16",
        compressors=CODECS,
    )
    array[:] = data
    theirs = (tmp_path / "a/c/1/0/0").read_bytes()
    index = chunks.decode_shard_index(theirs[-chunks.shard_index_bytes(4) :])
    offset, size = (int(v) for v in index[0])
    out = np.empty((4, 6, 10), np.float16)
    chunks.decode_chunk(theirs[offset : offset + size], out)
    np.testing.assert_array_equal(out, data[16:])
    for shard, rows in ((0, data[:16]), (1, data[16:])):
        encoded = [chunks.encode_chunk(rows[i : i + 4], 4, 0) for i in range(0, len(rows), 4)]
        (tmp_path / f"a/c/{shard}/0/0").write_bytes(chunks.encode_shard(encoded, 4))
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a")[:], data)


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 10])
def test_a_chunk_cut_short_is_corrupt(cut: int) -> None:
    data = chunks.encode_chunk(values("float16"), 8, 0)
    with pytest.raises(CorruptError):
        chunks.decode_chunk(data[:cut], np.empty((8, 6, 10), np.float16))


def test_every_flipped_bit_of_a_chunk_is_noticed() -> None:
    data = chunks.encode_chunk(values("uint8"), 8, 0)
    out = np.empty((8, 6, 10), np.uint8)
    for bit in range(0, len(data) * 8, 7):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptError, match="checksum"):
            chunks.decode_chunk(bytes(damaged), out)


def test_a_whole_chunk_of_another_size_is_refused() -> None:
    data = chunks.encode_chunk(values("float16"), 8, 0)
    with pytest.raises(CorruptError, match="960 bytes, expected 1920"):
        chunks.decode_chunk(data, np.empty((8, 6, 10), np.float32))

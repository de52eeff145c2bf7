"""Rows of an array to and from the files they lie in: one chunk a file, or one shard of chunks.

No Zarr is needed for it: which file holds which rows follows from the manifest. The metadata that
tells other readers the same is made by `metadata`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptError
from featurestore.storage import Storage, overlap
from featurestore.store import chunks
from featurestore.store.plan import Block
from schemas import ClipStatus, StoreManifest

OUTCOMES: Mapping[str, tuple[str, tuple[int, ...], Any]] = {
    "duration_s": ("float32", (), "NaN"),
    "peak": ("float32", (), "NaN"),
    "source_sha256": ("uint8", (32,), 0),
    "status": ("uint8", (), 0),
}
"""dtype, shape after the clip's dimension, and fill value of what a block writes beside images."""


@dataclass(frozen=True)
class _Column:
    """How an array that blocks write is cut: rows a chunk, chunks a file, and what a row is."""

    dtype: str
    inner: tuple[int, ...]
    fill: float
    chunk_clips: int
    chunks_a_file: int


def _column(manifest: StoreManifest, name: str) -> _Column:
    if name in OUTCOMES:
        dtype, inner, fill = OUTCOMES[name]
        return _Column(dtype, inner, float(fill), manifest.block_clips, 1)
    spec, size = manifest.spec, manifest.chunk_clips
    return _Column(spec.dtype, spec.arrays[name], 0, size, manifest.block_clips // size)


@dataclass(frozen=True)
class ChunkFiles:
    """The files of one dataset's arrays that blocks write.

    Args:
        storage: Of the store.
        manifest: Of the dataset in it.
    """

    storage: Storage
    manifest: StoreManifest

    def read(self, name: str, rows: Block, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Rows of an array, chunk by chunk, into `out` or a new array.

        Raises:
            CorruptError: A chunk is missing or damaged.
        """
        column = _column(self.manifest, name)
        if out is None:
            out = np.empty((len(rows), *column.inner), column.dtype)
        size, result = column.chunk_clips, out

        def fill(chunk: int) -> None:
            first, last = max(rows.start, chunk * size), min(rows.stop, (chunk + 1) * size)
            target = result[first - rows.start : last - rows.start]
            data = self._chunk(rows.fold, name, chunk)
            if data is None:
                target[...] = ClipStatus.PENDING
            elif len(target) == size:
                chunks.decode_chunk(data, target)
            else:
                whole = np.empty((size, *column.inner), column.dtype)
                chunks.decode_chunk(data, whole)
                target[...] = whole[first - chunk * size : last - chunk * size]

        overlap(self.storage, fill, range(rows.start // size, -(-rows.stop // size)))
        return result

    def _chunk(self, fold: int, name: str, chunk: int) -> bytes | None:
        """A chunk's bytes, from its own file or from its shard; None for pending rows."""
        try:
            return self._stored_chunk(fold, name, chunk)
        except FileNotFoundError as error:
            if name == "status":
                return None
            raise CorruptError("the chunk is missing") from error
        except (OSError, OverflowError) as error:
            raise CorruptError(f"the chunk cannot be read: {error}") from error

    def _stored_chunk(self, fold: int, name: str, chunk: int) -> bytes:
        slots = _column(self.manifest, name).chunks_a_file
        if slots == 1:
            return self.storage.read(self._key(fold, name, chunk))
        shard, slot = divmod(chunk, slots)
        key = self._key(fold, name, shard)
        index = self.storage.read_end(key, chunks.shard_index_bytes(slots))
        offset, size = chunks.decode_shard_index(index)[slot].tolist()
        return self.storage.read_range(key, offset, size)

    def _key(self, fold: int, name: str, index: int) -> str:
        """Of a chunk's or shard's file: Zarr's default."""
        inner = _column(self.manifest, name).inner
        return f"{self.manifest.card.name}/fold{fold}/{name}/c/{index}" + "/0" * len(inner)

    def encoded(self, block: Block, name: str, values: NDArray[Any]) -> tuple[str, bytes]:
        """Key and bytes of one file: the block's chunk, or the shard of its chunks."""
        column = _column(self.manifest, name)
        size = column.chunk_clips
        encoded = [
            chunks.encode_chunk(values[start : start + size], size, column.fill)
            for start in range(0, len(block), size)
        ]
        slots = column.chunks_a_file
        data = encoded[0] if slots == 1 else chunks.encode_shard(encoded, slots)
        return self._block_key(block, name), data

    def remove(self, block: Block, name: str) -> None:
        """Delete the file of a block."""
        self.storage.remove(self._block_key(block, name))

    def _block_key(self, block: Block, name: str) -> str:
        return self._key(block.fold, name, block.start // self.manifest.block_clips)

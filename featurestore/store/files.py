"""Reading and writing rows of an array in its files: one chunk, or one shard, per file.

Zarr is not needed: the manifest determines which file holds which rows. `metadata` writes the
metadata for other readers.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptError, cause
from featurestore.storage import Storage, overlap
from featurestore.store import chunks
from featurestore.store.layout import OUTCOMES, Column, column, written_arrays
from featurestore.store.plan import Block
from featurestore.store.values import check_values
from schemas import ClipStatus, StoreManifest

__all__ = ["OUTCOMES", "ChunkFiles", "Identify"]

Identify = Callable[[int, str, int], bytes | None]
"""Function from fold, array and chunk number to the chunk's required checksum; None for any."""


@dataclass(frozen=True)
class ChunkFiles:
    """The files of one dataset's arrays.

    Args:
        storage: Storage of the store.
        manifest: Manifest of the dataset in it.
        identify: Returns the checksum that identifies a chunk.
    """

    storage: Storage
    manifest: StoreManifest
    identify: Identify = lambda fold, name, chunk: None

    def read(self, name: str, rows: Block, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read rows of an array, chunk by chunk, into `out` or a new array.

        Raises:
            CorruptError: A chunk is missing, damaged or in the place of another, or contains values
                that no build writes.
        """
        part = self._column(rows.fold, name)
        if out is None:
            dtype = np.dtypes.StringDType() if part.is_text else np.dtype(part.dtype)
            out = np.empty((len(rows), *part.inner), dtype)
        size, result = part.chunk_clips, out

        def fill(chunk: int) -> None:
            first, last = max(rows.start, chunk * size), min(rows.stop, (chunk + 1) * size)
            target = result[first - rows.start : last - rows.start]
            data = self._chunk(rows.fold, name, chunk)
            if data is None:
                target[...] = ClipStatus.PENDING
            elif len(target) == size and not part.is_text:
                chunks.decode_chunk(data, target)
            else:
                whole = self._whole(data, part)
                target[...] = whole[first - chunk * size : last - chunk * size]
            check_values(name, target, self.manifest)

        overlap(self.storage, fill, range(rows.start // size, -(-rows.stop // size)))
        return result

    def _whole(self, data: bytes, part: Column) -> NDArray[Any]:
        """Return all rows of a chunk, also those behind the fold's end."""
        if part.is_text:
            return chunks.decode_texts(data, part.chunk_clips, part.max_texts_bytes)
        whole = np.empty((part.chunk_clips, *part.inner), part.dtype)
        chunks.decode_chunk(data, whole)
        return whole

    def _chunk(self, fold: int, name: str, chunk: int) -> bytes | None:
        """Return a chunk's bytes, from its own file or from its shard; None for pending rows."""
        try:
            data = self._stored_chunk(fold, name, chunk)
        except FileNotFoundError as error:
            if name == "status" and self.manifest.state != "complete":
                return None
            raise CorruptError("the chunk is missing") from error
        except (OSError, OverflowError) as error:
            raise CorruptError(f"the chunk cannot be read: {cause(error)}") from error
        expected = self.identify(fold, name, chunk)
        if expected is not None and data[-chunks.CHECKSUM_BYTES :] != expected:
            raise CorruptError("the chunk is damaged, or another one lies in its place")
        return data

    def _stored_chunk(self, fold: int, name: str, chunk: int) -> bytes:
        part = self._column(fold, name)
        slots = part.file_chunks
        if slots == 1:
            return self.storage.read(self._key(fold, name, chunk), part.max_stored_bytes)
        shard, slot = divmod(chunk, slots)
        key = self._key(fold, name, shard)
        offset, size = self._shard_index(key, slots)[slot].tolist()
        if size > part.max_stored_bytes:
            raise CorruptError(f"the shard's index says {size} bytes, which is too many")
        return self.storage.read_range(key, offset, size)

    def _shard_index(self, key: str, slots: int) -> NDArray[np.uint64]:
        return chunks.decode_shard_index(
            self.storage.read_end(key, chunks.shard_index_bytes(slots))
        )

    def checksums(self, name: str, fold: int) -> NDArray[np.uint32]:
        """Return the checksums at the end of all chunks of an array, without reading more.

        Raises:
            CorruptError: A chunk is missing.
        """
        num_chunks = self._column(fold, name).num_chunks(self._sizes[fold])
        num_files = -(-num_chunks // self._column(fold, name).file_chunks)
        parts = overlap(self.storage, partial(self._file_ends, fold, name), range(num_files))
        return np.frombuffer(b"".join(parts), "<u4").astype(np.uint32)

    def ends(self, block: Block, names: Iterable[str] | None = None) -> dict[str, bytes]:
        """Return the concatenated checksums at the end of a block's chunks, by array.

        Args:
            block: Block.
            names: Names of arrays; by default all that blocks write.

        Raises:
            CorruptError: A chunk is missing.
        """
        number = block.start // self.manifest.block_clips
        every = written_arrays(self.manifest)
        return {n: self._file_ends(block.fold, n, number) for n in names or every}

    def _file_ends(self, fold: int, name: str, number: int) -> bytes:
        """Return the checksums at the ends of a file's chunks, joined."""
        part, size = self._column(fold, name), chunks.CHECKSUM_BYTES
        key, count = self._key(fold, name, number), 1
        try:
            if part.file_chunks == 1:
                ends = self.storage.read_end(key, size)
            else:
                first = number * part.file_chunks
                count = min(part.file_chunks, part.num_chunks(self._sizes[fold]) - first)
                index = self._shard_index(key, part.file_chunks)[:count].tolist()
                ends = b"".join(
                    self.storage.read_range(key, sum(entry) - size, size) for entry in index
                )
        except (OSError, OverflowError, CorruptError) as error:
            raise CorruptError(
                f"fold{fold}/{name}: a chunk is missing or damaged: {cause(error)}"
            ) from error
        if len(ends) != count * size:
            raise CorruptError(f"fold{fold}/{name}: a chunk is cut short")
        return ends

    @cached_property
    def _sizes(self) -> dict[int, int]:
        return {fold.fold: fold.num_clips for fold in self.manifest.folds}

    @cached_property
    def _columns(self) -> dict[tuple[int, str], Column]:
        return {}

    def _column(self, fold: int, name: str) -> Column:
        if (fold, name) not in self._columns:
            self._columns[fold, name] = column(self.manifest, name, self._sizes[fold])
        return self._columns[fold, name]

    def _key(self, fold: int, name: str, index: int) -> str:
        """Return the key of a chunk's or shard's file: Zarr's default."""
        inner = self._column(fold, name).inner
        return f"{self.manifest.card.name}/fold{fold}/{name}/c/{index}" + "/0" * len(inner)

    def encoded(self, block: Block, name: str, values: NDArray[Any]) -> tuple[str, bytes, bytes]:
        """Return key and content of a block's file (chunk or shard), and its chunks' checksums."""
        part = self._column(block.fold, name)
        size = part.chunk_clips
        encoded = [
            chunks.encode_chunk(values[start : start + size], size, part.fill)
            for start in range(0, len(block), size)
        ]
        slots = part.file_chunks
        data = encoded[0] if slots == 1 else chunks.encode_shard(encoded, slots)
        ends = b"".join(chunk[-chunks.CHECKSUM_BYTES :] for chunk in encoded)
        return self._block_key(block, name), data, ends

    def remove(self, block: Block, name: str) -> None:
        """Delete the file of a block."""
        self.storage.remove(self._block_key(block, name))

    def _block_key(self, block: Block, name: str) -> str:
        return self._key(block.fold, name, block.start // self.manifest.block_clips)

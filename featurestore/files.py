"""Rows of an array to and from the files they lie in: one chunk a file, or one shard of chunks.

No Zarr is needed for it: which file holds which rows follows from the manifest. The metadata that
tells other readers the same is written by `store`.
"""

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore import chunks
from featurestore.errors import CorruptError
from featurestore.plan import Block
from schemas import ClipStatus, StoreManifest

OUTCOMES: Mapping[str, tuple[str, tuple[int, ...], Any]] = {
    "duration_s": ("float32", (), "NaN"),
    "peak": ("float32", (), "NaN"),
    "source_sha256": ("uint8", (32,), 0),
    "status": ("uint8", (), 0),
}
"""dtype, shape after the clip's dimension, and fill value of what a block writes beside images."""
PARTIAL = ".partial"
"""Suffix of a file that is being written, here and in zarr's LocalStore."""


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
        path: Of the store.
        manifest: Of the dataset in it.
    """

    path: Path
    manifest: StoreManifest

    def read(self, name: str, rows: Block, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Rows of an array, chunk by chunk, into `out` or a new array.

        Raises:
            CorruptError: A chunk is missing or damaged.
        """
        column = _column(self.manifest, name)
        if out is None:
            out = np.empty((len(rows), *column.inner), column.dtype)
        size = column.chunk_clips
        for chunk in range(rows.start // size, -(-rows.stop // size)):
            first, last = max(rows.start, chunk * size), min(rows.stop, (chunk + 1) * size)
            target = out[first - rows.start : last - rows.start]
            data = self._chunk(rows.fold, name, chunk)
            if data is None:
                target[...] = ClipStatus.PENDING
            elif len(target) == size:
                chunks.decode_chunk(data, target)
            else:
                whole = np.empty((size, *column.inner), column.dtype)
                chunks.decode_chunk(data, whole)
                target[...] = whole[first - chunk * size : last - chunk * size]
        return out

    def _chunk(self, fold: int, name: str, chunk: int) -> bytes | None:
        """A chunk's bytes, from its own file or from its shard; None for pending rows."""
        column = _column(self.manifest, name)
        try:
            if column.chunks_a_file == 1:
                return self._file(fold, name, chunk).read_bytes()
            shard, slot = divmod(chunk, column.chunks_a_file)
            with self._file(fold, name, shard).open("rb") as file:
                file.seek(-chunks.shard_index_bytes(column.chunks_a_file), os.SEEK_END)
                offset, size = chunks.decode_shard_index(file.read())[slot].tolist()
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError as error:
            if name == "status":
                return None
            raise CorruptError("the chunk is missing") from error
        except (OSError, OverflowError) as error:
            raise CorruptError(f"the chunk cannot be read: {error}") from error

    def _file(self, fold: int, name: str, index: int) -> Path:
        """The file of a chunk or shard: Zarr's default key."""
        inner = _column(self.manifest, name).inner
        group = self.path / self.manifest.card.name / f"fold{fold}" / name
        return group.joinpath("c", str(index), *("0" for _ in inner))

    def write(self, block: Block, name: str, values: NDArray[Any]) -> None:
        """One file: the block's chunk, or the shard of its chunks."""
        column = _column(self.manifest, name)
        size = column.chunk_clips
        encoded = [
            chunks.encode_chunk(values[start : start + size], size, column.fill)
            for start in range(0, len(block), size)
        ]
        slots = column.chunks_a_file
        data = encoded[0] if slots == 1 else chunks.encode_shard(encoded, slots)
        _replace(self._file(block.fold, name, block.start // self.manifest.block_clips), data)

    def remove(self, block: Block, name: str) -> None:
        """Delete the file of a block."""
        self._file(block.fold, name, block.start // self.manifest.block_clips).unlink()


def _replace(file: Path, data: bytes) -> None:
    """Write a file aside and rename it, so that it is there whole or not at all."""
    aside = file.with_name(f"{file.name}.{uuid.uuid4().hex}{PARTIAL}")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        aside.write_bytes(data)
        aside.replace(file)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise

"""The arrays of a fold, and how each is cut into chunks: all that follows from the manifest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from featurestore.store.chunks import OVERHEAD_BYTES
from schemas import TABLE_BLOCKS, StoreManifest

TABLE: Mapping[str, Any] = {
    "clip_id": str,
    "path": str,
    "source": str,
    "class_id": "int32",
    "index": "int64",
}
"""The clip table, known before any clip is read. `index` is the row in the dataset's table."""
SPAN_COLUMNS: Mapping[str, Any] = {"start_s": "float64", "end_s": "float64"}
"""Columns of the clip table in addition, of clips that are parts of their files; seconds."""
ITEM_COLUMN: Mapping[str, Any] = {"item": "int64"}
"""Column of the clip table in addition, of clips in shards."""
LABELS = "labels"
"""Column of the clip table in addition, of clips that may have several labels or none: multi-hot,
(n, classes) uint8."""
OUTCOMES: Mapping[str, tuple[str, tuple[int, ...], Any]] = {
    "duration_s": ("float32", (), "NaN"),
    "peak": ("float32", (), "NaN"),
    "source_sha256": ("uint8", (32,), 0),
    "status": ("uint8", (), 0),
}
"""dtype, shape after the clip's dimension, and fill value of a block's arrays other than images."""
TRIMMED: Mapping[str, tuple[str, tuple[int, ...], Any]] = {"trimmed_s": ("float32", (), "NaN")}
"""Outcome in addition, where a dataset has coordinates: seconds of sound that are left of a clip
after trimming. Frames that start later repeat it, or hold nothing."""
CHECKSUMS = "checksums"
"""Group of a dataset with one array per fold: the checksum of every chunk; from version 2 on."""
MAX_TEXT_BYTES = 4096
"""Most bytes of one text of the clip table, in UTF-8: as long as a path may be."""
_TEXT_OVERHEAD = 4
_MAX_TEXTS_BYTES = 2**28


@dataclass(frozen=True)
class Column:
    """Layout of an array: rows per chunk, chunks per file, and the type of a row.

    Attributes:
        dtype: NumPy's name of it; `str` for texts of any length.
        inner: Shape of a row.
        fill: Fill value.
        chunk_clips: Rows per chunk; the last chunk is as long as the others.
        file_chunks: Chunks per file; above one it is a shard.
    """

    dtype: str
    inner: tuple[int, ...]
    fill: float
    chunk_clips: int
    file_chunks: int

    @property
    def is_text(self) -> bool:
        """Whether a row is a text."""
        return self.dtype == "str"

    @property
    def max_texts_bytes(self) -> int:
        """Upper bound of a chunk of texts before compression."""
        return min(4 + self.chunk_clips * (MAX_TEXT_BYTES + _TEXT_OVERHEAD), _MAX_TEXTS_BYTES)

    @property
    def max_stored_bytes(self) -> int:
        """Upper bound of a chunk as it is stored."""
        decoded = self.chunk_clips * prod(self.inner) * np.dtype(self.dtype).itemsize
        return (self.max_texts_bytes if self.is_text else decoded) + OVERHEAD_BYTES

    def num_chunks(self, num_clips: int) -> int:
        """Return the number of chunks that hold so many rows."""
        return -(-num_clips // self.chunk_clips)


def table_columns(manifest: StoreManifest) -> Mapping[str, Any]:
    """Return the columns of the clip table, with their types."""
    spans = SPAN_COLUMNS if manifest.parts else {}
    items = ITEM_COLUMN if manifest.shards else {}
    return {**TABLE, **spans, **items, **({LABELS: "uint8"} if manifest.multilabel else {})}


def outcomes(manifest: StoreManifest) -> Mapping[str, tuple[str, tuple[int, ...], Any]]:
    """Return the arrays of a block other than images and features, as `OUTCOMES` has them."""
    return {**TRIMMED, **OUTCOMES} if manifest.coordinates else OUTCOMES


def written_arrays(manifest: StoreManifest) -> tuple[str, ...]:
    """Return the arrays that blocks write, in the order of their records."""
    return *outcomes(manifest), *manifest.spec.arrays


def table_chunk_clips(manifest: StoreManifest, num_clips: int) -> int:
    """Return the rows per chunk of the clip table, in a fold of `num_clips`."""
    return min(manifest.block_clips * TABLE_BLOCKS, num_clips)


def column(manifest: StoreManifest, name: str, num_clips: int) -> Column:
    """Return how an array of a fold of `num_clips` is cut."""
    if name == LABELS:
        classes = (len(manifest.card.class_names),)
        return Column("uint8", classes, 0, table_chunk_clips(manifest, num_clips), 1)
    table = table_columns(manifest)
    if name in table:
        dtype = "str" if table[name] is str else table[name]
        return Column(dtype, (), 0, table_chunk_clips(manifest, num_clips), 1)
    if name in (written := outcomes(manifest)):
        dtype, inner, fill = written[name]
        return Column(dtype, inner, float(fill), manifest.block_clips, 1)
    spec, size = manifest.spec, manifest.chunk_clips
    return Column(spec.dtype_of(name), spec.arrays[name], 0, size, manifest.block_clips // size)


def array_names(manifest: StoreManifest) -> Iterator[str]:
    """Yield the arrays of a fold, in the order of their checksums: table, outcomes, images."""
    yield from (*table_columns(manifest), *written_arrays(manifest))


def first_checksums(manifest: StoreManifest, num_clips: int) -> dict[str, int]:
    """Return where each array's checksums start in a fold's list of them; `""` is where it ends."""
    positions, total = {}, 0
    for name in array_names(manifest):
        positions[name] = total
        total += column(manifest, name, num_clips).num_chunks(num_clips)
    return positions | {"": total}


def has_checksums(manifest: StoreManifest) -> bool:
    """Return whether the format has a checksum of each chunk next to the arrays."""
    return manifest.format_version > 1

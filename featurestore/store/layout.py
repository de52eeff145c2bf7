"""The arrays of a fold and their chunking, as determined by the manifest."""

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
"""Columns of the clip table, known in advance; `index` is the row in the source table."""
SPAN_COLUMNS: Mapping[str, Any] = {"start_s": "float64", "end_s": "float64"}
"""Additional columns of the clip table if clips are parts of their files; seconds."""
ITEM_COLUMN: Mapping[str, Any] = {"item": "int64"}
"""Additional column of the clip table if clips are in shards."""
LABELS = "labels"
"""Additional column of the clip table if clips may have several labels or none: multi-hot, (n,
classes) uint8."""
OUTCOMES: Mapping[str, tuple[str, tuple[int, ...], Any]] = {
    "duration_s": ("float32", (), "NaN"),
    "peak": ("float32", (), "NaN"),
    "source_sha256": ("uint8", (32,), 0),
    "status": ("uint8", (), 0),
}
"""dtype, shape of a row, and fill value of the arrays of a block other than images."""
TRIMMED: Mapping[str, tuple[str, tuple[int, ...], Any]] = {"trimmed_s": ("float32", (), "NaN")}
"""Additional outcome if a dataset has coordinates: duration of a clip after trimming, in seconds.
Later frames repeat the clip or are empty."""
CHECKSUMS = "checksums"
"""Group with the checksums of a dataset's chunks, an array per fold; from format version 2 on."""
MAX_TEXT_BYTES = 4096
"""Maximum size in bytes of a text in the clip table, in UTF-8: as long as a path may be."""
_TEXT_OVERHEAD = 4
_MAX_TEXTS_BYTES = 2**28


@dataclass(frozen=True)
class Column:
    """Layout of an array: type and shape of a row, rows per chunk, chunks per file.

    Attributes:
        dtype: NumPy dtype by name; `str` for strings of any length.
        inner: Shape of a row.
        fill: Fill value.
        chunk_clips: Rows per chunk; the last chunk is padded.
        file_chunks: Chunks per file; if more than one, the file is a shard.
    """

    dtype: str
    inner: tuple[int, ...]
    fill: float
    chunk_clips: int
    file_chunks: int

    @property
    def is_text(self) -> bool:
        """Whether rows are strings."""
        return self.dtype == "str"

    @property
    def max_texts_bytes(self) -> int:
        """Upper bound of the size of a chunk of strings before compression, in bytes."""
        return min(4 + self.chunk_clips * (MAX_TEXT_BYTES + _TEXT_OVERHEAD), _MAX_TEXTS_BYTES)

    @property
    def max_stored_bytes(self) -> int:
        """Upper bound of the size of a stored chunk, in bytes."""
        decoded = self.chunk_clips * prod(self.inner) * np.dtype(self.dtype).itemsize
        return (self.max_texts_bytes if self.is_text else decoded) + OVERHEAD_BYTES

    def num_chunks(self, num_clips: int) -> int:
        """Return the number of chunks for `num_clips` rows."""
        return -(-num_clips // self.chunk_clips)


def table_columns(manifest: StoreManifest) -> Mapping[str, Any]:
    """Return the columns of the clip table and their dtypes."""
    spans = SPAN_COLUMNS if manifest.parts else {}
    items = ITEM_COLUMN if manifest.shards else {}
    return {**TABLE, **spans, **items, **({LABELS: "uint8"} if manifest.multilabel else {})}


def outcomes(manifest: StoreManifest) -> Mapping[str, tuple[str, tuple[int, ...], Any]]:
    """Return the arrays of a block other than images and features, in the form of `OUTCOMES`."""
    return {**TRIMMED, **OUTCOMES} if manifest.coordinates else OUTCOMES


def written_arrays(manifest: StoreManifest) -> tuple[str, ...]:
    """Return the arrays that blocks write, in the order of their records."""
    return *outcomes(manifest), *manifest.spec.arrays


def table_chunk_clips(manifest: StoreManifest, num_clips: int) -> int:
    """Return the rows per chunk of the clip table, in a fold of `num_clips`."""
    return min(manifest.block_clips * TABLE_BLOCKS, num_clips)


def column(manifest: StoreManifest, name: str, num_clips: int) -> Column:
    """Return the layout of an array in a fold of `num_clips`."""
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
    """Yield the names of a fold's arrays in the order of checksums: table, outcomes, images."""
    yield from (*table_columns(manifest), *written_arrays(manifest))


def first_checksums(manifest: StoreManifest, num_clips: int) -> dict[str, int]:
    """Return the index of each array's first checksum in a fold's list; `""` for the list's end."""
    positions, total = {}, 0
    for name in array_names(manifest):
        positions[name] = total
        total += column(manifest, name, num_clips).num_chunks(num_clips)
    return positions | {"": total}


def has_checksums(manifest: StoreManifest) -> bool:
    """Return whether the format version stores checksums of chunks in a separate group."""
    return manifest.format_version > 1

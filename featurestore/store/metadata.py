"""A store's Zarr documents and clip tables, as bytes: the only module that knows Zarr.

Zarr works in memory here. Where the bytes lie, and that each is written whole, is for `storage`.
"""

import json
from collections.abc import Mapping
from threading import Lock
from typing import Any
from warnings import catch_warnings, filterwarnings

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.buffer import cpu
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.array_spec import ArrayConfigLike
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from featurestore.store import chunks
from featurestore.store.files import OUTCOMES
from schemas import StoreManifest

DOCUMENT = "zarr.json"
"""Key of the metadata of a group or array, below its own."""
Columns = Mapping[str, NDArray[Any]]
_Objects = dict[str, Buffer]
Document = Mapping[str, Any]
"""A parsed zarr.json."""

TABLE: Mapping[str, Any] = {
    "clip_id": str,
    "path": str,
    "source": str,
    "class_id": "int32",
    "index": "int64",
}
"""The clip table, known before any clip is read. `index` is the row in the dataset's table."""
_TABLE_BLOCKS = 16
"""Blocks of rows in one chunk of the clip table."""
_CODECS = (
    BloscCodec(cname=chunks.CNAME, clevel=chunks.CLEVEL, shuffle="shuffle"),
    Crc32cCodec(),
)

_WRITING: ArrayConfigLike = {"write_empty_chunks": True}
_FILTERS = Lock()
"""Held while a warning is ignored: the filters are the whole process's."""


def layout(manifest: StoreManifest, num_clips: int) -> dict[str, dict[str, Any]]:
    """Arguments that create each array of a fold of `num_clips`, by name.

    A pure function of the manifest, so that a store can be checked and mended by it.
    """
    clips = {"dimension_names": ("clip",), "shape": (num_clips,)}
    table_chunk = (table_chunk_clips(manifest, num_clips),)
    arrays: dict[str, dict[str, Any]] = {
        name: clips | {"dtype": dtype, "chunks": table_chunk} for name, dtype in TABLE.items()
    }
    block = (manifest.block_clips,)
    for name, (dtype, inner, fill) in OUTCOMES.items():
        arrays[name] = {
            "dimension_names": ("clip", "byte")[: 1 + len(inner)],
            "shape": (num_clips, *inner),
            "dtype": dtype,
            "chunks": (*block, *inner),
            "fill_value": fill,
        }
    spec = manifest.spec
    shards = manifest.block_clips > manifest.chunk_clips
    for name, image in spec.arrays.items():
        arrays[name] = {
            "dimension_names": ("clip", "band", "frame"),
            "shape": (num_clips, *image),
            "dtype": spec.dtype,
            "chunks": (manifest.chunk_clips, *image),
            "shards": (*block, *image) if shards else None,
            "attributes": {"scale_factor": spec.scale} if spec.scale != 1 else {},
        }
    return arrays


def table_chunk_clips(manifest: StoreManifest, num_clips: int) -> int:
    """Rows of a chunk of the clip table."""
    return min(manifest.block_clips * _TABLE_BLOCKS, num_clips)


def group_document(attributes: Mapping[str, Any]) -> bytes:
    """The zarr.json of a group."""
    objects: _Objects = {}
    zarr.create_group(MemoryStore(objects), attributes=dict(attributes))
    return objects[DOCUMENT].to_bytes()


def fold_objects(manifest: StoreManifest, num_clips: int, table: Columns) -> dict[str, bytes]:
    """What a fold begins with, by key below the fold's: its documents, and the clip table.

    Args:
        manifest: Of the dataset.
        num_clips: Of the fold.
        table: The columns of `TABLE`, (num_clips,) each; where empty, documents only.
    """
    objects: _Objects = {}
    group = zarr.create_group(MemoryStore(objects))
    for name, arguments in layout(manifest, num_clips).items():
        array = group.create_array(name, compressors=_CODECS, config=_WRITING, **arguments)
        if name in table:
            array[:] = table[name]
    return {key: value.to_bytes() for key, value in objects.items()}


def same_meaning(one: bytes, other: bytes) -> bool:
    """Whether two zarr.json say the same to Zarr, whichever of its versions wrote them."""
    try:
        return bool(_meaning(one) == _meaning(other))
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _meaning(data: bytes) -> Any:  # noqa: ANN401
    store = MemoryStore({DOCUMENT: cpu.Buffer.from_bytes(data)})
    return zarr.open(store, mode="r").metadata.to_dict()


def read_column(document: Document, objects: Mapping[str, bytes], rows: slice) -> NDArray[Any]:
    """Rows of a column of the clip table, from the chunks that hold them, by key."""
    buffers: _Objects = {key: cpu.Buffer.from_bytes(data) for key, data in objects.items()}
    buffers[DOCUMENT] = cpu.Buffer.from_bytes(json.dumps(document).encode())
    array = zarr.open_array(MemoryStore(buffers), mode="r")
    return np.asarray(array[rows])


def with_copies(root: bytes, documents: Mapping[str, bytes]) -> bytes:
    """The root's document with a copy of all others in it, which saves a reader their requests.

    Args:
        root: Its zarr.json.
        documents: Every other, by key.
    """
    objects: _Objects = {key: cpu.Buffer.from_bytes(data) for key, data in documents.items()}
    objects[DOCUMENT] = cpu.Buffer.from_bytes(root)
    with _FILTERS, catch_warnings():
        # zarr-python reads and writes this on every version we support; others ignore it.
        filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(MemoryStore(objects))
    return objects[DOCUMENT].to_bytes()

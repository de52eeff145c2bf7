"""Zarr documents and clip tables of a store as bytes: the only module that uses Zarr.

Zarr works in memory here; `storage` writes the bytes.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from threading import Lock
from typing import Any
from warnings import catch_warnings, filterwarnings

import zarr
from numpy.typing import NDArray
from zarr.buffer import cpu
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.array_spec import ArrayConfigLike
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from featurestore.store import chunks
from featurestore.store.axes import attributes, dimensions, outcome_attributes, stored_axes
from featurestore.store.layout import (
    CHECKSUMS,
    LABELS,
    TABLE,
    column,
    first_checksums,
    has_checksums,
    outcomes,
    table_chunk_clips,
    table_columns,
)
from featurestore.store.parsing import DOCUMENT, Document
from schemas import StoreManifest

__all__ = ["DOCUMENT", "TABLE"]

Columns = Mapping[str, NDArray[Any]]
_Objects = dict[str, Buffer]

_CODECS = (
    BloscCodec(cname=chunks.CNAME, clevel=chunks.CLEVEL, shuffle="shuffle"),
    Crc32cCodec(),
)

_WRITING: ArrayConfigLike = {"write_empty_chunks": True}
_FILTERS = Lock()
"""Held while a warning is ignored, as warning filters are global to the process."""


def layout(manifest: StoreManifest, num_clips: int) -> dict[str, dict[str, Any]]:
    """Return the arguments for creating each array of a fold of `num_clips`, by name.

    A pure function of the manifest, so that stores can be checked and repaired with it.
    """
    clips = {"dimension_names": ("clip",), "shape": (num_clips,)}
    table_chunk = (table_chunk_clips(manifest, num_clips),)
    arrays: dict[str, dict[str, Any]] = {
        name: clips
        | {
            "dtype": dtype,
            "chunks": table_chunk,
            "attributes": outcome_attributes(manifest, name),
        }
        for name, dtype in table_columns(manifest).items()
    }
    block = (manifest.block_clips,)
    if manifest.multilabel:
        num_classes = len(manifest.card.class_names)
        arrays[LABELS] |= {
            "dimension_names": ("clip", "class"),
            "shape": (num_clips, num_classes),
            "chunks": (*table_chunk, num_classes),
        }
    for name, (dtype, inner, fill) in outcomes(manifest).items():
        arrays[name] = {
            "dimension_names": ("clip", "byte")[: 1 + len(inner)],
            "shape": (num_clips, *inner),
            "dtype": dtype,
            "chunks": (*block, *inner),
            "fill_value": fill,
            "attributes": outcome_attributes(manifest, name),
        }
    spec = manifest.spec
    shards = manifest.block_clips > manifest.chunk_clips
    for name, shape in spec.arrays.items():
        arrays[name] = {
            "dimension_names": ("clip", *dimensions(spec, name)),
            "shape": (num_clips, *shape),
            "dtype": spec.dtype_of(name),
            "chunks": (manifest.chunk_clips, *shape),
            "shards": (*block, *shape) if shards else None,
            "attributes": attributes(spec, name, coordinates=manifest.coordinates),
        }
    return arrays


def array_document(manifest: StoreManifest, name: str, num_clips: int) -> Document:
    """Return the parsed zarr.json of an array of a fold of `num_clips`."""
    part = column(manifest, name, num_clips)
    document = _one_row(name, part.chunk_clips, _LayoutOf(manifest))
    return {**document, "shape": [num_clips, *part.inner]}


@lru_cache(maxsize=256)
def _one_row(name: str, chunk_clips: int, layout_of: "_LayoutOf") -> Document:
    """Return an array's zarr.json as if its fold had one row: Zarr takes a millisecond for it."""
    arguments = layout(layout_of.manifest, chunk_clips)[name]
    objects: _Objects = {}
    zarr.create_array(MemoryStore(objects), compressors=_CODECS, config=_WRITING, **arguments)
    document: Document = json.loads(objects[DOCUMENT].to_bytes())
    return document


class _LayoutOf:
    """A manifest that compares by its layout alone."""

    def __init__(self, manifest: StoreManifest) -> None:
        self.manifest = manifest
        arrays = tuple(manifest.spec.arrays.items())
        sizes = manifest.block_clips, manifest.chunk_clips
        labels = len(manifest.card.class_names) if manifest.multilabel else 0
        classes = manifest.card.class_names if manifest.coordinates else ()
        columns = manifest.parts, manifest.shards, labels, manifest.coordinates, classes
        self._key = *sizes, manifest.spec, columns, arrays

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _LayoutOf) and self._key == other._key


def checksums_documents(manifest: StoreManifest) -> dict[str, bytes]:
    """Return the zarr.json documents of the checksum arrays and their group, by key in the dataset.

    Empty for format version 1.
    """
    if not has_checksums(manifest):
        return {}
    objects: _Objects = {}
    group = zarr.create_group(MemoryStore(objects))
    for fold in manifest.folds:
        size = first_checksums(manifest, fold.num_clips)[""]
        group.create_array(
            f"fold{fold.fold}",
            dimension_names=("chunk",),
            shape=(size,),
            chunks=(size,),
            dtype="uint32",
            compressors=_CODECS,
            config=_WRITING,
        )
    return {f"{CHECKSUMS}/{key}": value.to_bytes() for key, value in objects.items()}


def group_document(attributes: Mapping[str, Any]) -> bytes:
    """Return the zarr.json of a group."""
    objects: _Objects = {}
    zarr.create_group(MemoryStore(objects), attributes=dict(attributes))
    return objects[DOCUMENT].to_bytes()


def fold_objects(manifest: StoreManifest, num_clips: int) -> dict[str, bytes]:
    """Return the initial objects of a fold by key: documents and coordinates, no clip table."""
    documents = _fold_documents(_LayoutOf(manifest), num_clips)
    return {**documents, **(_coordinates(manifest) if manifest.coordinates else {})}


@lru_cache(maxsize=32)
def _fold_documents(layout_of: "_LayoutOf", num_clips: int) -> Mapping[str, bytes]:
    """Return the documents of a fold's group and arrays; a build needs the same ones repeatedly."""
    objects: _Objects = {}
    group = zarr.create_group(MemoryStore(objects))
    for name, arguments in layout(layout_of.manifest, num_clips).items():
        group.create_array(name, compressors=_CODECS, config=_WRITING, **arguments)
    return {key: value.to_bytes() for key, value in objects.items()}


def table_chunks(manifest: StoreManifest, table: Columns) -> dict[str, bytes]:
    """Return the chunks of a fold's clip table, by key in the fold.

    Args:
        manifest: Manifest of the dataset.
        table: Columns of `TABLE`, (num_clips,) each.
    """
    objects: _Objects = {}
    group = zarr.create_group(MemoryStore(objects))
    for name, arguments in layout(manifest, len(table["clip_id"])).items():
        if name in table:
            array = group.create_array(name, compressors=_CODECS, config=_WRITING, **arguments)
            array[:] = table[name]
    return {k: data.to_bytes() for k, data in objects.items() if not k.endswith(DOCUMENT)}


def _coordinates(manifest: StoreManifest) -> dict[str, bytes]:
    """Return a fold's coordinates by key; not compressed, so that the spec gives the bytes."""
    objects: _Objects = {}
    group = zarr.create_group(MemoryStore(objects))
    for array in manifest.spec.arrays:
        for key, (dimension, axis) in stored_axes(manifest.spec, array).items():
            stored = group.create_array(
                key,
                shape=axis.points.shape,
                chunks=axis.points.shape,
                dtype="float64",
                dimension_names=(dimension,),
                attributes=axis.attributes,
                compressors=(Crc32cCodec(),),
                config=_WRITING,
            )
            stored[:] = axis.points
    return {key: value.to_bytes() for key, value in objects.items()}


def zarr_meaning(document: Document) -> Mapping[str, Any] | None:
    """Return a zarr.json as Zarr interprets it, whatever version wrote it; None if invalid."""
    try:
        data = json.dumps(document).encode()
        store = MemoryStore({DOCUMENT: cpu.Buffer.from_bytes(data)})
        meaning: Mapping[str, Any] = zarr.open(store, mode="r").metadata.to_dict()
    except Exception:  # noqa: BLE001  (a foreign document: Zarr may raise anything)
        return None
    return meaning


def with_copies(root: bytes, documents: Mapping[str, bytes]) -> bytes:
    """Return the root's document with copies of all others, which saves readers requests.

    Args:
        root: zarr.json of the root.
        documents: All other documents, by key.
    """
    objects: _Objects = {key: cpu.Buffer.from_bytes(data) for key, data in documents.items()}
    objects[DOCUMENT] = cpu.Buffer.from_bytes(root)
    with _FILTERS, catch_warnings():
        # zarr-python reads and writes this on every version we support; others ignore it.
        filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(MemoryStore(objects))
    return objects[DOCUMENT].to_bytes()

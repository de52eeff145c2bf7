"""The store: what lies where in it, and the order in which it is written.

    STORE/                     root group; its attributes mark it as ours
      DATASET/                 group; its attributes are the StoreManifest
        fold1/ …               group
          clip_id path source class_id index         the clip table, written when created
          duration_s peak source_sha256              outcomes, written by blocks
          R1/mel … R3/full                           images, written by blocks
          status                                     written last by each block: its commit

Every array has its full shape from the start, and no two blocks write to one stored object. A
chunk that should be there and is not is an error, never the fill value.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import BuildError, CorruptError, UnknownNameError
from featurestore.storage import Place, Storage, locate, overlap
from featurestore.store import metadata
from featurestore.store.documents import (
    MARK,
    manifest_document,
    manifest_in,
    parsed,
    put_in_root,
    read_manifest,
    root_document,
    write_all,
    writing,
)
from featurestore.store.files import ChunkFiles
from featurestore.store.metadata import DOCUMENT, TABLE, Columns, Document
from featurestore.store.plan import Block
from schemas import StoreManifest


@dataclass(frozen=True)
class StoredArrays:
    """The arrays of one dataset in a store.

    Args:
        storage: Where the store lies.
        manifest: Of the dataset in it.
        copies: Documents of arrays by their keys without zarr.json, from the root's copy of them;
            those that are not here are read where they are.
    """

    storage: Storage
    manifest: StoreManifest
    copies: Mapping[str, Document] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def _held(self) -> dict[str, tuple[tuple[int, int], NDArray[Any]]]:
        return {}

    @cached_property
    def _documents(self) -> dict[str, Document]:
        return dict(self.copies)

    @property
    def _files(self) -> ChunkFiles:
        return ChunkFiles(self.storage, self.manifest)

    def _key(self, fold: int, name: str) -> str:
        return f"{self.manifest.card.name}/fold{fold}/{name}"

    def _document(self, fold: int, name: str) -> Document:
        """The metadata of an array.

        Raises:
            CorruptError: It is missing or unreadable.
        """
        key = self._key(fold, name)
        if key not in self._documents:
            try:
                self._documents[key] = parsed(self.storage.read(f"{key}/{DOCUMENT}"))
            except (OSError, ValueError) as error:
                raise CorruptError(
                    f"{self.storage}: no readable metadata of {key}: {error}"
                ) from error
        return self._documents[key]

    def read(
        self,
        fold: int,
        name: str,
        rows: slice = slice(None),
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Rows of an array, as stored.

        Args:
            fold: Its number.
            name: Of the array.
            rows: Which; all by default.
            out: Where to; a contiguous array of their shape. A new one by default.

        Raises:
            CorruptError: A chunk is missing or damaged.
            StorageError: A remote store could not be read.
        """
        num_clips = self._num_clips(fold)
        start, stop, _ = rows.indices(num_clips)
        try:
            if name in TABLE:
                return self._read_table(name, Block(fold, start, stop))
            return self._files.read(name, Block(fold, start, stop), out)
        except (CorruptError, ValueError, RuntimeError, TypeError, KeyError) as error:
            raise CorruptError(
                f"{self.storage}: {self._key(fold, name)}, rows {start} to {stop}: {error}. "
                f"`featurestore verify {self.storage}` lists all that is damaged, and "
                "`featurestore repair` mends it"
            ) from error

    def _read_table(self, name: str, rows: Block) -> NDArray[Any]:
        """Rows of the clip table; a chunk of it is kept for the blocks that follow."""
        size = metadata.table_chunk_clips(self.manifest, self._num_clips(rows.fold))
        first = rows.start // size * size
        if rows.stop > first + size:
            return self._table_rows(name, rows)
        held, values = self._held.get(name, (None, np.empty(0)))
        if held != (rows.fold, first):
            stop = min(first + size, self._num_clips(rows.fold))
            values = self._table_rows(name, Block(rows.fold, first, stop))
            self._held[name] = (rows.fold, first), values
        return values[rows.start - first : rows.stop - first]

    def _table_rows(self, name: str, rows: Block) -> NDArray[Any]:
        document = self._document(rows.fold, name)
        num_clips = self._num_clips(rows.fold)
        if document["shape"] != [num_clips]:
            raise CorruptError(f"its shape is {document['shape']}, expected {[num_clips]}")
        size = metadata.table_chunk_clips(self.manifest, num_clips)
        keys = [f"c/{chunk}" for chunk in range(rows.start // size, -(-rows.stop // size))]

        def read(key: str) -> bytes:
            try:
                return self.storage.read(f"{self._key(rows.fold, name)}/{key}")
            except FileNotFoundError as error:
                raise CorruptError("the chunk is missing") from error

        found = dict(zip(keys, overlap(self.storage, read, keys), strict=True))
        return metadata.read_column(document, found, rows.rows)

    def _num_clips(self, fold: int) -> int:
        (num_clips,) = [f.num_clips for f in self.manifest.folds if f.fold == fold]
        return num_clips

    def write_block(self, block: Block, values: Columns) -> None:
        """Write a block's rows of every array, `status` last: the commit.

        Args:
            block: Whole chunks of the fold.
            values: Array name to rows (len(block), ...): of each image and each outcome, or, to
                mend a committed block, of some.
        """
        self._check_aligned(block)
        where = f"{self.storage}, fold {block.fold}, rows {block.start} to {block.stop}"
        names = sorted(values.keys() - {"status"})
        with writing(where), ThreadPoolExecutor(max(1, len(names))) as pool:
            files = (self._files.encoded(block, name, values[name]) for name in names)
            # Each waits for the disk or the server, and none for the next one's encoding.
            for written in [pool.submit(self.storage.write, *file) for file in files]:
                written.result()
            if "status" in values:
                self.storage.write(*self._files.encoded(block, "status", values["status"]))

    def uncommit(self, block: Block) -> None:
        """Make a block pending again."""
        self._check_aligned(block)
        with writing(str(self.storage)):
            self._files.remove(block, "status")

    def _check_aligned(self, block: Block) -> None:
        size = self.manifest.block_clips
        num_clips = self._num_clips(block.fold)
        if block.start % size or block.stop != min(block.start + size, num_clips):
            raise BuildError(
                f"{block} is not one block of {size} of the fold's {num_clips} rows: writing it "
                "could tear a chunk that another writer holds. Blocks come from plan.fold_blocks"
            )

    def set_manifest(self, manifest: StoreManifest) -> "StoredArrays":
        """Replace the manifest in one atomic write; returns the arrays with it.

        The root's copy of it, which saves a remote reader many requests, is replaced before one
        that is complete, and after one that no longer is: what is interrupted between is an
        unfinished build.
        """
        own = {f"{manifest.card.name}/{DOCUMENT}": manifest_document(manifest)}
        if manifest.state != "complete":
            write_all(self.storage, own)
        put_in_root(self.storage, manifest)
        if manifest.state == "complete":
            write_all(self.storage, own)
        return StoredArrays(self.storage, manifest)


def open_arrays(place: Place, dataset: str, *, copies: bool = False) -> StoredArrays:
    """The arrays of one dataset.

    Args:
        place: Of the store.
        dataset: Its name.
        copies: Take metadata from the root's copy of it where there is one: one request for all.

    Raises:
        StoreError: There is no store at `place`.
        UnknownNameError: It does not hold the dataset.
        CorruptError: Its manifest is damaged.
        StorageError: It cannot be reached.
    """
    storage = locate(place)
    root = root_document(storage)
    names = root["attributes"][MARK]["datasets"]
    if dataset not in names:
        raise UnknownNameError("dataset", dataset, names)
    copied = root.get("consolidated_metadata", {}).get("metadata", {}) if copies else {}
    if dataset in copied:
        return StoredArrays(storage, manifest_in(storage, dataset, lambda: copied[dataset]), copied)
    return StoredArrays(storage, read_manifest(storage, dataset))

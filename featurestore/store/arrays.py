"""The arrays of a store: layout, and the order in which they are written.

    STORE/                     root group; its attributes mark it as ours
      DATASET/                 group; its attributes are the StoreManifest
        fold1/ …               group
          clip_id path source class_id index         the clip table, written when created
          duration_s peak source_sha256              outcomes, written by blocks
          R1/mel … R3/full                           images, written by blocks
          status                                     written last by each block: its commit
        checksums/fold1 …      of every chunk of a fold, written when all are committed

Every array has its full shape from the start, and no two blocks write to one stored object. A
chunk that should be there and is not is an error, never the fill value; so is one that lies where
another belongs.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import BuildError, CorruptError, UnknownNameError
from featurestore.storage import Place, Storage, locate
from featurestore.store import metadata
from featurestore.store.agreement import agrees
from featurestore.store.checksums import (
    Checksums,
    checksums_object,
    stored_checksums,
    with_checksums,
)
from featurestore.store.documents import (
    put_in_root,
    put_manifest,
    trusted_manifest,
    write_all,
    writing,
)
from featurestore.store.files import ChunkFiles
from featurestore.store.fingerprint import signed
from featurestore.store.layout import TABLE, has_checksums, table_chunk_clips
from featurestore.store.metadata import Columns
from featurestore.store.parsing import DOCUMENT, Document, parsed
from featurestore.store.plan import Block
from featurestore.store.root import Root, read_root
from schemas import StoreManifest


@dataclass(frozen=True)
class StoredArrays:
    """The arrays of one dataset in a store.

    Args:
        storage: Where the store lies.
        manifest: Its dataset's manifest. A complete one promises that every chunk is there and
            is the one that was written; see `unsealed`.
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
    def _agreeing(self) -> set[str]:
        return set()

    @cached_property
    def checksums(self) -> Checksums:
        """Checksums of the chunks, as the manifest vouches for them."""
        return Checksums(self.storage, self.manifest)

    @cached_property
    def _files(self) -> ChunkFiles:
        return ChunkFiles(self.storage, self.manifest, self.checksums.identify)

    def unsealed(self) -> "StoredArrays":
        """Return the arrays as of a build that is not complete, for writing or repairing.

        Missing commits are then pending rows, and chunks are known by nothing but themselves.
        """
        manifest = self.manifest.model_copy(update={"state": "building"})
        return StoredArrays(self.storage, manifest, self.copies)

    def _key(self, fold: int, name: str) -> str:
        return f"{self.manifest.card.name}/fold{fold}/{name}"

    def _check_document(self, fold: int, name: str) -> None:
        """Refuse an array whose metadata is not what the manifest demands.

        Raises:
            CorruptError: It is missing, unreadable or another.
        """
        key = self._key(fold, name)
        if key in self._agreeing:
            return
        try:
            document = self.copies.get(key) or parsed(self.storage.read(f"{key}/{DOCUMENT}"))
        except FileNotFoundError as error:
            raise CorruptError(f"{key}/{DOCUMENT} is missing") from error
        except (OSError, ValueError) as error:
            told = getattr(error, "strerror", None) or error
            raise CorruptError(f"{key}/{DOCUMENT}: {told}") from error
        if not agrees(document, metadata.array_document(self.manifest, name, self._sizes[fold])):
            raise CorruptError(f"{key}/{DOCUMENT} is not what the manifest demands")
        self._agreeing.add(key)

    @cached_property
    def _sizes(self) -> dict[int, int]:
        return {fold.fold: fold.num_clips for fold in self.manifest.folds}

    def read(
        self,
        fold: int,
        name: str,
        rows: slice = slice(None),
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Return the rows of an array, as stored.

        Args:
            fold: Number of the fold.
            name: Name of the array.
            rows: Which; all by default.
            out: Where to; a contiguous array of their shape. A new one by default.

        Raises:
            CorruptError: A chunk is missing or damaged.
            StorageError: A remote store could not be read.
        """
        start, stop, _ = rows.indices(self._sizes[fold])
        try:
            self._check_document(fold, name)
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
        """Return the rows of the clip table; a chunk of it is kept for the blocks that follow."""
        num_clips = self._sizes[rows.fold]
        size = table_chunk_clips(self.manifest, num_clips)
        first = rows.start // size * size
        if rows.stop > first + size:
            return self._files.read(name, rows)
        held, values = self._held.get(name, (None, np.empty(0)))
        if held != (rows.fold, first):
            stop = min(first + size, num_clips)
            values = self._files.read(name, Block(rows.fold, first, stop))
            self._held[name] = (rows.fold, first), values
        return values[rows.start - first : rows.stop - first]

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
        num_clips = self._sizes[block.fold]
        if block.start % size or block.stop != min(block.start + size, num_clips):
            raise BuildError(
                f"{block} is not one block of {size} of the fold's {num_clips} rows: writing it "
                "could tear a chunk that another writer holds. Blocks come from plan.fold_blocks"
            )

    def set_manifest(self, manifest: StoreManifest) -> "StoredArrays":
        """Replace the manifest in one atomic write; returns the arrays with it.

        One that is complete gets the checksums of all chunks first, and vouches for them from then
        on. The root's copy of it, which saves a remote reader many requests, is replaced before one
        that is complete, and after one that no longer is: what is interrupted between is an
        unfinished build.

        Raises:
            CorruptError: A chunk is missing, of a dataset that is said to be complete.
            StorageError: The store cannot be written.
        """
        if manifest.state == "complete":
            manifest = signed(self._sealed(manifest))
            put_in_root(self.storage, manifest)
            put_manifest(self.storage, manifest)
        else:
            manifest = signed(manifest)
            put_manifest(self.storage, manifest)
            put_in_root(self.storage, manifest)
        return StoredArrays(self.storage, manifest)

    def _sealed(self, manifest: StoreManifest) -> StoreManifest:
        """Write the checksums of all chunks; returns the manifest that vouches for them."""
        if not has_checksums(manifest):
            return manifest
        values = stored_checksums(self.storage, manifest)
        objects = dict(checksums_object(manifest, fold, of) for fold, of in values.items())
        write_all(self.storage, objects)
        return with_checksums(manifest, values)


def open_arrays(
    place: Place, dataset: str, *, copies: bool = False, root: Root | None = None
) -> StoredArrays:
    """Return the arrays of one dataset.

    Args:
        place: Path or URL of the store.
        dataset: Name of the dataset.
        copies: Take metadata from the root's copy of it where there is one: one request for all.
        root: Root of the store, where it was read already.

    Raises:
        StoreError: There is no store at `place`, or it is newer.
        UnknownNameError: It does not hold the dataset.
        CorruptError: Its manifest is damaged.
        StorageError: It cannot be reached.
    """
    storage = locate(place)
    root = root or read_root(storage)
    if dataset not in root.datasets:
        raise UnknownNameError("dataset", dataset, root.datasets)
    manifest = trusted_manifest(storage, root, dataset, from_copy=copies)
    return StoredArrays(storage, manifest, root.copies if copies else {})

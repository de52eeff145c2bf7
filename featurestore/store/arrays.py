"""The arrays of a store: layout, and the order in which they are written.

    STORE/                     root group; its attributes mark it as ours
      DATASET/                 group; its attributes are the StoreManifest
        fold1/ …               group
          clip_id path source class_id index …       clip table, written at creation
          duration_s peak source_sha256              outcomes, written by blocks
          R1/mel … R3/full                           images, written by blocks
          status                                     written last by each block: the commit
        checksums/fold1 …      checksum of every chunk of a fold, written at completion

Every array has its full shape from the start, and no two blocks write to the same stored object. A
missing chunk is an error and never read as the fill value; so is a chunk in the place of another.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.cliplist import ITEM, NO_ITEM, SPAN, address
from featurestore.errors import BuildError, CorruptError, UnknownNameError, cause
from featurestore.storage import Place, Storage, locate
from featurestore.store import metadata, records
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
from featurestore.store.layout import LABELS, has_checksums, table_chunk_clips, table_columns
from featurestore.store.metadata import Columns
from featurestore.store.parsing import DOCUMENT, Document, parsed
from featurestore.store.plan import Block
from featurestore.store.root import Root, read_root
from featurestore.text import quantity
from schemas import StoreManifest


@dataclass(frozen=True)
class StoredArrays:
    """The arrays of one dataset in a store.

    Args:
        storage: Storage of the store.
        manifest: Manifest of the dataset. If it is complete, every chunk must exist and be the one
            that was written; see `unsealed`.
        copies: Documents of arrays from the root's copies, by key without zarr.json; others are
            read from their own files.
        vouched: Whether chunks are checked against the checksums of the manifest, or of their
            block's record in an unfinished build.
    """

    storage: Storage
    manifest: StoreManifest
    copies: Mapping[str, Document] = field(default_factory=dict, repr=False, compare=False)
    vouched: bool = True

    @cached_property
    def _held(self) -> dict[str, tuple[tuple[int, int], NDArray[Any]]]:
        """The last chunk read of each column of the clip table, with its fold and first row."""
        return {}

    @cached_property
    def _agreeing(self) -> set[str]:
        """Keys of the arrays whose metadata was checked."""
        return set()

    @cached_property
    def checksums(self) -> Checksums:
        """Checksums of the chunks according to the manifest."""
        return Checksums(self.storage, self.manifest)

    @cached_property
    def _files(self) -> ChunkFiles:
        identify = self._identify if self.vouched else lambda fold, name, chunk: None
        return ChunkFiles(self.storage, self.manifest, identify)

    def _identify(self, fold: int, name: str, chunk: int) -> bytes | None:
        # Until the dataset is complete, only the record of a chunk's block has its checksum.
        if self.manifest.state == "complete" or not has_checksums(self.manifest):
            return self.checksums.identify(fold, name, chunk)
        return records.recorded_end(self.storage, self.manifest, fold, name, chunk)

    def unsealed(self) -> "StoredArrays":
        """Return the arrays as those of an unfinished build, for writing or repairing.

        Uncommitted rows are then pending, and chunks are checked by their own checksums only.
        """
        manifest = self.manifest.model_copy(update={"state": "building"})
        return StoredArrays(self.storage, manifest, self.copies, vouched=False)

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
            raise CorruptError(f"{key}/{DOCUMENT}: {cause(error)}") from error
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
            rows: Rows to read; all by default.
            out: Contiguous array of the result's shape to fill; a new one by default.

        Raises:
            CorruptError: A chunk is missing or damaged.
            StorageError: A remote store could not be read.
        """
        start, stop, _ = rows.indices(self._sizes[fold])
        try:
            self._check_document(fold, name)
            # Multi-hot labels are too large to keep; other columns are read block by block.
            if name in table_columns(self.manifest) and name != LABELS:
                return self._read_table(name, Block(fold, start, stop))
            return self._files.read(name, Block(fold, start, stop), out)
        except (CorruptError, ValueError, RuntimeError, TypeError, KeyError) as error:
            raise CorruptError(
                f"{self.storage}: {self._key(fold, name)}, rows {start} to {stop}: {error}. "
                f"`featurestore verify {self.storage}` lists all that is damaged, and "
                "`featurestore repair` repairs it"
            ) from error

    def _read_table(self, name: str, rows: Block) -> NDArray[Any]:
        """Return rows of a column of the clip table.

        A chunk of it covers many blocks, so the last one is kept for the blocks that follow.
        """
        num_clips = self._sizes[rows.fold]
        size = table_chunk_clips(self.manifest, num_clips)
        first = rows.start // size * size
        if rows.stop > first + size:  # of several chunks: keeping one would not help
            return self._files.read(name, rows)
        held, values = self._held.get(name, (None, np.empty(0)))
        if held != (rows.fold, first):
            stop = min(first + size, num_clips)
            values = self._files.read(name, Block(rows.fold, first, stop))
            self._held[name] = (rows.fold, first), values
        return values[rows.start - first : rows.stop - first]

    def write_block(
        self,
        block: Block,
        values: Columns,
        paths: Iterable[str] | None = None,
        before_commit: Callable[[], object] = bool,
    ) -> None:
        """Write a block's rows of every array, `status` last: the commit.

        In an unfinished build, the block's record is written just before.

        Args:
            block: Block to write.
            values: Rows (len(block), ...) by array name: of all images and outcomes, or, to repair
                a committed block, of some.
            paths: Paths of the clips from which the values were computed; by default those of the
                clip table.
            before_commit: Called when everything except `status` is written.
        """
        self._check_aligned(block)
        where = f"{self.storage}, fold {block.fold}, rows {block.start} to {block.stop}"
        ends: dict[str, bytes] = {}
        with writing(where), ThreadPoolExecutor(max(1, len(values))) as pool:
            files, waiting = {}, []
            # `status` first: it is encoded here, but written after all others.
            for name in sorted(values, key=lambda name: (name != "status", name)):
                key, data, ends[name] = self._files.encoded(block, name, values[name])
                files[name] = key, data
                if name != "status":
                    # Written by a thread each, while the next one is encoded.
                    waiting.append(pool.submit(self.storage.write, key, data))
            if self.manifest.state != "complete" and has_checksums(self.manifest):
                # Before the commit: a committed block without a record would be built again.
                waiting.append(pool.submit(self._put_record, block, ends, paths))
            for written in waiting:
                written.result()
        # Readers take a row as present once its status says so, so status is written last.
        before_commit()
        if "status" in files:
            with writing(where):
                self.storage.write(*files["status"])

    def _put_record(
        self, block: Block, ends: dict[str, bytes], paths: Iterable[str] | None
    ) -> None:
        """Record the ends (checksums) of a block's chunks: those just written, and the stored ones.

        If a stored one is missing, nothing is recorded: no record of a damaged block would be true.
        """
        with suppress(CorruptError):
            if missing := set(records.block_arrays(self.manifest)) - ends.keys():
                ends = {**self._files.ends(block, missing), **ends}
            of_paths = records.end_of_paths(paths) if paths is not None else self._of_paths(block)
            record = {**ends, records.PATHS: of_paths}
            self.storage.write(*records.record_object(self.manifest, block, record))

    def _of_paths(self, block: Block) -> bytes:
        return records.end_of_paths(self.addresses(block))

    def addresses(self, block: Block) -> list[str]:
        """Return the path of each clip of a block, with the part of the file that it is."""
        paths: list[str] = self.read(block.fold, "path", block.rows).tolist()
        if not self.manifest.parts and not self.manifest.shards:
            return paths
        return [
            address(path, *place) for path, place in zip(paths, self.places(block), strict=True)
        ]

    def places(self, block: Block) -> list[tuple[float, float, int]]:
        """Return `start_s`, `end_s` and `item` of each clip of a block."""

        def values(name: str, known: bool, nothing: float) -> list[Any]:
            read = self.read(block.fold, name, block.rows).tolist() if known else None
            return [nothing] * len(block) if read is None else read

        spans = (values(name, self.manifest.parts, np.nan) for name in SPAN)
        return list(zip(*spans, values(ITEM, self.manifest.shards, NO_ITEM), strict=True))

    def changed_blocks(self, blocks: Iterable[Block]) -> list[Block]:
        """Return the committed blocks of an unfinished build that have changed since.

        The clip table must be intact. Empty for format version 1, which has no records of commits.
        """
        if not has_checksums(self.manifest):
            return []

        def now(block: Block) -> records.Ends:
            return self._files.ends(block) | {records.PATHS: self._of_paths(block)}

        return records.changed_blocks(self.storage, self.manifest, blocks, now)

    def record_blocks(self, blocks: Iterable[Block]) -> None:
        """Write the records of blocks of a complete dataset before it is reopened for writing.

        Raises:
            CorruptError: The checksums are damaged.
            StorageError: The store cannot be written.
        """
        if has_checksums(self.manifest):
            values = {part.fold: self.checksums.of_fold(part.fold) for part in self.manifest.folds}
            record = {block: self._sealed_record(block, values) for block in blocks}
            objects = (
                records.record_object(self.manifest, block, ends) for block, ends in record.items()
            )
            write_all(self.storage, dict(objects))

    def _sealed_record(
        self, block: Block, values: Mapping[int, NDArray[np.uint32]]
    ) -> records.Ends:
        """Return the record of a block according to the checksums of a fold's chunks.

        Args:
            block: The block.
            values: Checksums of all chunks, by fold.
        """
        ends = records.sealed_ends(self.manifest, block, values[block.fold])
        return ends | {records.PATHS: self._of_paths(block)}

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

    def set_manifest(
        self, manifest: StoreManifest, committed: Iterable[Block] | None = None
    ) -> "StoredArrays":
        """Replace the manifest atomically; returns the arrays with the new manifest.

        If it is complete, the checksums of all chunks are written first, and it includes their
        digest. The root's copy, which saves remote readers many requests, is replaced before a
        manifest that becomes complete and after one that becomes incomplete, so that an
        interruption in between leaves an unfinished build.

        Args:
            manifest: New manifest.
            committed: Blocks whose records must match if the dataset becomes complete.

        Raises:
            CorruptError: The dataset is to become complete, but a chunk is missing or differs from
                what was committed.
            StorageError: The store cannot be written.
        """
        if manifest.state == "complete":
            manifest = signed(self._sealed(manifest, committed or ()))
            put_in_root(self.storage, manifest)
            put_manifest(self.storage, manifest)
            # Only now: until the manifest is complete, the records are all that vouches for blocks.
            records.remove_records(self.storage, manifest)
        else:
            manifest = signed(manifest)
            put_manifest(self.storage, manifest)
            put_in_root(self.storage, manifest)
        return StoredArrays(self.storage, manifest)

    def _sealed(self, manifest: StoreManifest, committed: Iterable[Block]) -> StoreManifest:
        """Write the checksums of all chunks; return the manifest with their digests."""
        if not has_checksums(manifest):
            return manifest
        values = stored_checksums(self.storage, manifest)
        now = partial(self._sealed_record, values=values)
        # Sealing a chunk that changed since its commit would make the damage official.
        if changed := records.changed_blocks(self.storage, manifest, committed, now):
            raise CorruptError(
                f"{self.storage}: {quantity(len(changed), 'block')} other than committed, the "
                f"first {changed[0]}: does something else write to it? Run the same command again: "
                "it builds them again"
            )
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
        copies: Whether to use the copies of metadata in the root: one request for all.
        root: Root of the store, if already read.

    Raises:
        StoreError: There is no store at `place`, or it was made by a newer version.
        UnknownNameError: The store does not hold the dataset.
        CorruptError: The manifest is damaged.
        StorageError: The store cannot be reached.
    """
    storage = locate(place)
    root = root or read_root(storage)
    if dataset not in root.datasets:
        raise UnknownNameError("dataset", dataset, root.datasets)
    manifest = trusted_manifest(storage, root, dataset, from_copy=copies)
    return StoredArrays(storage, manifest, root.copies if copies else {})

"""The arrays of a store: layout, and the order in which they are written.

    STORE/                     root group; its attributes mark it as ours
      DATASET/                 group; its attributes are the StoreManifest
        fold1/ …               group
          clip_id path source class_id index …       the clip table, written when created
          duration_s peak source_sha256              outcomes, written by blocks
          R1/mel … R3/full                           images, written by blocks
          status                                     written last by each block: its commit
        checksums/fold1 …      of every chunk of a fold, written when all are committed

Every array has its full shape from the start, and no two blocks write to one stored object. A
chunk that should be there and is not is an error, never the fill value; so is one that lies where
another belongs.
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
        storage: Where the store lies.
        manifest: Its dataset's manifest. A complete one promises that every chunk is there and
            is the one that was written; see `unsealed`.
        copies: Documents of arrays by their keys without zarr.json, from the root's copy of them;
            those that are not here are read where they are.
        vouched: Whether chunks must be those that the manifest, or of an unfinished build their
            block's record, vouches for.
    """

    storage: Storage
    manifest: StoreManifest
    copies: Mapping[str, Document] = field(default_factory=dict, repr=False, compare=False)
    vouched: bool = True

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
        identify = self._identify if self.vouched else lambda fold, name, chunk: None
        return ChunkFiles(self.storage, self.manifest, identify)

    def _identify(self, fold: int, name: str, chunk: int) -> bytes | None:
        if self.manifest.state == "complete" or not has_checksums(self.manifest):
            return self.checksums.identify(fold, name, chunk)
        return records.recorded_end(self.storage, self.manifest, fold, name, chunk)

    def unsealed(self) -> "StoredArrays":
        """Return the arrays as of a build that is not complete, for writing or repairing.

        Missing commits are then pending rows, and chunks are known by nothing but themselves.
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
            rows: Which; all by default.
            out: Where to; a contiguous array of their shape. A new one by default.

        Raises:
            CorruptError: A chunk is missing or damaged.
            StorageError: A remote store could not be read.
        """
        start, stop, _ = rows.indices(self._sizes[fold])
        try:
            self._check_document(fold, name)
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

    def write_block(
        self,
        block: Block,
        values: Columns,
        paths: Iterable[str] | None = None,
        before_commit: Callable[[], object] = bool,
    ) -> None:
        """Write a block's rows of every array, `status` last: the commit.

        Of an unfinished build, the block's record comes before that.

        Args:
            block: Whole chunks of the fold.
            values: Array name to rows (len(block), ...): of each image and each outcome, or, to
                repair a committed block, of some.
            paths: That the values were made from; by default those of the clip table.
            before_commit: Called when all but `status` is written.
        """
        self._check_aligned(block)
        where = f"{self.storage}, fold {block.fold}, rows {block.start} to {block.stop}"
        ends: dict[str, bytes] = {}
        with writing(where), ThreadPoolExecutor(max(1, len(values))) as pool:
            files, waiting = {}, []
            for name in sorted(values, key=lambda name: (name != "status", name)):
                key, data, ends[name] = self._files.encoded(block, name, values[name])
                files[name] = key, data
                if name != "status":
                    # Each waits for the disk or the server, and none for the next one's encoding.
                    waiting.append(pool.submit(self.storage.write, key, data))
            if self.manifest.state != "complete" and has_checksums(self.manifest):
                # Before the commit: a committed block without a record would be built again.
                waiting.append(pool.submit(self._put_record, block, ends, paths))
            for written in waiting:
                written.result()
        # Whoever reads takes a row for there once its status says so: that comes after all else.
        before_commit()
        if "status" in files:
            with writing(where):
                self.storage.write(*files["status"])

    def _put_record(
        self, block: Block, ends: dict[str, bytes], paths: Iterable[str] | None
    ) -> None:
        """Record what ends a block's chunks: those just written, and of the others what is there.

        Where one of these is missing, the block is broken as it is, and no record is true.
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
        """Return where in its file each clip of a block is: its `start_s`, `end_s` and `item`."""

        def values(name: str, known: bool, nothing: float) -> list[Any]:
            read = self.read(block.fold, name, block.rows).tolist() if known else None
            return [nothing] * len(block) if read is None else read

        spans = (values(name, self.manifest.parts, np.nan) for name in SPAN)
        return list(zip(*spans, values(ITEM, self.manifest.shards, NO_ITEM), strict=True))

    def changed_blocks(self, blocks: Iterable[Block]) -> list[Block]:
        """Return those committed blocks of an unfinished build that were changed since.

        The clip table must be right. None in format version 1, which keeps no record of what was
        committed.
        """
        if not has_checksums(self.manifest):
            return []

        def now(block: Block) -> records.Ends:
            return self._files.ends(block) | {records.PATHS: self._of_paths(block)}

        return records.changed_blocks(self.storage, self.manifest, blocks, now)

    def record_blocks(self, blocks: Iterable[Block]) -> None:
        """Record what a complete dataset vouches for, before it is one no longer.

        Raises:
            CorruptError: Its checksums are damaged.
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
        """Return what a block is by the checksums of all chunks, by fold."""
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
        """Replace the manifest in one atomic write; returns the arrays with it.

        One that is complete gets the checksums of all chunks first, and vouches for them from then
        on. The root's copy of it, which saves a remote reader many requests, is replaced before one
        that is complete, and after one that no longer is: what is interrupted between is an
        unfinished build.

        Args:
            manifest: The new one.
            committed: Blocks whose records must be true, where the dataset is completed.

        Raises:
            CorruptError: A chunk is missing, or not what was committed, of a dataset that is said
                to be complete.
            StorageError: The store cannot be written.
        """
        if manifest.state == "complete":
            manifest = signed(self._sealed(manifest, committed or ()))
            put_in_root(self.storage, manifest)
            put_manifest(self.storage, manifest)
            records.remove_records(self.storage, manifest)
        else:
            manifest = signed(manifest)
            put_manifest(self.storage, manifest)
            put_in_root(self.storage, manifest)
        return StoredArrays(self.storage, manifest)

    def _sealed(self, manifest: StoreManifest, committed: Iterable[Block]) -> StoreManifest:
        """Write the checksums of all chunks; returns the manifest that vouches for them."""
        if not has_checksums(manifest):
            return manifest
        values = stored_checksums(self.storage, manifest)

        now = partial(self._sealed_record, values=values)
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

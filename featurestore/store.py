"""The store on disk: the only module that knows Zarr, and where its bytes lie.

    PATH/                      root group; its attributes mark it as ours
      DATASET/                 group; its attributes are the StoreManifest
        fold1/ …               group
          clip_id path source class_id index         the clip table, written when created
          duration_s peak source_sha256              outcomes, written by blocks
          R1/mel … R3/full                           images, written by blocks
          status                                     written last by each block: its commit

Every array has its full shape from the start, and no two blocks write to one stored object. A
chunk that should be there and is not is an error, never the fill value.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from warnings import catch_warnings, filterwarnings

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from featurestore import chunks
from featurestore.errors import BuildError, CorruptError, StorageError, StoreError, UnknownNameError
from featurestore.files import OUTCOMES, PARTIAL, ChunkFiles
from featurestore.plan import Block
from schemas import FORMAT_VERSION, Fold, StoreManifest

MARK = "featurestore"
Columns = Mapping[str, NDArray[Any]]

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


class _WholeStore(WrapperStore[LocalStore]):
    """A store in which a chunk that is missing is an error, not the fill value."""

    async def get(
        self,
        key: str,
        prototype: BufferPrototype,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        value = await super().get(key, prototype, byte_range)
        if value is None and "/c/" in key:
            raise CorruptError("the chunk is missing")
        return value


@contextmanager
def _writing(what: str) -> Iterator[None]:
    """Translate the system's refusals; write every chunk, also one that equals the fill value."""
    try:
        with zarr.config.set({"array.write_empty_chunks": True}):
            yield
    except OSError as error:
        raise StorageError(
            f"cannot write {what}: {error.strerror or error}. What is committed is safe: "
            "put this right and run the same command again"
        ) from error


@dataclass(frozen=True)
class StoredArrays:
    """The arrays of one dataset in a store.

    Args:
        path: Of the store.
        manifest: Of the dataset in it.
    """

    path: Path
    manifest: StoreManifest

    @cached_property
    def _group(self) -> zarr.Group:
        return zarr.open_group(
            _WholeStore(LocalStore(self.path, read_only=True)),
            path=self.manifest.card.name,
            mode="r",
            use_consolidated=False,
        )

    @cached_property
    def _held(self) -> dict[str, tuple[tuple[int, int], NDArray[Any]]]:
        return {}

    @property
    def _files(self) -> ChunkFiles:
        return ChunkFiles(self.path, self.manifest)

    @cached_property
    def _arrays(self) -> dict[tuple[int, str], zarr.Array[Any]]:
        return {}

    def array(self, fold: int, name: str) -> zarr.Array[Any]:
        """The Zarr array `foldN/name`.

        Raises:
            CorruptError: Its metadata is missing or unreadable.
        """
        if (fold, name) not in self._arrays:
            key = f"fold{fold}/{name}"
            try:
                found = self._group[key]
            except (KeyError, ValueError, TypeError) as error:
                raise CorruptError(f"{self.path}: no readable array {key}: {error}") from error
            if not isinstance(found, zarr.Array):
                raise CorruptError(f"{self.path}: {key} is a group, expected an array")
            self._arrays[fold, name] = found
        return self._arrays[fold, name]

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
        """
        num_clips = self._num_clips(fold)
        start, stop, _ = rows.indices(num_clips)
        try:
            if name in TABLE:
                return self._read_table(name, Block(fold, start, stop))
            return self._files.read(name, Block(fold, start, stop), out)
        except (CorruptError, ValueError, RuntimeError) as error:
            where = f"{self.path}: {self.manifest.card.name}/fold{fold}/{name}"
            raise CorruptError(
                f"{where}, rows {start} to {stop}: {error}. "
                f"`featurestore verify {self.path}` lists all that is damaged"
            ) from error

    def _read_table(self, name: str, rows: Block) -> NDArray[Any]:
        """Rows of the clip table; a chunk of it is kept for the blocks that follow."""
        table = self.array(rows.fold, name)
        expected = (self._num_clips(rows.fold),)
        if table.shape != expected:
            raise CorruptError(f"its shape is {table.shape}, expected {expected}")
        size = table.chunks[0]
        first = rows.start // size * size
        if rows.stop > first + size:
            return np.asarray(table[rows.rows])
        held, values = self._held.get(name, (None, np.empty(0)))
        if held != (rows.fold, first):
            values = np.asarray(table[first : first + size])
            self._held[name] = (rows.fold, first), values
        return values[rows.start - first : rows.stop - first]

    def _num_clips(self, fold: int) -> int:
        (num_clips,) = [f.num_clips for f in self.manifest.folds if f.fold == fold]
        return num_clips

    def metadata_problems(self, fold: Fold) -> Iterator[str]:
        """How the metadata of a fold's arrays differs from what the manifest demands."""
        expected = zarr.create_group(MemoryStore())
        for name, arguments in layout(self.manifest, fold.num_clips).items():
            wanted = expected.create_array(name, compressors=_CODECS, **arguments).metadata
            if self.array(fold.fold, name).metadata.to_dict() != wanted.to_dict():
                yield f"the metadata of {name} is not what the manifest demands"

    def write_block(self, block: Block, values: Columns) -> None:
        """Write a block's rows of every array, `status` last: the commit.

        Args:
            block: Whole chunks of the fold.
            values: Array name to rows (len(block), ...), for each image and each outcome.
        """
        self._check_aligned(block)
        with _writing(f"{self.path}, fold {block.fold}, rows {block.start} to {block.stop}"):
            for name in sorted(values, key=lambda name: (name == "status", name)):
                self._files.write(block, name, values[name])

    def uncommit(self, block: Block) -> None:
        """Make a block pending again."""
        self._check_aligned(block)
        with _writing(str(self.path)):
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

        The root's copy of all metadata, which saves a remote reader many requests, is dropped
        first and made anew when the store is complete, so that it is never out of date.
        """
        names = dataset_names(self.path)
        with _writing(str(self.path)):
            _mark(self.path, names)
            _open_group(self.path, manifest.card.name, "r+").attrs.put(
                manifest.model_dump(mode="json")
            )
            _mark(self.path, {*names, manifest.card.name})
            if manifest.state == "complete":
                _consolidate(self.path)
        return StoredArrays(self.path, manifest)


def _mark(path: Path, names: Iterable[str]) -> None:
    """Write the root's attributes: that the store is ours, and which datasets are in it."""
    mark: dict[str, Any] = {"format_version": FORMAT_VERSION, "datasets": sorted(names)}
    if (path / "zarr.json").exists():
        _open_group(path, "", "r+").attrs.put({MARK: mark})
    else:  # in one write: a root without the mark would be taken for somebody else's
        zarr.create_group(LocalStore(path), attributes={MARK: mark})


def _open_group(path: Path, name: str, mode: Literal["r", "r+"]) -> zarr.Group:
    """A group as it stands on disk, not as the root's copy of the metadata has it."""
    store = LocalStore(path, read_only=mode == "r")
    return zarr.open_group(store, path=name, mode=mode, use_consolidated=False)


def _consolidate(path: Path) -> None:
    with catch_warnings():
        # zarr-python reads and writes this on every version we support; others ignore it.
        filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(LocalStore(path))


def dataset_names(path: Path) -> tuple[str, ...]:
    """Names of the datasets in a store, sorted.

    Raises:
        StoreError: There is no store at `path`, or one of another format.
    """
    if not path.exists():
        raise StoreError(f"no store at {path}: `featurestore build --dataset NAME` makes one")
    try:
        root = _open_group(path, "", "r")
    except (OSError, KeyError, ValueError) as error:
        raise StoreError(
            f"{path} exists and is no feature store (no readable zarr.json): {error}"
        ) from error
    mark = root.attrs.get(MARK)
    if not isinstance(mark, dict):
        raise StoreError(f"{path} is a Zarr group, but no feature store: `{MARK}` is not in it")
    if mark.get("format_version") != FORMAT_VERSION:
        raise StoreError(
            f"{path} has format version {mark.get('format_version')}, this program reads "
            f"{FORMAT_VERSION}: build it again, or install the version that made it"
        )
    return tuple(mark["datasets"])


def find_arrays(path: Path, dataset: str) -> StoredArrays | None:
    """The arrays of a dataset for writing, or None where the store does not have them yet.

    Raises:
        StoreError: `path` exists and is something else.
        CorruptError: The dataset's manifest is damaged.
    """
    if _blank(path) or dataset not in dataset_names(path):
        return None
    return open_arrays(path, dataset)


def open_arrays(path: Path, dataset: str) -> StoredArrays:
    """The arrays of one dataset.

    Raises:
        StoreError: There is no store at `path`.
        UnknownNameError: It does not hold the dataset.
        CorruptError: Its manifest is damaged.
    """
    names = dataset_names(path)
    if dataset not in names:
        raise UnknownNameError("dataset", dataset, names)
    try:
        attributes = _open_group(path, dataset, "r").attrs.asdict()
        manifest = StoreManifest.model_validate_json(json.dumps(attributes))
    except (OSError, KeyError, ValueError) as error:
        raise CorruptError(f"{path}: the manifest of {dataset} is damaged: {error}") from error
    return StoredArrays(path, manifest)


def create_arrays(
    path: Path, manifest: StoreManifest, tables: Mapping[int, Columns]
) -> StoredArrays:
    """Make every array of a dataset at its full shape and write the clip table.

    The manifest is written last: a creation that was interrupted leaves no dataset, and is begun
    again.

    Args:
        path: Of the store; made where it does not exist.
        manifest: In state `building`.
        tables: For each fold, the columns of `TABLE`, (num_clips,) each, in row order.

    Raises:
        StoreError: `path` exists and is something else.
        StorageError: It cannot be written.
    """
    names = () if _blank(path) else dataset_names(path)
    name = manifest.card.name
    with _writing(str(path)):
        _mark(path, names)
        group = zarr.create_group(LocalStore(path), path=name, overwrite=True)
        for fold in manifest.folds:
            _create_fold(group.create_group(f"fold{fold.fold}"), manifest, tables[fold.fold])
    return StoredArrays(path, manifest).set_manifest(manifest)


def _blank(path: Path) -> bool:
    """Whether a store may begin here: nothing, or what a creation killed at once has left."""
    if not path.exists():
        return True
    return path.is_dir() and all(p.suffix == PARTIAL for p in path.iterdir())


def layout(manifest: StoreManifest, num_clips: int) -> dict[str, dict[str, Any]]:
    """Arguments that create each array of a fold of `num_clips`, by name.

    A pure function of the manifest, so that `verify` can say how a store should look.
    """
    clips = {"dimension_names": ("clip",), "shape": (num_clips,)}
    table_chunk = (min(manifest.block_clips * _TABLE_BLOCKS, num_clips),)
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


def _create_fold(group: zarr.Group, manifest: StoreManifest, table: Columns) -> None:
    arrays = layout(manifest, len(table["clip_id"]))
    for name, arguments in arrays.items():
        array = group.create_array(name, compressors=_CODECS, **arguments)
        if name in TABLE:
            array[:] = table[name]


_CODECS = (
    BloscCodec(cname=chunks.CNAME, clevel=chunks.CLEVEL, shuffle="shuffle"),
    Crc32cCodec(),
)


def remove_debris(path: Path) -> int:
    """Delete what killed writers left half written; returns how many files."""
    debris = [p for p in path.rglob(f"*{PARTIAL}") if p.is_file()]
    for file in debris:
        file.unlink(missing_ok=True)
    return len(debris)

"""The public reader: a dataset of a store as NumPy arrays, in blocks or whole, and its clips.

Failed clips, which have no features, are never part of what is read; `failures` lists them.
"""

import difflib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.arguments import typed, typed_methods
from featurestore.errors import ArgumentError, StoreError, UnfinishedError, UnknownNameError
from featurestore.storage import LocalStorage, Place, locate
from featurestore.store.arrays import StoredArrays, open_arrays
from featurestore.store.columns import ClipTable, fold_columns, join_columns
from featurestore.store.counts import check_counts
from featurestore.store.frames import Conversions
from featurestore.store.layout import LABELS, has_checksums
from featurestore.store.metadata import Columns
from featurestore.store.plan import Block, fold_blocks
from featurestore.store.root import read_root
from featurestore.text import quantity
from schemas import ClipStatus, DatasetCard, StoreManifest


@typed_methods
class StoredDataset(Conversions):
    """One dataset of a store, read-only; returned by `open_store`.

    Attributes:
        name: Name of the dataset.
        manifest: Manifest: spec, folds, counts and versions.
    """

    def __init__(self, arrays: StoredArrays) -> None:
        self._stored = arrays
        self.manifest: StoreManifest = arrays.manifest
        self.name: str = arrays.manifest.card.name

    def __repr__(self) -> str:
        return (
            f"<StoredDataset {self.name}: {quantity(self.manifest.num_clips, 'clip')}, "
            f"{quantity(len(self.folds), 'fold')}, {', '.join(self.arrays)}, {self.dtype}>"
        )

    @property
    def path(self) -> str:
        """Absolute path or URL of the store."""
        storage = self._stored.storage
        return str(storage.path if isinstance(storage, LocalStorage) else storage)

    @property
    def dataset_name(self) -> str:
        """Name of the dataset without that of the spec: `esc10` for `esc10-small`."""
        return self.manifest.dataset_name

    @property
    def threads(self) -> int:
        """Recommended number of concurrent reads of blocks: one per core, more if remote."""
        return self._stored.storage.threads

    @property
    def card(self) -> DatasetCard:
        """Title, licence, citation, classes."""
        return self.manifest.card

    @property
    def fingerprint(self) -> str:
        """SHA-256 digest (hex) of spec, clip list and version of the extractor."""
        return self.manifest.fingerprint

    @property
    def folds(self) -> tuple[int, ...]:
        """Numbers of the folds."""
        return tuple(fold.fold for fold in self.manifest.folds)

    @property
    def fold_names(self) -> dict[int, str]:
        """Names of the folds that are official splits, by fold number."""
        return self.manifest.fold_names

    @property
    def partial(self) -> str | None:
        """Phrase saying that the store has only a part of a published dataset; None if complete."""
        return self.manifest.partial

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by class_id."""
        return self.card.class_names

    @property
    def multilabel(self) -> bool:
        """Whether clips may have several labels, or none."""
        return self.manifest.multilabel

    @property
    def resolutions(self) -> tuple[str, ...]:
        """Names of the resolutions, smallest first."""
        return tuple(r.name for r in self.manifest.spec.resolutions)

    @property
    def arrays(self) -> tuple[str, ...]:
        """Keys of the stored arrays: `RESOLUTION/VARIANT`, and `features/NAME`."""
        return tuple(self.manifest.spec.arrays)

    def variants(self, resolution: str) -> tuple[str, ...]:
        """Return the variants stored at a resolution."""
        if resolution not in self.resolutions:
            raise UnknownNameError("resolution", resolution, self.resolutions)
        return tuple(a.split("/")[1] for a in self.arrays if a.split("/")[0] == resolution)

    def shape(self, array: str) -> tuple[Any, ...]:  # whole numbers, two of them but of waveforms
        """Return the shape of an array per clip: (bands, frames), or (samples,) for a waveform.

        Raises:
            UnknownNameError: The store does not have the array.
        """
        if array not in self.arrays:
            raise UnknownNameError(
                "array", array, self.arrays, "A `--spec` that asks for it builds it"
            )
        return self.manifest.spec.arrays[array]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the stored images; for features, see `dtype_of`."""
        return np.dtype(self.manifest.spec.dtype)

    @property
    def scale(self) -> float:
        """Factor by which stored images are multiplied to lie in [0, 1]."""
        return self.manifest.spec.scale

    def dtype_of(self, array: str) -> np.dtype[Any]:
        """Return the dtype of an array as stored."""
        return np.dtype(self.manifest.spec.dtype_of(array))

    def scale_of(self, array: str) -> float:
        """Return the factor by which an array's stored values are multiplied on reading."""
        return self.manifest.spec.scale_of(array)

    def bounds_of(self, array: str) -> tuple[float | None, float | None]:
        """Return lower and upper bound of an array's scaled values; None if unbounded."""
        return self.manifest.spec.bounds_of(array)

    def blocks(self, folds: Iterable[int] | None = None) -> tuple[Block, ...]:
        """Return the units of reading, one chunk of every array, in order of folds and rows."""
        sizes = {fold.fold: fold.num_clips for fold in self.manifest.folds}
        return tuple(
            block
            for fold in self._known(folds)
            for block in fold_blocks(fold, sizes[fold], self.manifest.chunk_clips)
        )

    def labels(self, block: Block) -> NDArray[Any]:
        """Return the labels of the clips of a block that have features.

        Returns:
            class_id (n,) int64; or, if clips may have several labels or none (`multilabel`),
            multi-hot labels (n, classes) uint8.
        """
        name = LABELS if self.multilabel else "class_id"
        return self._columns(block.fold)[name][block.rows][self._ok(block)]

    def all_labels(self, folds: Iterable[int] | None = None) -> NDArray[Any]:
        """Return the labels of all rows of `clips`: (n,) or (n, classes), see `labels`."""
        empty = np.empty((0, len(self.class_names)), np.uint8)
        parts = [empty if self.multilabel else np.empty(0, np.int64)]
        return np.concatenate([*parts, *(self.labels(block) for block in self.blocks(folds))])

    def read_block(self, block: Block, array: str, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return an array for the clips of a block that have features.

        Args:
            block: One of `blocks`.
            array: One of `arrays`.
            out: Contiguous array with the shape and dtype of the result to fill; a new one by
                default.

        Returns:
            (n, …), as stored; images multiplied by `scale` lie in [0, 1].

        Raises:
            CorruptError: A chunk is missing or damaged.
            UnknownNameError: The store does not have the array.
            ArgumentError: `out` has another shape or dtype.
        """
        ok = self._ok(block)
        expected, dtype = (int(ok.sum()), *self.shape(array)), self.dtype_of(array)
        if out is not None and (out.shape, out.dtype) != (expected, dtype):
            raise ArgumentError(f"out: expected {dtype} {expected}, got {out.dtype} {out.shape}")
        if not ok.any():
            return np.empty(expected, dtype) if out is None else out
        if ok.all():
            return self._stored.read(block.fold, array, block.rows, out)
        images = self._stored.read(block.fold, array, block.rows)
        return images[ok] if out is None else np.compress(ok, images, axis=0, out=out)

    def read_clip(self, clip_id: str) -> dict[str, NDArray[np.float32]]:
        """Return all arrays of a clip by key, float32 and scaled.

        Reads a whole chunk of each array: meant for inspecting clips, not for training.

        Raises:
            UnknownNameError: There is no clip with that id.
            StoreError: The clip failed and has no features.
        """
        table = self.all_clips()
        rows = np.flatnonzero(table.clip_id == clip_id)
        if not rows.size:
            known = difflib.get_close_matches(clip_id, table.clip_id.tolist(), 5) or [
                *table.clip_id[:3],
                "…",
            ]
            raise UnknownNameError("clip", clip_id, known)
        clip = table.where(table.clip_id == clip_id)
        status = ClipStatus(int(clip.status[0]))
        if status != ClipStatus.OK:
            raise StoreError(f"{clip_id} has no features: {status.reason}")
        return self.read_row(int(clip.fold[0]), int(clip.row[0]))

    def read_row(self, fold: int, row: int) -> dict[str, NDArray[np.float32]]:
        """Return all arrays of a row of a fold, which must have features; see `read_clip`.

        Raises:
            UnknownNameError: There is no fold with that number.
            ArgumentError: The fold does not have that row.
        """
        only = self._only(fold, row)
        images = {a: self._stored.read(fold, a, only)[0] for a in self.arrays}
        return {
            a: values.astype(np.float32) * np.float32(self.scale_of(a))
            for a, values in images.items()
        }

    def iter_blocks(
        self, array: str, folds: Iterable[int] | None = None
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield an array and the labels block by block, in the order of `clips`."""
        for block in self.blocks(folds):
            yield self.read_block(block, array), self.labels(block)

    def load(
        self, array: str, folds: Iterable[int] | None = None, threads: int | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return an array of whole folds, as stored, read chunk by chunk in threads.

        Peak memory is the result plus one or two chunks per thread.

        Returns:
            (n, …) as stored, and labels (n,) int64 or (n, classes) uint8 (see `labels`), in the
            order of `clips`.
        """
        if threads is not None and threads < 1:
            raise ArgumentError(f"threads: expected at least 1, got {threads}")
        blocks = self.blocks(folds)
        counts = [int(self._ok(block).sum()) for block in blocks]
        starts = np.cumsum([0, *counts])
        images = np.empty((starts[-1], *self.shape(array)), self.dtype_of(array))

        def fill(index: int) -> None:
            self.read_block(blocks[index], array, images[starts[index] : starts[index + 1]])

        with ThreadPoolExecutor(threads or self.threads) as pool:
            list(pool.map(fill, range(len(blocks))))
        return images, self.all_labels(folds)

    def read(
        self, array: str, folds: Iterable[int] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return an array of whole folds, (n, …) float32, and the labels.

        Images are in [0, 1]; features are in librosa's units.
        """
        images, labels = self.load(array, folds)
        return images.astype(np.float32) * np.float32(self.scale_of(array)), labels

    def clips(self, folds: Iterable[int] | None = None) -> ClipTable:
        """Return the clips that have features, in the order of `load`."""
        table = self.all_clips(folds)
        return table.where(table.status == ClipStatus.OK)

    def source_digests(self, folds: Iterable[int] | None = None) -> NDArray[np.object_]:
        """Return the SHA-256 digest (bytes) of the audio file of each row of `clips`: (n,)."""
        parts = [np.empty(0, object)]
        for fold in self._known(folds):
            ok = self._columns(fold)["status"] == ClipStatus.OK
            digests = np.empty(int(ok.sum()), object)
            digests[:] = [row.tobytes() for row in self._stored.read(fold, "source_sha256")[ok]]
            parts.append(digests)
        return np.concatenate(parts)

    def source_digest(self, fold: int, row: int) -> bytes:
        """Return the SHA-256 (32 bytes) of the audio file of a row, which must have features."""
        (digest,) = self._stored.read(fold, "source_sha256", self._only(fold, row))
        return bytes(digest)

    def failures(self, folds: Iterable[int] | None = None) -> ClipTable:
        """Return the clips that failed."""
        table = self.all_clips(folds)
        return table.where(table.status > ClipStatus.OK)

    def all_clips(self, folds: Iterable[int] | None = None) -> ClipTable:
        """Return all clips, including those that failed or are not built yet."""
        known = self._known(folds)
        if not known:  # none, with the columns that any has
            table = join_columns([self._columns(self.folds[0])])
            return table.where(np.zeros(len(table), bool))
        return join_columns([self._columns(fold) for fold in known])

    def _only(self, fold: int, row: int) -> slice:
        self._known([fold])
        num_clips = next(f.num_clips for f in self.manifest.folds if f.fold == fold)
        if not 0 <= row < num_clips:
            raise ArgumentError(f"row: expected 0 to {num_clips - 1} (fold {fold}), got {row}")
        return slice(row, row + 1)

    def _known(self, folds: Iterable[int] | None) -> tuple[int, ...]:
        chosen = self.folds if folds is None else tuple(folds)
        for fold in chosen:
            if fold not in self.folds:
                raise UnknownNameError("fold", fold, self.folds)
        return chosen

    def _ok(self, block: Block) -> NDArray[np.bool_]:
        ok: NDArray[np.bool_] = self._columns(block.fold)["status"][block.rows] == ClipStatus.OK
        return ok

    @cached_property
    def _cache(self) -> dict[int, Columns]:
        return {}

    def _columns(self, fold: int) -> Columns:
        if fold not in self._cache:
            self._cache[fold] = fold_columns(self._stored, fold)
        return self._cache[fold]


def _build_command(manifest: StoreManifest) -> str:
    named = f" --as {manifest.spec_name}" if manifest.spec_name else ""
    return f"featurestore build --dataset {manifest.dataset_name}{named}"


@typed
def open_store(
    path: Place, dataset: str | None = None, *, committed_only: bool = False
) -> StoredDataset:
    """Open a complete dataset of a store.

    Args:
        path: Path or URL of the store: `s3://bucket/us8k.zarr`, `https://host/us8k.zarr`, …
        dataset: Name of the dataset; required only if the store holds more than one.
        committed_only: Whether to open an unfinished dataset as well. Clips that are not built yet
            are left out like failed ones; later commits are not seen until it is reopened.

    Raises:
        StoreError: There is no store, or it holds several datasets and no name is given.
        UnknownNameError: The store does not hold the dataset.
        UnfinishedError: The dataset's build is not complete.
        NewerError: The store was made by a newer version.
        NotAStoreError: The path is something other than a store.
        CorruptError: The store is damaged.
        StorageError: A remote store cannot be reached.
    """
    path = locate(path)
    root = read_root(path)
    if dataset is None:
        if not root.datasets:
            raise StoreError(f"{path} holds no dataset that is complete")
        if len(root.datasets) > 1:
            listed = ", ".join(root.datasets)
            raise StoreError(f"{path} holds several datasets ({listed}): name one, by --dataset")
        (dataset,) = root.datasets
    arrays = open_arrays(path, dataset, copies=path.remote, root=root)
    complete = arrays.manifest.state == "complete"
    if not complete and not committed_only:
        raise UnfinishedError(
            f"the build of {dataset} in {path} is not finished: "
            f"`{_build_command(arrays.manifest)} --store {path}` resumes where it stopped; "
            "open_store(..., committed_only=True) reads what is there"
        )
    if complete and not (path.remote and has_checksums(arrays.manifest)):
        # From afar that takes requests per fold, and the outcomes of each are vouched for anyway.
        check_counts(arrays, [arrays.read(fold.fold, "status") for fold in arrays.manifest.folds])
    return StoredDataset(arrays)

"""The store for other training code: a map-style dataset, and the sampler to read it efficiently.

    data = ZarrDataset("us8k.zarr", "R1/resize", folds=range(2, 11))
    order = BatchSampler(BlockSampler(data, seed=0), batch_size=64, drop_last=False)
    loader = DataLoader(data, sampler=order, batch_size=None)

The dataset returns whole batches; a loader with its own batch size, which collates samples, works
as well but takes longer. Worker processes are not needed, as decoding uses threads; with them, each
decodes for itself. The trainer itself reads or streams whole stages (`trainer.data.arrays`), in the
same order.
"""

import operator
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler, get_worker_info

from featurestore import StoredDataset, open_store, usable_cores
from featurestore.arguments import typed_methods
from featurestore.errors import ArgumentError
from trainer.data.buffers import BufferPool
from trainer.data.order import WINDOW, EpochOrder
from trainer.data.source import Batch, as_float32
from trainer.errors import DataError

Sample = tuple[Tensor, int | Tensor]
_BATCHES = 8
"""Number of batches whose memory is kept for reuse."""


@typed_methods
class ZarrDataset(Dataset[Any]):
    """One array of selected folds of a store; item i is (image, class_id), or (image, labels).

    Images are (1, bands, frames) float32 in [0, 1]; features are in librosa's units, waveforms
    (1, samples). If clips may have several labels or none, labels are multi-hot, (classes,)
    float32, as PyTorch's binary cross-entropy expects them.

    Chunks are decoded as a whole and cached: in the order of a `BlockSampler`, each is decoded once
    per epoch (and per worker process, if there are any), whereas a plain shuffle decodes one for
    nearly every clip. Threads may share a dataset. It can be pickled; each process opens the store
    itself.

    Args:
        path: Path or URL of the store.
        array: Key of the array: `RESOLUTION/VARIANT`, such as `R1/mel`, or `features/NAME`.
        dataset: Name of the dataset; required only if the store holds more than one.
        folds: Numbers of folds, each of which counts once; all by default.
        cache_blocks: Number of decoded chunks to keep; at least the sampler's window.

    Attributes:
        array, folds, class_names, fingerprint: As in the store.
        sizes: Number of clips of each chunk.
        labels: (n,) int64, class_id of every item; or multi-hot labels, (n, classes) uint8.

    Raises:
        featurestore.errors.StoreError: The store lacks the array or a fold, or is unfinished.
    """

    def __init__(
        self,
        path: str | Path,
        array: str,
        *,
        dataset: str | None = None,
        folds: Iterable[int] | None = None,
        cache_blocks: int = WINDOW,
    ) -> None:
        store = open_store(path, dataset)
        # Whoever unpickles this may have another working directory.
        self._source = (store.path, store.name)
        self._store: StoredDataset | None = store
        self.array = array
        self.shape = (1, *store.shape(array))
        chosen = store.folds if folds is None else map(operator.index, folds)
        self.folds = tuple(dict.fromkeys(chosen))  # each clip once, also if a fold is named twice
        self.class_names = store.class_names
        self.fingerprint = store.fingerprint
        self._scale, self._dtype = store.scale_of(array), store.dtype_of(array)
        self._memory = BufferPool(_BATCHES)
        self._blocks = store.blocks(self.folds)
        self.sizes = tuple(len(store.labels(block)) for block in self._blocks)
        self.labels: NDArray[Any] = store.all_labels(self.folds)
        self._stops = np.cumsum(self.sizes, dtype=np.int64)
        self._cache_blocks = max(1, operator.index(cache_blocks))
        self._cache: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.labels)

    # Arrays and tensors are SupportsIndex for a type checker, too; at run time only those of no
    # dimension are.
    @overload
    def __getitem__(  # type: ignore[overload-overlap]
        self, index: SupportsIndex
    ) -> Sample: ...

    @overload
    def __getitem__(
        self, index: slice | Sequence[SupportsIndex] | NDArray[Any] | Tensor
    ) -> Batch: ...

    def __getitem__(
        self, index: SupportsIndex | slice | Sequence[SupportsIndex] | NDArray[Any] | Tensor
    ) -> Sample | Batch:
        """Return an item, or several at once; a negative index counts from the end.

        Args:
            index: A whole number; or several, as a slice, sequence, array or tensor of them, or as
                an array or tensor of a bool per item.

        Returns:
            Of one number: an image (1, bands, frames) and its class, or labels. Of n: images
            (n, 1, bands, frames) and classes (n,) int64, or labels (n, classes) float32, which is
            what a `DataLoader` with `batch_size=None` and a `BatchSampler` as its sampler asks for.

        Raises:
            IndexError: An item is out of range, or these are no whole numbers.
        """
        items = self._positions(index)
        images, labels = self._batch(items.reshape(-1))
        if items.ndim:
            return images, labels
        return images[0], labels[0] if self.labels.ndim > 1 else int(labels[0])

    def _positions(self, index: Any) -> NDArray[np.int64]:  # noqa: ANN401 - whatever is asked for
        """Return the items of an index, (n,) or () int64."""
        if isinstance(index, slice):
            return np.arange(len(self), dtype=np.int64)[index]
        if isinstance(index, Tensor):
            # The list of an empty tensor has lost its type.
            index = np.array(index.tolist(), bool if index.dtype == torch.bool else None)
        positions = np.asarray(index)
        if positions.dtype == bool and positions.shape == (len(self),):
            return np.flatnonzero(positions)
        is_mask = positions.dtype == bool
        whole = positions.dtype.kind in "iu" or not (positions.size or is_mask)
        if not whole and not is_mask:
            # NumPy has no integer type for objects with `__index__`, nor for uint64 next to int64.
            with suppress(TypeError):
                positions, whole = _as_whole_numbers(np.asarray(index, object)), True
        if not whole or positions.ndim > 1:
            raise IndexError(
                f"index of {positions.dtype} {positions.shape}: expected whole numbers in one row, "
                f"or a bool for each of the {len(self)} items"
            )
        # Before the conversion, which would wrap large numbers around.
        for item in positions[(positions < -len(self)) | (positions >= len(self))].flat:
            raise IndexError(f"item {item} of {len(self)}")
        return positions.astype(np.int64)

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Return several items; a `DataLoader` that makes its batches itself asks here."""
        images, labels = self._batch(self._positions(indices))
        own = labels.unbind() if self.labels.ndim > 1 else labels.tolist()
        return list(zip(images.unbind(), own, strict=True))

    def _batch(self, items: NDArray[np.int64]) -> Batch:
        items = np.where(items < 0, items + len(self), items)
        numbers = np.searchsorted(self._stops, items, side="right")
        rows = items - self._stops[numbers] + np.array(self.sizes)[numbers]
        images = self._memory.get((len(items), *self.shape), self._dtype).numpy()
        distinct = list(dict.fromkeys(numbers.tolist()))  # in this order, so that none comes twice
        for first in range(0, len(distinct), self._cache_blocks):
            for number, block in self._read(distinct[first : first + self._cache_blocks]):
                places = np.flatnonzero(numbers == number)
                images[places, 0] = block[rows[places]]
        classes = torch.from_numpy(self.labels[items])
        if classes.ndim > 1:
            classes = classes.float()
        return as_float32(torch.from_numpy(images), self._scale, self._memory), classes

    def _read(self, numbers: Sequence[int]) -> list[tuple[int, NDArray[Any]]]:
        """Return decoded chunks, of which the latest are kept. Threads may ask at once.

        They share the cache and not the wait: each decodes what it does not find there, and what
        it has found or decoded is its own, whatever the others push out meanwhile.
        """
        store = self._open()
        with self._lock:
            chunks = {n: self._cache[n] for n in numbers if n in self._cache}
            for number in chunks:
                self._cache.move_to_end(number)
            # What is decoded now and what is kept are never more together than may be kept.
            self._make_room(len(numbers) - len(chunks))
        missing = [number for number in numbers if number not in chunks]
        threads = 1 if get_worker_info() else min(len(missing), usable_cores(), 8)
        blocks = [self._blocks[number] for number in missing]
        with ThreadPoolExecutor(max(1, threads)) as pool:
            read = pool.map(partial(store.read_block, array=self.array), blocks)
            chunks |= zip(missing, read, strict=True)
        with self._lock:
            self._make_room(sum(number not in self._cache for number in missing))
            self._cache.update((number, chunks[number]) for number in missing)
        return [(number, chunks[number]) for number in numbers]

    def _make_room(self, num_blocks: int) -> None:
        """Forget the longest unused chunks; only for who holds the lock."""
        while self._cache and len(self._cache) + num_blocks > self._cache_blocks:
            self._cache.popitem(last=False)

    def _open(self) -> StoredDataset:
        with self._lock:
            if self._store is None:
                store = open_store(*self._source)
                if store.fingerprint != self.fingerprint:
                    raise DataError(
                        f"{self._source[0]}: is another store than the one this dataset was made "
                        f"of: its fingerprint is {store.fingerprint[:12]}, not "
                        f"{self.fingerprint[:12]}; make the dataset again"
                    )
                self._store = store
            return self._store

    def __getstate__(self) -> dict[str, Any]:
        rest = {name: value for name, value in self.__dict__.items() if name != "_lock"}
        return rest | {"_store": None, "_cache": OrderedDict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


_as_whole_numbers = np.vectorize(operator.index, otypes=[object])


@typed_methods
class BlockSampler(Sampler[int]):
    """Sampler of shuffled items that decodes each chunk once: the order used by `trainer run`.

    Each iteration gives the order of the next epoch, which depends only on the seed, the epoch and
    the store's fingerprint.

    Args:
        data: Dataset to sample.
        seed: Random seed, any int.
        window: Number of chunks shuffled together, at least 1.

    Attributes:
        epoch: Epoch of the next iteration; see `set_epoch`.
    """

    def __init__(self, data: ZarrDataset, seed: SupportsIndex = 0, window: int = WINDOW) -> None:
        if operator.index(window) < 1:  # an order without any item
            raise ArgumentError(f"window: expected 1 or more, got {window}")
        self._order = EpochOrder(
            *(operator.index(seed), data.fingerprint, data.folds, data.sizes),
            operator.index(window),
        )
        self.epoch = 1

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = operator.index(epoch)  # a tensor would be counted up in place

    def __iter__(self) -> Iterator[int]:
        rows = self._order.rows(self.epoch)
        self.epoch += 1
        return iter(rows.tolist())

    def __len__(self) -> int:
        return sum(self._order.sizes)

"""Data read from the store while they are used: two windows of blocks are held, never more.

They are held on the device that trains, as stored: a GPU gathers batches itself, and the host does
nothing but decode. Threads decode the next window while one is consumed, each chunk to its place in
the memory of a window before, also of the epoch before: fresh pages cost as much as decoding.
"""

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore import StoredDataset
from trainer.data.batching import Batching, Format, Group
from trainer.data.devices import HOST, all_so_far, read_block, torch_dtype
from trainer.data.interface import Batches
from trainer.data.order import WINDOW, Window, store_order


class Streamed:
    """A `Split` of which a window is in memory, and the next one on its way.

    Args:
        dataset: An open store's dataset.
        array: `resolution/variant`.
        folds: In the reader's order.
        device: Where batches are wanted.
        window: Blocks held at once by `in_order`; by `batches`, the caller's.

    Raises:
        featurestore.errors.StoreError: The store lacks it. Damage is met while reading batches.
    """

    def __init__(
        self,
        dataset: StoredDataset,
        array: str,
        folds: Sequence[int],
        device: torch.device,
        window: int = WINDOW,
    ) -> None:
        self.device = device
        self._dataset, self._array, self._window = dataset, array, window
        self._stored = Format(dataset.shape(array), dataset.dtype, dataset.scale)
        self._batching = Batching(self._stored, device, device)
        self._blocks = dataset.blocks(folds)
        labels = [dataset.labels(block) for block in self._blocks]
        self._sizes = [len(part) for part in labels]
        self._starts = np.cumsum([0, *self._sizes], dtype=np.int64)
        self._labels: NDArray[np.int64] = np.concatenate([np.empty(0, np.int64), *labels])
        self._unused: deque[Tensor] = deque(maxlen=2)

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `trainer.data.interface.Split`.

        Raises:
            featurestore.errors.CorruptError: A chunk is missing or damaged.
        """
        with closing(self._read(windows)) as groups:
            yield from self._batching.batches(groups, size)

    def in_order(self, size: int) -> Batches:
        """See `trainer.data.interface.Split`."""
        return self.batches(store_order(self._sizes, self._window), size)

    def _read(self, windows: Iterable[Window]) -> Generator[Group, None, None]:
        """Each window in its order, while the next one is being read."""
        pool = ThreadPoolExecutor(self._dataset.threads, "stream")
        under_way: deque[_Reading] = deque()
        try:
            for window in windows:
                under_way.append(self._start(pool, window))
                if len(under_way) > 1:
                    yield under_way[0].wait()
                    self._unused.append(under_way.popleft().images)
            while under_way:
                yield under_way[0].wait()
                self._unused.append(under_way.popleft().images)
        finally:
            pool.shutdown(cancel_futures=True)
            self._unused.extend(reading.images for reading in under_way)

    def _start(self, pool: ThreadPoolExecutor, window: Window) -> "_Reading":
        """Begin to read a window into memory that was used before, where it is large enough."""
        sizes = [self._sizes[number] for number in window.blocks]
        stops = list(accumulate(sizes))
        memory = self._unused.pop() if self._unused else self._memory(0)
        if len(memory) < sum(sizes):
            del memory
            memory = self._memory(len(sizes) * max(self._sizes))
        wait = all_so_far(self.device)

        def read(number: int, out: Tensor) -> None:
            wait()  # until the device has done with what lay there
            read_block(self._dataset, self._blocks[number], self._array, out)

        tasks = [
            pool.submit(read, number, memory[stop - size : stop])
            for number, size, stop in zip(window.blocks, sizes, stops, strict=True)
        ]
        places = torch.from_numpy(self._places(window)).to(self.device)
        classes = torch.from_numpy(self._labels[window.rows]).to(self.device)
        return _Reading(tasks, memory, places, classes)

    def _memory(self, num_images: int) -> Tensor:
        shape, dtype = (num_images, *self._stored.shape), self._stored.dtype
        with torch.inference_mode(mode=False):  # other threads write to it
            if self.device == HOST:
                return torch.from_numpy(np.empty(shape, dtype))
            return torch.empty(shape, dtype=torch_dtype(dtype), device=self.device)

    def _places(self, window: Window) -> NDArray[np.int64]:
        """Where each row of a window is among the rows of its blocks, as these are read."""
        read = [np.arange(self._starts[b], self._starts[b + 1]) for b in window.blocks]
        rows = np.concatenate([np.empty(0, np.int64), *read])
        by_row = np.argsort(rows)
        return by_row[np.searchsorted(rows, window.rows, sorter=by_row)]


@dataclass(frozen=True)
class _Reading:
    """A window on its way: a task a block, the memory they fill, where and what its rows are."""

    tasks: Sequence[Future[None]]
    images: Tensor
    places: Tensor
    classes: Tensor

    def wait(self) -> Group:
        for task in self.tasks:
            task.result()
        return self.images, self.places, self.classes

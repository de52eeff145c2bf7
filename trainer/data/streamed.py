"""A source that streams from the store: one window in memory, and the next being read.

Threads decode a block into memory that stays in the processor's cache, and copy its rows to their
positions in the window's order, on the host or on the training device. Batches are slices of the
window, so that the training thread need not gather rows. Windows reuse the memory of earlier ones,
also across epochs, since fresh pages cost as much as decoding.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore import StoredDataset
from trainer.data import buffers
from trainer.data.order import WINDOW, Window, store_order
from trainer.data.source import Batch, Batches
from trainer.threads import one_torch_thread

_WINDOWS = 3
"""Maximum number of windows: in use, being read, and one whose last batch is still referenced."""
_BlockRows = tuple[int, NDArray[np.int64], NDArray[np.int64]]
"""A block's part of a window: its number, the rows (n,) taken from it, and their positions."""


class StreamedSource:
    """A `Source` with one window in memory, and the next one being read.

    A batch keeps the memory of its window alive.

    Args:
        dataset: An open store's dataset.
        array: Key of the array, such as `R1/mel`.
        folds: Folds in the reader's order.
        device: Device that batches are delivered to.
        window: Number of blocks held at once by `in_order`; `batches` holds the caller's windows.

    Raises:
        featurestore.errors.StoreError: The store lacks the array. Damage is detected while reading.
    """

    def __init__(
        self,
        dataset: StoredDataset,
        array: str,
        folds: Sequence[int],
        device: torch.device,
        window: int = WINDOW,
    ) -> None:
        self.scale, self.device = dataset.scale_of(array), device
        self._dataset, self._array, self._window = dataset, array, window
        self._shape, self._dtype = dataset.shape(array), dataset.dtype_of(array)
        self._blocks = dataset.blocks(folds)
        self._sizes = [len(dataset.labels(block)) for block in self._blocks]
        self._starts = np.cumsum([0, *self._sizes], dtype=np.int64)
        self._labels: NDArray[Any] = dataset.all_labels(folds)
        self._pool, self._thread = buffers.BufferPool(_WINDOWS), threading.local()

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `trainer.data.source.Source`.

        Raises:
            featurestore.errors.CorruptError: A chunk is missing or damaged.
        """
        with closing(self._read(windows)) as filled:
            yield from _cut(filled, size)

    def in_order(self, size: int) -> Batches:
        """See `trainer.data.source.Source`."""
        return self.batches(store_order(self._sizes, window=self._window), size)

    def _read(self, windows: Iterable[Window]) -> Batches:
        """Yield each window as one batch, while the next one is being read."""
        pool = ThreadPoolExecutor(self._dataset.threads, "stream")
        pending: deque[_PendingWindow] = deque()
        try:
            for window in windows:
                # One window ahead: it is decoded while the caller trains on the one before.
                pending.append(self._start(pool, window))
                if len(pending) > 1:
                    yield pending.popleft().wait()
            while pending:
                yield pending.popleft().wait()
        finally:
            # A caller that stops early does not wait for blocks that nobody will use.
            for window_left in pending:
                window_left.blocks.clear()
            pool.shutdown()

    def _start(self, pool: ThreadPoolExecutor, window: Window) -> "_PendingWindow":
        """Start reading a window."""
        memory, blocks = [self._window_memory(window)], deque(self._block_rows(window))
        wait_for_device = buffers.record_work(self.device)

        def read() -> None:
            (images,) = memory
            with buffers.loading_onto(self.device):
                wait_for_device()  # it may still be training on what this memory held before
            for number, rows, places in _take_all(blocks):
                decoded = self._block_memory(self._sizes[number])
                self._dataset.read_block(self._blocks[number], self._array, decoded)
                whole = len(rows) == len(decoded)
                buffers.scatter_rows(decoded if whole else decoded[rows], images, places)

        # One task per thread that takes blocks in turn: with one task per block, each that ends
        # would wake the thread that trains.
        tasks = [pool.submit(read) for _ in range(self._dataset.threads)]
        classes = buffers.upload(self._labels[window.rows], self.device)
        return _PendingWindow(tasks, blocks, memory, classes)

    def _block_rows(self, window: Window) -> Iterator[_BlockRows]:
        """Yield which rows of each block the window wants, and their places in the window."""
        by_row = np.argsort(window.rows)
        rows = window.rows[by_row]
        firsts, lasts = (self._starts[np.array(window.blocks, np.int64) + i] for i in (0, 1))
        bounds = rows.searchsorted(firsts).tolist(), rows.searchsorted(lasts).tolist()
        for number, first, start, stop in zip(window.blocks, firsts, *bounds, strict=True):
            if start < stop:
                yield number, rows[start:stop] - first, by_row[start:stop]

    def _window_memory(self, window: Window) -> Tensor:
        """Return memory for a window's images."""
        # As large as a window of so many blocks can be, so that the next one fits into it.
        shape = (len(window.blocks) * max(self._sizes), *self._shape)
        if self.device == buffers.HOST:
            memory = self._pool.get(shape, self._dtype)
        else:
            with torch.inference_mode(mode=False):  # other threads write to it
                dtype = buffers.torch_dtype(self._dtype)
                memory = torch.empty(shape, dtype=dtype, device=self.device)
        return memory[: len(window.rows)]

    def _block_memory(self, num_images: int) -> NDArray[np.generic]:
        """Return this thread's own memory for a decoded block."""
        if not hasattr(self._thread, "memory"):
            shape = (max(self._sizes), *self._shape)
            with buffers.loading_onto(self.device):
                staging = buffers.staging_buffer(shape, self._dtype, self.device)
            self._thread.memory = staging.numpy()
        memory: NDArray[np.generic] = self._thread.memory
        return memory[:num_images]


@dataclass(frozen=True)
class _PendingWindow:
    """A window on its way: one task per thread, the blocks none has started, what they fill."""

    tasks: Sequence[Future[None]]
    blocks: deque[_BlockRows]
    memory: list[Tensor]
    classes: Tensor

    def wait(self) -> Batch:
        """Return the window once all its tasks are done, or raise what one of them raised."""
        try:
            for task in wait(self.tasks, return_when=FIRST_EXCEPTION).done:
                task.result()
        finally:
            self.blocks.clear()  # if one has failed, or after Ctrl-C, the others end early
        # Taken out of the list that the tasks share: a thread keeps its task for a moment after the
        # end, and would keep the memory with it.
        return self.memory.pop().unsqueeze(1), self.classes


def _take_all(blocks: deque[_BlockRows]) -> Iterator[_BlockRows]:
    """Yield blocks until none is left; other threads take theirs from the same queue."""
    with suppress(IndexError):
        while True:
            yield blocks.popleft()


def _cut(windows: Iterable[Batch], size: int) -> Batches:
    """Yield batches of the windows' rows, `size` at a time; the last may be fewer."""
    parts: list[Batch] = []
    missing = size
    for images, classes in windows:
        start = 0
        while start < len(classes):
            part = slice(start, min(start + missing, len(classes)))
            parts.append((images[part], classes[part]))
            start, missing = part.stop, missing - (part.stop - part.start)
            if not missing:
                yield _joined(parts)
                parts, missing = [], size
        del images, classes  # they would keep the window's memory while the next one is awaited
    if parts:
        yield _joined(parts)


def _joined(parts: Sequence[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    images, classes = zip(*parts, strict=True)
    with one_torch_thread():
        return torch.cat(images), torch.cat(classes)

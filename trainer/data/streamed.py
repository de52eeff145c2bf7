"""Data read from the store while they are used: a window of blocks, and the next one on its way.

Threads decode a block into memory that stays in the processor's cache, and put its rows where the
window's order has them, on the host or on the device that trains. Batches are parts of the window:
the thread that trains gathers nothing. Windows are filled in the memory of earlier ones, also of
the epoch before: fresh pages cost as much as decoding.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore import StoredDataset
from trainer.data.devices import HOST, all_so_far, host_memory, put_rows, torch_dtype
from trainer.data.interface import Batch, Batches
from trainer.data.order import WINDOW, Window, store_order
from trainer.data.recycled import Recycled, by_one_thread

_WINDOWS = 3
"""Held at most: one in use, one on its way, and one whose last batch is still held."""
_Part = tuple[int, NDArray[np.int64], NDArray[np.int64]]
"""What a block has of a window: its position among all blocks, rows (n,) of it, their places."""


class Streamed:
    """A `Split` of which a window is in memory, and the next one on its way.

    Whoever holds a batch holds the memory of its window.

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
        self.scale, self.device = dataset.scale, device
        self._dataset, self._array, self._window = dataset, array, window
        self._shape = dataset.shape(array)
        self._blocks = dataset.blocks(folds)
        labels = [dataset.labels(block) for block in self._blocks]
        self._sizes = [len(part) for part in labels]
        self._starts = np.cumsum([0, *self._sizes], dtype=np.int64)
        self._labels: NDArray[np.int64] = np.concatenate([np.empty(0, np.int64), *labels])
        self._windows, self._own = Recycled(_WINDOWS), threading.local()

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `trainer.data.interface.Split`.

        Raises:
            featurestore.errors.CorruptError: A chunk is missing or damaged.
        """
        with closing(self._read(windows)) as filled:
            yield from _cut(filled, size)

    def in_order(self, size: int) -> Batches:
        """See `trainer.data.interface.Split`."""
        return self.batches(store_order(self._sizes, self._window), size)

    def _read(self, windows: Iterable[Window]) -> Batches:
        """Each window as one batch, while the next one is being read."""
        pool = ThreadPoolExecutor(self._dataset.threads, "stream")
        under_way: deque[_Reading] = deque()
        try:
            for window in windows:
                under_way.append(self._start(pool, window))
                if len(under_way) > 1:
                    yield under_way.popleft().wait()
            while under_way:
                yield under_way.popleft().wait()
        finally:
            for reading in under_way:
                reading.parts.clear()
            pool.shutdown()

    def _start(self, pool: ThreadPoolExecutor, window: Window) -> "_Reading":
        """Begin to read a window, a task a thread: with one a block, each wakes who waits."""
        memory, parts = [self._memory(window)], deque(self._parts(window))
        free = all_so_far(self.device)

        def read() -> None:
            (images,) = memory
            free()  # until the device has done with what lay there
            for number, rows, places in _taken(parts):
                decoded = self._decoded(self._sizes[number])
                self._dataset.read_block(self._blocks[number], self._array, decoded)
                put_rows(decoded if len(rows) == len(decoded) else decoded[rows], images, places)

        tasks = [pool.submit(read) for _ in range(self._dataset.threads)]
        classes = torch.from_numpy(self._labels[window.rows]).to(self.device)
        return _Reading(tasks, parts, memory, classes)

    def _parts(self, window: Window) -> Iterator[_Part]:
        by_row = np.argsort(window.rows)
        rows = window.rows[by_row]
        firsts, lasts = (self._starts[np.array(window.blocks, np.int64) + i] for i in (0, 1))
        bounds = rows.searchsorted(firsts).tolist(), rows.searchsorted(lasts).tolist()
        for number, first, start, stop in zip(window.blocks, firsts, *bounds, strict=True):
            if start < stop:
                yield number, rows[start:stop] - first, by_row[start:stop]

    def _memory(self, window: Window) -> Tensor:
        """For a window's images."""
        # As large as windows of so many blocks can be, so that the next one has room in it.
        shape = (len(window.blocks) * max(self._sizes), *self._shape)
        if self.device == HOST:
            memory = self._windows.take(shape, self._dataset.dtype)
        else:
            with torch.inference_mode(mode=False):  # other threads write to it
                dtype = torch_dtype(self._dataset.dtype)
                memory = torch.empty(shape, dtype=dtype, device=self.device)
        return memory[: len(window.rows)]

    def _decoded(self, num_images: int) -> NDArray[np.generic]:
        """This thread's own memory for a decoded block."""
        if not hasattr(self._own, "memory"):
            shape = (max(self._sizes), *self._shape)
            self._own.memory = host_memory(shape, self._dataset.dtype, self.device).numpy()
        memory: NDArray[np.generic] = self._own.memory
        return memory[:num_images]


@dataclass(frozen=True)
class _Reading:
    """A window on its way: a task a thread, the parts that none has begun, what they fill."""

    tasks: Sequence[Future[None]]
    parts: deque[_Part]
    memory: list[Tensor]
    classes: Tensor

    def wait(self) -> Batch:
        try:
            for task in wait(self.tasks, return_when=FIRST_EXCEPTION).done:
                task.result()
        finally:
            self.parts.clear()  # where one has failed, and by Ctrl-C, the others end
        # Taken from the tasks: a thread keeps its own for a moment after it has ended.
        return self.memory.pop().unsqueeze(1), self.classes


def _taken(parts: deque[_Part]) -> Iterator[_Part]:
    """Those that no other thread takes."""
    with suppress(IndexError):
        while True:
            yield parts.popleft()


def _cut(windows: Iterable[Batch], size: int) -> Batches:
    """Batches of the windows' rows, one after another, `size` at a time; the last may be fewer."""
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
        del images, classes  # who holds them, holds their window
    if parts:
        yield _joined(parts)


def _joined(parts: Sequence[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    images, classes = zip(*parts, strict=True)
    with by_one_thread():
        return torch.cat(images), torch.cat(classes)

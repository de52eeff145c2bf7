"""Data held as a whole: in host memory, or on the device."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore import StoredDataset, usable_cores
from trainer.data.devices import host_memory, read_block, torch_dtype
from trainer.data.interface import Batches
from trainer.data.order import Window
from trainer.data.recycled import Recycled, gather

_MOST_THREADS = 8
"""Each holds a block or two."""
_BATCHES = 8
"""Batches whose memory is kept for the next ones: fresh pages cost more than filling them."""


class OnHost:
    """A `Split` in host memory. Threads may share it.

    Args:
        images: (n, bands, frames) as stored.
        labels: (n,) int64.
        scale: A stored value times this is in [0, 1].
        device: Where batches are wanted.
    """

    def __init__(
        self,
        images: NDArray[Any],
        labels: NDArray[np.int64],
        scale: float,
        device: torch.device,
    ) -> None:
        self.scale, self.device = scale, device
        self._images, self._labels = images, labels
        self._memory = Recycled(_BATCHES)

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `trainer.data.interface.Split`.

        Raises:
            IndexError: There is no such row.
        """
        rows = _rows(windows)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)} images")
        return self._gathered(rows, size)

    def in_order(self, size: int) -> Batches:
        """See `trainer.data.interface.Split`."""
        return self._gathered(np.arange(len(self)), size)

    def _gathered(self, rows: NDArray[np.int64], size: int) -> Batches:
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            images = self._new(size)[: len(chosen)]
            gather(self._images, chosen, images)
            labels = torch.from_numpy(self._labels[chosen])
            batch = images.unsqueeze(1).to(self.device, non_blocking=True)
            del images  # so that its memory can be a next one's
            yield batch, labels.to(self.device, non_blocking=True)

    def _new(self, size: int) -> Tensor:
        """Memory for a batch."""
        shape = (size, *self._images.shape[1:])
        if self.device.type == "cuda":
            return host_memory(shape, self._images.dtype, self.device)
        return self._memory.take(shape, self._images.dtype)


@dataclass(frozen=True)
class Resident:
    """A `Split` in the memory of the device that trains. Threads may share it.

    Args:
        images: (n, 1, bands, frames) as stored, on the device: float16, float32 or uint8.
        labels: (n,) int64, on the device.
        scale: A stored value times this is in [0, 1].
        device: Where all is.
    """

    images: Tensor
    labels: Tensor
    scale: float
    device: torch.device

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `trainer.data.interface.Split`."""
        return self._selected(torch.from_numpy(_rows(windows)).to(self.device), size)

    def in_order(self, size: int) -> Batches:
        """See `trainer.data.interface.Split`."""
        return self._selected(torch.arange(len(self), device=self.device), size)

    def _selected(self, rows: Tensor, size: int) -> Batches:
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            yield self.images.index_select(0, chosen), self.labels.index_select(0, chosen)


def hold_on_host(
    dataset: StoredDataset, array: str, folds: Sequence[int], device: torch.device
) -> OnHost:
    """Read one array of some folds into host memory, by chunk.

    Args:
        dataset: An open store's dataset.
        array: `resolution/variant`.
        folds: In the reader's order.
        device: Where batches are wanted.

    Raises:
        featurestore.errors.StoreError: The store lacks it, or is damaged.
    """
    images, labels = dataset.load(array, folds)
    return OnHost(images, labels, dataset.scale, device)


def hold_on_device(
    dataset: StoredDataset, array: str, folds: Sequence[int], device: torch.device
) -> Resident:
    """The same on the device; the host never holds more than a few blocks."""
    shape, dtype = dataset.shape(array), torch_dtype(dataset.dtype)
    blocks = dataset.blocks(folds)
    labels = [np.empty(0, np.int64), *(dataset.labels(block) for block in blocks)]
    stops = np.cumsum([len(part) for part in labels]).tolist()
    images = torch.empty((stops[-1], *shape), dtype=dtype, device=device)

    def fill(number: int) -> None:
        read_block(dataset, blocks[number], array, images[stops[number] : stops[number + 1]])

    with ThreadPoolExecutor(min(_MOST_THREADS, usable_cores())) as pool:
        list(pool.map(fill, range(len(blocks))))
    on_device = torch.from_numpy(np.concatenate(labels)).to(device)
    return Resident(images.unsqueeze(1), on_device, dataset.scale, device)


def _rows(windows: Iterable[Window]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *(window.rows for window in windows)])

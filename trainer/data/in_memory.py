"""Sources that hold all their clips: in host memory, or on the device that trains."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore import StoredDataset, usable_cores
from trainer.data.buffers import BufferPool, gather, read_block, staging_buffer, torch_dtype
from trainer.data.order import Window
from trainer.data.source import Batches

_MOST_THREADS = 8
"""Each thread holds a block or two while it reads."""
_BATCHES = 8
"""Batches whose memory is kept for reuse."""


class HostSource:
    """A `Source` in host memory. Threads may share it.

    Args:
        images: (n, bands, frames) as stored.
        labels: (n,) int64.
        scale: Factor that brings stored values to [0, 1].
        device: Device that batches are delivered to.
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
        self._pool = BufferPool(_BATCHES)

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `trainer.data.source.Source`.

        Raises:
            IndexError: There is no such row.
        """
        rows = _rows(windows)
        # `gather` does not check, so this does: once per epoch, not per batch.
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)} images")
        return self._gathered(rows, size)

    def in_order(self, size: int) -> Batches:
        """See `trainer.data.source.Source`."""
        return self._gathered(np.arange(len(self)), size)

    def _gathered(self, rows: NDArray[np.int64], size: int) -> Batches:
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            images = self._buffer(size)[: len(chosen)]
            gather(self._images, chosen, images)
            labels = torch.from_numpy(self._labels[chosen])
            batch = images.unsqueeze(1).to(self.device, non_blocking=True)
            del images  # so that the next batch can have this memory once the caller is done
            yield batch, labels.to(self.device, non_blocking=True)

    def _buffer(self, size: int) -> Tensor:
        """Return memory for a batch: pinned memory, which PyTorch reuses itself, for a GPU."""
        shape = (size, *self._images.shape[1:])
        if self.device.type == "cuda":
            return staging_buffer(shape, self._images.dtype, self.device)
        return self._pool.get(shape, self._images.dtype)


@dataclass(frozen=True)
class DeviceSource:
    """A `Source` in the memory of the device that trains. Threads may share it.

    Args:
        images: (n, 1, bands, frames) as stored, on the device: float16, float32 or uint8.
        labels: (n,) int64, on the device.
        scale: Factor that brings stored values to [0, 1].
        device: Where everything is.
    """

    images: Tensor
    labels: Tensor
    scale: float
    device: torch.device

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `trainer.data.source.Source`."""
        return self._selected(torch.from_numpy(_rows(windows)).to(self.device), size)

    def in_order(self, size: int) -> Batches:
        """See `trainer.data.source.Source`."""
        return self._selected(torch.arange(len(self), device=self.device), size)

    def _selected(self, rows: Tensor, size: int) -> Batches:
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            yield self.images.index_select(0, chosen), self.labels.index_select(0, chosen)


def load_to_host(
    dataset: StoredDataset, array: str, folds: Sequence[int], device: torch.device
) -> HostSource:
    """Read one array of some folds into host memory.

    Args:
        dataset: An open store's dataset.
        array: `resolution/variant`.
        folds: Folds in the reader's order.
        device: Device that batches are delivered to.

    Raises:
        featurestore.errors.StoreError: The store lacks it, or is damaged.
    """
    images, labels = dataset.load(array, folds)
    return HostSource(images, labels, dataset.scale, device)


def load_to_device(
    dataset: StoredDataset, array: str, folds: Sequence[int], device: torch.device
) -> DeviceSource:
    """Read one array of some folds onto a device; the host never holds more than a few blocks.

    Args:
        dataset: An open store's dataset.
        array: `resolution/variant`.
        folds: Folds in the reader's order.
        device: Where the data shall lie.

    Raises:
        featurestore.errors.StoreError: The store lacks it, or is damaged.
    """
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
    return DeviceSource(images.unsqueeze(1), on_device, dataset.scale, device)


def _rows(windows: Iterable[Window]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *(window.rows for window in windows)])

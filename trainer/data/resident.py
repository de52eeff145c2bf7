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
from trainer.data.batching import Batching, Format, as_float32
from trainer.data.devices import HOST, read_block, torch_dtype
from trainer.data.interface import Batches
from trainer.data.order import Window

_MOST_THREADS = 8
"""Each holds a block or two."""


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
        self.device = device
        self._images, self._labels = torch.from_numpy(images), torch.from_numpy(labels)
        _, bands, frames = images.shape
        self._batching = Batching(Format((bands, frames), images.dtype, scale), HOST, device)

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `trainer.data.interface.Split`."""
        return self._gathered((torch.from_numpy(window.rows) for window in windows), size)

    def in_order(self, size: int) -> Batches:
        """See `trainer.data.interface.Split`."""
        return self._gathered([torch.arange(len(self))], size)

    def _gathered(self, parts: Iterable[Tensor], size: int) -> Batches:
        groups = ((self._images, rows, self._labels[rows]) for rows in parts)
        return self._batching.batches(groups, size)


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
        order = np.concatenate([np.empty(0, np.int64), *(window.rows for window in windows)])
        return self._selected(torch.from_numpy(order).to(self.device), size)

    def in_order(self, size: int) -> Batches:
        """See `trainer.data.interface.Split`."""
        return self._selected(torch.arange(len(self), device=self.device), size)

    def _selected(self, rows: Tensor, size: int) -> Batches:
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            images = self.images.index_select(0, chosen)
            yield as_float32(images, self.scale), self.labels.index_select(0, chosen)


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

"""Data held as a whole, on the device or in host memory. On a CPU the two are the same."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from featurestore import StoredDataset
from trainer.data import Batch, Batches, to_device
from trainer.order import Window


@dataclass(frozen=True)
class Resident:
    """A `Split` in memory.

    Args:
        images: (n, 1, bands, frames), as stored: float16, float32 or uint8.
        labels: (n,) int64, on the images' device.
        scale: A stored value times this is in [0, 1].
        device: Where batches are wanted.
    """

    images: Tensor
    labels: Tensor
    scale: float
    device: torch.device

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `trainer.data.Split`."""
        rows = [np.empty(0, np.int64), *(window.rows for window in windows)]
        yield from self._batches(torch.from_numpy(np.concatenate(rows)), size)

    def in_order(self, size: int) -> Batches:
        """See `trainer.data.Split`."""
        yield from self._batches(torch.arange(len(self)), size)

    def _batches(self, rows: Tensor, size: int) -> Batches:
        rows = rows.to(self.labels.device)
        for start in range(0, len(rows), size):
            yield self._batch(rows[start : start + size])

    def _batch(self, rows: Tensor) -> Batch:
        images, labels = (part.index_select(0, rows) for part in (self.images, self.labels))
        return to_device(images, labels, self.scale, self.device)


def load_resident(
    dataset: StoredDataset,
    array: str,
    folds: Sequence[int],
    device: torch.device,
    home: torch.device,
) -> Resident:
    """Read one array of some folds, by chunk.

    Args:
        dataset: An open store's dataset.
        array: `resolution/variant`.
        folds: In the reader's order.
        device: Where batches are wanted.
        home: Where the data shall lie: the device, or the CPU.

    Raises:
        featurestore.errors.StoreError: The store lacks it, or is damaged.
    """
    images, labels = dataset.load(array, folds)
    return Resident(
        images=torch.from_numpy(images).unsqueeze(1).to(home),
        labels=torch.from_numpy(labels).to(home),
        scale=dataset.scale,
        device=device,
    )

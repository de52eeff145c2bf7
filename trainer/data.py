"""A stage's data: whole arrays, read once by chunk, kept as they are stored.

They lie on the device where they fit, else in host memory; images become float32 a batch at a
time, on the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from featurestore import StoredDataset

_SHARE = 0.5
"""Of a GPU's free memory that data may take; the rest is for the network."""


@dataclass(frozen=True)
class Split:
    """Images and classes of a set of clips.

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

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Images (b, 1, bands, frames) float32 in [0, 1] and classes (b,) int64, on the device.

        Args:
            rows: (b,) int64, on the images' device.
        """
        images = self.images.index_select(0, rows).to(self.device, non_blocking=True)
        labels = self.labels.index_select(0, rows).to(self.device, non_blocking=True)
        images = images.to(torch.float32, memory_format=torch.channels_last)
        return (images if self.scale == 1 else images.mul_(self.scale)), labels


@dataclass(frozen=True)
class StageData:
    """One array of the training folds and of the held-out fold."""

    array: str
    train: Split
    test: Split


def load_split(
    dataset: StoredDataset, array: str, folds: Sequence[int], device: torch.device
) -> Split:
    """Read one array of some folds.

    Args:
        dataset: An open store's dataset.
        array: `resolution/variant`.
        folds: In the reader's order.
        device: Where batches are wanted.

    Raises:
        featurestore.errors.StoreError: The store lacks it, or is damaged.
    """
    images, labels = dataset.load(array, folds)
    home = device if _fits(images.nbytes, device) else torch.device("cpu")
    return Split(
        images=torch.from_numpy(images).unsqueeze(1).to(home),
        labels=torch.from_numpy(labels).to(home),
        scale=dataset.scale,
        device=device,
    )


def _fits(num_bytes: int, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return num_bytes <= _SHARE * free

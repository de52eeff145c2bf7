"""What training asks of data, wherever it lies: batches, in an order that is given.

Data stay as they are stored, and become float32 batch by batch. `trainer.data.resident` holds whole
arrays, `trainer.data.streamed` a window of them, and `trainer.data.reading` chooses.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from trainer.data.order import Window

Batch = tuple[Tensor, Tensor]
"""Images (b, 1, bands, frames) and classes (b,) int64."""
Batches = Generator[Batch, None, None]
"""To be closed when it is not read to its end."""


class Split(Protocol):
    """Images and classes of a set of clips. Batches are the same bits wherever the data lie."""

    @property
    def device(self) -> torch.device:
        """Where batches are wanted."""

    def __len__(self) -> int:
        """Number of clips."""

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """Images float32 in [0, 1] and classes, on the device, `size` at a time; the last fewer.

        Args:
            windows: Of the split's blocks and rows; a batch may begin in one and end in the next.
            size: Of a batch, at least 1.
        """

    def in_order(self, size: int) -> Batches:
        """The same of every row in the store's order."""


@dataclass(frozen=True)
class Sample:
    """A `Split` of some clips of another one. Windows still count over the other's rows.

    Args:
        whole: All clips.
        windows: The rows of the sample, in the store's order.
    """

    whole: Split
    windows: tuple[Window, ...]

    @property
    def device(self) -> torch.device:
        """See `Split`."""
        return self.whole.device

    def __len__(self) -> int:
        return sum(len(window.rows) for window in self.windows)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `Split`."""
        return self.whole.batches(windows, size)

    def in_order(self, size: int) -> Batches:
        """See `Split`."""
        return self.whole.batches(self.windows, size)


@dataclass(frozen=True)
class StageData:
    """One array of the clips that are trained on, and of those that each epoch is judged by."""

    array: str
    train: Split
    valid: Split

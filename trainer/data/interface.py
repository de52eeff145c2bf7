"""What training asks of data, wherever it lies: batches, in an order that is given.

Batches are as the store has them, and become float32 in the step that is made of them: until then
there is half of the bytes, or a quarter, to gather, to copy and to hold. `trainer.data.resident`
holds whole arrays, `trainer.data.streamed` a window of them, and `trainer.data.reading` chooses.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from trainer.data.order import Window

Batch = tuple[Tensor, Tensor]
"""Images (b, 1, bands, frames) as stored, float16, float32 or uint8, and classes (b,) int64."""
Batches = Generator[Batch, None, None]
"""To be closed when it is not read to its end."""


class Split(Protocol):
    """Images and classes of a set of clips. Batches are the same bits wherever the data lie."""

    @property
    def device(self) -> torch.device:
        """Where batches are wanted."""

    @property
    def scale(self) -> float:
        """A stored value times this is in [0, 1]."""

    def __len__(self) -> int:
        """Number of clips."""

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """Images and classes on the device, `size` at a time; the last fewer.

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

    @property
    def scale(self) -> float:
        """See `Split`."""
        return self.whole.scale

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


def as_float32(images: Tensor, scale: float) -> Tensor:
    """What a network sees of stored images (b, 1, bands, frames): float32 in [0, 1].

    Args:
        images: Left as they are.
        scale: A stored value times this is in [0, 1].
    """
    images = images.to(torch.float32, memory_format=torch.channels_last)
    return images if scale == 1 else images * scale

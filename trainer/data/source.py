"""Sources of batches: the interface that training sees, and subsets of a source.

Batches keep the store's dtype and become float32 inside the training step: until then there is
half as much, or a quarter, to gather, copy and hold. `trainer.data.in_memory` holds whole arrays,
`trainer.data.streamed` a window of them, and `trainer.data.placement` chooses.
"""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.buffers import BufferPool
from trainer.data.order import Window
from trainer.threads import one_torch_thread

Batch = tuple[Tensor, Tensor]
"""Images (b, 1, bands, frames) as stored, float16, float32 or uint8, and classes (b,) int64."""
Batches = Generator[Batch, None, None]
"""Close it if it is not read to its end."""


class Source(Protocol):
    """Images and classes of a set of clips; the same bits wherever the data lie."""

    @property
    def device(self) -> torch.device:
        """Device that batches are delivered to."""

    @property
    def scale(self) -> float:
        """Factor that brings stored values to [0, 1]."""

    def __len__(self) -> int:
        """Return the number of clips."""

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """Yield images and classes on the device, `size` clips at a time; the last may be fewer.

        Args:
            windows: Windows over the source's blocks and rows; a batch may span two windows.
            size: Clips per batch, at least 1.
        """

    def in_order(self, size: int) -> Batches:
        """Yield every clip in the store's order, `size` at a time."""


@dataclass(frozen=True)
class Subset:
    """Some clips of a source; windows count over the rows of the whole source.

    Args:
        whole: All clips.
        windows: The rows of the subset, in the store's order.
    """

    whole: Source
    windows: tuple[Window, ...]

    @property
    def device(self) -> torch.device:
        """Device that batches are delivered to."""
        return self.whole.device

    @property
    def scale(self) -> float:
        """Factor that brings stored values to [0, 1]."""
        return self.whole.scale

    def __len__(self) -> int:
        return sum(len(window.rows) for window in self.windows)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `Source`."""
        return self.whole.batches(windows, size)

    def in_order(self, size: int) -> Batches:
        """See `Source`."""
        return self.whole.batches(self.windows, size)


@dataclass(frozen=True)
class FoldRows:
    """The rows of some folds of a source held in memory; windows count over these rows.

    Args:
        whole: The clips of all folds, in memory.
        rows: (n,) int64, positions of the rows in `whole`.
    """

    whole: Source
    rows: NDArray[np.int64]

    @property
    def device(self) -> torch.device:
        """Device that batches are delivered to."""
        return self.whole.device

    @property
    def scale(self) -> float:
        """Factor that brings stored values to [0, 1]."""
        return self.whole.scale

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `Source`."""
        return self.whole.batches(self._in_whole(windows), size)

    def in_order(self, size: int) -> Batches:
        """See `Source`."""
        return self.batches([Window((), np.arange(len(self)))], size)

    def _in_whole(self, windows: Iterable[Window]) -> Iterator[Window]:
        return (Window(window.blocks, self.rows[window.rows]) for window in windows)


@dataclass(frozen=True)
class StageData:
    """One array as a stage sees it: the clips it trains on and those that judge each epoch."""

    array: str
    train: Source
    valid: Source


def as_float32(images: Tensor, scale: float, pool: BufferPool | None = None) -> Tensor:
    """Return stored images as float32 in [0, 1]; the input is left as it is.

    Args:
        images: (b, 1, bands, frames), on any device; float16, float32 or uint8. With a pool: of any
            shape, on the host.
        scale: Factor that brings stored values to [0, 1].
        pool: Where the result's memory comes from, filled by this thread alone. Without one the
            result is laid out as the network wants it (`torch.channels_last`).
    """
    if pool is None:
        images = images.to(torch.float32, memory_format=torch.channels_last)
        return images if scale == 1 else images * scale
    with one_torch_thread():
        result = pool.get(tuple(images.shape), np.dtype(np.float32)).copy_(images)
        return result if scale == 1 else result.mul_(scale)

"""Sources of batches: the interface that training sees, and subsets of a source.

Batches keep the store's dtype and become float32 right before the step: until then there is only
half or a quarter as much data to gather, copy and hold. The sources here hold whole arrays,
`trainer.data.streamed` a window of them, and `trainer.data.arrays` chooses.
"""

from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore import StoredDataset, usable_cores
from trainer.data import buffers
from trainer.data.order import Window
from trainer.threads import one_torch_thread

Batch = tuple[Tensor, Tensor]
"""Images (b, 1, bands, frames) as stored (float16, float32 or uint8), and classes (b,) int64; or,
if clips may have several labels, multi-hot labels (b, classes) uint8."""
Batches = Generator[Batch, None, None]
"""Iterator of batches, to be closed if it is not exhausted."""


class Source(Protocol):
    """Interface of sources: images and labels of clips, bit-identical for every placement."""

    @property
    def device(self) -> torch.device:
        """Device on which batches are delivered."""

    @property
    def scale(self) -> float:
        """Factor from stored values to [0, 1]."""

    def __len__(self) -> int:
        """Return the number of clips."""

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """Yield images and labels on the device in batches; the last may be smaller.

        Args:
            windows: Windows over the source's blocks and rows; a batch may span two windows.
            size: Clips per batch, at least 1.
        """

    def in_order(self, size: int) -> Batches:
        """Yield every clip in the store's order, `size` at a time."""


@dataclass(frozen=True)
class Part:
    """A selection of clips of a source.

    Args:
        whole: Source of all clips.
    """

    whole: Source

    @property
    def device(self) -> torch.device:
        """Device on which batches are delivered."""
        return self.whole.device

    @property
    def scale(self) -> float:
        """Factor from stored values to [0, 1]."""
        return self.whole.scale


@dataclass(frozen=True)
class Subset(Part):
    """A selection of clips of a source; windows refer to rows of the whole source.

    Args:
        windows: Rows of the subset, in the store's order.
    """

    windows: tuple[Window, ...]

    def __len__(self) -> int:
        return sum(len(window.rows) for window in self.windows)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `Source`."""
        return self.whole.batches(windows, size)

    def in_order(self, size: int) -> Batches:
        """See `Source`."""
        return self.whole.batches(self.windows, size)


@dataclass(frozen=True)
class FoldRows(Part):
    """Rows of selected folds of a source in memory; windows refer to these rows.

    Args:
        rows: (n,) int64, indices into `whole`.
    """

    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `Source`."""
        return self.whole.batches((Window(w.blocks, self.rows[w.rows]) for w in windows), size)

    def in_order(self, size: int) -> Batches:
        """See `Source`."""
        return self.batches([Window((), np.arange(len(self)))], size)


@dataclass(frozen=True)
class StageData:
    """One array for a stage: clips to train on, and clips to evaluate after each epoch."""

    array: str
    train: Source
    valid: Source


def as_float32(images: Tensor, scale: float, pool: buffers.BufferPool | None = None) -> Tensor:
    """Return stored images as float32 in [0, 1]; the input is not changed.

    Args:
        images: (b, 1, bands, frames), on any device; float16, float32 or uint8. With a pool: any
            shape, on the host.
        scale: Factor from stored values to [0, 1].
        pool: Pool for the memory of the result, which is filled by this thread alone. Without one,
            the result has the memory format of the network (`torch.channels_last`).
    """
    if pool is None:
        images = images.to(torch.float32, memory_format=torch.channels_last)
        return images if scale == 1 else images * scale
    with one_torch_thread():
        result = pool.get(tuple(images.shape), np.dtype(np.float32)).copy_(images)
        return result if scale == 1 else result.mul_(scale)


_MOST_THREADS = 8
"""Maximum number of reading threads, each of which holds a block or two."""
_BATCHES = 8
"""Number of batches whose memory is kept for reuse."""


class HostSource:
    """A `Source` in host memory. Threads may share it.

    Args:
        images: (n, bands, frames) as stored.
        labels: (n,) int64, or (n, classes) uint8.
        scale: Factor from stored values to [0, 1].
        device: Device on which batches are delivered.
    """

    def __init__(
        self, images: NDArray[Any], labels: NDArray[Any], scale: float, device: torch.device
    ) -> None:
        self.scale, self.device = scale, device
        self._images, self._labels = images, labels
        self._pool = buffers.BufferPool(_BATCHES)

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `Source`.

        Raises:
            IndexError: There is no such row.
        """
        rows = _rows(windows)
        # `gather` does not check, so this does: once per epoch, not per batch.
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)} images")
        return self._gathered(rows, size)

    def in_order(self, size: int) -> Batches:
        """See `Source`."""
        return self._gathered(np.arange(len(self)), size)

    def _gathered(self, rows: NDArray[np.int64], size: int) -> Batches:
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            images = self._buffer(size)[: len(chosen)]
            buffers.gather(self._images, chosen, images)
            batch = buffers.upload(images, self.device).unsqueeze(1)
            del images  # so that the next batch can have this memory once the caller is done
            yield batch, buffers.upload(self._labels[chosen], self.device)

    def _buffer(self, size: int) -> Tensor:
        """Return memory for a batch: pinned memory, which PyTorch reuses itself, for a GPU."""
        shape = (size, *self._images.shape[1:])
        if self.device.type == "cuda":
            return buffers.staging_buffer(shape, self._images.dtype, self.device)
        return self._pool.get(shape, self._images.dtype)


@dataclass(frozen=True)
class DeviceSource:
    """A `Source` in the memory of the training device. Threads may share it.

    Args:
        images: (n, 1, bands, frames) as stored, on the device: float16, float32 or uint8.
        labels: (n,) int64, or (n, classes) uint8, on the device.
        scale: Factor from stored values to [0, 1].
        device: The device.
    """

    images: Tensor
    labels: Tensor
    scale: float
    device: torch.device

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `Source`."""
        return self._selected(buffers.upload(_rows(windows), self.device), size)

    def in_order(self, size: int) -> Batches:
        """See `Source`."""
        return self._selected(torch.arange(len(self), device=self.device), size)

    def _selected(self, rows: Tensor, size: int) -> Batches:
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            yield self.images.index_select(0, chosen), self.labels.index_select(0, chosen)


def load_to_host(
    dataset: StoredDataset, array: str, folds: Sequence[int], device: torch.device
) -> HostSource:
    """Read one array of several folds into host memory.

    Args:
        dataset: An open store's dataset.
        array: Key of the array, such as `R1/mel`.
        folds: Folds in the reader's order.
        device: Device on which batches are delivered.

    Raises:
        featurestore.errors.StoreError: The store lacks the array, or is damaged.
    """
    images, labels = dataset.load(array, folds)
    return HostSource(images, labels, dataset.scale_of(array), device)


def load_to_device(
    dataset: StoredDataset, array: str, folds: Sequence[int], device: torch.device
) -> DeviceSource:
    """Read one array of several folds onto a device, with at most a few blocks in host memory.

    Args:
        dataset: An open store's dataset.
        array: Key of the array, such as `R1/mel`.
        folds: Folds in the reader's order.
        device: Device for the data.

    Raises:
        featurestore.errors.StoreError: The store lacks the array, or is damaged.
    """
    shape, dtype = dataset.shape(array), buffers.torch_dtype(dataset.dtype_of(array))
    blocks = dataset.blocks(folds)
    stops = np.cumsum([0, *(len(dataset.labels(block)) for block in blocks)]).tolist()
    with buffers.loading_onto(device):
        images = torch.empty((stops[-1], *shape), dtype=dtype, device=device)

    def fill(number: int) -> None:
        buffers.read_block(
            dataset, blocks[number], array, images[stops[number] : stops[number + 1]]
        )

    with ThreadPoolExecutor(min(_MOST_THREADS, usable_cores())) as pool:
        list(pool.map(fill, range(len(blocks))))
    with buffers.loading_onto(device):
        on_device = buffers.upload(dataset.all_labels(folds), device)
    return DeviceSource(images.unsqueeze(1), on_device, dataset.scale_of(array), device)


def _rows(windows: Iterable[Window]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *(window.rows for window in windows)])

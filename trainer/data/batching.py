"""From stored images to batches: gathered where they lie, handed to the device, made float32.

In host memory by one thread, and in memory that is used again. Torch's `index_select` lets all its
threads meet after every large image: beside a busy neighbour each meeting costs a time slice. And
the pages of a fresh batch cost more than filling them.
"""

import threading
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

from trainer.data.devices import HOST, torch_dtype
from trainer.data.interface import Batch, Batches

Group = tuple[Tensor, Tensor, Tensor]
"""Images (m, bands, frames) as stored; rows (n,) of them in the order wanted; their classes (n,).

All where images are held. Nothing more is asked of the images when the next group is asked for.
"""

_OPENMP = ThreadpoolController().select(user_api="openmp")
"""Torch's threads. Their number is the calling thread's own: nobody else's is changed."""
_KEPT = 8
"""Batches whose memory is kept for the next ones."""


@dataclass(frozen=True)
class Format:
    """Of stored images.

    Args:
        shape: (bands, frames).
        dtype: float16, float32 or uint8.
        scale: A stored value times this is in [0, 1].
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    scale: float


class Batching:
    """Makes batches of images that are held in host memory or on a device. Threads may share it.

    Args:
        stored: Of the images.
        held: Where they lie.
        device: Where batches are wanted; where the images lie, unless that is host memory.
    """

    def __init__(self, stored: Format, held: torch.device, device: torch.device) -> None:
        self._stored, self._held, self._device = stored, held, device
        self._memory = Recycled()

    def batches(self, groups: Iterable[Group], size: int) -> Batches:
        """The groups' rows, one after another, `size` at a time; the last may be fewer.

        A batch may begin in one group and end in the next.

        Raises:
            IndexError: A group's rows are not all among its images.
        """
        if self._held == HOST:
            return self._filled(groups, size)
        return self._selected(groups, size)

    def _selected(self, groups: Iterable[Group], size: int) -> Batches:
        """Of images on a device, which makes memory for a batch at no cost."""
        parts: list[Batch] = []
        missing = size
        for stored, rows, classes in groups:
            start = 0
            while start < len(rows):
                part = slice(start, min(start + missing, len(rows)))
                parts.append((stored.index_select(0, rows[part]), classes[part]))
                start, missing = part.stop, missing - (part.stop - start)
                if not missing:
                    yield self._joined(parts)
                    parts, missing = [], size
        if parts:
            yield self._joined(parts)

    def _joined(self, parts: Sequence[Batch]) -> Batch:
        images, classes = parts[0]
        if len(parts) > 1:
            images, classes = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return as_float32(images.unsqueeze(1), self._stored.scale), classes

    def _filled(self, groups: Iterable[Group], size: int) -> Batches:
        """Of images on the host, into memory that is there already."""
        images, labels = self._new(size)
        count = 0
        for stored, rows, classes in groups:
            start = 0
            while start < len(rows):
                part = slice(start, min(start + size - count, len(rows)))
                target = slice(count, count + part.stop - start)
                with _OPENMP.limit(limits=1):
                    torch.index_select(stored, 0, rows[part], out=images[target])
                labels[target] = classes[part]
                start, count = part.stop, target.stop
                if count == size:
                    yield self._batch(images, labels)
                    del images, labels  # so that their memory can be the next ones'
                    images, labels = self._new(size)
                    count = 0
        if count:
            yield self._batch(images[:count], labels[:count])

    def _new(self, size: int) -> Batch:
        """Memory for a batch as stored, and for its classes."""
        shape = (size, *self._stored.shape)
        if self._device.type == "cpu":
            images = self._memory.take(shape, self._stored.dtype)
            return images, torch.empty(size, dtype=torch.int64)
        # Only from pinned memory a copy to a GPU is not waited for. While it is being copied, torch
        # does not use it again.
        dtype = torch_dtype(self._stored.dtype)
        images = torch.empty(shape, dtype=dtype, pin_memory=True)
        return images, torch.empty(size, dtype=torch.int64, pin_memory=True)

    def _batch(self, images: Tensor, classes: Tensor) -> Batch:
        images = images.unsqueeze(1)
        if self._device.type == "cpu":
            return float32(images, self._stored.scale, self._memory), classes
        images = images.to(self._device, non_blocking=True)
        return as_float32(images, self._stored.scale), classes.to(self._device, non_blocking=True)


def as_float32(images: Tensor, scale: float) -> Tensor:
    """Stored images (b, 1, bands, frames) as float32 in [0, 1], a copy where they are."""
    images = images.to(torch.float32, memory_format=torch.channels_last, copy=True)
    return images if scale == 1 else images.mul_(scale)


def float32(images: Tensor, scale: float, memory: "Recycled") -> Tensor:
    """Stored images in host memory as float32 in [0, 1].

    Args:
        images: Of any shape; float16, float32 or uint8.
        scale: A stored value times this is in [0, 1].
        memory: Where the result lies.
    """
    with _OPENMP.limit(limits=1):
        result = memory.take(tuple(images.shape), np.dtype(np.float32)).copy_(images)
        return result if scale == 1 else result.mul_(scale)


class Recycled:
    """Memory that is used again when nobody holds what was in it. Threads may share it."""

    def __init__(self) -> None:
        self._lent: list[tuple[NDArray[Any], weakref.ref[NDArray[Any]]]] = []
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
        """Memory that no tensor uses, with anything in it."""
        with self._lock:
            memory = self._unused(shape, dtype)
            if memory is None:
                memory = np.empty(shape, dtype)
            lent = memory[:]  # only the tensor made of it holds it
            self._lent.append((memory, weakref.ref(lent)))
            del self._lent[:-_KEPT]
        return torch.from_numpy(lent)

    def __reduce__(self) -> tuple[type["Recycled"], tuple[()]]:
        return Recycled, ()  # another process begins with nothing

    def _unused(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any] | None:
        for index, (memory, user) in enumerate(self._lent):
            if user() is None and (memory.shape, memory.dtype) == (shape, dtype):
                del self._lent[index]
                return memory
        return None

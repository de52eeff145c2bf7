"""Memory on the host that is used again: fresh pages cost more than filling them."""

import threading
import weakref
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

_OPENMP = ThreadpoolController().select(user_api="openmp")
"""Torch's threads. Their number is the calling thread's own: nobody else's is changed."""


def by_one_thread() -> AbstractContextManager[object]:
    """Let this thread do alone what it asks of torch on the host."""
    limited: AbstractContextManager[object] = _OPENMP.limit(limits=1)
    return limited


class Recycled:
    """Memory that is used again when nobody holds what was in it. Threads may share it.

    Args:
        kept: How many pieces are kept for the next ones.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._lent: list[tuple[NDArray[Any], weakref.ref[NDArray[Any]]]] = []
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
        """Memory that no tensor uses, with anything in it; maybe a part of a longer piece."""
        with self._lock:
            memory = self._unused(shape, dtype)
            if memory is None:
                self._forget_one()
                memory = np.empty(shape, dtype)
            lent = memory[: shape[0]]  # only the tensor made of it holds it
            self._lent.append((memory, weakref.ref(lent)))
        return torch.from_numpy(lent)

    def __reduce__(self) -> tuple[type["Recycled"], tuple[int]]:
        return Recycled, (self._kept,)  # another process begins with nothing

    def _unused(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any] | None:
        for index, (memory, user) in enumerate(self._lent):
            same = memory.shape[1:] == shape[1:] and memory.dtype == dtype
            if same and len(memory) >= shape[0] and user() is None:
                del self._lent[index]
                return memory
        return None

    def _forget_one(self) -> None:
        """Of as many as are kept, one that is not used if there is one."""
        if len(self._lent) == self._kept:
            unused = (index for index, (_, user) in enumerate(self._lent) if user() is None)
            del self._lent[next(unused, 0)]


def gather(images: NDArray[Any], rows: NDArray[np.int64], out: Tensor) -> None:
    """Copy rows of images, all of which must be there, by this thread alone.

    Torch lets all its threads meet after every large image: beside a busy neighbour each meeting
    costs a time slice.

    Args:
        images: (n, bands, frames).
        rows: (m,) in [0, n).
        out: (m, bands, frames) of their dtype, on the host.
    """
    # Only where it need not raise, `take` fills `out` itself, and lets other threads go on.
    images.take(rows, axis=0, out=out.numpy(), mode="clip")


def float32(images: Tensor, scale: float, memory: Recycled) -> Tensor:
    """Stored images in host memory as float32 in [0, 1].

    Args:
        images: Of any shape; float16, float32 or uint8.
        scale: A stored value times this is in [0, 1].
        memory: Where the result lies.
    """
    with by_one_thread():
        result = memory.take(tuple(images.shape), np.dtype(np.float32)).copy_(images)
        return result if scale == 1 else result.mul_(scale)

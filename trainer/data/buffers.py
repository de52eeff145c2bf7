"""Reused buffers for images, and all copies between the host and a device.

Fresh pages cost the system as much as filling them, so host buffers are reused. Copies to and from
a GPU run in the background, from pinned memory.
"""

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore import Block, StoredDataset
from trainer.threads import GPU_TURN

HOST = torch.device("cpu")


class BufferPool:
    """Pool of host buffers, reused once no tensor refers to them. Threads may share a pool.

    Args:
        size: Number of buffers kept for reuse.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lent: list[tuple[NDArray[Any], weakref.ref[NDArray[Any]]]] = []
        self._lock = threading.Lock()

    def get(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
        """Return an uninitialised tensor in a free buffer, which may be larger.

        Args:
            shape: Shape of the tensor.
            dtype: NumPy dtype of the tensor.
        """
        with self._lock:
            buffer = self._unused(shape, dtype)
            if buffer is None:
                self._make_room()
                buffer = np.empty(shape, dtype)
            # The tensor holds this view, not the buffer: when the view dies, the buffer is free.
            view = buffer[: shape[0]]
            self._lent.append((buffer, weakref.ref(view)))
        return torch.from_numpy(view)

    def __reduce__(self) -> tuple[type["BufferPool"], tuple[int]]:
        return BufferPool, (self._size,)  # another process starts with an empty pool

    def _unused(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any] | None:
        for index, (buffer, user) in enumerate(self._lent):
            same = buffer.shape[1:] == shape[1:] and buffer.dtype == dtype
            if same and len(buffer) >= shape[0] and user() is None:
                del self._lent[index]
                return buffer
        return None

    def _make_room(self) -> None:
        """Forget a buffer if the pool is full: an unused one if there is one."""
        if len(self._lent) == self._size:
            unused = (index for index, (_, user) in enumerate(self._lent) if user() is None)
            del self._lent[next(unused, 0)]


def staging_buffer(shape: tuple[int, ...], dtype: np.dtype[Any], device: torch.device) -> Tensor:
    """Return an uninitialised host tensor for images to be copied to a device.

    For a GPU the memory is pinned: the copy runs in the background, and PyTorch does not reuse the
    memory before the copy is complete.
    """
    if device.type != "cuda":
        return torch.from_numpy(np.empty(shape, dtype))
    # Other threads write to it, which an inference tensor would refuse.
    with torch.inference_mode(mode=False):
        return torch.empty(shape, dtype=torch_dtype(dtype), pin_memory=True)


def gather(images: NDArray[Any], rows: NDArray[np.int64], out: Tensor) -> None:
    """Copy rows of images in this thread alone.

    PyTorch would synchronise all its threads after every large image, which on a busy machine costs
    a time slice each time.

    Args:
        images: (n, bands, frames).
        rows: (m,) int64 in [0, n).
        out: (m, bands, frames) of the same dtype, on the host.
    """
    # With mode="clip" NumPy need not check for errors: it fills `out` itself, without the GIL.
    images.take(rows, axis=0, out=out.numpy(), mode="clip")


def read_block(dataset: StoredDataset, block: Block, array: str, out: Tensor) -> None:
    """Read the images of a block into a tensor, on the host or a device.

    Args:
        dataset: An open store's dataset.
        block: One of its blocks.
        array: Key of the array, such as `R1/mel`.
        out: (n, bands, frames), contiguous, in the stored dtype; not an inference tensor.

    Raises:
        featurestore.errors.CorruptError: The chunk is missing or damaged.
    """
    if out.device == HOST:
        dataset.read_block(block, array, out.numpy())
        return
    with loading_onto(out.device):
        staging = staging_buffer(tuple(out.shape), dataset.dtype_of(array), out.device)
    dataset.read_block(block, array, staging.numpy())
    with loading_onto(out.device):
        out.copy_(staging, non_blocking=True)


@contextmanager
def loading_onto(device: torch.device) -> Iterator[None]:
    """Use a device from a thread that loads data for others; all copies are complete at the end.

    On a GPU, this uses a stream for loading alone, and never runs while a CUDA graph is recorded.
    """
    if device.type != "cuda":
        yield
        return
    # Decoding is outside, so a recording waits for one block's copy at most.
    with GPU_TURN, torch.cuda.stream(stream := _loading_stream(device)):
        yield
        stream.synchronize()


@cache
def _loading_stream(device: torch.device) -> torch.cuda.Stream:
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream


def upload(values: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """Copy host values to a device. Only the current stream waits for the copy."""
    tensor = torch.as_tensor(values)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def download(tensor: Tensor) -> tuple[Tensor, Callable[[], bool]]:
    """Start copying a tensor to the host.

    Returns:
        The copy, and a function that returns whether it is complete.
    """
    if tensor.device.type != "cuda":
        return tensor.clone(), lambda: True
    copy = torch.empty_like(tensor, device=HOST, pin_memory=True)
    copy.copy_(tensor, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(tensor.device))
    return copy, event.query


def scatter_rows(images: NDArray[Any], out: Tensor, places: NDArray[np.int64]) -> None:
    """Copy images to rows of a tensor that another thread uses, and wait for the copy.

    Args:
        images: (m, bands, frames).
        out: (n, bands, frames) of the same dtype, on the host or a device; not an inference tensor
            on a device.
        places: (m,) int64 in [0, n), row of each image, without repetition.
    """
    if out.device == HOST:
        out.numpy()[places] = images
        return
    with loading_onto(out.device):
        out.index_copy_(0, upload(places, out.device), upload(images, out.device))


def record_work(device: torch.device) -> Callable[[], object]:
    """Return a function that waits for all work that this thread has queued on the device so far.

    It may be called from any thread.
    """
    if device.type != "cuda":
        return lambda: None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event.synchronize


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """Return the PyTorch dtype for a NumPy dtype."""
    return torch.from_numpy(np.empty(0, dtype)).dtype

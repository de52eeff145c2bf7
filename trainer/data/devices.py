"""Images in the host's memory or a device's: how they get there, and when they may be replaced."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore import Block, StoredDataset

HOST = torch.device("cpu")


def host_memory(shape: tuple[int, ...], dtype: np.dtype[Any], device: torch.device) -> Tensor:
    """Memory on the host for what goes to a device: where that is a GPU, such as it reads itself.

    A copy from there is not waited for, and torch does not use the memory again before it is done.
    """
    if device.type != "cuda":
        return torch.from_numpy(np.empty(shape, dtype))
    with torch.inference_mode(mode=False):
        return torch.empty(shape, dtype=torch_dtype(dtype), pin_memory=True)


def read_block(dataset: StoredDataset, block: Block, array: str, out: Tensor) -> None:
    """Read the images of a block to where they are wanted, on the host or a device.

    Args:
        dataset: An open store's dataset.
        block: One of its blocks.
        array: `resolution/variant`.
        out: (n, bands, frames), contiguous, of the stored dtype; no inference tensor.

    Raises:
        featurestore.errors.CorruptError: The chunk is missing or damaged.
    """
    if out.device == HOST:
        dataset.read_block(block, array, out.numpy())
        return
    staging = host_memory(tuple(out.shape), dataset.dtype, out.device)
    dataset.read_block(block, array, staging.numpy())
    out.copy_(staging)


def put_rows(images: NDArray[Any], out: Tensor, places: NDArray[np.int64]) -> None:
    """Copy images to their places, and wait until they are there.

    Args:
        images: (m, bands, frames).
        out: (n, bands, frames) of their dtype, on the host or a device; no inference tensor there.
        places: (m,) in [0, n), each once.
    """
    if out.device == HOST:
        out.numpy()[places] = images
        return
    rows = torch.from_numpy(places).to(out.device)
    out.index_copy_(0, rows, torch.from_numpy(images).to(out.device, non_blocking=True))
    if out.device.type == "cuda":
        torch.cuda.current_stream(out.device).synchronize()


def all_so_far(device: torch.device) -> Callable[[], object]:
    """A wait, for any thread, until the device has done what this thread has asked of it by now."""
    if device.type != "cuda":
        return lambda: None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event.synchronize


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """The same in torch."""
    return torch.from_numpy(np.empty(0, dtype)).dtype

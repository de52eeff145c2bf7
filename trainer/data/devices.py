"""Images in the host's memory or a device's: how they get there, and when they may be replaced."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featurestore import Block, StoredDataset

HOST = torch.device("cpu")


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
    staging = torch.empty(out.shape, dtype=out.dtype, pin_memory=out.device.type == "cuda")
    dataset.read_block(block, array, staging.numpy())
    out.copy_(staging)


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

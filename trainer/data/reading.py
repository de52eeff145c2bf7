"""Where a stage's data lie: chosen by size, here and nowhere else.

On a CPU the device's memory is the host's, so `device` is `host` there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from featurestore import StoredDataset
from schemas import Reading
from trainer.data.interface import Split
from trainer.data.memory import available_host_memory, free_device_memory
from trainer.data.resident import hold_on_device, hold_on_host
from trainer.data.streamed import Streamed

Asked = Reading | Literal["auto"]

_SHARE = 0.5
"""Of the free memory that data may take; the rest is for the network and everybody else."""


@dataclass(frozen=True)
class Room:
    """Bytes free before any data is read.

    Args:
        device: Of a GPU; 0 for a CPU.
        host: Of the host.
    """

    device: int
    host: int


def choose_readings(
    dataset: StoredDataset,
    arrays: Sequence[str],
    device: torch.device,
    asked: Asked,
    held: int = 1,
) -> dict[str, Reading]:
    """Where each array's data shall lie.

    Args:
        dataset: Gives the sizes.
        arrays: `resolution/variant`; may repeat.
        device: That trains.
        asked: `auto`: by the memory that is free now.
        held: Arrays that are in memory at once.
    """
    room = Room(free_device_memory(device), available_host_memory())
    on_gpu = device.type == "cuda"
    return {
        array: choose_reading(asked, held * array_bytes(dataset, array), room, on_gpu=on_gpu)
        for array in arrays
    }


def choose_reading(asked: Asked, num_bytes: int, room: Room, *, on_gpu: bool) -> Reading:
    """The fastest place that has twice the room; what was asked for, where something was."""
    if asked == "auto":
        if on_gpu and num_bytes <= _SHARE * room.device:
            return "device"
        return "host" if num_bytes <= _SHARE * room.host else "stream"
    return "host" if asked == "device" and not on_gpu else asked


def array_bytes(dataset: StoredDataset, array: str) -> int:
    """Of all images of an array, in memory."""
    bands, frames = dataset.shape(array)
    return len(dataset.clips()) * bands * frames * dataset.dtype.itemsize


def open_split(
    dataset: StoredDataset,
    array: str,
    folds: Sequence[int],
    device: torch.device,
    reading: Reading,
) -> Split:
    """One array of some folds.

    Args:
        dataset: An open store's dataset.
        array: `resolution/variant`.
        folds: In the reader's order.
        device: Where batches are wanted.
        reading: Where the data shall lie.

    Raises:
        featurestore.errors.StoreError: The store lacks it, or is damaged.
    """
    if reading == "stream":
        return Streamed(dataset, array, folds, device)
    hold = hold_on_device if reading == "device" else hold_on_host
    return hold(dataset, array, folds, device)

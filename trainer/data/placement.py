"""Placement of an array's data while they are trained on: chosen here, by size.

On a CPU the device's memory is the host's, so `device` means `host` there.
"""

import ctypes
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from featurestore import StoredDataset
from schemas import Reading

Placement = Reading
"""`device`, `host` or `stream`; the records call it a reading."""
PlacementChoice = Placement | Literal["auto"]

_MOST_OF_FREE = 0.5
"""Fraction of the free memory that data may take; the network and other programs need the rest."""
_CGROUP = Path("sys/fs/cgroup")


@dataclass(frozen=True)
class FreeMemory:
    """Memory that is free before any data is read.

    Args:
        device: Bytes of the GPU; 0 for a CPU.
        host: Bytes of the host.
    """

    device: int
    host: int


def choose_placements(
    dataset: StoredDataset,
    arrays: Sequence[str],
    device: torch.device,
    choice: PlacementChoice,
    held: int = 1,
) -> dict[str, Placement]:
    """Choose where each array's data shall lie.

    Two calls may answer differently, as free memory changes: call it once per run, and hand the
    answer on.

    Args:
        dataset: Gives the sizes.
        arrays: `resolution/variant`; may repeat.
        device: Device that trains.
        choice: `auto` chooses by the memory that is free now.
        held: Arrays that are in memory at once.
    """
    free = FreeMemory(free_device_memory(device), available_host_memory())
    on_gpu = device.type == "cuda"
    return {
        array: choose_placement(choice, held * array_bytes(dataset, array), free, on_gpu=on_gpu)
        for array in arrays
    }


def choose_placement(
    choice: PlacementChoice, num_bytes: int, free: FreeMemory, *, on_gpu: bool
) -> Placement:
    """Return the fastest place that has twice the room; with another choice than `auto`, that one.

    Args:
        choice: What the user asks for.
        num_bytes: Bytes of the data.
        free: Memory that is free.
        on_gpu: Whether a GPU trains.
    """
    if choice == "auto":
        if on_gpu and num_bytes <= _MOST_OF_FREE * free.device:
            return "device"
        return "host" if num_bytes <= _MOST_OF_FREE * free.host else "stream"
    return "host" if choice == "device" and not on_gpu else choice


def array_bytes(dataset: StoredDataset, array: str) -> int:
    """Return how many bytes all images of an array take in memory."""
    bands, frames = dataset.shape(array)
    return len(dataset.clips()) * bands * frames * dataset.dtype.itemsize


def free_device_memory(device: torch.device) -> int:
    """Return the bytes free on a GPU; 0 for a CPU, whose memory is the host's."""
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return free


def available_host_memory(root: Path = Path("/")) -> int:
    """Return the bytes that may still be allocated, counting the page cache as free.

    Args:
        root: Where `proc` and `sys` lie.
    """
    container = _left_to_container(root / _CGROUP)
    machine = _available(root / "proc/meminfo")
    return machine if container is None else min(container, machine)


def release_freed_memory() -> None:
    """Return to the system what glibc's malloc keeps of freed memory; elsewhere do nothing.

    malloc keeps a share for each thread: a process grew by half a gigabyte with every run.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _available(meminfo: Path) -> int:
    """Return Linux's own estimate; on other systems the free memory, or all of it."""
    try:
        line = re.search(r"^MemAvailable:\s*(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    except OSError:
        line = None
    if line:
        return int(line[1]) * 1024
    name = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")


def _left_to_container(group: Path) -> int | None:
    """Return what a control group (version 2) leaves of its limit; None without a limit."""
    try:
        limit = (group / "memory.max").read_text().strip()
        # Only anonymous memory counts as taken: the page cache gives way to it.
        anonymous = re.search(r"^anon (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
    except OSError:
        return None
    if limit == "max" or not anonymous:
        return None
    return max(0, int(limit) - int(anonymous[1]))

"""How much memory there is: the GPU's, and the host's within what a container allows."""

import ctypes
import os
import re
from pathlib import Path

import torch

_CGROUP = Path("sys/fs/cgroup")


def free_device_memory(device: torch.device) -> int:
    """Bytes free on a GPU; 0 for a CPU, whose memory is the host's."""
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return free


def available_host_memory(root: Path = Path("/")) -> int:
    """Bytes that may still be taken, counting the page cache as free.

    Args:
        root: Where `proc` and `sys` lie.
    """
    left = _left_to_container(root / _CGROUP)
    there = _available(root / "proc/meminfo")
    return there if left is None else min(left, there)


def give_back_free_memory() -> None:
    """Let the system have what malloc keeps of freed memory, where it is glibc's.

    Each thread's share of it is kept apart: a process grew by half a gigabyte with every run.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _available(meminfo: Path) -> int:
    """Linux's own estimate; elsewhere what is free, or all."""
    try:
        found = re.search(r"^MemAvailable:\s*(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    name = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")


def _left_to_container(group: Path) -> int | None:
    """What a control group (version 2) leaves of its limit; None where there is none."""
    try:
        limit = (group / "memory.max").read_text().strip()
        taken = re.search(r"^anon (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
    except OSError:
        return None
    if limit == "max" or not taken:
        return None
    return max(0, int(limit) - int(taken[1]))

"""The number of cores this process may use."""

import math
import os
from pathlib import Path

from featurestore.arguments import typed


@typed
def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of cores this process may use, by its affinity and its control group.

    Args:
        root: Directory that contains `sys`, for tests.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # not on Linux
        cores = os.cpu_count() or 1
    share = _group_share(root / "sys/fs/cgroup/cpu.max")
    return max(1, cores if share is None else min(cores, math.ceil(share)))


def _group_share(cpu_max: Path) -> float | None:
    """Return cores that a control group (version 2) grants; None if it sets no limit."""
    try:
        quota, period = cpu_max.read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)

"""Settings of glibc's malloc, for work that frees large arrays and needs as many again at once.

By default it returns them to the system, which clears new pages for every step or clip: a quarter
of a build, and a fifth of the training of a small network on a CPU. Other systems are left alone.
"""

import ctypes
from collections.abc import Mapping

ARENA_MAX, MMAP_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -8, -4, -3, -1
"""Parameters of mallopt, from <malloc.h>: the number of heaps, and the sizes in bytes from which
a block has a mapping of its own, and from which the free end of a heap is returned."""
NEVER = -1
"""Value of TRIM_THRESHOLD with which nothing is returned, however large it is."""

DEFAULTS = {ARENA_MAX: 0, MMAP_MAX: 65536, MMAP_THRESHOLD: 2**25, TRIM_THRESHOLD: 2**26}
"""glibc's defaults. Its thresholds grow with what is freed; these are the highest they reach."""


def set_malloc(settings: Mapping[int, int]) -> None:
    """Set parameters of this process's malloc; do nothing where there is no mallopt.

    Args:
        settings: Value of each parameter by its number, as in <malloc.h>.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in settings.items():
            mallopt(parameter, value)


def release_freed_memory() -> None:
    """Return memory that malloc keeps after it was freed to the system.

    malloc keeps a heap per thread: a process grew by half a gigabyte with every training.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

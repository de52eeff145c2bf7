"""How many threads compute: as many as there are cores for them, and no more."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

GPU_THREADS = 4
"""Beside a GPU, threads only gather batches in host memory."""


def threads_a_fold(cores: int, folds_at_once: int, batch_size: int, device: str) -> int:
    """Threads of one fold's computations.

    Args:
        cores: That may be used, at least 1.
        folds_at_once: That share them, at least 1.
        batch_size: A thread without a sample of its own would only wait.
        device: Its type: `cpu` or `cuda`.
    """
    most = batch_size if device == "cpu" else GPU_THREADS
    return max(1, min(cores // folds_at_once, most))


@contextmanager
def computing_threads(threads: int) -> Iterator[None]:
    """Let operations of this thread, and of threads begun in it, use that many threads each."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Numbers of computing threads, and the lock for the GPU.

PyTorch has two settings: its own default, which `computing_threads` sets for a run, and OpenMP's
per thread, which `one_torch_thread` limits.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from threadpoolctl import ThreadpoolController

GPU_THREADS = 4
"""Threads per fold if training is on a GPU: they only gather batches in host memory."""

GPU_TURN = threading.Lock()
"""Lock held while a CUDA graph is recorded, by threads that load data while they use the GPU, and
while memory is released: allocations, copies and waits on any stream may break a recording."""

_OPENMP = ThreadpoolController().select(user_api="openmp")


def threads_per_fold(cores: int, folds_at_once: int, batch_size: int, device: str) -> int:
    """Return the number of computing threads per fold.

    Args:
        cores: Cores this process may use, at least 1.
        folds_at_once: Number of folds that share them, at least 1.
        batch_size: Clips per batch, an upper bound for the number of useful threads.
        device: Device type: `cpu` or `cuda`.
    """
    most = batch_size if device == "cpu" else GPU_THREADS
    return max(1, min(cores // folds_at_once, most))


def driving_threads(folds_at_once: int, device: str) -> int:
    """Return the number of threads that train folds: one for all on a GPU, else one per fold.

    Args:
        folds_at_once: Number of folds trained in parallel, at least 1.
        device: Device type: `cpu` or `cuda`.
    """
    return folds_at_once if device == "cpu" else 1


@contextmanager
def computing_threads(threads: int) -> Iterator[None]:
    """Run PyTorch operations of this thread, and of threads it starts, on this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_torch_thread() -> AbstractContextManager[object]:
    """Run this thread's PyTorch operations on the host without helper threads.

    Other threads are not affected: OpenMP's limit applies to the thread that sets it.
    """
    limit: AbstractContextManager[object] = _OPENMP.limit(limits=1)
    return limit

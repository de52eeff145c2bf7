"""The number of computing threads, as many as there are cores for them; and whose turn it is.

PyTorch keeps two numbers: its own default, which `computing_threads` sets for a run, and OpenMP's,
which belongs to the calling thread and is what `one_torch_thread` limits.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from threadpoolctl import ThreadpoolController

GPU_THREADS = 4
"""Threads per fold if a GPU computes: they only gather batches in host memory."""

GPU_TURN = threading.Lock()
"""Held while a CUDA graph is recorded, and by other threads while they use the GPU: whatever
allocates, copies or waits there may break a recording, whichever stream it is on."""

_OPENMP = ThreadpoolController().select(user_api="openmp")


def threads_per_fold(cores: int, folds_at_once: int, batch_size: int, device: str) -> int:
    """Return how many threads each fold computes with.

    Args:
        cores: Cores this process may use, at least 1.
        folds_at_once: Folds that share them, at least 1.
        batch_size: Clips per batch; a thread without a clip of its own would only wait.
        device: Device type: `cpu` or `cuda`.
    """
    most = batch_size if device == "cpu" else GPU_THREADS
    return max(1, min(cores // folds_at_once, most))


@contextmanager
def computing_threads(threads: int) -> Iterator[None]:
    """Run operations of this thread, and of threads started in it, on that many threads each."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_torch_thread() -> AbstractContextManager[object]:
    """Run this thread's PyTorch operations on the host without helper threads.

    Other threads keep theirs: OpenMP's limit belongs to the thread that sets it.
    """
    limit: AbstractContextManager[object] = _OPENMP.limit(limits=1)
    return limit

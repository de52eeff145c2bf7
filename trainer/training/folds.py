"""Training of several held-out folds in parallel.

On a GPU, one thread trains them in turns: nothing else uses the GPU while a step is recorded, and
folds do not compete for the GIL. On a CPU, where the steps themselves take the time, each fold has
its own thread. A fold's results do not depend on what is trained in parallel: it has its own
network, generators, order and, on a GPU, stream. An error in one fold stops all.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from functools import partial

import torch

from featurestore.malloc import release_freed_memory
from trainer.records.rundir import FoldDirectory
from trainer.threads import driving_threads
from trainer.training.device import own_stream
from trainer.training.fold import Job, train_fold
from trainer.training.stage import Progress, Ready

_SHORTEST_S, _LONGEST_S = 5e-5, 2e-3
"""Shortest and longest pause of a thread whose folds all wait; doubled while nothing changes."""


def train_folds(
    job: Job,
    directory: Callable[[int], FoldDirectory],
    folds_at_once: int,
    folds: Sequence[int],
    num_threads: int | None = None,
) -> None:
    """Train folds of a job, in order.

    However it ends, no thread is left running, and the state of every started fold is on disk.

    Args:
        job: Shared settings; its `notify` is called from several threads.
        directory: Returns the directory of a fold.
        folds_at_once: Number of folds trained in parallel, at least 1.
        folds: Folds to hold out in turn.
        num_threads: Number of threads; by default one on a GPU, one per fold on a CPU.

    Raises:
        TrainerError, featurestore.errors.StoreError: The first error of a fold.
    """
    device = torch.device(job.config.device)
    threads = num_threads or driving_threads(folds_at_once, device.type)

    def train(fold: int) -> Progress[None]:
        try:
            yield from train_fold(job, fold, directory(fold))
        finally:
            release_freed_memory()  # or each fold would add its heap to the process

    works: deque[Callable[[], Progress[None]]] = deque(partial(train, fold) for fold in folds)
    stop = threading.Event()
    with job.arrays, ThreadPoolExecutor(threads, "fold") as pool:
        each = -(-folds_at_once // threads)  # rounded up: no fewer in parallel than requested
        tasks = [pool.submit(take_turns, works, each, device, stop) for _ in range(threads)]
        try:
            for done in as_completed(tasks):
                done.result()
        except BaseException:
            # The other threads check it between two steps and close their folds, which save their
            # state.
            stop.set()
            raise


def take_turns(
    works: deque[Callable[[], Progress[None]]],
    at_once: int,
    device: torch.device,
    stop: threading.Event,
) -> None:
    """Run generators in turns until none is left, several at a time; close all at the end.

    Args:
        works: Queue of functions that start them, shared with other threads.
        at_once: Maximum number in progress in this thread.
        device: Device on which each gets its own stream.
        stop: Event that ends all of them.
    """
    running: list[_Work] = []
    pause = 0.0
    with ExitStack() as unfinished:
        while not stop.wait(pause):
            # Threads share the queue: popping is atomic, asking first whether it is empty is not.
            with suppress(IndexError):
                while len(running) < at_once:
                    running.append(_Work(works.popleft(), device))
                    unfinished.callback(running[-1].close)
            if not running:
                return
            moved = [work.advance() for work in running]
            running = [work for work in running if not work.over]
            pause = 0.0 if any(moved) else min(max(2 * pause, _SHORTEST_S), _LONGEST_S)


class _Work:
    """A generator in progress, on its own stream."""

    def __init__(self, start: Callable[[], Progress[None]], device: torch.device) -> None:
        self.over = False
        self._progress, self._stream = start(), own_stream(device)
        self._ready: Ready | None = None

    def advance(self) -> bool:
        """Do the next step and return True; return False if it still waits for something."""
        if self._ready is not None and not self._ready():
            return False
        with self._stream:
            try:
                self._ready = next(self._progress)
            except StopIteration:
                self.over = True
        return True

    def close(self) -> None:
        """Close the generator where it is."""
        with self._stream:
            self._progress.close()

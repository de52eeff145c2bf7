"""All held-out folds of a run, some of them at a time.

On a GPU one thread trains them by turns: nothing else uses the GPU while it records a step, and
folds do not wait for each other's Python. On a CPU, where the steps themselves take the time, each
fold has a thread of its own. A fold's numbers do not depend on what trains next to it: it has its
own network, generators, order and, on a GPU, stream. What stops one stops all.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from functools import partial

import torch

from trainer.data.arrays import release_freed_memory
from trainer.records.rundir import FoldDirectory
from trainer.training.device import own_stream
from trainer.training.fold import Job, train_fold
from trainer.training.stage import Progress, Ready

_SHORTEST_S, _LONGEST_S = 5e-5, 2e-3
"""Pauses of a thread all of whose folds wait; they double while nothing changes."""


def train_folds(
    job: Job,
    directory: Callable[[int], FoldDirectory],
    folds_at_once: int,
    folds: Sequence[int],
    num_threads: int | None = None,
) -> None:
    """Train for some folds of the job, in their order.

    However it ends, no thread is left, and the state of every started fold is on disk.

    Args:
        job: Its `notify` is called from several threads.
        directory: Returns the directory of a fold.
        folds_at_once: Folds that train at a time, at least 1.
        folds: Folds to hold out in turn.
        num_threads: Threads that share the folds; by default one on a GPU, on a CPU one per fold.

    Raises:
        TrainerError, featurestore.errors.StoreError: The first that a fold raised.
    """
    device = torch.device(job.config.device)
    threads = num_threads or (1 if device.type == "cuda" else folds_at_once)

    def train(fold: int) -> Progress[None]:
        try:
            yield from train_fold(job, fold, directory(fold))
        finally:
            release_freed_memory()

    works: deque[Callable[[], Progress[None]]] = deque(partial(train, fold) for fold in folds)
    stop = threading.Event()
    with job.arrays, ThreadPoolExecutor(threads, "fold") as pool:
        each = -(-folds_at_once // threads)
        tasks = [pool.submit(take_turns, works, each, device, stop) for _ in range(threads)]
        try:
            for done in as_completed(tasks):
                done.result()
        except BaseException:
            # The other threads look at it between two steps, and close their folds, each of which
            # then leaves its state.
            stop.set()
            raise


def take_turns(
    works: deque[Callable[[], Progress[None]]],
    at_once: int,
    device: torch.device,
    stop: threading.Event,
) -> None:
    """Do works by turns until none is left, some at a time; close those in progress at the end.

    Args:
        works: Start the works. Other threads take theirs from the same queue.
        at_once: Most of them in progress in this thread.
        device: Where each gets a stream of its own.
        stop: Set by whoever wants all of them to end.
    """
    running: list[_Work] = []
    pause = 0.0
    with ExitStack() as unfinished:
        while not stop.wait(pause):
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
    """A work in progress, on its own stream."""

    def __init__(self, start: Callable[[], Progress[None]], device: torch.device) -> None:
        self.over = False
        self._progress, self._stream = start(), own_stream(device)
        self._ready: Ready | None = None

    def advance(self) -> bool:
        """Do the next step and return True; return False if what it waits for is not there."""
        if self._ready is not None and not self._ready():
            return False
        with self._stream:
            try:
                self._ready = next(self._progress)
            except StopIteration:
                self.over = True
        return True

    def close(self) -> None:
        """End it where it is."""
        with self._stream:
            self._progress.close()

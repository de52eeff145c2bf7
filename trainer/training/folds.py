"""All held-out folds of a run, some of them at a time: each in a thread of its own.

A fold's numbers do not depend on what trains next to it: it has its own network, generators, order
and, on a GPU, stream. What stops one stops all.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace

from schemas import FoldResult
from trainer.data.arrays import release_freed_memory
from trainer.records.rundir import FoldDirectory
from trainer.training.events import Event
from trainer.training.fold import Job, train_fold


class _StoppedError(Exception):
    """Ends a fold because another failed, or because the user wants it."""


def train_folds(
    job: Job, directory: Callable[[int], FoldDirectory], folds_at_once: int, folds: Sequence[int]
) -> tuple[FoldResult, ...]:
    """Train for some folds of the job, in their order.

    However it ends, no thread is left, and the state of every started fold is on disk.

    Args:
        job: Its `notify` is called from several threads.
        directory: Returns the directory of a fold.
        folds_at_once: Folds that train at a time, at least 1.
        folds: Folds to hold out in turn.

    Raises:
        TrainerError, featurestore.errors.StoreError: The first that a fold raised.
    """
    stop = threading.Event()

    def notify(event: Event) -> None:
        # Every step notifies, so the other folds end within a step, each leaving its state.
        if stop.is_set():
            raise _StoppedError
        job.notify(event)

    def train(fold: int) -> FoldResult:
        try:
            return train_fold(replace(job, notify=notify), fold, directory(fold))
        finally:
            release_freed_memory()

    with ThreadPoolExecutor(folds_at_once, "fold") as pool:
        tasks = [pool.submit(train, fold) for fold in folds]
        try:
            for done in as_completed(tasks):
                done.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return tuple(task.result() for task in tasks)

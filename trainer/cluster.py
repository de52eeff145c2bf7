"""Folds trained by the workers of a Dask cluster: the only module of the trainer that imports Dask.

A task is one held-out fold of one run. Nothing travels but names: workers read the store and write
the run's directory, so both must be where they see them. A task whose worker died is done again by
another one, from the fold's last state.
"""

import logging
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from distributed import Client, as_completed
from distributed.scheduler import KilledWorker

from featurestore import FeatureStoreError, open_store
from schemas import FoldResult, RunConfig
from trainer.errors import ClusterError, TrainerError
from trainer.oom import is_out_of_memory
from trainer.records.rundir import RunDirectory
from trainer.run import Manner, resume
from trainer.sweep import RUNS, SweepRun, prepare

_CONNECT_TIMEOUT = "20s"
_LOG = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Work:
    """What all tasks share.

    Args:
        store: Path or URL, the same for all workers.
        dataset: Its name.
        out: Directory of the sweep, the same for all workers.
        manner: How to go about it.
    """

    store: str
    dataset: str
    out: Path
    manner: Manner


@dataclass(frozen=True)
class Failed:
    """What went wrong, in a line."""

    reason: str


@dataclass(frozen=True)
class TaskDone:
    """A fold that a worker is done with.

    Args:
        run: Name of the run.
        fold: Held out.
        outcome: What came of it.
    """

    run: str
    fold: int
    outcome: FoldResult | Failed


def begin_run(work: Work, run: SweepRun) -> RunConfig | Failed:
    """A task: begin a run, with the device that the worker has."""
    return attempt(
        lambda: prepare(open_store(work.store, work.dataset), run, work.out, work.manner)
    )


def train_one_fold(work: Work, run: str, fold: int) -> FoldResult | Failed:
    """A task: train for one fold, from where it stopped."""
    path = work.out / RUNS / run

    def train() -> FoldResult:
        resume(open_store(work.store, work.dataset), path, manner=work.manner, folds=(fold,))
        result = RunDirectory(path).fold(fold).result()
        assert result is not None, "the fold was trained"  # noqa: S101
        return result

    return attempt(train)


def attempt(task: Callable[[], _T]) -> _T | Failed:
    """What a task gives, or why it cannot, on the worker: torch's errors may not unpickle."""
    try:
        return task()
    except (TrainerError, FeatureStoreError) as error:
        return Failed(str(error))
    except (RuntimeError, MemoryError) as error:
        _LOG.exception("a task failed")
        return Failed(_worded(error))


def _worded(error: Exception) -> str:
    """An error of torch's in one line, with the machine; its worker's log has all of it."""
    first = next(iter(str(error).splitlines()), "")
    what = "out of memory" if is_out_of_memory(error) else type(error).__name__
    return f"{what} on {platform.node()}, see its worker's log: {first}".removesuffix(": ")


class Cluster:
    """The workers of a Dask scheduler; a context manager.

    Args:
        scheduler: Its address, such as `tcp://host:8786`.

    Raises:
        ClusterError: None answers there.
    """

    def __init__(self, scheduler: str) -> None:
        try:
            self._client = Client(scheduler, timeout=_CONNECT_TIMEOUT)
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(f"no Dask scheduler answers at {scheduler}: {error}") from error

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def begin(self, work: Work, runs: Sequence[SweepRun]) -> Iterator[RunConfig | Failed]:
        """Begin each run, in order."""
        for future in [self._submit(begin_run, work, run) for run in runs]:
            yield self._outcome(future)

    def train(self, work: Work, tasks: Sequence[tuple[str, int]]) -> Iterator[TaskDone]:
        """Train folds of runs, (run, fold) each, and tell of each as it is done."""
        futures = {self._submit(train_one_fold, work, *task): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield TaskDone(*futures[future], self._outcome(future))
        finally:
            self._client.cancel(list(futures))

    def _submit(self, task: Callable[..., object], *arguments: object) -> Any:  # noqa: ANN401
        return self._client.submit(task, *arguments, pure=False)

    @staticmethod
    def _outcome(future: Any) -> Any:  # noqa: ANN401  (Dask has no types)
        try:
            return future.result()
        except KilledWorker:
            return Failed("its worker died several times; look at the workers' logs and memory")
        except CancelledError as error:
            raise ClusterError(
                "the Dask scheduler is gone; start it, and the same command goes on"
            ) from error
        except ImportError as error:
            return Failed(f"{error}: the workers need what this process has installed")

"""Training of folds by the workers of a Dask cluster, through `featurestore.cluster`.

A task is one held-out fold of one run. Workers read the store and write the run directory, so both
must be on storage they share; tasks contain settings, absolute paths, and digests of the files
there, which workers compare with what they see. If a worker dies, another one resumes its task from
the fold's last state.
"""

import logging
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from featurestore import FeatureStoreError, StoredDataset, open_store
from featurestore.errors import BusyError, UnfitWorkerError
from schemas import FoldResult, RunRecord
from trainer.config import ExecutionOptions
from trainer.errors import ClusterError, TrainerError
from trainer.oom import is_out_of_memory
from trainer.plan import plan_run
from trainer.records.rundir import RECORD, RunDirectory
from trainer.run import resume
from trainer.sweep import RUNS, SweepRun, start

_SHOWN_AFTER_S, _LOOK_EVERY_S = 40.0, 0.2
_BUSY_S = 2.0
"""Polling interval in seconds for a fold that another process trains."""
_LOG = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Work:
    """Settings that all tasks share.

    Args:
        store: Path or URL of the store, the same for all workers.
        dataset: Name of the dataset.
        fingerprint: Fingerprint of the dataset.
        out: Absolute path of the sweep's directory, the same for all workers.
        execution: Execution options.
    """

    store: str
    dataset: str
    fingerprint: str
    out: Path
    execution: ExecutionOptions

    def open(self) -> StoredDataset:
        """Open the dataset on a worker.

        Raises:
            UnfitWorkerError: The worker sees no store there, or a damaged or different one.
        """
        try:
            stored = open_store(self.store, self.dataset)
        except FeatureStoreError as error:
            raise UnfitWorkerError(f"on {platform.node()}: {error}") from error
        if stored.fingerprint != self.fingerprint:
            raise UnfitWorkerError(
                f"{self.store}: is another store on {platform.node()}: its fingerprint is "
                f"{stored.fingerprint[:12]}, not {self.fingerprint[:12]}; give a place that all "
                "workers share"
            )
        return stored


@dataclass(frozen=True)
class Failed:
    """A failure, described in one line."""

    reason: str


def begin_run(work: Work, run: SweepRun) -> RunRecord | Failed:
    """Create a run (task), with the device of the worker; return its record."""

    def begin() -> RunRecord:
        stored = work.open()
        plan = plan_run(stored, run.options, work.execution.folds_at_once)
        start(stored, run, work.out, work.execution, plan)
        return RunDirectory(work.out / RUNS / run.name).digested_record()

    return attempt(begin)


def train_one_fold(work: Work, task: tuple[str, str | None, int]) -> FoldResult | Failed:
    """Train or resume one fold (task).

    Args:
        work: Settings that all tasks share.
        task: Name of the run, digest of its run.json, and held-out fold.
    """
    run, record_sha256, fold = task
    path = work.out / RUNS / run

    def train() -> FoldResult:
        check_shared(path, record_sha256)
        stored = work.open()
        while True:
            try:
                resume(stored, path, execution=work.execution, folds=(fold,))
                break
            except BusyError:
                # The worker that had this task is thought lost, and is at it all the same: the
                # fold is its own until it ends or dies.
                time.sleep(_BUSY_S)
        result = RunDirectory(path).fold(fold).result()
        assert result is not None, "the fold was trained"  # noqa: S101
        return result

    return attempt(train)


def check_shared(path: Path, record_sha256: str | None) -> None:
    """Check that a run directory is the one created by another machine.

    Raises:
        ClusterError: It is not; waits for half a minute, as network file systems may lag.
    """
    deadline = time.monotonic() + _SHOWN_AFTER_S
    while not (path / RECORD).exists():
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{path}: is not what the worker that began the run has there: {platform.node()} "
                f"sees no {RECORD}; give an --out that this machine and all workers share"
            )
        time.sleep(_LOOK_EVERY_S)
    digest = RunDirectory(path).digested_record().sha256
    if digest != record_sha256:
        raise ClusterError(
            f"{path / RECORD}: is another one on {platform.node()}: its digest is "
            f"{str(digest)[:12]}, not {str(record_sha256)[:12]}; give an --out that this machine "
            "and all workers share"
        )


def attempt(task: Callable[[], _T]) -> _T | Failed:
    """Run a task, and return its result or its failure: errors of torch may not unpickle.

    Raises:
        UnfitWorkerError: Another worker should run the task.
    """
    try:
        return task()
    except UnfitWorkerError:
        raise  # another worker may
    except (TrainerError, FeatureStoreError) as error:
        return Failed(str(error))
    except (RuntimeError, MemoryError) as error:
        _LOG.exception("a task failed")
        return Failed(_worded(error))


def _worded(error: Exception) -> str:
    """Return an error of torch's in one line, with the machine; its worker's log has all of it."""
    first = next(iter(str(error).splitlines()), "")
    what = "out of memory" if is_out_of_memory(error) else type(error).__name__
    return f"{what} on {platform.node()}, see its worker's log: {first}".removesuffix(": ")


def died(_task: object) -> Failed:
    """Return the outcome of a task over which workers have died."""
    return Failed("its worker died several times; look at the workers' logs and memory")

"""Executor with Dask: on local processes, which are started here, or on a given scheduler."""

import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self, TypeVar

import dask
from distributed import LocalCluster

from featurestore.cluster import Cluster
from featurestore.cluster.connection import first_line
from featurestore.cores import usable_cores
from featurestore.errors import ClusterError
from featurestore.safepath import SAFE_PATH, restore
from featurestore.stopping import shielded

T = TypeVar("T")
R = TypeVar("R")

_LOOPBACK = "127.0.0.1"
_QUIET = {
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.tick.interval": "500ms",
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.worker.profile.enabled": False,
}
"""Dask's own housekeeping took an eighth of a core when idle; with these settings a fiftieth."""
_SET_BESIDES = ("PYTHONHASHSEED", "__DASK_PARENT_PID", SAFE_PATH)
"""Environment variables set for local workers in addition to Dask's settings."""
_ALLOWED_FAILURES = 1
"""Number of local workers that may die over a task before it is rescued. Dask also blames the tasks
that were queued on the dead worker, and these deserve a second chance."""
_CONNECT_TIMEOUT = "20s"
"""Timeout for a scheduler that neither accepts nor refuses a connection; it may be starting."""


class DaskExecutor:
    """Runs blocks on a cluster of local processes or of a given scheduler.

    A context manager: the local cluster is closed at the end of the `with` block.

    Args:
        workers: Number of local processes; None means one per core.
        scheduler: Address of a scheduler to use instead of a local cluster.
        notify: Called with a line if nothing happens or a worker cannot be used. Default: logging.
    """

    def __init__(
        self,
        workers: int | None = None,
        scheduler: str | None = None,
        notify: Callable[[str], object] | None = None,
    ) -> None:
        self._workers = workers or usable_cores()
        self._scheduler = scheduler
        self._notify = notify
        self._cluster: Cluster | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            place = self._start_local(stack) if self._scheduler is None else self._scheduler
            self._cluster = stack.enter_context(Cluster(place, self._notify, _CONNECT_TIMEOUT))
            # Only now: if the client fails, the local cluster is closed again.
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cluster = None
        self._stack.__exit__(kind, error, trace)

    def _start_local(self, stack: ExitStack) -> LocalCluster:
        environ = _what_is_set()
        stack.callback(restore, environ)  # a worker that was replaced had it set again
        os.environ[SAFE_PATH] = "1"
        try:
            cluster = _local_cluster(self._workers)
        finally:
            restore(environ)
        stack.callback(cluster.close)
        return cluster

    @property
    def dashboard_link(self) -> str | None:
        """URL of Dask's dashboard; None if it does not answer."""
        return None if self._cluster is None else self._cluster.dashboard_link

    def run(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        rescue: Callable[[T], R] | None = None,
    ) -> Iterator[R]:
        """Yield the results as they complete.

        Raises:
            ClusterError: The scheduler is gone, a task kills workers, or no worker can run it.
        """
        if self._cluster is None:
            raise RuntimeError("DaskExecutor.run outside its `with` block")
        for _, result in self._cluster.run(function, tasks, rescue):
            yield result


def _local_cluster(workers: int) -> LocalCluster:
    """Start one single-threaded process per worker: decoding and FFTs hold the GIL."""
    settings = {
        **_QUIET,
        "distributed.scheduler.allowed-failures": _ALLOWED_FAILURES,
        # For the workers that replace those that die, too: they are started by a thread of Dask's.
        "distributed.nanny.pre-spawn-environ": {
            **dask.config.get("distributed.nanny.pre-spawn-environ"),
            SAFE_PATH: "1",
        },
    }
    try:
        with dask.config.set(settings), shielded():
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host=_LOOPBACK,
                # Dask's own default listens on every interface.
                dashboard_address=f"{_LOOPBACK}:0",
                silence_logs=logging.CRITICAL,
                preload=["featurestore.building.executors.dask"],
            )
    except (OSError, RuntimeError, TimeoutError) as error:
        raise ClusterError(
            f"{workers} local worker processes cannot be started: {first_line(error)}. Fewer may "
            "(`--workers`), or none (`--workers 0`)"
        ) from error


def _what_is_set() -> dict[str, str | None]:
    """Variables that are set for workers, in this process, where Dask leaves them; as of now.

    What this process starts afterwards would have one thread, and a malloc that keeps nothing: it
    read a store at half the speed.
    """
    names = dask.config.get("distributed.nanny.pre-spawn-environ")
    return {name: os.environ.get(name) for name in (*names, *_SET_BESIDES)}


def dask_setup(worker: object) -> None:
    """Ignore Ctrl-C in a local worker (called by Dask): the build stops its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

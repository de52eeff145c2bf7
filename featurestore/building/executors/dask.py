"""Blocks run by Dask: the only module that imports it."""

import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

import dask
from distributed import Client, LocalCluster, as_completed
from distributed.scheduler import KilledWorker

from featurestore.cores import usable_cores
from featurestore.errors import BuildError

T = TypeVar("T")
R = TypeVar("R")

_TASKS_A_WORKER = 3
"""In flight: one that runs, and enough behind it that no worker waits for the scheduler."""
_QUIET = {
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.tick.interval": "500ms",
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.worker.profile.enabled": False,
}
"""What Dask's processes do beside our work took an eighth of a core, idle; now a fiftieth."""
_SET_BESIDES = ("PYTHONHASHSEED", "__DASK_PARENT_PID")
"""Variables that Dask sets for its workers beside those that its settings name."""
_ALLOWED_FAILURES = 1
"""Workers of the local cluster that may die over a task before it is rescued. Dask blames the
tasks that waited on that worker as well, and these deserve a second chance."""
_RESCUES = 3
"""Of a task; a rescue, too, may be blamed for what killed its worker."""
_DIED = (
    "worker processes died over a block although each of its files was opened in a process of its "
    "own: look at the workers' logs and their memory. What is committed is safe"
)
_CONNECT_TIMEOUT = "20s"
"""For a scheduler to answer; one that was just submitted to a batch system may be late."""


class DaskExecutor:
    """Dask futures with a bounded window, on a cluster of local processes or on a given scheduler.

    A context manager: the local cluster lives as long as the block.

    Args:
        workers: Processes of the local cluster; None is one a core.
        scheduler: Address of a scheduler; no local cluster is started then.
    """

    def __init__(self, workers: int | None = None, scheduler: str | None = None) -> None:
        self._workers = workers or usable_cores()
        self._scheduler = scheduler
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._environ: dict[str, str | None] = {}

    def __enter__(self) -> Self:
        if self._scheduler is None:
            self._environ = _what_dask_sets()
            try:
                self._cluster = _local_cluster(self._workers)
            finally:
                _restore(self._environ)
        self._client = _client(self._cluster or self._scheduler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for owned in (self._client, self._cluster):
            if owned is not None:
                owned.close()
        _restore(self._environ)  # a worker that was replaced had it set again

    @property
    def dashboard_link(self) -> str | None:
        """Address of Dask's dashboard; None for local workers without bokeh, which draws it."""
        if self._client is None or (self._cluster is not None and find_spec("bokeh") is None):
            return None
        link: str | None = self._client.dashboard_link
        return link

    def run(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        rescue: Callable[[T], R] | None = None,
    ) -> Iterator[R]:
        """Yield the results as they come; at most a few tasks a worker are in flight."""
        client = self._client
        if client is None:
            raise RuntimeError("DaskExecutor.run outside its `with` block")
        queue = iter(tasks)
        window = _TASKS_A_WORKER * max(1, len(client.nthreads()) or self._workers)
        started: dict[Any, T] = {}
        rescues: dict[Any, int] = {}

        def submit(function: Callable[[T], R], task: T) -> Any:  # noqa: ANN401  (no types)
            future = client.submit(function, task, pure=False)
            started[future.key] = task
            return future

        running = as_completed([submit(function, task) for task in islice(queue, window)])
        try:
            for future in running:
                task = started.pop(future.key)
                try:
                    result = future.result()
                except KilledWorker as error:
                    tried = rescues.pop(future.key, 0)
                    if rescue is None or tried == _RESCUES:
                        raise BuildError(_DIED) from error
                    again = submit(rescue, task)
                    rescues[again.key] = tried + 1
                    running.add(again)
                    continue
                yield result
                running.update([submit(function, task) for task in islice(queue, 1)])
        finally:
            client.cancel(list(running.futures))


def _local_cluster(workers: int) -> LocalCluster:
    """One single-threaded process a worker: decoding and FFTs hold the interpreter's lock."""
    settings = {**_QUIET, "distributed.scheduler.allowed-failures": _ALLOWED_FAILURES}
    with dask.config.set(settings):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
            preload=["featurestore.building.executors.dask"],
        )


def _what_dask_sets() -> dict[str, str | None]:
    """Variables that Dask sets for its workers, in this process, where it leaves them; as of now.

    What this process starts afterwards would have one thread, and a malloc that keeps nothing: it
    read a store at half the speed.
    """
    names = dask.config.get("distributed.nanny.pre-spawn-environ")
    return {name: os.environ.get(name) for name in (*names, *_SET_BESIDES)}


def _restore(environ: Mapping[str, str | None]) -> None:
    for name, value in environ.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _client(address: LocalCluster | str | None) -> Client:
    try:
        return Client(address, timeout=_CONNECT_TIMEOUT)
    except (OSError, TimeoutError, ValueError) as error:
        raise BuildError(f"no Dask scheduler answers at {address}: {error}") from error


def dask_setup(worker: object) -> None:
    """Called by Dask in each local worker: Ctrl-C is for the build, which stops its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

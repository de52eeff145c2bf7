"""Tasks on a Dask cluster: submitted in lots, queued by the scheduler, collected as they complete.

Workers may come and go. One that is unfit, or that lacks this package, is reported, and its tasks
are given to others. If the scheduler is restarted, unfinished tasks are submitted again.
"""

import logging
import pickle
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from distributed import Client, LocalCluster, as_completed
from distributed.client import ClosedClientError
from distributed.scheduler import KilledWorker

from featurestore.cluster import connection
from featurestore.cluster.connection import connect, first_line, silent_logs
from featurestore.cluster.idle import Idle
from featurestore.errors import ClusterError, FeatureStoreError, UnfitWorkerError
from featurestore.text import quantity

T = TypeVar("T")
R = TypeVar("R")
Notify = Callable[[str], object]

_LOT = 10_000
"""Maximum number of tasks held by the scheduler, about 5 kB each; refilled by half at a time."""
_POLL_S = 0.1
_RESCUES = 3
"""Maximum number of rescues of a task: a rescue may be blamed for the death of another task."""
_RETURN_S = 20.0
"""Seconds to wait for a lost scheduler to return."""
_LOSSES = 5
"""Number of times that all tasks may be lost, with none completed in between, before giving up."""
_UNFIT_S = 60.0
"""Seconds to wait for a suitable worker if earlier ones have completed tasks and left."""
_LAST_WAIT_S = 10.0
"""Seconds to wait for running tasks after the rest is cancelled."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Attempt(Generic[T]):
    """A task that was handed over."""

    task: T
    rescues: int = 0
    function: Callable[[T], Any] = field(kw_only=True)


@dataclass(frozen=True)
class _Lot(Generic[T]):
    """State of a call of `run`: the futures in the scheduler's hands, and who rescues them."""

    name: str
    client: Client
    completed: Any
    live: dict[Any, _Attempt[T]] = field(default_factory=dict)


class Cluster:
    """Runs tasks on the workers of a Dask scheduler. A context manager.

    Args:
        scheduler: Address, such as `tcp://host:8786`, or a local cluster, which is not closed.
        notify: Called with a line if nothing happens or a worker cannot be used. Default: logging.
        timeout: Timeout for a scheduler that neither accepts nor refuses a connection.

    Raises:
        ClusterError: No scheduler answers there.
    """

    def __init__(
        self, scheduler: str | LocalCluster, notify: Notify | None = None, timeout: str = "20s"
    ) -> None:
        self._scheduler = scheduler
        self._notify = notify or _LOG.warning
        self._timeout = timeout
        self._stack = ExitStack()
        self._client: Client | None = None
        self._lots: list[_Lot[Any]] = []
        self._unfit: dict[str, str] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(silent_logs())
            self._client = connect(self._scheduler, self._timeout)
            stack.callback(self._close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            for lot in list(self._lots):  # of a `run` that nobody has finished
                self._abandon(lot)

    def _close(self) -> None:
        if self._client is not None:
            with suppress(*_LOST):
                self._client.close()
            self._client = None

    @property
    def dashboard_link(self) -> str | None:
        """URL of the scheduler's dashboard; None if it does not answer."""
        return connection.dashboard_link(self._connected())

    def _connected(self) -> Client:
        if self._client is None:
            raise RuntimeError("a Cluster outside its `with` block")
        return self._client

    def run(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        rescue: Callable[[T], R] | None = None,
    ) -> Iterator[tuple[T, R]]:
        """Yield each task with its result as they complete; an error of a task is raised here.

        If the iterator is closed early, running tasks get a few seconds to finish.

        Args:
            function: Module-level function that the workers can import. May be rerun for a task
                whose worker died, and raises UnfitWorkerError if another worker should run it.
            tasks: Arguments of the function, one per call.
            rescue: Function to run instead for a task that has killed workers.

        Raises:
            ClusterError: The scheduler is gone, a task kills workers, or no worker can run it.
        """
        idle = Idle(self._scheduler, self._notify)
        queue = iter(tasks)
        lot = self._new_lot(function)
        losses = 0
        try:
            self._fill(lot, function, queue)
            if lot.live:
                idle.begin(lot.client)
            while lot.live:
                future, outcome = self._next(lot, idle)
                attempt = lot.live.pop(future.key, None) if future is not None else None
                if future is None or isinstance(outcome, CancelledError):
                    losses += 1
                    lost = [attempt, *lot.live.values()] if attempt else [*lot.live.values()]
                    lot = self._given_again(lot, lost, losses)
                elif attempt is not None:
                    result = self._judged(lot, attempt, future, outcome, rescue, idle)
                    if result:
                        losses = 0
                        idle.progressed()
                        yield attempt.task, result[0]
                        if len(lot.live) <= _LOT // 2:
                            self._fill(lot, function, queue)
        finally:
            self._abandon(lot)

    def _new_lot(self, function: Callable[..., object]) -> _Lot[Any]:
        client = self._connected()
        called = getattr(function, "func", function)  # of a partial
        name = f"{getattr(called, '__name__', 'task')}-{uuid.uuid4().hex[:8]}"
        completed = as_completed(with_results=True, raise_errors=False, loop=client.loop)
        lot: _Lot[Any] = _Lot(name, client, completed)
        self._lots.append(lot)
        return lot

    def _fill(self, lot: _Lot[T], function: Callable[[T], R], queue: Iterator[T]) -> None:
        room = _LOT - len(lot.live)
        self._submit(lot, [_Attempt(task, function=function) for task in islice(queue, room)])

    def _submit(
        self, lot: _Lot[T], attempts: list[_Attempt[T]], workers: list[str] | None = None
    ) -> None:
        """Hand tasks over in one message, as bytes that only a worker reads.

        Where the scheduler is lost, that is found where the next outcome is awaited.
        """
        if not attempts:
            return
        keys = [f"{lot.name}-{uuid.uuid4().hex}" for _ in attempts]
        payloads = [pickle.dumps((attempt.function, attempt.task)) for attempt in attempts]
        lot.live.update(zip(keys, attempts, strict=True))
        with suppress(*_LOST):
            futures = lot.client.map(
                _enter,
                payloads,
                key=keys,
                pure=False,
                workers=workers,
                allow_other_workers=bool(workers),
            )
            lot.completed.update(futures)

    def _next(self, lot: _Lot[T], idle: Idle) -> tuple[Any, Any]:
        """Return the next future done, with its outcome; (None, None) if the scheduler is lost."""
        completed = lot.completed
        while not completed.has_ready():
            if lot.client.status != "running" or completed.is_empty():
                return None, None
            idle.tick(lot.client)
            with completed.thread_condition:
                completed.thread_condition.wait(_POLL_S)
        future, outcome = next(completed)
        return future, outcome

    def _judged(
        self,
        lot: _Lot[T],
        attempt: _Attempt[T],
        future: Any,  # noqa: ANN401  (Dask has no types)
        outcome: Any,  # noqa: ANN401
        rescue: Callable[[T], R] | None,
        idle: Idle,
    ) -> list[R]:
        """Return the result of a task; none if it was handed over again."""
        if future.status == "error":
            error = outcome[1]
            if isinstance(error, KilledWorker) and rescue and attempt.rescues < _RESCUES:
                again = replace(attempt, function=rescue, rescues=attempt.rescues + 1)
                self._submit(lot, [again])
                return []
            raise _translated(error)
        if outcome[0] == "done":
            return [outcome[1]]
        self._pass_on(lot, attempt, outcome[1], outcome[2], idle)
        return []

    def _pass_on(
        self, lot: _Lot[T], attempt: _Attempt[T], fault: str, address: str, idle: Idle
    ) -> None:
        """Give a task of a worker that cannot do it to another one.

        Raises:
            ClusterError: There is no other, and has not been one for a while.
        """
        if self._unfit.get(address) != fault:
            self._unfit[address] = fault
            self._notify(f"the worker at {address} cannot be used: {fault}")
        fit_workers: list[str] | None = None
        with suppress(*_LOST):  # reported where the next outcome is awaited
            fit_workers = [name for name in lot.client.nthreads() if name not in self._unfit]
        if fit_workers is None:
            lot.live[uuid.uuid4().hex] = attempt  # until all are handed over again
            return
        hopeless = not isinstance(self._scheduler, str) or idle.lasts(_UNFIT_S)
        if not fit_workers and (hopeless or not idle.any_progress):
            raise ClusterError(
                f"no worker of the cluster can be used; the one at {address}: {fault}"
            )
        self._submit(lot, [attempt], fit_workers or None)

    def _given_again(self, lot: _Lot[T], attempts: list[_Attempt[T]], losses: int) -> _Lot[T]:
        """Hand over what a scheduler has lost, to one that is there (again).

        Raises:
            ClusterError: It does not come back, or loses everything time and again.
        """
        self._lots.remove(lot)
        if losses > _LOSSES or not isinstance(self._scheduler, str):
            raise ClusterError(f"{self._gone}. {_SAFE}")
        if lot.client.status != "running":
            self._reconnect()
        fresh = self._new_lot(attempts[0].function)
        self._submit(fresh, attempts)
        return fresh

    @property
    def _gone(self) -> str:
        return f"the Dask scheduler at {self._scheduler} is gone, or has cancelled the tasks"

    def _reconnect(self) -> None:
        self._notify(f"the Dask scheduler at {self._scheduler} is gone: waiting {_RETURN_S:.0f} s")
        self._close()
        deadline = time.monotonic() + _RETURN_S
        while self._client is None:
            try:
                self._client = connect(self._scheduler, self._timeout)
            except ClusterError as error:
                if time.monotonic() > deadline:
                    raise ClusterError(f"{self._gone} ({error}). {_SAFE}") from error
        self._notify("the scheduler is back: tasks are submitted again")

    def _abandon(self, lot: _Lot[Any]) -> None:
        """Cancel what is left of a lot, and wait a while for what workers have started."""
        if lot not in self._lots:
            return
        self._lots.remove(lot)
        if not lot.live or lot.client.status != "running":
            return
        futures = list(lot.completed.futures)
        with suppress(*_LOST):
            lot.client.cancel(futures)
            if isinstance(self._scheduler, str):
                self._wait_for_started(lot)

    def _wait_for_started(self, lot: _Lot[Any]) -> None:
        deadline, announced = time.monotonic() + _LAST_WAIT_S, False
        while running := _executing(lot):
            number = quantity(sum(map(len, running.values())), "task")
            where = f"{number} at {', '.join(sorted(running))}"
            if time.monotonic() > deadline:
                self._notify(f"still running: {where}. They end by themselves")
                return
            if not announced:
                announced = True
                self._notify(f"waiting up to {_LAST_WAIT_S:.0f} s for {where}")
            time.sleep(_POLL_S)


_SAFE = "Finished work is safe; start it, and rerun the same command"
_LOST = (
    OSError,
    CancelledError,
    RuntimeError,
    TimeoutError,
    ValueError,
    AttributeError,
    ClosedClientError,
)
"""Errors of Dask's client if the scheduler is gone; errors of tasks are returned as outcomes."""


def _entry() -> Callable[[bytes], tuple[Any, ...]]:
    """Return a function sent by its code, which runs also where this package is not installed."""

    def enter(payload: bytes) -> tuple[Any, ...]:
        import pickle
        import time

        from distributed import get_worker

        try:
            function, task = pickle.loads(payload)  # noqa: S301  (the client's own)
            from featurestore.errors import UnfitWorkerError
        except Exception as error:  # noqa: BLE001  (another version fails in many ways)
            what = f"{type(error).__name__}: {error}".splitlines()[0]
            fault = f"it has not the same featurestore installed as the client ({what})"
        else:
            try:
                return "done", function(task)
            except UnfitWorkerError as error:
                fault = str(error)
        time.sleep(1)  # so that it does not take, and fail, all tasks before others can
        return "unfit", fault, get_worker().address

    return enter


_enter = _entry()


def _executing(lot: _Lot[Any]) -> dict[str, list[str]]:
    """Keys of the lot's tasks that workers have not ended, by the worker's address."""
    prefix = lot.name

    def executing(dask_worker: Any) -> list[str]:  # noqa: ANN401
        return [t.key for t in dask_worker.state.executing if str(t.key).startswith(prefix)]

    running = lot.client.run(executing, on_error="ignore", callback_timeout=2)
    return {address: keys for address, keys in running.items() if keys}


def _translated(error: BaseException) -> BaseException:
    """Return an error of a task: ours and the machine's as they are, Dask's own in a line."""
    if isinstance(error, UnfitWorkerError | FeatureStoreError):
        return error
    if isinstance(error, KilledWorker):
        return ClusterError(
            "worker processes died over the same task several times: look at the workers' logs "
            "and their memory. What is finished is safe"
        )
    if type(error).__module__.startswith(("distributed", "dask", "tornado")) or _is_skew(error):
        return ClusterError(f"the Dask cluster failed: {first_line(error)}")
    return error


def _is_skew(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and "deserialization of the task graph" in str(error)

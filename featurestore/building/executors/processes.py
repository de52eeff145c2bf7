"""Executor with processes of this machine, started at once and without Dask.

One process imports what blocks need while the build is still being planned; the workers are then
forked from it, at most one per task. Each worker has one task at a time, so that the task that
kills it is known.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe, wait
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from featurestore.building.executors.worker import FAILED, HALF_DONE, TAKEN
from featurestore.cores import usable_cores
from featurestore.errors import ClusterError, cause
from featurestore.safepath import SAFE_PATH, interpreter
from featurestore.stopping import shielded

T = TypeVar("T")
R = TypeVar("R")

_WORKER = "featurestore.building.executors.worker"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Decoding and FFTs hold the GIL; and a process may only be forked while it has one thread."""
_RESCUES = 3
"""Maximum number of rescues of a task: a rescue may itself be killed by somebody."""
_STARTS = 3
"""Number of workers that may die before they take a task, before the build gives up."""
_END_S = 10.0
_CAN_FORK = sys.platform == "linux"
"""Elsewhere, system libraries start threads of their own, so each worker is a fresh interpreter."""


@dataclass(frozen=True)
class _Attempt(Generic[T]):
    """A task: how often workers have died over it, and before; whether one is at it."""

    function: Callable[[T], Any]
    task: T
    deaths: int = 0
    failed_starts: int = 0
    taken: bool = False


@dataclass
class _InHand(Generic[T]):
    """The tasks of a busy worker: one at its first step, one at its second."""

    first: _Attempt[T] | None
    second: _Attempt[T] | None = None

    @property
    def attempts(self) -> list[_Attempt[T]]:
        """The tasks that are lost if the worker dies."""
        return [attempt for attempt in (self.second, self.first) if attempt is not None]

    def take(self) -> None:
        """Note that the task at hand was read."""
        if self.first is not None:
            self.first = replace(self.first, taken=True)

    def halve(self, following: _Attempt[T] | None) -> None:
        """Note that the first step is done, and what is next."""
        self.first, self.second = following, self.first

    def finish(self) -> None:
        """Note that a task is done: answers come in the order of the tasks."""
        if self.second is not None:
            self.second = None
        else:
            self.first = None


class _Work(Generic[T]):
    """The tasks of a run: those that workers have, and those to be handed over.

    Args:
        function: What is run.
        tasks: Its arguments.
        send: Gives a task to a worker that has nothing to do, and returns its channel.
        again: Returns what is run in place of a task whose worker died.
    """

    def __init__(
        self,
        function: Callable[[T], Any],
        tasks: Iterable[T],
        send: Callable[[_Attempt[T]], Connection],
        again: Callable[[_Attempt[T]], _Attempt[T]],
    ) -> None:
        self._queue = (_Attempt(function, task) for task in tasks)
        self._lost: list[_Attempt[T]] = []
        self._send, self._again = send, again
        self.busy: dict[Connection, _InHand[T]] = {}

    def _next(self) -> _Attempt[T] | None:
        return self._again(self._lost.pop()) if self._lost else next(self._queue, None)

    def hand_over(self) -> bool:
        """Give the next task to a worker that has nothing to do; return False if none is left."""
        attempt = self._next()
        if attempt is not None:
            self.busy[self._send(attempt)] = _InHand(attempt)
        return attempt is not None

    def is_result(self, channel: Connection, message: object) -> bool:
        """Note a busy worker's message, or its death (None); return whether a task has ended."""
        in_hand = self.busy[channel]
        if message == TAKEN:
            in_hand.take()
        elif message == HALF_DONE:
            in_hand.halve(self._next())
            _give(channel, in_hand.first)
        elif message is None:
            channel.close()
            del self.busy[channel]
            self._lost += in_hand.attempts
            self.hand_over()
        else:
            in_hand.finish()
            if not in_hand.attempts:
                del self.busy[channel]
            return True
        return False


class ProcessExecutor:
    """Runs blocks on processes of this machine. A context manager; entering does not wait for them.

    Args:
        workers: Maximum number of processes; None means one per core.
        preload: Module that they import as they start.
        fork: Whether workers are forked from one process that has imported it, or are fresh
            interpreters.
    """

    def __init__(
        self,
        workers: int | None = None,
        preload: str = "featurestore.building.block",
        fork: bool = _CAN_FORK,
    ) -> None:
        self._workers = workers or usable_cores()
        self._preload, self._fork = preload, fork
        self._idle: list[Connection] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._control: socket.socket | None = None
        self._forked = False

    def __enter__(self) -> Self:
        try:
            if self._fork:
                self._start_server()
            else:
                for _ in range(self._workers):
                    self._idle.append(self._new_worker())
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        for channel in self._idle:
            channel.close()
        if self._control is not None:
            self._control.close()
        for process in self._processes:
            if not self._forked:  # it may still be importing, and has nobody to end
                process.kill()
            _wait(process)
        self._idle, self._processes, self._control = [], [], None

    def run(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        rescue: Callable[[T], R] | None = None,
    ) -> Iterator[R]:
        """Yield the results as they complete. Closing the iterator early kills busy workers.

        Raises:
            ClusterError: Workers cannot be started, or a task kills them.
        """
        work = _Work(function, tasks, self._send, lambda lost: self._again(lost, rescue))
        try:
            while len(work.busy) < self._workers and work.hand_over():
                pass
            while work.busy:
                for channel in cast("list[Connection]", wait(list(work.busy))):
                    message = _receive(channel)
                    if not work.is_result(channel, message):
                        continue
                    kind, result = message
                    if channel not in work.busy:
                        self._idle.append(channel)
                    if kind == FAILED:
                        raise result
                    if channel not in work.busy:
                        work.hand_over()
                    yield result
        finally:
            for channel in work.busy:
                channel.close()

    def _again(self, attempt: _Attempt[T], rescue: Callable[[T], Any] | None) -> _Attempt[T]:
        """Return what is run in place of an attempt over which a worker died.

        Raises:
            ClusterError: It was tried often enough.
        """
        if not attempt.taken:
            if attempt.failed_starts < _STARTS:
                return replace(attempt, failed_starts=attempt.failed_starts + 1)
            raise _cannot_start(self._workers, "they die as they start")
        if rescue is None or attempt.deaths == _RESCUES:
            raise ClusterError(
                "worker processes died over the same task several times: is there memory left? "
                "Finished blocks are safe; rerun the same command"
            )
        return _Attempt(rescue, attempt.task, attempt.deaths + 1)

    def _send(self, attempt: _Attempt[Any]) -> Connection:
        """Give a task to an idle worker, or to a new one, and return its channel."""
        while self._idle:
            channel = self._idle.pop()
            if _give(channel, attempt):
                return channel
            channel.close()  # it was killed while it had nothing to do
        channel = self._new_worker()
        _give(channel, attempt)
        return channel

    def _new_worker(self) -> Connection:
        channel, worker_end = Pipe()
        with worker_end:
            if not self._fork:
                try:
                    self._start("work", worker_end.fileno())
                except ClusterError:
                    channel.close()
                    raise
                return channel
            for _ in range(2):
                with suppress(OSError):
                    socket.send_fds(self._server, [b"f"], [worker_end.fileno()])
                    self._forked = True
                    return channel
                self._start_server()  # it was killed
        return channel

    @property
    def _server(self) -> socket.socket:
        if self._control is None:
            raise RuntimeError("ProcessExecutor.run outside its `with` block")
        return self._control

    def _start_server(self) -> None:
        if self._control is not None:
            self._control.close()
        self._control, server_end = socket.socketpair()
        with server_end:
            self._start("fork", server_end.fileno())

    def _start(self, kind: str, descriptor: int) -> None:
        command = [*interpreter(_WORKER, kind, str(descriptor), self._preload)]
        try:
            with shielded():
                process = subprocess.Popen(  # noqa: S603
                    command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[descriptor],
                    env={**os.environ, **_ONE_THREAD, SAFE_PATH: "1"},
                )
        except OSError as error:
            raise _cannot_start(self._workers, cause(error)) from error
        self._processes.append(process)


def _give(channel: Connection, attempt: _Attempt[Any] | None) -> bool:
    """Send a task, if there is one, to a worker; a dead one is noticed where it should answer."""
    with suppress(OSError):
        if attempt is not None:
            channel.send((attempt.function, attempt.task))
        return True
    return False


def _receive(channel: Connection) -> Any:  # noqa: ANN401
    """Return a worker's next answer; None if it is dead."""
    try:
        return channel.recv()
    except (EOFError, OSError):
        return None


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that has been told to end, and kill it if it does not."""
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _cannot_start(workers: int, reason: str) -> ClusterError:
    return ClusterError(
        f"{workers} local worker processes cannot be started: {reason}. Fewer may (`--workers`), "
        "or none (`--workers 0`)"
    )

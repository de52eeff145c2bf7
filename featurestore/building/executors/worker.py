"""A worker process of `processes`, and the server that forks workers. Runs no thread of its own.

The server imports what blocks need and waits on its socket: each message carries one end of a
channel, for which it forks a worker. Forking is safe because the server has started no thread by
then. When its socket closes, it kills the remaining workers and exits.
"""

import importlib
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from featurestore.building.executors import TwoSteps

TAKEN = b"taken"
"""First answer to a task: it was received, so that the task is to blame if the worker now dies."""
HALF_DONE = b"half done"
"""Answer after a task's first step: another task may be sent while the second step runs."""
DONE, FAILED = "done", "failed"
"""First part of the last answer to a task; the second part is its result or error."""


def main(kind: str, descriptor: str, preload: str) -> None:
    """Import a module, then act as a worker on a channel (`work`) or fork workers (`fork`).

    Args:
        kind: `work` or `fork`.
        descriptor: File descriptor of the inherited channel or socket.
        preload: Module to import.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are for the build, which stops its workers
    with suppress(OSError):
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a decoder prints is no output
    importlib.import_module(preload)
    if kind == "work":
        _work(int(descriptor))
    else:
        _fork_workers(int(descriptor))


def _fork_workers(descriptor: int) -> None:
    workers: set[int] = set()
    with socket.socket(fileno=descriptor) as control:
        while True:
            message, channels, *_ = socket.recv_fds(control, 1, 1)
            if not message:
                break
            workers -= {worker for worker in workers if os.waitpid(worker, os.WNOHANG)[0]}
            with suppress(OSError):  # no memory for another: its channel closes, which says so
                if (worker := os.fork()) == 0:
                    try:
                        control.close()
                        _work(channels[0])
                    finally:
                        os._exit(1)  # whatever happened, this is no second server
                workers.add(worker)
            os.close(channels[0])
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)


def _work(descriptor: int) -> None:
    """Run tasks from a channel until it closes."""
    threading.Thread(target=end_with, args=(descriptor,), daemon=True).start()
    channel, turn = Connection(descriptor), threading.Lock()

    def answer(message: object) -> None:
        with turn:
            channel.send(message)

    def finish(function: Callable[[Any], Any], half_done: object) -> None:
        answer(_run(function, half_done))

    # Of the channel: nobody waits any more.
    with suppress(EOFError, OSError), ThreadPoolExecutor(1) as pool:
        finishing: Future[None] | None = None
        while True:
            function, task = channel.recv()
            answer(TAKEN)
            halved = isinstance(function, TwoSteps)
            kind, result = _run(function.first if halved else function, task)
            if finishing is not None:
                finishing.result()  # answers keep the order of the tasks
            finishing = None
            if halved and kind == DONE:
                answer(HALF_DONE)
                finishing = pool.submit(finish, function.second, result)
            else:
                answer((kind, result))


def _run(function: Callable[[Any], Any], task: object) -> tuple[str, Any]:
    try:
        return DONE, function(task)
    except Exception as error:  # noqa: BLE001  (raised again on the other side)
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        return FAILED, error


def end_with(descriptor: int) -> None:
    """Kill this process, whatever it is doing, as soon as the other end of a channel closes.

    Workers of a killed build must not continue writing.
    """
    poll = select.poll()
    poll.register(descriptor, 0)  # hang-ups and errors only
    poll.poll()
    os._exit(0)

"""A block in a process of its own, for blocks that have killed workers.

The process reports which row it is about to open. If it dies, that row is to blame; after the
second death the block is rerun without it. So a file that crashes the decoder costs one clip, not
the build.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import IO, Any, TypeVar, cast

from featurestore.building.block import BlockTask
from featurestore.building.executors.worker import end_with
from featurestore.errors import BuildError
from featurestore.safepath import interpreter
from featurestore.stopping import shielded

T = TypeVar("T", bound=BlockTask)
R = TypeVar("R")

_DEATHS = 2
"""Number of deaths at the same row before it is given up: the first may be somebody's `kill`."""


def run_isolated(function: Callable[..., R], task: T) -> R:
    """Return `function(task, starting)`, run in a process of its own and rerun as often as needed.

    Args:
        function: Module-level function; calls `starting(row)` before it opens a row's file and
            `starting(len(block))` after the last, and leaves the rows of `task.crashed` alone.
        task: The block.

    Raises:
        BuildError: The process dies while no file is open.
        Exception: Any error raised by `function`.
    """
    deaths: Counter[int] = Counter()
    row: int | None = None
    while True:
        results, row, code = _attempt(function, task)
        if results:
            return results[0]
        if row is None:
            raise BuildError(
                f"a process died with no file open ({_cause(code)}) in {task.block}. Is there "
                "memory left? Finished blocks are safe; rerun the same command"
            )
        deaths[row] += 1
        if deaths[row] == _DEATHS:
            task = replace(task, crashed={**task.crashed, row: _cause(code)})


def _attempt(function: Callable[..., R], task: T) -> tuple[list[R], int | None, int]:
    """Return the result, if the process lived to give it; the row it had open; its exit code."""
    results: list[Any] = []
    row = None
    with shielded():
        started = subprocess.Popen(  # noqa: S603
            interpreter(__name__), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    with started as process:
        try:
            _hand_over((function, task), cast("IO[bytes]", process.stdin))
            for message in _messages(cast("IO[bytes]", process.stdout)):
                if isinstance(message, int):
                    row = message if message < len(task.block) else None
                else:
                    results.append(message)
        except BaseException:
            process.kill()
            raise
    if results and isinstance(results[0], BaseException):
        raise results[0]
    return results, row, process.returncode


def _hand_over(work: object, stream: IO[bytes]) -> None:
    with suppress(BrokenPipeError), stream:  # where it died at once, its exit code says so
        pickle.dump(work, stream)


def _messages(stream: IO[bytes]) -> Iterator[Any]:
    while True:
        try:
            yield pickle.load(stream)  # noqa: S301  (our own process's)
        except (EOFError, pickle.UnpicklingError):
            return


def _cause(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def main() -> None:
    """Run the task on standard input and write its result to standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the build
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a decoder prints is no message
    threading.Thread(target=end_with, args=(channel.fileno(),), daemon=True).start()
    function, task = pickle.load(sys.stdin.buffer)  # noqa: S301

    def tell(message: object) -> None:
        channel.write(pickle.dumps(message))

    try:
        tell(function(task, tell))
    except BrokenPipeError:
        pass  # nobody waits any more
    except Exception as error:  # noqa: BLE001  (raised again on the other side)
        tell(error)

"""Executors of a build's blocks: serial (this module), on local processes, or on Dask.

An executor takes a function and tasks and yields the results as they complete. It knows nothing
about the work; the function must be idempotent, since a task may be run again.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class TwoSteps(Generic[R]):
    """A function of a task in two steps, the second of which mostly waits for I/O.

    Calling it runs both. An executor may run the second step in another thread while the first step
    of the next task runs, but never the same step twice at once: at most two tasks are in memory.

    Args:
        first: Function of the task, and of any other arguments of the call.
        second: Function of the result of `first`. May run during another call of `first`.
    """

    first: Callable[..., Any]
    second: Callable[[Any], R]

    def __call__(self, task: object, *more: object) -> R:
        """Run both steps, one after the other."""
        return self.second(self.first(task, *more))


class Executor(Protocol):
    """Interface of executors: runs a function over tasks."""

    def run(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        rescue: Callable[[T], R] | None = None,
    ) -> Iterator[R]:
        """Yield the result of each task, in any order; a failing task raises here.

        Args:
            function: Function to run; with `TwoSteps`, the second step of a task may overlap the
                first of the next.
            tasks: Arguments of the function, one per call.
            rescue: Function to run instead for a task that has killed worker processes.
        """
        ...


class SerialExecutor:
    """Runs one task after another in this process, without protection against crashes."""

    def run(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        rescue: Callable[[T], R] | None = None,
    ) -> Iterator[R]:
        """Yield the results in order. Nothing runs in the background while one is yielded."""
        if not isinstance(function, TwoSteps):
            yield from map(function, tasks)
            return
        # Leaving the pool waits for the step that runs: it is never cut short, as by Ctrl-C.
        with ThreadPoolExecutor(1, "second-step") as pool:
            running: Future[R] | None = None
            for task in tasks:
                half_done = function.first(task)
                if running is not None:
                    yield running.result()
                running = pool.submit(function.second, half_done)
            if running is not None:
                yield running.result()

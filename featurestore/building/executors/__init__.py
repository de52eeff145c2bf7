"""Executors of a build's blocks: serial (this module), on local processes, or on Dask.

An executor takes a function and tasks and yields the results as they come. It knows nothing of
what is done; the function is idempotent, so a task may be run again.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class TwoSteps(Generic[R]):
    """A function of a task in two steps, the second of which mostly waits for a disk or a server.

    Called, it runs both. An executor may run the second in another thread while the first of the
    next task runs, but never two of the same kind at once: two tasks are in memory at the most.

    Args:
        first: Function of the task, and of whatever else this is called with.
        second: Function of what `first` returns. Runs while another call of `first` does.
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
            function: What to run; of `TwoSteps`, the second may overlap the next task's first.
            tasks: Its arguments, one after another.
            rescue: Run in its place for a task over which worker processes have died.
        """
        ...


class SerialExecutor:
    """One task after another, in this process, which a task that kills it takes along."""

    def run(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        rescue: Callable[[T], R] | None = None,
    ) -> Iterator[R]:
        """Yield the results in order. Whenever one is yielded or this ends, nothing runs."""
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

"""Executors of a build's blocks: serial (this module), on local processes, or on Dask.

An executor takes a function and tasks and yields the results as they come. It knows nothing of
what is done; the function is idempotent, so a task may be run again.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


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
            function: What to run.
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
        """Yield the results in order."""
        return map(function, tasks)

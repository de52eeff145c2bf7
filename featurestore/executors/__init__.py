"""How the blocks of a build are run: one after another here (this module), or by Dask (`dask`).

An executor takes a function and tasks and yields the results as they come. It knows nothing of
what is done; the function is idempotent, so a task may be run again.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Runs a function over tasks."""

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Yield the result of each task, in any order; a failing task raises here."""
        ...


class SerialExecutor:
    """One task after another, in this process."""

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Yield the results in order."""
        return map(function, tasks)

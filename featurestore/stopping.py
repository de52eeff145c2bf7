"""Handling of SIGTERM, sent by batch systems and containers, in the same way as Ctrl-C.

A stopped program exits with 130 (Ctrl-C) or 143 (SIGTERM), which is 128 plus the signal's number,
so that shells, SLURM and container engines can tell that it was stopped by a signal.
"""

import importlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
PIPE_CLOSED = 128 + signal.SIGPIPE

_SAME_REQUEST_S = 0.5
"""Seconds within which a second signal is taken for the same request: `timeout` and some batch
systems signal a process and then its group."""


def load_and_run(module: str) -> int:
    """Import a program's module and run its `main`; Ctrl-C while it loads is no traceback, either.

    Args:
        module: Name of the module.

    Returns:
        The exit code.
    """
    try:
        program = importlib.import_module(module)
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped.\n")
        return INTERRUPTED
    code: int = program.main()
    return code


@contextmanager
def shielded() -> Iterator[None]:
    """Start processes within, which Ctrl-C then never reaches: this process stops them.

    A terminal sends SIGINT to all processes of its foreground group. One that is still importing
    would print a traceback, however soon it ignores the signal.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited by the children
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stoppable(program: Callable[[], int]) -> int:
    """Run a program in which SIGTERM raises KeyboardInterrupt.

    A second SIGTERM kills the process. Outside the main thread, and if SIGTERM is ignored or
    handled already, nothing is changed. The handler is restored afterwards.

    Args:
        program: Function that returns the exit code, INTERRUPTED if it was stopped.

    Returns:
        The exit code; TERMINATED instead of INTERRUPTED if SIGTERM was the reason.
    """
    handler = _Terminator()
    installed = _is_replaceable()
    try:
        if installed:
            signal.signal(signal.SIGTERM, handler)
        code = program()
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        if installed:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return TERMINATED if code == INTERRUPTED and handler.called else code


def _is_replaceable() -> bool:
    """Return whether this thread may set the handler of SIGTERM, and nobody else has."""
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


class _Terminator:
    """The handler of SIGTERM."""

    def __init__(self) -> None:
        self._first_at: float | None = None

    @property
    def called(self) -> bool:
        """Whether a SIGTERM has come."""
        return self._first_at is not None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Stop at the first signal; end the process at a later one."""
        now = time.monotonic()
        if self._first_at is None:
            self._first_at = now
            raise KeyboardInterrupt
        if now - self._first_at > _SAME_REQUEST_S:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

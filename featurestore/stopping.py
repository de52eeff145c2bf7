"""SIGTERM stops a program as Ctrl-C does; what batch systems and containers send is no accident.

A stopped program exits with 130 (Ctrl-C) or 143 (SIGTERM): 128 and the signal's number, by which
shells, SLURM and container engines recognise a program that ended because it was asked to.
"""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
PIPE_CLOSED = 128 + signal.SIGPIPE

_SAME_REQUEST_S = 0.5
"""`timeout` and some batch systems signal a process and then its group: that is one request."""


def stoppable(program: Callable[[], int]) -> int:
    """Run a program; while it runs, SIGTERM raises KeyboardInterrupt in it.

    A second SIGTERM ends the process at once. Outside the main thread, and where SIGTERM is
    ignored or handled already, nothing is changed. The handler is restored afterwards.

    Args:
        program: Returns its exit code, INTERRUPTED where it was stopped.

    Returns:
        The exit code; TERMINATED in place of INTERRUPTED if SIGTERM was the reason.
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

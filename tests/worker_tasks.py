"""What tests let worker processes do; imports little, as each worker imports it."""

import os
import signal
import time
from pathlib import Path


def die(_: object) -> None:
    """Kill the process this runs in."""
    os.kill(os.getpid(), signal.SIGKILL)


def pid(_: object) -> int:
    """Return the process this runs in, after a moment in which others get their task."""
    time.sleep(0.1)
    return os.getpid()


def num_threads_of_parent(_: object) -> int:
    """Return the number of threads of the process that started this one."""
    return len(list(Path(f"/proc/{os.getppid()}/task").iterdir()))

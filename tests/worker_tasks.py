"""Tasks for worker processes in tests; imports little, as each worker imports it."""

import errno
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Step:
    """A task in a directory where tasks see one another; `total` of them, from 0."""

    place: Path
    number: int
    total: int


def first_step(step: Step) -> Step:
    """Leave a sign."""
    (step.place / f"first{step.number}").touch()
    return step


def second_step(step: Step) -> int:
    """Wait for the next task's first step; of two at once, the other fails."""
    (step.place / "second").touch(exist_ok=False)
    following = step.place / f"first{step.number + 1}"
    deadline = time.monotonic() + 20
    while step.number + 1 < step.total and not following.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{following} never came")
        time.sleep(0.001)
    (step.place / "second").unlink()
    return step.number


def second_step_killed_once(step: Step) -> int:
    """Die, the first time, over the task's second step."""
    with suppress(FileExistsError):
        (step.place / f"killed{step.number}").touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)
    return step.number


def number(step: Step) -> int:
    """Rescue a task."""
    return step.number


def second_step_fails(step: Step) -> int:
    """Fail where the commit of a block would."""
    raise OSError(errno.ENOSPC, "No space left on device", f"block {step.number}")

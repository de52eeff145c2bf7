"""Files made once for all processes of a test run, and only read from then on."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

SHARED = "FEATURESTORE_TESTS_SHARED"
"""The variable that names the run's directory; `conftest.py` makes and removes that."""


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """Return a path in the run's directory, which the first process that asks for it makes."""
    place = Path(os.environ[SHARED])
    done = place / f".{name}.done"
    with (place / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make(place / name)
            done.touch()
    return place / name

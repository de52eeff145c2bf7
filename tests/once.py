"""Files made once for all processes of a test run, and only read from then on."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from featurestore.datasets import load_dataset

SHARED = "SHARED_BY_TESTS"
"""The variable that names the run's directory; `conftest.py` makes and removes that. None of those
that `tests/__init__.py` removes: the workers of xdist are to see it."""


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


def synthetic_data() -> Path:
    """Return a directory for FEATURESTORE_DATA; in it, by its name, the synthetic collection."""

    def make(base: Path) -> None:
        (base / "synthetic").mkdir(parents=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FEATURESTORE_DATA", str(base))
            load_dataset("synthetic")

    return made_once("data", make)

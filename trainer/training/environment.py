"""Influences on a run's last bits besides its config: libraries, and the device."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from schemas import RunRecord
from trainer.records.rundir import UNVOUCHED
from trainer.training.device import device_title

_LIBRARIES = ("featurestore", "numpy", "torch", "torchvision")


def changes(path: Path, record: RunRecord) -> Iterator[str]:
    """Yield what changed since the run was started: it may change the last bits, or is unsure."""
    if record.sha256 is None:
        yield f"{path}: {UNVOUCHED}"
    now = versions() | {"device": device_title(torch.device(record.config.device))}
    before = record.versions | {"device": record.device_name}
    found = [f"{n} {now[n]} ({before[n]} then)" for n in now if before.get(n, now[n]) != now[n]]
    if found:
        yield (f"the setup changed since the run started; last bits may differ: {', '.join(found)}")


def versions() -> dict[str, str]:
    """Return the versions of the computing libraries, by name."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _LIBRARIES}


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # run from a checkout
        return "not installed"

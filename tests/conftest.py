"""Fixtures that all tests share: a small sound collection made on the spot, and the executors."""

import gc
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

from featurestore.building.build import build
from featurestore.building.executors import Executor, SerialExecutor
from featurestore.building.executors.dask import DaskExecutor
from featurestore.building.executors.processes import ProcessExecutor
from featurestore.datasets import Dataset, load_dataset
from featurestore.extraction.compiled import use_cache
from tests.once import SHARED

# The same examples in every run, however slow the machine is.
settings.register_profile(
    "tests", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")

use_cache()  # before any test imports librosa: processes that compile it at once break each other

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as for a shell's jobs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

needs_real_audio = pytest.mark.skipif(
    not SHARED_DATA.is_dir(), reason="the real audio of ../shared/data is not on this machine"
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the directory that all processes of the run share; workers of xdist are given it."""
    if SHARED not in os.environ:
        assert not hasattr(config, "workerinput"), f"a worker of xdist was not given {SHARED}"
        folder = tempfile.TemporaryDirectory(prefix="featurestore-tests-")
        os.environ[SHARED] = folder.name
        config.add_cleanup(folder.cleanup)
        config.add_cleanup(lambda: os.environ.__delitem__(SHARED))
    config.add_cleanup(gc.unfreeze)  # libraries complain at the end of what is never freed


def pytest_collection_finish(session: pytest.Session) -> None:
    """Spare later garbage collections all that was imported: each would take half a second."""
    # A name with an address differs in each worker of xdist, which then runs nothing.
    unsteady = [
        item.nodeid for item in session.items if re.search(r" at 0x[0-9a-f]{6}", item.nodeid)
    ]
    assert not unsteady, f"give these tests names: {unsteady}"
    gc.collect()
    gc.freeze()


def sound(
    seed: int, seconds: float = 0.6, rate: int = 22_050, channels: int = 1
) -> NDArray[np.float64]:
    """A tone over noise: (N,) or (N, channels), peaks under 1."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    tone = 0.4 * np.sin(2 * np.pi * rng.uniform(200, 4000) * time)
    noise = 0.05 * rng.standard_normal((time.size, channels))
    return (tone[:, None] + noise).squeeze()


def write_folder(root: Path, num_folds: int = 2, clips_a_class: int = 5) -> Path:
    """A `folder` dataset: fold1/… with classes `high` and `low`, WAV and FLAC, mono and stereo."""
    seed = 0
    for fold in range(1, num_folds + 1):
        for name in ("high", "low"):
            place = root / f"fold{fold}" / name
            place.mkdir(parents=True)
            for index in range(clips_a_class):
                seed += 1
                suffix = "flac" if index % 2 else "wav"
                data = sound(seed, 0.3 + 0.2 * (index % 6), 22_050, 1 + index % 2)
                soundfile.write(place / f"{name}{index}.{suffix}", data, 22_050)
    return root


@contextmanager
def small_file_system(place: Path, size: str) -> Iterator[Path]:
    """A file system of its own at a new directory, with room for `size` (as tmpfs reads it)."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount the small file system this test fills")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty clips in two folds, written once; not to be changed."""
    return write_folder(tmp_path_factory.mktemp("pristine") / "sounds")


@pytest.fixture
def folder(tmp_path: Path, sounds: Path) -> Dataset:
    """A copy of the twenty clips, for a test to spoil."""
    shutil.copytree(sounds, tmp_path / "sounds")
    return load_dataset("folder", tmp_path / "sounds")


@pytest.fixture(scope="session")
def pristine(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of an uninterrupted serial build of the twenty clips; not to be changed."""
    store = tmp_path_factory.mktemp("stores") / "pristine.zarr"
    with pytest.MonkeyPatch.context() as patch:
        four_clips_a_block(patch)
        build(load_dataset("folder", sounds), store)
    return store


@pytest.fixture
def store(pristine: Path, tmp_path: Path) -> Path:
    """A copy of that store, for a test to damage."""
    return shutil.copytree(pristine, tmp_path / "s.zarr")


@pytest.fixture(scope="session")
def straight(pristine: Path) -> dict[str, bytes]:
    """Every file of that store: what any other build must equal."""
    return contents(pristine)


@pytest.fixture(scope="session")
def dask_executor() -> Iterator[Executor]:
    """Two local worker processes, started once for all tests."""
    with DaskExecutor(workers=2) as executor:
        yield executor


@pytest.fixture(scope="session")
def process_executor() -> Iterator[Executor]:
    """Two local worker processes without Dask, started once for all tests."""
    with ProcessExecutor(workers=2) as executor:
        yield executor


@pytest.fixture(params=["serial", "process", "dask"])
def executor(request: pytest.FixtureRequest) -> Executor:
    """Each executor in turn."""
    if request.param == "serial":
        return SerialExecutor()
    executor: Executor = request.getfixturevalue(f"{request.param}_executor")
    return executor


dask_among_the_slow = pytest.mark.parametrize(
    "executor",
    ["serial", "process", pytest.param("dask", marks=pytest.mark.slow)],
    indirect=True,
)
"""For a test outside `test_build.py`: each module with Dask by default costs the run a cluster."""


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four clips per chunk, so that twenty clips make several blocks per fold."""
    four_clips_a_block(monkeypatch)


def four_clips_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a build plan chunks and blocks of four clips."""
    monkeypatch.setattr("featurestore.store.plan.chunk_clips", lambda fold_sizes: 4)
    monkeypatch.setattr("featurestore.store.plan.block_clips", lambda spec, num_clips, chunk: 4)


def contents(store: Path) -> dict[str, bytes]:
    """Every file of a store by its relative path."""
    return {
        str(file.relative_to(store)): file.read_bytes()
        for file in sorted(store.rglob("*"))
        if file.is_file()
    }


def part(folder: Dataset, name: str) -> Dataset:
    """A few clips of the folder as a dataset of another name."""
    card = folder.card.model_copy(update={"name": name})
    return replace(folder, card=card, clips=folder.clips[:6])

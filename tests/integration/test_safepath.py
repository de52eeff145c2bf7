"""A program that is run inside a received collection runs none of its modules, and hides its ports.

The collection holds modules of the names that Python, Dask and torch import as their processes
start; each leaves a trace.
"""

import ipaddress
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from featurestore.building.block import BlockTask, build_block
from featurestore.building.isolated import run_isolated
from featurestore.datasets import Dataset
from featurestore.safepath import safe_children
from featurestore.storage import LocalStorage
from featurestore.store.arrays import open_arrays
from featurestore.store.plan import Block
from tests.conftest import write_folder
from tests.integration.spy import Spy
from tests.integration.trainer_store import tiny_store

_BIN = Path(sys.executable).parent
_NAMES = """
signal multiprocessing json random threading socket struct pickle logging asyncio uuid queue
tempfile select contextlib warnings platform typing dataclasses subprocess concurrent ctypes
numpy dask distributed tornado msgpack cloudpickle soundfile soxr scipy yaml rich torch
torchvision tensorboard sympy resource secrets
"""
_MODULE = """
from pathlib import Path
with (Path(__file__).parent / "trace").open("a") as trace:
    print(__name__, file=trace)
raise ImportError(f"the collection's {__name__}")
"""


def plant(place: Path) -> None:
    for name in _NAMES.split():
        (place / f"{name}.py").write_text(_MODULE)


def trace(place: Path) -> set[str]:
    file = place / "trace"
    return set(file.read_text().split()) if file.exists() else set()


class Seen(NamedTuple):
    """Outcome of a program that ran inside a collection."""

    code: int
    said: str
    trace: set[str]
    listening: set[str]


def run_in(place: Path, *command: str, env: dict[str, str] | None = None) -> Seen:
    """Run a command in a directory of planted modules, and watch its processes' ports."""
    listening: set[str] = set()
    with (
        (place / "said").open("w+") as said,
        psutil.Popen(
            command, cwd=place, stdout=said, stderr=said, env=os.environ | (env or {})
        ) as process,
    ):
        while process.poll() is None:
            listening |= set(_listening(process))
            time.sleep(0.1)
        said.seek(0)
        return Seen(process.returncode, said.read(), trace(place), listening)


def _listening(process: psutil.Process) -> Iterator[str]:
    try:
        for one in (process, *process.children(recursive=True)):
            for connection in one.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    yield connection.laddr.ip
    except psutil.Error:
        return


def build_in(place: Path, workers: str, *, poisoned: bool) -> Seen:
    """A build; also with a file that kills whatever opens it, so that its block is rescued."""
    write_folder(place / "sounds", clips_a_class=12)
    spy = Spy(place.parent / f"{place.name}-spy")
    if poisoned:
        spy.poison("fold1/high/high3.flac")
    plant(place)
    options = ["--dataset", "folder", "--root", "sounds", "--store", "s.zarr"]
    program = str(_BIN / "featurestore")
    return run_in(place, program, "build", *options, *workers.split(), env=spy.env)


@pytest.mark.parametrize("poisoned", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_build_with_workers_opens_no_port_and_runs_nothing_of_the_collection_it_is_started_in(
    poisoned: bool, tmp_path: Path
) -> None:
    seen = build_in(tmp_path, "--workers 2", poisoned=poisoned)
    assert seen.code == 0, seen.said
    assert ("the process that decoded the file died" in seen.said) == poisoned
    assert seen.trace == set()
    assert seen.listening == set()


@pytest.mark.slow
@pytest.mark.parametrize("poisoned", [False, True])
def test_under_dask_every_port_is_on_the_loopback_and_nothing_of_the_collection_is_run(
    poisoned: bool, tmp_path: Path
) -> None:
    seen = build_in(tmp_path, "--workers 1 --dashboard", poisoned=poisoned)
    assert seen.trace == set()
    assert seen.listening, "no port was seen"
    assert {ip for ip in seen.listening if not ipaddress.ip_address(ip).is_loopback} == set()
    if find_spec("bokeh"):
        assert seen.code == 0, seen.said
        assert ("the process that decoded the file died" in seen.said) == poisoned
    else:
        assert seen.code == 1
        assert "no dashboard answers: install bokeh" in seen.said


@pytest.mark.slow
def test_a_build_without_workers_runs_nothing_of_the_collection_it_is_started_in(
    tmp_path: Path,
) -> None:
    seen = build_in(tmp_path, "--workers 0", poisoned=False)
    assert seen.code == 0, seen.said
    assert seen.trace == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "run --method baseline --fold 1 --acceleration compile",
        "sweep --method baseline --fold 1 --out sweep",
    ],
)
def test_training_runs_nothing_of_the_collection_it_is_started_in(
    command: str, tmp_path: Path
) -> None:
    plant(tmp_path)
    small = "--init random --arch resnet18 --batch-size 48 --threads 1 --epochs-scale 0.01"
    name, *rest = command.split()
    options = small.split() if name == "run" else _as_settings(small)
    program = str(_BIN / "trainer")
    store = ["--store", str(tiny_store()), "--device", "cpu"]
    if name == "sweep":
        store = ["--store", str(tiny_store()), "--set", "device=cpu"]
    seen = run_in(tmp_path, program, name, *store, *rest, *options)
    assert seen.code == 0, seen.said
    assert seen.trace == set()


def _as_settings(options: str) -> list[str]:
    pairs = options.split()
    settings = zip(pairs[::2], pairs[1::2], strict=True)
    return [part for n, v in settings for part in ("--set", f"{n.removeprefix('--')}={v}")]


@pytest.mark.parametrize("program", ["featurestore", "trainer"])
def test_python_m_runs_nothing_of_the_working_directory(program: str, tmp_path: Path) -> None:
    plant(tmp_path)
    commands = {"featurestore": ["datasets"], "trainer": ["report", "none"]}
    seen = run_in(tmp_path, sys.executable, "-m", program, *commands[program])
    assert ("urbansound8k" if program == "featurestore" else "no such directory") in seen.said
    assert seen.trace == set()


@pytest.mark.usefixtures("small_blocks")
def test_the_process_that_rescues_a_block_runs_nothing_of_the_working_directory(
    folder: Dataset, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "collection"
    place.mkdir()
    plant(place)
    monkeypatch.chdir(place)
    key = open_arrays(store, "folder").manifest.fingerprint
    task = BlockTask(LocalStorage(store), "folder", key, folder.root, Block(1, 0, 4))
    assert run_isolated(build_block, task).failures == ()
    assert trace(place) == set()


_LATER = """
import os, subprocess, sys
from featurestore.cli import main
from pathlib import Path
sys.path.insert(0, "")
Path("colorsys.py").write_text("raise SystemExit('planted')")
os.environ["PYTHONPATH"] = os.pathsep + os.environ.get("PYTHONPATH", "")
from featurestore.building.block import BlockTask, build_block
from featurestore.building.isolated import run_isolated
from featurestore.datasets import Dataset
from featurestore.storage import LocalStorage
from featurestore.store.arrays import open_arrays
from featurestore.store.plan import Block
from featurestore.safepath import safe_children
with safe_children():
    import colorsys
    subprocess.run([sys.executable, "-c", "import colorsys"], check=True)
assert sys.path[0] == "" and "PYTHONSAFEPATH" not in os.environ
"""


def test_a_path_and_environment_that_name_the_working_directory_are_cleaned_and_restored(
    tmp_path: Path,
) -> None:
    subprocess.run([sys.executable, "-c", _LATER], check=True, cwd=tmp_path)


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    before, path = dict(os.environ), sys.path.copy()
    with safe_children():
        assert os.environ["PYTHONSAFEPATH"] == "1"
    assert dict(os.environ) == before
    assert sys.path == path

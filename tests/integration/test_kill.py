"""Real processes, really killed: what was committed is kept, and resuming gives the same bytes.

A process that dies of SIGKILL at its n-th rename or link dies just before that file appears: every
moment at which a store changes is one of these. The marathons kill whole process groups at random
moments.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.faults import BLOCK, Marathon, commits, marathon
from featurestore.building.build import build
from featurestore.datasets import load_dataset
from featurestore.datasets.synthetic import make_synthetic
from tests.conftest import contents, write_folder
from tests.integration.spy import Spy

_BUILD = """
import os, signal, sys
from pathlib import Path
from featurestore.store import plan
from featurestore.building.build import build
from featurestore.datasets import load_dataset

plan.chunk_clips = lambda fold_sizes: 4
plan.block_clips = lambda spec, num_clips, chunk: 4
root, store, left = Path(sys.argv[1]), Path(sys.argv[2]), [int(sys.argv[3])]

def die_at_rename(event, arguments):
    if event in ("os.rename", "os.link"):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

dataset = load_dataset("folder", root)
sys.addaudithook(die_at_rename)
build(dataset, store)
"""


def run_build(root: Path, store: Path, renames: int) -> int:
    """Build in a process of its own that dies at a rename, if there are so many; its exit code."""
    command = [sys.executable, "-c", _BUILD, str(root), str(store), str(renames)]
    return subprocess.run(command, check=False).returncode


# 1 is the root, 2 claims the dataset, 52 names it in the root; the last four make it complete.
# By default one that dies while blocks are committed.
@pytest.mark.parametrize(
    "renames",
    [98, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3, 52, 108, 109, 110))],
)
@pytest.mark.usefixtures("small_blocks")
def test_a_build_killed_at_any_file_resumes_to_the_same_bytes(
    sounds: Path, straight: dict[str, bytes], tmp_path: Path, renames: int
) -> None:
    store = tmp_path / "s.zarr"
    assert run_build(sounds, store, renames) == -signal.SIGKILL
    build(load_dataset("folder", sounds), store)
    assert contents(store) == straight


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
def test_a_build_killed_at_every_single_file_resumes_to_the_same_bytes(
    sounds: Path, straight: dict[str, bytes], tmp_path: Path
) -> None:
    dataset = load_dataset("folder", sounds)
    for renames in range(1, 1000):
        store = tmp_path / f"{renames}.zarr"
        if run_build(sounds, store, renames) == 0:
            break
        build(dataset, store)
        assert contents(store) == straight, renames
    assert renames > 90


def run_marathon(
    place: Path, sounds: Path, name: str, kills: int, workers: tuple[int, ...]
) -> Marathon:
    """Kill and resume; nothing committed is lost, and no more is opened than was in flight."""
    spy, seed = Spy(place / "spy"), int(time.time())
    told = marathon(name, sounds, place, kills, seed, workers, spy.env)
    print(f"seed {seed}: {told}")  # noqa: T201  (to run it again)
    assert told.kills == kills
    assert told.unequal == 0, told
    assert told.redone == 0, told
    opened = spy.opened(sounds)
    again = opened.total() - len(opened) * told.finished
    assert again <= BLOCK * told.in_flight, f"{again} clips were extracted again: {told}"
    return told


@pytest.mark.slow
def test_builds_killed_at_random_moments_resume_to_the_same_bytes(
    sounds: Path, tmp_path: Path
) -> None:
    run_marathon(tmp_path, sounds, "folder", kills=2, workers=(0, 1))


@pytest.mark.slow
def test_a_marathon_of_kills_with_changing_numbers_of_workers(tmp_path: Path) -> None:
    make_synthetic(tmp_path / "sounds", num_folds=2, clips_per_class=6)
    told = run_marathon(tmp_path, tmp_path / "sounds", "synthetic", 40, (0, 2))
    assert set(told.workers) == {0, 2}, "the number of workers never changed"
    assert len(set(told.committed_at_kill)) > 3, "all kills came at the same moment"


def start_build(store: Path, root: Path, workers: int) -> subprocess.Popen[str]:
    program = Path(sys.executable).parent / "featurestore"
    command = [program, "build", "--dataset", "folder", "--root", root, "--store", store]
    return subprocess.Popen(
        [*map(str, command), "--workers", str(workers)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_commit(store: Path, process: subprocess.Popen[str]) -> None:
    """Return once a block is committed."""
    deadline = time.monotonic() + 120
    while not list(store.glob("folder/fold*/status/c/*")):
        assert process.poll() is None, "the build ended before it was interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_ctrl_c_stops_cleanly_says_how_to_resume_and_loses_nothing(
    tmp_path: Path, workers: int
) -> None:
    root, store = write_folder(tmp_path / "sounds", num_folds=4, clips_a_class=12), tmp_path / "s"
    with start_build(store, root, workers) as process:
        wait_for_commit(store, process)
        os.killpg(process.pid, signal.SIGINT)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 130, told
    assert "the same command resumes from there" in told
    assert "Traceback" not in told
    committed = commits(store)
    build(load_dataset("folder", root), store)
    assert {file: commits(store)[file] for file in committed} == committed, (
        "a committed block was redone"
    )

"""A Dask cluster as batch systems start it: processes of `dask scheduler` and `dask worker`.

Workers come and go while a build runs: the store must not show it.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

import featurestore
from featurestore.building.build import build
from featurestore.cli import main
from featurestore.datasets import load_dataset
from tests.conftest import contents, write_folder
from tests.integration.spy import Spy

_BIN = Path(sys.executable).parent
_ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(Path(featurestore.__file__).parents[1]),
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "30s",
}
_PATIENCE_S = 60


@contextmanager
def process(
    *arguments: str, log: Path, env: Mapping[str, str] = _ENVIRONMENT
) -> Iterator[subprocess.Popen[bytes]]:
    """`dask ARGUMENTS…`, ended with the block."""
    elsewhere = log.parent / "elsewhere"  # as on another machine: no path relative to ours is right
    elsewhere.mkdir(exist_ok=True)
    with (
        log.open("ab") as output,
        subprocess.Popen(
            [_BIN / "dask", *arguments], stdout=output, stderr=output, env=env, cwd=elsewhere
        ) as started,
    ):
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                started.kill()


@contextmanager
def listening(log: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A `dask scheduler` that answers, and its address."""
    options = ("--host=127.0.0.1", f"--port={port}", "--no-dashboard")
    with process("scheduler", *options, log=log) as started:
        deadline = time.monotonic() + _PATIENCE_S
        while not (found := re.search(r"Scheduler at: +(tcp://\S+)", log.read_text())):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield started, found[1]


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """The address of a `dask scheduler`."""
    with listening(tmp_path / "scheduler.log") as (_, address):
        yield address


def worker(
    scheduler: str,
    tmp_path: Path,
    *options: str,
    nanny: bool = False,
    env: Mapping[str, str] = _ENVIRONMENT,
) -> Any:
    """A `dask worker` of one process; for the sake of speed without a nanny that restarts it."""
    return process(
        "worker",
        scheduler,
        "--nthreads=1",
        "--nanny" if nanny else "--no-nanny",
        "--host=127.0.0.1",
        "--no-dashboard",
        "--death-timeout=60",
        "--preload=featurestore",
        f"--local-directory={tmp_path}",
        *options,
        log=tmp_path / "workers.log",
        env=env,
    )


@pytest.mark.usefixtures("small_blocks")
def test_a_build_on_worker_processes_of_a_given_scheduler_equals_one_in_this_process(
    sounds: Path,
    straight: dict[str, bytes],
    scheduler: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = tmp_path / "s.zarr"
    monkeypatch.chdir(tmp_path)
    root = os.path.relpath(sounds)
    command = ["build", "--dataset", "folder", "--root", root, "--store", "s.zarr"]
    # Slow tests have two at once.
    with worker(scheduler, tmp_path), Client(scheduler) as client:
        client.wait_for_workers(1, timeout=_PATIENCE_S)
        assert main([*command, "--scheduler", scheduler]) == 0
        assert len(client.nthreads()) == 1, "the build must leave a given cluster alone"
    assert contents(store) == straight
    assert not (tmp_path / "elsewhere/s.zarr").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
def test_a_file_that_kills_the_workers_of_a_given_scheduler_is_a_failed_row_and_the_rest_is_built(
    sounds: Path, scheduler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spy, store = Spy(tmp_path / "spy"), tmp_path / "s.zarr"
    spy.poison("fold1/high/high3.flac")
    env = {**_ENVIRONMENT, "PYTHONPATH": f"{spy.place}{os.pathsep}{_ENVIRONMENT['PYTHONPATH']}"}
    command = ["build", "--dataset", "folder", "--root", str(sounds), "--store", str(store)]
    with worker(scheduler, tmp_path, nanny=True, env=env):
        assert main([*command, "--scheduler", scheduler]) == 0
    assert (
        "the process that decoded the file died: fold1/high/high3.flac" in capsys.readouterr().out
    )
    opened = featurestore.open_store(store)
    assert len(opened.load("R1/mel")[0]) == 19
    assert opened.failures().path.tolist() == ["fold1/high/high3.flac"]


def test_a_scheduler_that_is_not_there_is_one_line(
    sounds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("featurestore.building.executors.dask._CONNECT_TIMEOUT", "1s")
    command = ["build", "--dataset", "folder", "--root", str(sounds)]
    target = ["--store", str(tmp_path / "s.zarr"), "--scheduler", "tcp://127.0.0.1:9"]
    assert main([*command, *target]) == 1
    told = capsys.readouterr().err
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in told
    assert "Traceback" not in told


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 2])
def test_workers_that_retire_and_are_replaced_during_a_build_leave_no_trace_in_the_store(
    scheduler: str, tmp_path: Path, at_once: int
) -> None:
    """As a batch system does with jobs at their time limit; with one at a time there are gaps."""
    root = write_folder(tmp_path / "sounds", num_folds=4, clips_a_class=300)
    begun = time.monotonic()
    build(load_dataset("folder", root), tmp_path / "serial.zarr")
    lifetime = max(2.0, (time.monotonic() - begun) / 3)
    command = [_BIN / "featurestore", "build", "--dataset=folder", f"--root={root}"]
    target = [f"--store={tmp_path / 's.zarr'}", f"--scheduler={scheduler}"]
    with ExitStack() as stack, subprocess.Popen([*command, *target], env=_ENVIRONMENT) as running:
        stack.callback(running.terminate)
        jobs: list[subprocess.Popen[bytes]] = []
        while running.poll() is None:
            if sum(job.poll() is None for job in jobs) < at_once:
                assert len(jobs) < 40, (tmp_path / "workers.log").read_text()
                started = worker(scheduler, tmp_path, f"--lifetime={lifetime}s")
                jobs.append(stack.enter_context(started))
            time.sleep(0.05)
    assert running.returncode == 0
    assert sum(job.returncode == 0 for job in jobs) > at_once, "no worker retired in time"
    assert contents(tmp_path / "s.zarr") == contents(tmp_path / "serial.zarr")

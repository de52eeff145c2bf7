"""Local worker processes: started at once, killed for real, and never left behind."""

import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import psutil
import pytest

from featurestore.building.build import build
from featurestore.building.executors.processes import ProcessExecutor
from featurestore.datasets import load_dataset
from featurestore.errors import ClusterError
from tests.conftest import contents
from tests.worker_tasks import die, num_threads_of_parent, pid

_LIGHT = "json"  # what these tests run needs nothing heavy
_PATIENCE_S = 30


@pytest.fixture(params=[True, False], ids=["forked", "anew"])
def two(request: pytest.FixtureRequest) -> Iterator[ProcessExecutor]:
    with ProcessExecutor(2, _LIGHT, fork=request.param) as executor:
        yield executor


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def num_alive() -> int:
    return sum(one.status() != psutil.STATUS_ZOMBIE for one in children())


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("small_blocks")
def test_workers_that_are_started_anew_write_the_same_bytes(
    sounds: Path, straight: dict[str, bytes], tmp_path: Path
) -> None:
    with ProcessExecutor(2, fork=False) as executor:
        build(load_dataset("folder", sounds), tmp_path / "s.zarr", executor=executor)
    assert contents(tmp_path / "s.zarr") == straight


def test_the_process_that_workers_are_forked_from_has_one_thread() -> None:
    """A fork copies one thread: locks that others hold would stay locked for ever."""
    with ProcessExecutor(1) as executor:  # with all that a build imports
        assert list(executor.run(num_threads_of_parent, [0])) == [1]


def test_there_are_no_more_workers_than_tasks_and_the_next_tasks_find_them_there() -> None:
    with ProcessExecutor(5, _LIGHT, fork=True) as executor:
        first = set(executor.run(pid, range(2)))
        assert len(first) == 2
        assert set(executor.run(pid, range(6))) > first


def test_a_task_over_which_a_worker_dies_is_rescued_and_the_others_are_done(
    two: ProcessExecutor,
) -> None:
    assert sorted(two.run(die, [-3, -2, -1], rescue=abs)) == [1, 2, 3]


def test_a_task_that_nothing_rescues_is_one_error(two: ProcessExecutor) -> None:
    with pytest.raises(ClusterError, match="died over the same task several times"):
        list(two.run(die, [1]))
    with pytest.raises(ClusterError, match="died over the same task several times"):
        list(two.run(die, [1], rescue=die))
    assert list(two.run(abs, [-1])) == [1]


def test_an_error_of_a_task_is_raised_here_with_the_traceback_of_its_process(
    two: ProcessExecutor,
) -> None:
    with pytest.raises(ValueError, match="invalid literal") as caught:
        list(two.run(int, ["x"]))
    assert "in a worker process:\nTraceback" in caught.value.__notes__[0]


def test_workers_killed_while_idle_are_replaced(two: ProcessExecutor) -> None:
    idle = set(two.run(pid, range(2)))
    for one in children():
        if one.pid in idle:
            one.kill()
    fresh = set(two.run(pid, range(2)))
    assert len(fresh) == 2
    assert not fresh & idle


def test_a_fork_server_that_is_killed_is_started_again() -> None:
    elsewhere = set(psutil.Process().children())  # other tests' servers
    with ProcessExecutor(2, _LIGHT, fork=True) as executor:
        before = set(executor.run(pid, range(2)))
        (server,) = set(psutil.Process().children()) - elsewhere
        for one in (server, *server.children()):
            one.kill()
        assert not set(executor.run(pid, range(2))) & before


def test_workers_that_cannot_start_are_one_error(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        ProcessExecutor(2, "no_such_module") as executor,
        pytest.raises(ClusterError, match=r"2 local worker processes cannot be started: they die"),
    ):
        list(executor.run(abs, range(3)))
    assert "No module named 'no_such_module'" in capfd.readouterr().err


def test_an_interpreter_that_cannot_be_run_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ClusterError, match=r"cannot be started: does not exist.*--workers 0"):
        ProcessExecutor(2).__enter__()


def test_the_busy_workers_of_a_run_that_ends_early_are_killed(two: ProcessExecutor) -> None:
    results = two.run(time.sleep, [0.01, 60])
    assert isinstance(results, Generator)
    next(results)
    before = num_alive()
    results.close()
    wait_until(lambda: num_alive() == before - 1)


def test_nothing_is_left_running_when_the_block_ends() -> None:
    before = {one.pid for one in children()}
    for fork in (True, False):
        with ProcessExecutor(2, _LIGHT, fork=fork) as executor:
            results = executor.run(time.sleep, [0.01, 60])
            next(results)
        assert {one.pid for one in children()} == before


_KILLED = """
import sys, time
from featurestore.building.executors.processes import ProcessExecutor
with ProcessExecutor(2, "json", fork=sys.argv[1] == "fork") as executor:
    for _ in executor.run(time.sleep, [0.01, 0.01, 60, 60]):
        print("ready", flush=True)
"""


@pytest.mark.parametrize("kind", ["fork", "anew"])
def test_workers_end_in_the_middle_of_a_task_when_their_parent_is_killed(kind: str) -> None:
    command = [sys.executable, "-c", _KILLED, kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        left = psutil.Process(process.pid).children(recursive=True)
        assert len(left) >= 2
        process.kill()
    gone, alive = psutil.wait_procs(left, timeout=_PATIENCE_S)
    assert not alive
    assert len(gone) == len(left)

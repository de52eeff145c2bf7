"""Faults of a cluster are reported in a line, at once if they can be known."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from featurestore.building.build import build
from featurestore.building.executors.dask import DaskExecutor
from featurestore.cluster import Cluster, connect
from featurestore.datasets import load_dataset
from featurestore.errors import ClusterError
from tests.conftest import contents, write_folder
from tests.integration.test_cluster import _ENVIRONMENT, listening, process, scheduler, worker

__all__ = ["scheduler"]

_ANY_PORT = "127.0.0.1:0"
_BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("tcp://127.0.0.1:9", "connection refused"),
        ("tcp://no-such-host.invalid:8786", "no host is called 'no-such-host.invalid'"),
        ("http://127.0.0.1:8786", "unknown address scheme 'http'"),
        ("127.0.0.1", "missing port number"),
        ("tcp://127.0.0.1:port", "an address looks like tcp://host:8786"),
        ("tcp://:8786", "no host is called"),
        ("", "missing port number"),
    ],
)
def test_a_mistyped_scheduler_is_told_at_once(address: str, reason: str) -> None:
    started = time.monotonic()
    with pytest.raises(ClusterError, match=f"no Dask scheduler answers at {address}: .*{reason}"):
        connect(address, "20s")
    assert time.monotonic() - started < 10, "it waited for an answer"


def test_nothing_is_left_running_where_the_client_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ClusterError("no client")

    before = threading.active_count()
    monkeypatch.setattr("featurestore.cluster.tasks.connect", fails)
    started: list[LocalCluster] = []
    monkeypatch.setattr(
        "featurestore.building.executors.dask._local_cluster",
        lambda workers: (
            started.append(LocalCluster(n_workers=0, dashboard_address=_ANY_PORT)) or started[0]
        ),
    )
    with pytest.raises(ClusterError, match="no client"):
        DaskExecutor(workers=1).__enter__()
    assert started[0].status.name == "closed"
    assert threading.active_count() <= before + 2


def test_a_client_that_is_closed_while_tasks_are_handed_over_gives_them_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The scheduler may be lost at any moment, also between a result and the next tasks."""
    monkeypatch.setattr("featurestore.cluster.tasks._LOT", 2)
    with (
        LocalCluster(
            n_workers=1,
            processes=False,
            protocol="tcp",
            host="127.0.0.1",
            dashboard_address=_ANY_PORT,
        ) as local,
        Cluster(local.scheduler_address, print) as cluster,
    ):
        found: list[int] = []
        for task, _ in cluster.run(abs, range(6)):
            if not found:
                cluster._connected().close()
            found.append(task)
    assert sorted(found) == list(range(6))


def start_build(root: Path, store: Path, address: str) -> "subprocess.Popen[str]":
    command = [_BIN / "featurestore", "build", "--dataset", "folder", "--root", root]
    options = ["--store", store, "--scheduler", address]
    return subprocess.Popen(
        [*map(str, command), *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_ENVIRONMENT,
    )


def environment(place: Path, code: str) -> dict[str, str]:
    """Return the environment of a process that runs some code as it starts."""
    place.mkdir()
    (place / "sitecustomize.py").write_text(code)
    return {**_ENVIRONMENT, "PYTHONPATH": f"{place}{os.pathsep}{_ENVIRONMENT['PYTHONPATH']}"}


_UNFIT = {
    "without the package": (
        """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "featurestore":
            raise ModuleNotFoundError("No module named 'featurestore'", name=name)
sys.meta_path.insert(0, Absent())
""",
        "it has not the same featurestore installed as the client",
    ),
    "of another extractor": (
        "import schemas.features as f; f.EXTRACTOR_VERSION = 99",
        "extracts by version 99, the store was started with version",
    ),
    "too old for the store": (
        "import featurestore.store.parsing as p; p.FORMAT_VERSION = 1",
        "is older: ",
    ),
}


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", _UNFIT)
def test_a_worker_that_is_not_fit_is_named_and_the_others_build(
    kind: str, scheduler: str, sounds: Path, straight: dict[str, bytes], tmp_path: Path
) -> None:
    code, fault = _UNFIT[kind]
    env, store = environment(tmp_path / "site", code), tmp_path / "s.zarr"
    lines: list[str] = []
    with (
        process("worker", scheduler, "--no-nanny", "--no-dashboard", log=tmp_path / "log", env=env),
        Client(scheduler, set_as_default=False) as client,
    ):
        client.wait_for_workers(1, timeout=60)
        (unfit,) = client.nthreads()
        dataset = load_dataset("folder", sounds)
        with (
            pytest.raises(ClusterError, match=rf"no worker .* {unfit}: .*{fault}"),
            DaskExecutor(scheduler=scheduler, notify=lines.append) as executor,
        ):
            build(dataset, store, executor=executor)
        with worker(scheduler, tmp_path):
            client.wait_for_workers(2, timeout=60)
            with DaskExecutor(scheduler=scheduler, notify=lines.append) as executor:
                build(dataset, store, executor=executor)
    assert f"the worker at {unfit} cannot be used: " in lines[0]
    assert contents(store) == straight


@pytest.mark.slow
def test_workers_with_other_libraries_are_told_of(
    scheduler: str, sounds: Path, tmp_path: Path
) -> None:
    code = """
import importlib.metadata as m
found = m.version
m.version = lambda name: "0.1" if name == "soxr" else found(name)
"""
    env = environment(tmp_path / "site", code)
    with (
        process("worker", scheduler, "--no-nanny", "--no-dashboard", log=tmp_path / "log", env=env),
        DaskExecutor(scheduler=scheduler) as executor,
    ):
        report = build(load_dataset("folder", sounds), tmp_path / "s.zarr", executor=executor)
    (warning,) = report.warnings
    assert re.search(r"workers on \S+ have other library versions .*: soxr 0\.1 \(the st", warning)


@pytest.mark.slow
@pytest.mark.parametrize("restarted", [False, True])
def test_a_scheduler_that_dies_is_one_line_and_one_that_comes_back_gets_the_tasks_again(
    restarted: bool, tmp_path: Path
) -> None:
    root = write_folder(tmp_path / "sounds", num_folds=4, clips_a_class=150)
    store = tmp_path / "s.zarr"
    with ExitStack() as stack:
        first, address = stack.enter_context(listening(tmp_path / "first.log"))
        stack.enter_context(worker(address, tmp_path, nanny=True))
        running = stack.enter_context(start_build(root, store, address))
        while not list(store.glob("folder/fold*/status/c/*")):
            assert running.poll() is None, running.communicate()[0]
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
        first.wait()
        if restarted:
            port = int(address.rpartition(":")[2])
            stack.enter_context(listening(tmp_path / "second.log", port))
            stack.enter_context(worker(address, tmp_path))
        told = running.communicate(timeout=120)[0]
    assert "Traceback" not in told
    assert f"the Dask scheduler at {address} is gone" in told
    assert running.returncode == (0 if restarted else 1), told
    if restarted:
        build(load_dataset("folder", root), tmp_path / "straight.zarr")
        assert contents(store) == contents(tmp_path / "straight.zarr")
    else:
        assert told.splitlines()[-1].startswith("error: the Dask scheduler at")


def _slow(task: int) -> int:
    time.sleep(0.25)
    return task


@pytest.fixture
def quick_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurestore.cluster.idle._EVERY_S", 1.0)


@pytest.mark.slow
def test_late_workers_take_part_and_adapt_scales(tmp_path: Path) -> None:
    """Nobody is there at first, which is told; then as many come as the tasks are worth."""
    lines: list[str] = []
    most = 0

    def said(line: str) -> None:
        lines.append(line)
        if len(lines) == 1:
            local.adapt(minimum=1, maximum=3, interval="500ms")

    with (
        LocalCluster(
            n_workers=0, threads_per_worker=1, host="127.0.0.1", dashboard_address=_ANY_PORT
        ) as local,
        Cluster(local.scheduler_address, said) as cluster,
    ):
        for _ in cluster.run(_slow, range(1000)):  # more than a busy machine does in the meantime
            if (most := max(most, len(local.workers))) == 3:
                break
    assert most == 3
    assert "the scheduler has no worker yet" in lines[0]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_messages")
def test_while_nothing_is_finished_the_reason_is_said_again(scheduler: str) -> None:
    lines: list[str] = []

    def said(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Cluster(scheduler, said) as cluster:
        list(cluster.run(_slow, range(3)))
    assert "the scheduler has no worker yet" in lines[0]
    assert all("nothing was finished for" in line for line in lines[1:])


@pytest.mark.slow
def test_what_workers_have_begun_is_waited_for_when_a_build_ends_early(
    scheduler: str, tmp_path: Path
) -> None:
    lines: list[str] = []
    with worker(scheduler, tmp_path), Cluster(scheduler, lines.append) as cluster:
        results = cluster.run(_slow, range(50))
        assert isinstance(results, Generator)
        next(results)
        results.close()
        assert any(line.startswith("waiting up to 10 s for") for line in lines), lines

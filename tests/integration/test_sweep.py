"""Sweeps: stopped and gone on with, added to, spread over a cluster, to the bits of single runs."""

import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from distributed import Client, LocalCluster

from featurestore import open_store
from featurestore.cluster import Cluster
from schemas import RunResult
from tests.integration.reported_runs import make_run
from tests.integration.test_cluster import scheduler, worker  # noqa: F401
from tests.integration.test_run_copies import put
from tests.integration.trainer_store import TINY, tiny_plan, tiny_store
from trainer.cli import main
from trainer.cluster import Failed, attempt
from trainer.config import ExecutionOptions, TrainingOptions
from trainer.errors import ResumeError
from trainer.plan import plan_run
from trainer.records.checkpoint import load_checkpoint
from trainer.records.rundir import RECORD, RunDirectory
from trainer.run import begin
from trainer.safefiles import write_sealed
from trainer.sweep import REPORT, RUNS, SweepRun, start

Capture = pytest.CaptureFixture[str]
SMALL = f"--set init=random --set arch={TINY} --set batch_size=48 --set threads=1 --set device=cpu"
QUICK = f"{SMALL} --set epochs_scale=0.001"


def named(
    method: str, seed: int = 0, scale: str = "0.001", fold: str = "1", **others: object
) -> str:
    """The directory of a run of SMALL at that scale: every setting that is not the default."""
    settings = {
        "arch": TINY.replace(":", "_"),
        "batch-size": 48,
        "epochs-scale": scale,
        "init": "random",
    }
    parts = (f"{name}={value}" for name, value in sorted((settings | others).items()))
    return "-".join([method, f"seed{seed}", *([f"fold={fold}"] if fold else []), *parts])


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def sweep(rest: str, command: str = "sweep") -> int:
    return main([command, "--store", str(tiny_store()), *rest.split()])


def refuses_another_run(again: str, command: str, runs: Path, capsys: Capture) -> None:
    """A whole run, or one of its files, in the place of another is one line that names it."""
    (target, source) = sorted(runs.iterdir())[:2]
    for name in ("fold1/last.csv", "fold1"):
        shutil.copytree(target, target.with_name("whole"))
        put(source / name, target / name)
        capsys.readouterr()
        assert sweep(again, command) == 1, name
        (error,) = (line for line in capsys.readouterr().err.splitlines() if "error:" in line)
        assert target.name in error
        shutil.rmtree(target)
        target.with_name("whole").rename(target)


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_sweep_is_added_to_and_reported_and_what_is_done_is_left_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = f"--out s --method baseline --fold 1 {QUICK}"
    assert sweep(f"{first} --set mixup=0") == 0
    assert "baseline" in capsys.readouterr().out
    assert [path.name for path in Path("s/runs").iterdir()] == [named("baseline")]
    assert Path("s/report/report.html").is_file()
    before = times(Path("s/runs"))
    assert sweep(f"{first} --set mixup=0,0.4") == 0
    after = times(Path("s/runs"))
    assert {path: after[path] for path in before} == before
    assert Path("s/runs", named("baseline", mixup=0.4), "result.json").is_file()
    assert "baseline (mixup 0.4)" in capsys.readouterr().out
    refuses_another_run(f"{first} --set mixup=0,0.4", "sweep", Path("s/runs"), capsys)


@pytest.mark.slow
def test_a_sweep_that_was_stopped_goes_on_with_the_same_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    metrics = Path("s/runs", named("baseline", 1, "0.03"), "fold1/metrics.csv").absolute()

    def interrupt() -> None:
        for _ in range(4800):
            if metrics.exists() and metrics.read_text().count("\n") > 1:
                break
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    command = f"--out s --method baseline --seed 0 --seed 1 --fold 1 {SMALL}"
    code = sweep(f"{command} --set epochs_scale=0.03")
    thread.join()
    assert code == 130
    capsys.readouterr()
    finished = times(Path("s/runs", named("baseline", 0, "0.03")))
    assert sweep(f"{command} --set epochs_scale=0.03") == 0
    assert times(Path("s/runs", named("baseline", 0, "0.03"))) == finished
    assert "seeds" in capsys.readouterr().out
    second = Path("s/runs", named("baseline", 1, "0.03"))
    result = RunResult.model_validate_json((second / "result.json").read_bytes())
    assert result.config.seed == 1


@pytest.mark.slow
def test_reproduce_trains_the_papers_methods_and_the_control(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sweep(f"--fold 1 {QUICK}", "reproduce") == 0
    text = capsys.readouterr().out
    runs = Path("reproduce/synthetic/runs")
    methods = {"baseline", "mel", "resize", "control"}
    assert {path.name for path in runs.iterdir()} == {
        named(method, precision="float32") for method in methods
    }
    assert all(method in text for method in methods)
    assert Path("reproduce/synthetic/report/report.html").is_file()
    refuses_another_run(f"--fold 1 {QUICK}", "reproduce", runs, capsys)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--out s --method rezise", 1, "did you mean 'resize'"),
        ("--out s --method mel --set mixpu=1", 1, "did you mean 'mixup'"),
        ("--out s --method mel --set mixup=1 --set mixup=2", 1, "given twice: mixup"),
        ("--out s --method mel --set mixup=99", 1, "mixup 99"),
        ("--out s --method mel --set arch=vgg", 1, "no network 'vgg'"),
        ("--out s --method mel --set mixup=0,0.0", 1, "mixup=0 and mixup=0.0"),
        ("--out s --method mel --set threads=1,2", 1, "threads=1 and threads=2"),
        ("--out s --method mel --set precision=auto,float32", 1, "would be the same run"),
        (
            "--out s --method mel --set init=auto,random",
            1,
            "init=auto and init=random make no",
        ),
        ("--out s --method mel --set moments=fresh --set recipe=paper,paper", 1, "given twice"),
        ("--out s --method mel --fold 9", 1, "no fold 9"),
        ("--out s", 2, "--method"),
        ("--method mel", 2, "--out"),
        ("--out s --file absent.yaml", 1, "absent.yaml: cannot be read"),
        ("--out s --file absent.yaml --method mel", 2, "excludes"),
        ("--out s --method mel --seed -1", 2, "--seed"),
        ("--out s --method mel --scheduler tcp://127.0.0.1:9", 1, "no Dask scheduler answers"),
    ],
)
def test_bad_arguments_are_one_clear_error(
    arguments: str,
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Cluster.__init__, "__defaults__", (None, "1s"))
    assert sweep(arguments) == code
    error = capsys.readouterr().err
    assert message in error
    assert code == 2 or error.count("\n") == 1
    assert not Path("s").exists()


def same_networks(ours: Path, theirs: Path) -> bool:
    names = sorted(path.relative_to(theirs) for path in theirs.rglob("*.pt"))
    assert sorted(path.relative_to(ours) for path in ours.rglob("*.pt")) == names
    for name in names:
        one, other = (load_checkpoint(place / name).model for place in (ours, theirs))
        assert all(torch.equal(one[key], other[key]) for key in other), name
    return bool(names)


def test_a_finished_run_of_other_settings_is_not_reported_as_one_of_the_sweep(
    tmp_path: Path, capsys: Capture
) -> None:
    make_run(
        tmp_path / RUNS / named("mel", fold=""), "mel", {1: 50.0, 2: 60.0}, dataset="synthetic"
    )
    assert sweep(f"--out . --method mel {QUICK}") == 1
    printed = capsys.readouterr()
    assert "is another run, it differs in" in printed.err
    assert "1 of 1 run failed" in printed.err
    assert not (tmp_path / REPORT).exists()


@pytest.mark.parametrize(
    ("name", "value"), [("threads", 2), ("device", "cuda"), ("acceleration", "compile")]
)
def test_a_run_that_is_there_keeps_what_its_machine_chose_but_not_against_what_is_given(
    name: str, value: object, tmp_path: Path
) -> None:
    dataset, plan = tiny_plan()
    begin(dataset, plan, tmp_path / RUNS / "a")
    other = replace(plan, config=plan.config.model_copy(update={name: value}))
    options = TrainingOptions(method="resize")
    start(dataset, SweepRun("a", options), tmp_path, ExecutionOptions(), other)
    given = SweepRun("a", replace(options, **{name: value}))
    with pytest.raises(ResumeError, match=rf"{name} \({value}, the run has"):
        start(dataset, given, tmp_path, ExecutionOptions(), other)


def test_a_method_that_has_other_stages_now_is_another_run_also_with_measured_rates(
    tmp_path: Path,
) -> None:
    dataset, plan = tiny_plan()
    config = plan.config.model_copy(update={"max_lr_from": "measured"})
    begin(dataset, plan, tmp_path / RUNS / "a")
    record = RunDirectory(tmp_path / RUNS / "a").record()
    write_sealed(tmp_path / RUNS / "a" / RECORD, record.model_copy(update={"config": config}))
    run = SweepRun("a", TrainingOptions(method="resize"))
    start(dataset, run, tmp_path, ExecutionOptions(), replace(plan, config=config))
    fewer = config.model_copy(update={"stages": config.stages[:2]})
    with pytest.raises(ResumeError, match="is another run, it differs in: stages"):
        start(dataset, run, tmp_path, ExecutionOptions(), replace(plan, config=fewer))


@contextmanager
def threads_as_workers() -> Iterator[str]:
    """The scheduler's address of a cluster in this process."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",  # with None it wants 8787, which another may have
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.slow
def test_a_cluster_gives_the_same_bits_and_tells_what_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = f"--method baseline --fold 1 --fold 2 {QUICK}"
    assert sweep(f"--out here {command}") == 0
    with threads_as_workers() as place:
        address = f"--scheduler {place}"
        assert sweep(f"--out there {command} {address}") == 0
        text = capsys.readouterr().out
        before, _, _ = text.partition("fold 1: best")
        assert "warning: stages with 50 steps or fewer" in before
        assert f"{named('baseline', fold='1_2')} fold 2: best" in text
        assert "2/2" in text
        assert same_networks(Path("there/runs"), Path("here/runs"))
        assert sweep(f"--out bad --method baseline --set init=absent.pth {address}") == 1
        assert "absent.pth" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (lambda: torch.empty(1 << 62, dtype=torch.uint8), "out of memory on "),
        (lambda: torch.zeros(2, 3) @ torch.zeros(2, 3), "RuntimeError on "),
        (lambda: bytearray(1 << 62), "out of memory on "),
    ],
)
def test_what_torch_raises_at_a_worker_is_one_line_and_in_its_log(
    task: Callable[[], object],
    reason: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Libraries that other tests use in this process switch loggers off, or raise their levels.
    logger = logging.getLogger("trainer.cluster")
    monkeypatch.setattr(logger, "disabled", False)
    monkeypatch.setattr(logger, "propagate", True)
    with caplog.at_level(logging.ERROR, logger=logger.name):
        found = attempt(task)
    assert isinstance(found, Failed)
    assert found.reason.startswith(f"{reason}{platform.node()}, see its worker's log")
    assert "\n" not in found.reason
    assert "Traceback" in caplog.text


_FIRST_FOLD = """
import sys
from pathlib import Path
from featurestore import open_store
from trainer.run import resume
resume(open_store(sys.argv[1]), Path(sys.argv[2]), folds=(1,))
"""


@pytest.mark.slow
def test_what_is_met_at_several_workers_is_in_the_result_of_the_last_one() -> None:
    command = f"--out s --method baseline --fold 1 --fold 2 {QUICK}"
    directory = RunDirectory(Path("s/runs", named("baseline", fold="1_2", precision="float32")))
    dataset = open_store(tiny_store())
    options = TrainingOptions(
        method="baseline",
        folds=(1, 2),
        init="random",
        epochs_scale=0.001,
        batch_size=48,
        device="cpu",
        precision="float32",
        threads=1,
    )
    begin(dataset, plan_run(dataset, replace(options, arch=TINY)), directory.path)
    record = directory.record()
    # The first fold's worker has another version of a library, by what is installed first there.
    installed = Path("other/torchvision-0.1.dist-info")
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.1\n")
    subprocess.run(
        [sys.executable, "-c", _FIRST_FOLD, str(tiny_store()), str(directory.path)],
        check=True,
        env=os.environ | {"PYTHONPATH": "other"},
    )
    with threads_as_workers() as address:
        assert sweep(f"{command} --set precision=float32 --scheduler {address}") == 0
    result = directory.result()
    assert result is not None
    assert any("torchvision 0.1 (" in warning for warning in result.warnings)
    assert result.warnings[: len(record.warnings)] == record.warnings


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_trains_costs_no_bit(
    scheduler: str,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = f"--method baseline --fold 1 --fold 2 {SMALL} --set epochs_scale=0.05"
    assert sweep(f"--out here {command}") == 0
    killed: list[int] = []

    def kill(victim: "subprocess.Popen[bytes]") -> None:
        states = [
            Path("there/runs", named("baseline", 0, "0.05", "1_2"), f"fold{fold}/state.pt")
            for fold in (1, 2)
        ]
        while not any(state.exists() for state in states):
            time.sleep(0.02)
        victim.kill()
        killed.append(victim.wait())

    with worker(scheduler, tmp_path) as first:
        thread = threading.Thread(target=kill, args=(first,))
        thread.start()
        with worker(scheduler, tmp_path):
            code = sweep(f"--out there {command} --scheduler {scheduler} --checkpoint-every 0")
            thread.join()
    assert killed == [-signal.SIGKILL]
    assert code == 0, capsys.readouterr().err
    assert same_networks(Path("there/runs"), Path("here/runs"))


@pytest.mark.slow
def test_a_scheduler_that_dies_is_one_line(
    scheduler: str,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def end() -> None:
        while not Path("s/runs", named("baseline", 0, "0.05"), "fold1/metrics.csv").exists():
            time.sleep(0.02)
        with Client(scheduler) as client, suppress(Exception):
            client.run_on_scheduler(os._exit, 1)

    with worker(scheduler, tmp_path):
        thread = threading.Thread(target=end)
        thread.start()
        command = f"--out s --method baseline --fold 1 {SMALL} --set epochs_scale=0.05"
        assert sweep(f"{command} --scheduler {scheduler}") == 1
        thread.join()
    error = capsys.readouterr().err
    assert "error: the Dask scheduler at " in error
    assert "start it, and rerun the same command" in error

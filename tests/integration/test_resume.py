"""A stopped and resumed run has the same bits as an uninterrupted one."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import torchvision

import trainer
from featurestore import StoredDataset, open_store
from featurestore.errors import BusyError
from schemas import RunResult
from tests.integration.test_trainer_run import counted, read_metrics
from tests.integration.trainer_store import place, tiny_plan, tiny_store
from trainer.cli import main
from trainer.config import ExecutionOptions
from trainer.errors import ResumeError
from trainer.plan import Plan
from trainer.records.checkpoint import load_checkpoint
from trainer.records.rundir import RECORD, RunDirectory
from trainer.run import begin, resume, run
from trainer.safefiles import write_sealed
from trainer.training.events import BatchDone, EpochDone, Event, FoldDone, StageStarted, Warned

EPOCHS = (2, 1, 1)
TIMES = {"seconds", "samples_per_s", "wait_share"}
OFTEN = ExecutionOptions(save_every_s=0)


def short_plan(**options: object) -> tuple[StoredDataset, Plan]:
    """Three stages of an epoch or two, the first one alternating, over fold 1."""
    dataset, plan = tiny_plan(**options)
    stages = tuple(
        stage.model_copy(update={"epochs": epochs, "max_lr": 1e-3})
        for stage, epochs in zip(plan.config.stages[::2], EPOCHS, strict=True)
    )
    first = stages[0].model_copy(update={"alternate": "R1/mel"})
    config = plan.config.model_copy(update={"stages": (first, *stages[1:])})
    return dataset, replace(plan, config=config)


@cache
def undisturbed(selection: str, folds: tuple[int, ...]) -> tuple[Path, RunResult]:
    out = place() / f"undisturbed-{selection}-{len(folds)}"
    return out, run(*short_plan(selection=selection, folds=folds), out)


def is_as_undisturbed(out: Path, selection: str = "heldout", folds: tuple[int, ...] = (1,)) -> bool:
    """Whether weights, metrics, answers and results are the bits of a run never stopped."""
    whole, wanted = undisturbed(selection, folds)
    found = RunResult.model_validate_json((out / "result.json").read_bytes())
    assert [f.model_dump(exclude=TIMES) for f in found.folds if f.fold in folds] == [
        f.model_dump(exclude=TIMES) for f in wanted.folds
    ]
    assert [m.model_dump(exclude=TIMES) for m in read_metrics(out) if m.fold in folds] == [
        m.model_dump(exclude=TIMES) for m in read_metrics(whole)
    ]
    for fold in (f"fold{number}" for number in folds):
        names = sorted(path.name for path in (whole / fold).iterdir())
        assert sorted(path.name for path in (out / fold).iterdir()) == names
        for name in names:
            if name.endswith(".csv") and name != "metrics.csv":
                assert (out / fold / name).read_bytes() == (whole / fold / name).read_bytes()
            if name.endswith(".pt"):
                ours, theirs = (load_checkpoint(p / fold / name).model for p in (out, whole))
                assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    return True


class _StoppedError(Exception):
    pass


def stop_at(out: Path, plan: Plan, dataset: StoredDataset, moment: type, count: int) -> None:
    seen = 0

    def watch(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, moment)
        if seen == count:
            raise _StoppedError

    with pytest.raises(_StoppedError):
        resume(dataset, out, watch)


@pytest.mark.parametrize(
    "selection",
    [pytest.param(n, marks=pytest.mark.slow) for n in ("heldout", "validation", "last")],
)
def test_stopped_in_every_stage_and_between_them_it_ends_with_the_same_bits(
    selection: str, tmp_path: Path
) -> None:
    dataset, plan = short_plan(selection=selection)
    begin(dataset, plan, tmp_path / "run")
    for moment, count in (
        (BatchDone, 1),  # before the first epoch's end
        (EpochDone, 1),  # within the first stage
        (StageStarted, 2),  # at its end
        (FoldDone, 1),  # the fold is finished, the run is not
    ):
        stop_at(tmp_path / "run", plan, dataset, moment, count)
    assert resume(dataset, tmp_path / "run") is not None
    assert is_as_undisturbed(tmp_path / "run", selection)


@pytest.mark.slow
def test_stopped_after_its_last_epoch_it_gives_the_same_predictions(tmp_path: Path) -> None:
    """No stage is left to train, so the network is only asked."""
    dataset, plan = short_plan()
    begin(dataset, plan, tmp_path / "run")
    stop_at(tmp_path / "run", plan, dataset, EpochDone, sum(EPOCHS))
    assert resume(dataset, tmp_path / "run") is not None
    assert is_as_undisturbed(tmp_path / "run")


_SIGNALLED = """
import os, sys
from pathlib import Path
from trainer.cli import main

number, rows = int(sys.argv[1]), int(sys.argv[2])
files = [Path(name) for name in sys.argv[3].split(os.pathsep)]
busy = False  # the hook opens files itself, and signals once

def watch(event, arguments):
    global busy
    if event == "open" and not busy:
        busy = True
        if all(file.exists() and file.read_text().count("\\n") > rows for file in files):
            os.kill(os.getpid(), number)
        else:
            busy = False

sys.addaudithook(watch)
sys.exit(main(sys.argv[4:]))
"""
"""A training that signals itself when it next opens a file: nobody who looks on is in time."""


def resumed_and_signalled(
    out: Path, number: int, metrics: list[Path], rows: int, *options: str
) -> subprocess.CompletedProcess[str]:
    """Resume a run in a process that gets a signal as soon as all the files have the rows."""
    files = os.pathsep.join(map(str, metrics))
    arguments = [str(int(number)), str(rows), files, "run", "--resume", str(out), *options]
    command = [sys.executable, "-c", _SIGNALLED, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def kill_after(out: Path, fold: int, rows: int) -> None:
    metrics = [out / f"fold{fold}/metrics.csv"]
    often = ("--checkpoint-every", "0")
    killed = resumed_and_signalled(out, signal.SIGKILL, metrics, rows, *often)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def test_killed_with_kill_9_it_goes_on_from_the_command_line_to_the_same_bits(
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    begin(*short_plan(), out)
    kill_after(out, fold=1, rows=2)
    assert main(["run", "--resume", str(out)]) == 0
    assert is_as_undisturbed(out)


@pytest.mark.slow
def test_killed_after_every_epoch_of_two_folds_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    out, folds = tmp_path / "run", (1, 2)
    begin(*short_plan(folds=folds), out)
    for fold in folds:
        for rows in range(1, sum(EPOCHS) + 1):
            kill_after(out, fold, rows)
    assert main(["run", "--resume", str(out)]) == 0
    assert is_as_undisturbed(out, folds=folds)


def test_files_that_a_kill_left_half_done_do_no_harm(tmp_path: Path) -> None:
    dataset, plan = short_plan()
    out = tmp_path / "run"
    begin(dataset, plan, out, execution=OFTEN)
    stop_at(out, plan, dataset, EpochDone, 3)
    with (out / "fold1/metrics.csv").open("a") as file:
        file.write("1,3,4,R3/fu")  # a row that was being written
    (out / "fold1/.state.pt.123.tmp").write_bytes(b"half")
    (out / "fold1/build.lock").write_text("process 1 on nowhere")
    assert resume(dataset, out) is not None
    assert is_as_undisturbed(out)


def test_a_state_left_by_a_kill_after_the_end_is_removed(tmp_path: Path) -> None:
    directory = RunDirectory(shutil.copytree(undisturbed("heldout", (1,))[0], tmp_path / "run"))
    (directory.path / "result.json").unlink()
    (directory.path / "fold1/state.pt").write_bytes(b"old")
    assert resume(short_plan()[0], directory.path) is not None
    assert is_as_undisturbed(directory.path)


def test_what_may_change_the_bits_since_a_run_was_begun_is_told(tmp_path: Path) -> None:
    dataset, plan = short_plan()
    begin(dataset, plan, tmp_path / "run")
    directory = RunDirectory(tmp_path / "run")
    record = directory.record()
    versions = record.versions | {"torch": "1.0"}
    write_sealed(directory.path / RECORD, record.model_copy(update={"versions": versions}))
    told: list[Event] = []

    def watch(event: Event) -> None:
        told.append(event)
        if isinstance(event, StageStarted):
            raise _StoppedError

    with pytest.raises(_StoppedError):
        resume(dataset, tmp_path / "run", watch)
    (warning,) = [event.message for event in told if isinstance(event, Warned)]
    assert f"torch {torch.__version__.split('+')[0]}" in warning
    assert "(1.0 then)" in warning


def test_the_result_has_the_warnings_of_every_fold_whoever_trained_it(tmp_path: Path) -> None:
    directory = RunDirectory(shutil.copytree(undisturbed("heldout", (1,))[0], tmp_path / "run"))
    (directory.path / "result.json").unlink()
    found = directory.fold(1).result()
    assert found is not None
    known = directory.record().warnings
    met = (*known[:1], "no graph", "other torch")
    directory.fold(1).finish(found.model_copy(update={"warnings": met}))
    result = resume(short_plan()[0], directory.path)
    assert result is not None
    assert result.warnings == (*known, "no graph", "other torch")


def test_initial_weights_that_are_others_than_at_the_beginning_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    dataset, plan = short_plan(init=str(weights), arch="resnet18")
    begin(dataset, plan, tmp_path / "run")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert RunDirectory(tmp_path / "run").record().init_sha256 == digest
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    with pytest.raises(ResumeError, match=rf"weights\.pth\) are not those .*, not {digest[:12]}"):
        resume(dataset, tmp_path / "run")


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    out, result = undisturbed("heldout", (1,))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    dataset, _ = short_plan()
    assert resume(dataset, out) == result
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_store_of_other_features_is_refused(tmp_path: Path) -> None:
    dataset, plan = short_plan()
    begin(dataset, plan, tmp_path / "run")
    with pytest.raises(ResumeError, match="fingerprint"):
        resume(open_store(tiny_store("uint8")), tmp_path / "run")


def test_a_finished_run_is_not_taken_for_one_on_another_store() -> None:
    """As by a sweep that is given a store built again: it would report the old one's results."""
    out, _ = undisturbed("heldout", (1,))
    other = tiny_store("uint8")
    with pytest.raises(ResumeError, match="fingerprint"):
        resume(open_store(other), out)
    with pytest.raises(ResumeError, match="fingerprint"):
        trainer.resume(out, store=other, progress=False)
    assert trainer.resume(out, store=tiny_store(), progress=False).path == out


def test_a_fold_that_another_process_trains_is_refused(tmp_path: Path) -> None:
    dataset, plan = short_plan()
    begin(dataset, plan, tmp_path / "run")
    with (
        RunDirectory(tmp_path / "run").fold(1).locked(),
        pytest.raises(BusyError, match=f"process {os.getpid()}"),
    ):
        resume(dataset, tmp_path / "run")


@pytest.mark.slow
def test_folds_may_be_trained_one_by_one_and_the_last_one_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, plan = short_plan(folds=(1, 2))
    begin(dataset, plan, tmp_path / "run")
    splits = counted(monkeypatch, "trainer.run.split_fold")
    assert resume(dataset, tmp_path / "run", folds=(2,)) is None
    assert [fold for _, _, fold in splits] == [2], "no other fold is split"
    assert not (tmp_path / "run/result.json").exists()
    assert resume(dataset, tmp_path / "run", folds=(1,)) is not None
    assert is_as_undisturbed(tmp_path / "run")

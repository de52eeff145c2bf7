"""Two starts of one run, wherever they are: one trains, the other is refused and told by whom."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from featurestore.errors import BusyError
from tests.integration.test_resume import (
    is_as_undisturbed,
    resumed_and_signalled,
    short_plan,
)
from tests.integration.trainer_store import TINY, tiny_store
from trainer.errors import RunDirectoryError
from trainer.records.rundir import RunDirectory
from trainer.run import begin, resume

TRAINER = [sys.executable, "-c", "import sys; from trainer.cli import main; sys.exit(main())"]
SMALL = f"--init random --arch {TINY} --batch-size 48 --threads 1 --device cpu --fold 1"


def started(*arguments: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([*TRAINER, *arguments], stdout=pipe, stderr=pipe, text=True)


def test_a_second_start_is_refused_and_says_who_trains(tmp_path: Path) -> None:
    out = tmp_path / "run"
    dataset, plan = short_plan()
    begin(dataset, plan, out)
    record = (out / "run.json").read_bytes()
    with pytest.raises(RunDirectoryError, match=r"already holds a run.*--resume"):
        begin(*short_plan(method="mel"), out)
    with RunDirectory(out).locked():
        who = rf"is being trained, in use by process {os.getpid()} on .*: wait for it to end"
        with pytest.raises(RunDirectoryError, match=f"{who}.*or give another --out"):
            begin(*short_plan(method="mel"), out)
        with pytest.raises(BusyError, match=who):
            resume(dataset, out)
    assert (out / "run.json").read_bytes() == record


def test_a_record_that_another_start_has_just_written_is_never_replaced(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    begin(*short_plan(), directory.path)
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        directory.create_record(directory.record().model_copy(update={"store": "/other"}))
    assert directory.record().store == str(tiny_store())


@pytest.mark.slow
def test_of_several_starts_at_once_one_trains_and_its_result_is_of_what_it_trained(
    tmp_path: Path,
) -> None:
    out, methods = tmp_path / "run", ("mel", "resize", "baseline", "control")
    common = ["run", "--store", str(tiny_store()), *SMALL.split(), "--epochs-scale", "0.001"]
    starts = {m: started(*common, "--method", m, "--out", str(out)) for m in methods}
    errors = {method: start.communicate()[1] for method, start in starts.items()}
    (winner,) = (method for method, start in starts.items() if start.returncode == 0)
    for method in set(methods) - {winner}:
        assert starts[method].returncode == 1
        loading, error = errors[method].splitlines()
        assert loading == "run: loading PyTorch"
        assert str(out) in error
    result = RunDirectory(out).result()
    assert result is not None
    assert result.config.method == winner == RunDirectory(out).record().config.method


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_a_signal_while_two_folds_train_at_once_costs_no_bit(
    number: int, code: int, tmp_path: Path
) -> None:
    out, folds = tmp_path / "run", (1, 2)
    dataset, plan = short_plan(folds=folds)
    begin(dataset, plan, out)
    metrics = [out / f"fold{fold}/metrics.csv" for fold in folds]
    stopped = resumed_and_signalled(out, number, metrics, 1, "--folds-at-once", "2")
    assert stopped.returncode == code
    assert stopped.stderr.splitlines() == [
        "run: loading PyTorch",
        "",
        f"stopped. {out} keeps the epochs and networks so far; --resume {out} resumes it, and so "
        f"does trainer.resume({str(out)!r})",
    ]
    unfinished = [fold for fold in folds if not (out / f"fold{fold}/fold.json").exists()]
    assert unfinished
    assert all((out / f"fold{fold}/state.pt").exists() for fold in unfinished)
    assert not list(out.rglob("*.lock"))
    assert resume(dataset, out) is not None
    assert is_as_undisturbed(out, folds=folds)

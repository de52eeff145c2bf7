"""Runs that a report refuses, with what is wrong and what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas import RunResult
from tests.integration.reported_runs import make_run
from tests.integration.trainer_runs import as_older
from trainer.errors import ReportError, RunDirectoryError, TrainedRunError
from trainer.records.rundir import RunDirectory
from trainer.report import write_report


def edit(name: str, change: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(change((run / name).read_text()))


def lose(*names: str) -> Callable[[Path], object]:
    def remove(run: Path) -> None:
        for name in names:
            (run / name).unlink()

    return remove


def without_folds(text: str) -> str:
    return RunResult.model_validate_json(text).model_copy(update={"folds": ()}).model_dump_json()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "unfinished": (lose("result.json"), r"unfinished.*no result\.json; finish it"),
    "no run": (lose("result.json", "run.json"), "is not a run"),
    "cut json": (edit("result.json", lambda text: text[:200]), r"result\.json: is damaged"),
    "wrong value": (
        edit("result.json", lambda text: text.replace('_accuracy":0.7', '_accuracy":7')),
        r"result\.json: is damaged.*: folds\.0\.best_accuracy",
    ),
    "binary json": (
        lambda run: (run / "result.json").write_bytes(b"\xff\0"),
        r"result\.json: is damaged",
    ),
    "no folds": (edit("result.json", without_folds), "found folds: none"),
    "no metrics": (lose("fold1/metrics.csv"), r"fold1/metrics\.csv: is missing"),
    "cut csv": (
        edit("fold1/metrics.csv", lambda text: "\n".join(text.splitlines()[:4])[:-20]),
        r"fold1/metrics\.csv: is damaged at line 4",
    ),
    "empty csv": (
        edit("fold1/metrics.csv", lambda text: text.splitlines()[0]),
        r"fold1/metrics\.csv: is damaged .*: expected the epochs 1 to 17 of fold 1",
    ),
    "long row": (
        edit("fold1/metrics.csv", lambda text: text.rstrip() + ",1"),
        r"fold1/metrics\.csv: is damaged at line 18",
    ),
    "epoch twice": (
        edit("fold1/metrics.csv", lambda text: text + text.splitlines()[-1]),
        "expected the epochs 1 to 17 of fold 1, each once",
    ),
    "no best accuracy": (
        edit(
            "result.json", lambda text: text.replace('"best_accuracy":0.7', '"best_accuracy":null')
        ),
        "fold 1 has scores of the last network, selection heldout of the best and last",
    ),
    "no answers": (lose("fold1/last.csv"), r"fold1/last\.csv: is missing"),
    "cut answers": (
        edit("fold1/best.csv", lambda text: "\n".join(text.splitlines()[:9])),
        r"fold1/best\.csv: .*has 8 clips, result\.json says 100",
    ),
    "class out of range": (
        edit("fold1/best.csv", lambda text: text.replace("-0,0,", "-0,9,")),
        r"fold1/best\.csv: is damaged: a class_id",
    ),
    "binary csv": (
        lambda run: (run / "fold1/metrics.csv").write_bytes(b"\xff\xfe\0"),
        r"fold1/metrics\.csv: is damaged",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_runs_are_refused_with_what_is_wrong_and_what_to_do(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    run = as_older(make_run(tmp_path / "run", "mel", {1: 70.0}))  # digests would be said first
    damage(run)
    with pytest.raises(TrainedRunError, match=message) as caught:
        write_report([run], tmp_path / "out")
    assert str(run) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_directory_is_refused_with_the_run_next_to_it_that_was_meant(
    tmp_path: Path,
) -> None:
    make_run(tmp_path / "esc10-mel-seed0", "mel", {1: 70.0})
    for name, near in (("nothing", r"wrote$"), ("esc10-mel", r"did you mean 'esc10-mel-seed0'\?")):
        with pytest.raises(TrainedRunError, match=rf"{name}: no such directory; .*{near}"):
            write_report([tmp_path / name], tmp_path / "out")
        with pytest.raises(RunDirectoryError, match=rf"{name}: no such directory; .*{near}"):
            RunDirectory(tmp_path / name).record()


def test_no_runs_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no runs"):
        write_report([], tmp_path / "out")


def test_directory_of_runs_names_the_runs_inside(tmp_path: Path) -> None:
    make_run(tmp_path / "all" / "mel", "mel", {1: 70.0})
    with pytest.raises(TrainedRunError, match=r"holds 1: give them, such as .*mel"):
        write_report([tmp_path / "all"], tmp_path / "out")


def test_two_runs_of_the_same_method_seed_and_fold_are_refused(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", "mel", {1: 70.0, 2: 71.0}),
        make_run(tmp_path / "b", "mel", {2: 70.0, 3: 71.0}),
    ]
    with pytest.raises(ReportError, match=r"a and .*b are both mel, seed 0, fold 2"):
        write_report(runs, tmp_path / "out")


def test_run_given_twice_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", "mel", {1: 70.0})
    with pytest.raises(ReportError, match="leave one of them out"):
        write_report([run, run], tmp_path / "out")


def test_out_that_is_a_file_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", "mel", {1: 70.0})
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ReportError, match="cannot be written"):
        write_report([run], tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"

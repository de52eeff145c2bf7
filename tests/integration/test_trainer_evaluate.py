import csv
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featurestore.building.build import build
from featurestore.datasets import Dataset, load_dataset, make_synthetic
from schemas import Evaluation, FeatureSpec, RunRecord, RunResult
from tests.integration.trainer_runs import as_older, finished_run
from tests.integration.trainer_store import (
    RESOLUTIONS,
    lonely_class_store,
    place,
    sounds,
    tiny_store,
)
from trainer.cli import main


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def evaluated(*arguments: object, run: Path | None = None) -> Evaluation:
    assert main(["evaluate", "--run", str(run or finished_run()), *map(str, arguments)]) == 0
    return Evaluation.model_validate_json(Path("evaluation/evaluation.json").read_bytes())


@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_each_fold_is_judged_by_the_network_that_held_it_out_as_in_training(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluated("--checkpoint", checkpoint)
    result = RunResult.model_validate_json((finished_run() / "result.json").read_bytes())
    for fold, recorded in zip(found.folds, result.folds, strict=True):
        assert (fold.fold, fold.networks, fold.num_trained_on) == (recorded.fold, (fold.fold,), 0)
        assert fold.num_clips == recorded.num_test
        assert fold.accuracy == getattr(recorded, f"{checkpoint}_accuracy")
    text = capsys.readouterr().out
    assert ("optimistic" in text) == (checkpoint == "best")
    assert "TRAINED ON" not in text


def test_confusion_recall_and_accuracy_agree_and_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = evaluated("--out", "evaluation")
    text = capsys.readouterr().out
    matrix = np.array(found.confusion)
    assert matrix.sum() == found.num_clips == sum(fold.num_clips for fold in found.folds)
    assert found.accuracy == matrix.trace() / matrix.sum()
    for i, one in enumerate(found.classes):
        assert one.recall == matrix[i, i] / one.num_clips
        assert f"{100 * one.recall:.1f}" in text
        assert one.class_name in text
    assert f"accuracy {100 * found.accuracy:.2f} %" in text
    with Image.open("evaluation/confusion.png") as picture:
        assert min(picture.size) > 500


def test_a_narrow_terminal_gets_the_most_frequent_confusions(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    evaluated()
    assert "most frequent confusions" in capsys.readouterr().out


def test_a_network_on_folds_it_was_trained_on_is_loud_everywhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = evaluated("--network", 1, "--fold", 2, "--fold", 1)
    assert [fold.num_trained_on for fold in found.folds] == [found.folds[0].num_clips, 0]
    assert found.warnings[0].startswith("TRAINED ON")
    assert "Warning: TRAINED ON" in capsys.readouterr().out


def test_a_fold_that_every_network_was_trained_on_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["evaluate", "--run", str(finished_run()), "--fold", "3"]) == 1
    error = capsys.readouterr().err
    assert "every network was trained on fold 3" in error
    assert "--network" in error


@cache
def part_of_the_sounds(fold: int) -> Path:
    """A store of the clips of one fold alone: another clip list, so another fingerprint."""
    folder = Path(tempfile.mkdtemp(dir=place()))
    root = folder / "part"
    shutil.copytree(sounds() / "audio" / f"fold{fold}", root / "audio" / f"fold{fold}")
    with (sounds() / "clips.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["fold"] == str(fold)]
    with (root / "clips.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["path", "fold", "class"], extrasaction="ignore")
        table.writeheader()
        table.writerows(row for row in rows if (root / row["path"]).is_file())
    return store_of(load_dataset("folder", root), folder)


def store_of(dataset: Dataset, folder: Path) -> Path:
    build(dataset, folder / "other.zarr", FeatureSpec(resolutions=RESOLUTIONS))
    return folder / "other.zarr"


def test_clips_of_another_store_that_were_trained_on_are_known_by_their_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = part_of_the_sounds(2)
    found = evaluated("--store", store)
    assert [fold.networks for fold in found.folds] == [(1, 2)]
    assert found.folds[0].num_trained_on == found.num_clips == 48
    assert "TRAINED ON: 48 of these 48 clips" in capsys.readouterr().out
    alone = evaluated("--store", store, "--network", 2)
    assert alone.folds[0].num_trained_on == 0
    assert not alone.warnings
    own = evaluated("--fold", 2)
    assert (alone.confusion, alone.accuracy) == (own.confusion, own.accuracy)


def test_new_clips_are_judged_by_all_networks_without_a_warning(tmp_path: Path) -> None:
    new = make_synthetic(tmp_path / "new", clips_per_class=1, seed=7)
    found = evaluated("--store", store_of(new, tmp_path))
    assert [(fold.networks, fold.num_trained_on) for fold in found.folds] == [((1, 2), 0)] * 3
    assert not found.warnings


def test_where_the_own_store_is_gone_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = as_older(shutil.copytree(finished_run(), tmp_path / "run"))  # may be edited
    record = RunRecord.model_validate_json((run / "run.json").read_bytes())
    moved = record.model_copy(update={"store": str(tmp_path / "gone.zarr")})
    (run / "run.json").write_text(moved.model_dump_json())
    assert main(["evaluate", "--run", str(run)]) == 1
    error = capsys.readouterr().err
    assert "gone.zarr" in error
    assert "give --store" in error
    assert evaluated("--store", tiny_store(), run=run).folds[0].num_trained_on == 0
    found = evaluated("--store", part_of_the_sounds(2), run=run)
    assert found.folds[0].num_trained_on is None
    assert any("cannot be known" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--store", lambda: tiny_store("uint8")], "dtype is uint8 in the store, float16 in"),
        (["--store", lonely_class_store], "classes: only the store has high, low, only the run"),
        (["--store", lambda: "absent.zarr"], "absent.zarr"),
        (["--fold", lambda: 9], "no fold 9 in the store; it has: 1, 2, 3"),
        (["--network", lambda: 3], "no network held out fold 3"),
        (["--out", lambda: "taken"], "taken: cannot be written"),
    ],
)
def test_what_cannot_be_evaluated_is_one_clear_error(
    arguments: list[Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").write_text("mine")
    option, value = arguments
    assert main(["evaluate", "--run", str(finished_run()), option, str(value())]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1

"""Model selection by the held-out fold, a validation part, or nothing, and what each may see."""

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from featurestore import StoredDataset, open_store
from featurestore.building.build import build
from featurestore.datasets import load_dataset
from schemas import FeatureSpec, RunResult, Selection
from tests.conftest import sound, write_folder
from tests.integration.reported_runs import read_outputs
from tests.integration.test_trainer_run import read_metrics
from tests.integration.trainer_store import (
    RESOLUTIONS,
    TINY,
    build_small,
    place,
    sounds,
    tiny_plan,
    tiny_store,
)
from trainer.cli import main
from trainer.config import TrainingOptions
from trainer.data.split import split_fold, training_folds
from trainer.errors import CheckpointError, DataError, TrainedRunError
from trainer.inference.predict import load_network, open_run
from trainer.model import build_model
from trainer.plan import plan_run
from trainer.records.checkpoint import load_checkpoint
from trainer.run import run


@cache
def finished(selection: Selection) -> tuple[Path, RunResult]:
    """A run of two stages over fold 1."""
    out = place() / f"selection-{selection}"
    return out, _train(open_store(tiny_store()), selection, out)


def _train(dataset: StoredDataset, selection: Selection, out: Path) -> RunResult:
    options = TrainingOptions(
        method="mel", folds=(1,), init="random", epochs_scale=0.01, batch_size=24, arch=TINY,
        selection=selection, device="cpu", precision="float32", threads=1,
        validation_share=0.2 if selection == "validation" else None,
    )  # fmt: skip
    plan = plan_run(dataset, options)
    stages = tuple(stage.model_copy(update={"epochs": 2}) for stage in plan.config.stages[::4])
    return run(
        dataset, replace(plan, config=plan.config.model_copy(update={"stages": stages})), out
    )


SLOW_LAST = pytest.param("last", marks=pytest.mark.slow)


@pytest.mark.parametrize("selection", ["heldout", "validation", SLOW_LAST])
def test_a_result_has_what_its_selection_gives_and_nothing_else(selection: Selection) -> None:
    out, result = finished(selection)
    (fold,) = result.folds
    assert (fold.best_accuracy is None) == (selection == "last")
    assert (fold.last_accuracy is None) == (selection == "validation")
    assert (fold.valid_accuracy is None) == (selection != "validation")
    files = {path.name for path in (out / "fold1").iterdir()}
    assert (
        files
        == {"fold.json", "last.pt", "metrics.csv"}
        | {
            "heldout": {"best.pt", "best.csv", "last.csv"},
            "validation": {"best.pt", "best.csv"},
            "last": {"last.csv"},
        }[selection]
    )
    for which, accuracy in (("best", fold.best_accuracy), ("last", fold.last_accuracy)):
        if accuracy is not None:
            answers = read_outputs(out / f"fold1/{which}.csv")
            clips = open_store(tiny_store()).clips([1])
            assert answers.clip_ids == tuple(clips.clip_id)
            assert answers.accuracy == accuracy
            assert np.allclose(answers.probabilities.sum(axis=1), 1)


def test_the_validation_part_is_of_the_training_folds_and_is_not_trained_on() -> None:
    dataset, plan = tiny_plan(selection="validation", validation_share=0.2)
    split = split_fold(dataset, plan.config, 1)
    clips = dataset.clips(training_folds(dataset, 1))
    assert split.apart is not None
    assert len(split.apart) == len(clips)
    assert split.num_train + split.num_valid == len(clips)
    trained = split.order.rows(1)
    assert len(trained) == split.num_train == plan.num_train[1]
    assert not split.apart[trained].any()
    by_class = np.bincount(clips.class_id[split.apart]) / np.bincount(clips.class_id)
    assert (abs(by_class - 0.2) < 0.05).all()


def test_the_picked_network_has_its_accuracy_on_the_validation_part() -> None:
    out, result = finished("validation")
    dataset = open_store(tiny_store())
    split = split_fold(dataset, result.config, 1)
    checkpoint = load_checkpoint(out / "fold1/best.pt")
    model = build_model(TINY, 6, seed=0).eval()
    model.load_state_dict(checkpoint.model)
    images, labels = dataset.read(checkpoint.array, training_folds(dataset, 1))
    assert split.apart is not None
    with torch.inference_mode():
        answers = model(torch.from_numpy(images[split.apart]).unsqueeze(1)).argmax(dim=1).numpy()
    accuracy = (answers == labels[split.apart]).mean()
    rows = read_metrics(out)
    assert accuracy == checkpoint.accuracy == result.folds[0].valid_accuracy
    assert accuracy == max(row.valid_accuracy for row in rows)


@cache
def other_held_out_fold() -> Path:
    """The tiny store with other sounds in fold 1, under the same names."""
    root = place() / "other-sounds"
    shutil.copytree(sounds(), root)
    dataset = load_dataset("synthetic", root)
    for number, clip in enumerate(dataset.clips):
        path = root / clip.path
        if clip.fold == 1 and path.exists():
            soundfile.write(path, sound(number), 22_050)
    return build_small(root, "synthetic", place() / "other.zarr")


@pytest.mark.parametrize("selection", ["validation", SLOW_LAST])
def test_what_the_held_out_fold_holds_changes_no_weight(
    selection: Selection, tmp_path: Path
) -> None:
    out, result = finished(selection)
    other = _train(open_store(other_held_out_fold()), selection, tmp_path / "other")
    assert other.fingerprint == result.fingerprint
    for name in {path.name for path in (out / "fold1").glob("*.pt")}:
        ours, theirs = (load_checkpoint(p / "fold1" / name) for p in (out, tmp_path / "other"))
        assert ours.epoch == theirs.epoch
        assert all(torch.equal(ours.model[key], theirs.model[key]) for key in ours.model)
    assert result.folds[0] != other.folds[0]


@pytest.mark.parametrize(("selection", "picked"), [("heldout", True), ("validation", False)])
def test_evaluate_calls_optimistic_only_what_the_held_out_fold_picked(
    selection: Selection,
    picked: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, result = finished(selection)
    assert main(["evaluate", "--run", str(out), "--out", str(tmp_path / "e")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert ("there is optimistic" in text) == picked
    assert result.folds[0].best_accuracy is not None
    assert f"{100 * result.folds[0].best_accuracy:.2f} %" in text


def test_without_a_pick_each_stage_goes_on_from_the_last_network(tmp_path: Path) -> None:
    out, result = finished("last")
    with pytest.raises(CheckpointError, match=r"best\.pt: does not exist.*--checkpoint last"):
        load_network(open_run(out), 1, "best", torch.device("cpu"))
    assert load_network(open_run(out), 1, "last", torch.device("cpu")).array == "R3/full"
    assert main(["evaluate", "--run", str(out), "--out", str(tmp_path / "e")]) == 0
    judged = json.loads((tmp_path / "e/evaluation.json").read_bytes())
    assert (judged["checkpoint"], judged["accuracy"]) == ("last", result.folds[0].last_accuracy)


def test_too_few_recordings_for_a_validation_part_are_told() -> None:
    with pytest.raises(DataError, match=r"fold 1: .*--validation-share"):
        tiny_plan(selection="validation", validation_share=0.001)


def test_a_validation_part_that_leaves_one_clip_to_train_on_is_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "sounds", clips_a_class=2)
    for fold in (1, 2):
        shutil.rmtree(root / f"fold{fold}" / "low")
    dataset = open_store(build_small(root, "folder", tmp_path / "s.zarr"))
    options = TrainingOptions(method="resize", selection="validation", validation_share=0.5)
    with pytest.raises(DataError, match="fold 1: 1 clip left to train on, expected two or more"):
        plan_run(dataset, options)


def test_a_recording_on_both_sides_of_a_split_is_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "sounds")
    rows = ["path,fold,class,source"]
    for path in sorted(root.rglob("*.*")):
        fold, name, file = path.relative_to(root).parts
        source = "tape7" if file.startswith(f"{name}3") else f"{fold}-{name}"
        rows.append(f"{fold}/{name}/{file},{fold[4:]},{name},{source}")
    (root / "clips.csv").write_text("\n".join(rows))
    build(load_dataset("folder", root), tmp_path / "s.zarr", FeatureSpec(resolutions=RESOLUTIONS))
    with pytest.raises(DataError, match=r"fold 1: recordings .*: 1, such as source tape7"):
        plan_run(open_store(tmp_path / "s.zarr"), TrainingOptions(method="baseline"))


def test_an_unfinished_run_names_what_finishes_it(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(TrainedRunError, match="unfinished"):
        open_run(tmp_path)

"""Official splits: folds with names, of which the validation one is never trained on."""

import csv
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from featurestore import open_store
from featurestore.building.build import build
from featurestore.datasets.collection import load_collection
from featurestore.errors import UnknownNameError
from schemas import FeatureSpec, RunRecord, RunResult
from tests.conftest import write_folder
from tests.integration.trainer_store import RESOLUTIONS, TINY, place
from trainer.cli import main
from trainer.config import TrainingOptions
from trainer.data.split import (
    default_folds,
    fold_numbers,
    split_fold,
    trained_folds,
    validation_folds,
)
from trainer.plan import plan_run

SPLITS = {"fold1": "train", "fold2": "val", "fold3": "test"}
SMALL = {
    "init": "random",
    "epochs_scale": 0.01,
    "batch_size": 4,
    "arch": TINY,
    "device": "cpu",
    "precision": "float32",
    "threads": 1,
}


@cache
def split_store(*splits: str) -> Path:
    """Two classes of five clips in each split."""
    root = place() / "-".join(splits)
    for fold, split in zip(sorted(write_folder(root, len(splits)).iterdir()), splits, strict=True):
        fold.rename(root / split)
    store = root.parent / f"{root.name}.zarr"
    build(load_collection(root), store, FeatureSpec(resolutions=RESOLUTIONS))
    return store


def test_folds_are_asked_for_by_name_or_number_and_the_test_is_the_default() -> None:
    store = open_store(split_store("train", "val", "test"))
    assert store.fold_names == {1: "train", 2: "val", 3: "test"}
    assert default_folds(store) == (3,)
    assert fold_numbers(store, ["test", "1", 2]) == (3, 1, 2)
    with pytest.raises(UnknownNameError, match=r"fold 'tset'.*train, val, test"):
        fold_numbers(store, ["tset"])


@pytest.mark.parametrize(
    ("splits", "held_out", "trained", "validation"),
    [
        (("train", "val", "test"), "test", ("train",), ("val",)),
        (("train", "val", "test"), "val", ("train", "test"), ()),
        (("dev", "eval"), "eval", ("dev",), ()),
        (("train", "test"), "test", ("train",), ()),
    ],
)
def test_an_official_validation_fold_is_not_trained_on_if_there_is_another(
    splits: tuple[str, ...], held_out: str, trained: tuple[str, ...], validation: tuple[str, ...]
) -> None:
    store = open_store(split_store(*splits))
    (fold,) = fold_numbers(store, [held_out])
    assert {store.fold_names[one] for one in trained_folds(store, fold)} == set(trained)
    assert {store.fold_names[one] for one in validation_folds(store, fold)} == set(validation)


@pytest.mark.parametrize("selection", ["heldout", "validation", "last"])
def test_a_split_trains_on_the_training_fold_and_validates_on_the_official_one(
    selection: str,
) -> None:
    store = open_store(split_store("train", "val", "test"))
    plan = plan_run(
        store, TrainingOptions(method="mel", folds=("test",), selection=selection, **SMALL)
    )
    assert plan.config.folds == (3,)
    split = split_fold(store, plan.config, 3)
    assert (split.num_train, split.num_test) == (10, 10)
    others = store.clips([1, 2]).fold
    assert split.kept is not None
    assert np.array_equal(split.kept, others == 1)
    assert (split.apart is not None) == (selection == "validation")
    if split.apart is not None:
        assert np.array_equal(split.apart, others == 2)
    drawn = np.concatenate([window.rows for window in _windows(split)])
    assert len(drawn) == 10
    warned = any("official val fold" in warning for warning in plan.warnings)
    assert warned == (selection == "heldout")


def _windows(split: object) -> list[object]:
    return list(split.order.windows(1))  # type: ignore[attr-defined]


def test_a_run_by_name_trains_on_the_training_fold_alone_and_resumes_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    store = shutil.copytree(split_store("train", "val", "test"), tmp_path / "s.zarr")
    options = f"--epochs-scale 0.01 --arch {TINY} --batch-size 4 --init random --threads 1"
    command = f"run --store {store} --method mel --fold test --selection validation {options}"
    assert main([*command.split(), "--out", "out"]) == 0
    assert "held-out folds test of 3" in " ".join(capsys.readouterr().out.split())
    result = RunResult.model_validate_json(Path("out/result.json").read_bytes())
    (fold,) = result.folds
    assert (fold.fold, fold.num_train, fold.num_valid, fold.num_test) == (3, 10, 10, 10)
    assert RunRecord.model_validate_json(Path("out/run.json").read_bytes()).config.folds == (3,)
    assert main(["run", "--resume", "out", "--fold", "test"]) == 0
    assert main(["run", "--resume", "out", "--fold", "train"]) == 1
    capsys.readouterr()
    assert main(["evaluate", "--run", "out", "--fold", "test"]) == 0
    assert "TRAINED ON" not in capsys.readouterr().out
    assert main(["evaluate", "--run", "out", "--fold", "val"]) == 0
    assert "TRAINED ON" not in capsys.readouterr().out
    with Path("out/fold3/best.csv").open() as file:
        assert len(list(csv.reader(file))) == 11

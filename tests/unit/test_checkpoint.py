import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from schemas import EpochMetrics, FeatureSpec, FoldResult, RunConfig, RunRecord, Stage
from trainer.errors import CheckpointError, RunDirectoryError
from trainer.records.checkpoint import (
    Checkpoint,
    FoldState,
    StageState,
    load_checkpoint,
    load_state,
    load_values,
    save_checkpoint,
    save_state,
    save_values,
)
from trainer.records.rundir import FoldDirectory
from trainer.safefiles import replace_file
from trainer.training.fold import StateSaver

CONFIG = RunConfig(
    dataset="esc10",
    method="mel",
    stages=(Stage(array="R1/mel", epochs=3, max_lr=1e-3),),
    folds=(1,),
)


def checkpoint(epoch: int, accuracy: float) -> Checkpoint:
    return Checkpoint(
        model={"weight": torch.full((2,), float(epoch)), "steps": torch.tensor(epoch)},
        fold=1,
        stage=1,
        epoch=epoch,
        array="R1/mel",
        accuracy=accuracy,
        config=CONFIG,
        fingerprint="abc",
        class_names=("dog", "rain"),
    )


def test_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = checkpoint(2, 0.5)
    save_checkpoint(tmp_path / "x.pt", saved)
    loaded = load_checkpoint(tmp_path / "x.pt")
    assert vars(loaded) | {"model": None} == vars(saved) | {"model": None}
    assert all(torch.equal(loaded.model[name], saved.model[name]) for name in saved.model)


def test_damaged_or_foreign_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(CheckpointError, match=r"x\.pt.*is missing"):
        load_checkpoint(path)
    for content in ({"a": torch.zeros(1)}, [1], {"config": "{}"}):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=r"x\.pt.*no checkpoint"):
            load_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"x\.pt"):
        load_checkpoint(path)


def state(epoch: int, best: Checkpoint | None = None) -> FoldState:
    last = checkpoint(epoch, 0.5)
    optimizer = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"betas": (0.9, 0.99)}]}
    metrics = EpochMetrics(
        fold=1,
        stage=1,
        epoch=epoch,
        array="R1/mel",
        max_lr=0.1,
        train_loss=0.1 + 0.2,
        valid_loss=1 / 3,
        valid_accuracy=0.5,
        seconds=1.5,
        samples_per_s=10,
    )
    return FoldState(last, best, last, StageState(7, optimizer), (metrics,), 12.5, ("cold",))


@pytest.mark.parametrize("carried", ["last", "best", "another"])
@pytest.mark.parametrize("best", ["none", "last", "another"])
def test_the_network_that_is_carried_comes_back_as_it_was(
    best: str, carried: str, tmp_path: Path
) -> None:
    saved = state(2, checkpoint(1, 0.75) if best == "another" else None)
    saved = replace(saved, best=saved.last) if best == "last" else saved
    networks = {"last": saved.last, "best": saved.best, "another": checkpoint(3, 0.25)}
    saved = replace(saved, carried=networks[carried] or saved.last)
    save_state(tmp_path / "x", saved)
    loaded = load_state(tmp_path / "x")
    assert loaded.carried.epoch == saved.carried.epoch
    assert (loaded.carried is loaded.last) == (saved.carried is saved.last)
    assert (loaded.carried is loaded.best) == (saved.carried is saved.best)


@pytest.mark.parametrize("best", ["none", "another"])
def test_a_state_of_an_older_version_carries_the_best_network_if_any_was_picked(
    best: str, tmp_path: Path
) -> None:
    save_state(tmp_path / "x", state(2, checkpoint(1, 0.75) if best == "another" else None))
    values = load_values((tmp_path / "x").read_bytes())
    del values["carried"]
    save_values(tmp_path / "x", values)
    assert load_state(tmp_path / "x").carried.epoch == (1 if best == "another" else 2)


@pytest.mark.parametrize("best", ["none", "last", "another"])
def test_a_state_comes_back_as_it_was(best: str, tmp_path: Path) -> None:
    saved = state(2, checkpoint(1, 0.75) if best == "another" else None)
    saved = replace(saved, best=saved.last) if best == "last" else saved
    save_state(tmp_path / "x", saved)
    loaded = load_state(tmp_path / "x")
    assert (loaded.best is loaded.last) == (best == "last")
    assert (loaded.best is None) == (best == "none")
    assert loaded.best is None or loaded.best.epoch == (1 if best == "another" else 2)
    assert (loaded.epochs, loaded.seconds, loaded.stage.step) == (saved.epochs, 12.5, 7)
    assert loaded.warnings == ("cold",)
    assert loaded.stage.optimizer["param_groups"] == [{"betas": (0.9, 0.99)}]
    assert torch.equal(loaded.stage.optimizer["state"][0]["exp_avg"], torch.ones(2))


def test_a_damaged_state_says_that_the_fold_can_start_again(tmp_path: Path) -> None:
    save_state(tmp_path / "x", state(1))
    whole = (tmp_path / "x").read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"x" * 100):
        (tmp_path / "x").write_bytes(damaged)
        with pytest.raises(CheckpointError, match="starts over"):
            load_state(tmp_path / "x")


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": "[" * 100_000},
        {"epochs": 5},
        {"seconds": "x"},
        {"step": None},
        {"optimizer": [1]},
        {"warnings": 5},
        {"carried": 5},
        {"last": torch.zeros(3)},
        {"last": {"config": "[" * 100_000, "model": {}}},
        {"last": {"config": "{}", "model": 5}},
        {"last": {"config": "{}", "model": {"a": 5}}},
    ],
)
def test_a_state_of_any_content_says_that_the_fold_can_start_again(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    save_state(tmp_path / "x", state(1))
    values = load_values((tmp_path / "x").read_bytes())
    contents: list[Any] = [values | changes, torch.zeros(3), [1], None]
    for content in contents:
        save_values(tmp_path / "x", content)
        with pytest.raises(CheckpointError, match="starts over") as caught:
            load_state(tmp_path / "x")
        assert "\n" not in str(caught.value)


def test_a_state_of_another_run_is_refused_with_every_field_that_differs(tmp_path: Path) -> None:
    record = RunRecord(
        config=CONFIG.model_copy(update={"epochs_scale": 0.5, "seed": 3}),
        fingerprint="other",
        store="s.zarr",
        features=FeatureSpec(),
        extractor_version=1,
        class_names=("dog", "rain"),
        versions={},
        device_name="cpu",
        started="",
        init_used="random",
    )
    directory = FoldDirectory(tmp_path)
    directory.write_state(state(1))
    with pytest.raises(CheckpointError) as caught:
        directory.state(record, 2)
    for part in (
        "epochs_scale (1.0, the run has 0.5)",
        "seed (0, the run has 3)",
        "fingerprint (abc, the run has other)",
        "fold (1, the run has 2)",
    ):
        assert part in str(caught.value)
    assert "arch" not in str(caught.value)


def test_a_file_that_the_folds_record_does_not_list_is_said_to_be_of_another_training(
    tmp_path: Path,
) -> None:
    folder = FoldDirectory(tmp_path)
    folder.write_metrics(())
    outcome = FoldResult(
        fold=1,
        num_train=8,
        num_test=2,
        best_accuracy=None,
        best_epoch=None,
        last_accuracy=0.5,
        last_epoch=3,
        seconds=1.0,
    )
    record = folder.finish(outcome)
    save_checkpoint(folder.network("best"), checkpoint(1, 0.5))
    folder.predictions("best").write_bytes(b"clip_id\n")
    assert folder.epochs() == ()
    with pytest.raises(CheckpointError) as network:
        folder.checkpoint("best", record)
    with pytest.raises(RunDirectoryError) as predictions:
        folder.read("best.csv", record, 100)
    for name, caught in (("best.pt", network), ("best.csv", predictions)):
        assert str(caught.value).startswith(
            f"{tmp_path / name}: is not among the files that fold.json lists"
        )
        assert "put both back from a copy" in str(caught.value)


def test_an_interrupted_keeper_leaves_the_state_and_its_networks(tmp_path: Path) -> None:
    def interrupted() -> None:
        with StateSaver(FoldDirectory(tmp_path), save_every_s=600) as saver:
            saver.update(state(2, checkpoint(1, 0.6)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert load_state(tmp_path / "state.pt").last.epoch == 2
    epochs = [load_checkpoint(tmp_path / name).epoch for name in ("best.pt", "last.pt")]
    assert epochs == [1, 2]


def test_a_keeper_writes_while_it_runs(tmp_path: Path) -> None:
    saver = StateSaver(FoldDirectory(tmp_path), save_every_s=0)
    for epoch in (1, 2):
        saver.update(state(epoch))
        assert load_state(tmp_path / "state.pt").last.epoch == epoch


@pytest.fixture
def small_files() -> Iterator[None]:
    """A limit of 4 kB per file, which a write meets as it would a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("small_files")
def test_a_file_that_does_not_fit_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x"
    replace_file(path, b"old")
    with pytest.raises(RunDirectoryError, match=r"x: cannot be written.*--out"):
        replace_file(path, bytes(100_000))
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["x"]

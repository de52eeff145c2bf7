"""`trainer.train`, `resume` and `predict`: the commands as functions, for scripts and notebooks."""

import inspect
import io
import os
import shlex
import shutil
import signal
import threading
import time
import warnings
from contextlib import redirect_stderr
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import featurestore
import trainer
from featurestore.building.build import build
from featurestore.datasets import load_dataset
from featurestore.errors import StoreError, UnfinishedError, UnknownNameError
from tests.integration.trainer_runs import finished_run
from tests.integration.trainer_store import TINY, sounds, tiny_store
from trainer.cli import main
from trainer.config import ExecutionOptions, TrainingOptions
from trainer.errors import (
    ConfigError,
    ResumeError,
    RunDirectoryError,
    TrainedRunError,
    TrainerWarning,
)
from trainer.records.rundir import RunDirectory

# Of short trainings, with ESC-50's learning rates.
pytestmark = pytest.mark.filterwarnings("ignore::trainer.errors.TrainerWarning")

SMALL: dict[str, Any] = {
    "method": "baseline",
    "arch": TINY,
    "init": "random",
    "batch_size": 48,
    "threads": 1,
    "epochs_scale": 0.01,
    "device": "cpu",
}
LINE = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in SMALL.items())


def numbers(run: Path) -> dict[str, Any]:
    """All of a run that does not tell the time: losses, predictions and weights."""
    found: dict[str, Any] = {}
    for fold in trainer.open_finished(run).folds:
        directory = RunDirectory(run).fold(fold)
        rows = trainer.open_finished(run).epochs(fold)
        found[f"{fold} epochs"] = [(r.train_loss, r.valid_loss, r.valid_accuracy) for r in rows]
        for name in ("best", "last"):
            found[f"{fold} {name}"] = directory.predictions(name).read_bytes()
            network = torch.load(directory.network(name), weights_only=True)["model"]
            found[f"{fold} {name} weights"] = {k: v.numpy() for k, v in network.items()}
    return found


def assert_same(first: Path, second: Path) -> None:
    np.testing.assert_equal(numbers(first), numbers(second))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[trainer.FinishedRun, Path]:
    """A run of two folds from Python, and the same of the command."""
    place = tmp_path_factory.mktemp("runs")
    with warnings.catch_warnings(record=True) as caught, redirect_stderr(io.StringIO()) as shown:
        warnings.simplefilter("always")
        run = trainer.train(tiny_store(), **SMALL, folds=[1, 2], out=place / "ours", progress=False)
    assert shown.getvalue() == "", "it was asked to print nothing"
    assert any("steps or fewer" in str(w.message) for w in caught if w.category is TrainerWarning)
    line = f"run --store {tiny_store()} {LINE} --fold 1 --fold 2 --out {place / 'its'} --quiet"
    assert main(shlex.split(line)) == 0
    return run, place / "its"


def test_a_run_from_python_is_that_of_the_command_to_the_bit(
    runs: tuple[trainer.FinishedRun, Path],
) -> None:
    run, by_command = runs
    assert run.record.config == trainer.open_finished(by_command).record.config
    assert_same(run.path, by_command)


def test_a_run_has_its_accuracies_and_its_epochs_as_a_table(
    runs: tuple[trainer.FinishedRun, Path],
) -> None:
    run, _ = runs
    assert run.accuracies == {fold.fold: fold.best_accuracy for fold in run.result.folds}
    assert run.mean == pytest.approx(np.mean(list(run.accuracies.values())))
    assert run.std == pytest.approx(np.std(list(run.accuracies.values()), ddof=1))
    frame = run.to_pandas()
    assert list(frame.groupby("fold").size()) == [run.result.folds[0].last_epoch] * 2
    assert frame[frame["fold"] == 1]["valid_accuracy"].max() >= run.accuracies[1]
    assert f"accuracy {run.mean:.4f} ±" in repr(run)
    assert repr(trainer.open_finished(run.path)) == repr(run)


def test_an_interrupted_run_is_resumed_to_the_bit(
    runs: tuple[trainer.FinishedRun, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"

    def interrupt() -> None:
        while not list(out.glob("fold1/metrics.csv")):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer.train(tiny_store(), **SMALL, folds=(1, 2), out=out, save_every_s=0, progress=False)
    thread.join()
    assert f"trainer.resume({str(out)!r})" in caught.value.__notes__[0]
    with pytest.raises(TrainedRunError, match="unfinished"):
        trainer.open_finished(out)
    run = trainer.resume(out, progress=False)
    assert_same(run.path, runs[0].path)
    assert repr(trainer.resume(str(out), progress=False)) == repr(run)


@pytest.mark.slow
def test_a_run_is_resumed_from_a_store_that_has_moved_and_from_no_other(tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished_run(), out)
    (out / "result.json").unlink()
    moved = shutil.copytree(tiny_store(), tmp_path / "moved.zarr")
    with pytest.raises(ResumeError, match="other features"):
        trainer.resume(out, store=tiny_store("uint8"), progress=False)
    assert trainer.resume(out, store=moved, progress=False).folds == (1, 2)


def test_progress_is_shown_and_an_open_store_and_numbers_of_numpy_are_taken(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = featurestore.open_store(tiny_store())
    unfinished = store.manifest.model_copy(update={"state": "building", "counts": {}})
    object.__setattr__(store, "manifest", unfinished)  # as when it was opened; it is by now
    options = SMALL | {"seed": np.int64(3), "folds": range(1, 2), "out": str(tmp_path / "run")}
    run = trainer.train(store, **options)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "baseline on synthetic: 143 clips" in shown.err
    assert "warning: " in shown.err
    assert "mean ± std" in shown.err
    assert (run.config.seed, run.folds) == (3, (1,))
    assert type(run.config.seed) is int
    with pytest.raises(RunDirectoryError, match="run"):
        trainer.train(tiny_store(), **SMALL, out=tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match="open for synthetic"):
        trainer.train(store, **SMALL, dataset="esc50", progress=False)
    with pytest.raises(StoreError, match="no store at"):
        trainer.train(tmp_path / "nowhere.zarr", progress=False)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"method": "mell"}, ConfigError, "no method 'mell'.*did you mean 'mel'"),
        ({"batch_size": 1}, ConfigError, "batch_size 1: expected at least 2"),
        ({"batch_size": "64"}, ConfigError, "batch_size '64': expected a whole number"),
        ({"seed": 1.5}, ConfigError, r"seed 1\.5: expected a whole number"),
        ({"seed": -1}, ConfigError, "seed -1: expected at least 0"),
        ({"arch": "resnet19"}, ConfigError, "no network 'resnet19'; there are: resnet18"),
        ({"selection": "best"}, ConfigError, "selection 'best': expected 'heldout'"),
        ({"mixup": 11}, ConfigError, "mixup 11"),
        ({"methods_file": 3}, ConfigError, "methods_file 3: expected a path"),
        ({"precision": "bf17"}, ConfigError, "did you mean 'bf16'"),
        ({"resize_operator": "aera"}, ConfigError, "did you mean 'area'"),
        ({"folds_at_once": 0}, ConfigError, "folds_at_once 0: expected at least 1"),
        ({"placement": "disk"}, ConfigError, "placement 'disk': expected 'auto'"),
        ({"folds": [1, 1]}, ConfigError, "folds repeat"),
        ({"folds": [9]}, UnknownNameError, "no fold 9"),
        ({"folds": 1}, ConfigError, "folds 1: expected a list"),
        ({"folds": "1"}, ConfigError, "folds '1': expected a list"),
        ({"device": "gpu"}, ConfigError, "gpu"),
        ({"dataset": "esc50"}, UnknownNameError, "no dataset 'esc50'"),
        ({"sed": 1}, TypeError, r"train\(\) got an unexpected argument 'sed'; did you mean 'seed'"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_written(
    options: dict[str, Any], error: type[Exception], text: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=text):
        trainer.train(
            tiny_store(), **SMALL | {"out": tmp_path / "run", "progress": False} | options
        )
    assert not list(tmp_path.iterdir())


def test_files_are_classified_as_by_the_command(
    runs: tuple[trainer.FinishedRun, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = runs
    files = sorted((sounds() / "audio/fold3").glob("*.wav"))[:3]
    bad = tmp_path / "bad.wav"
    bad.write_text("no sound")
    with pytest.warns(trainer.TrainerWarning, match=r"bad\.wav: "):
        found = trainer.predict(run, [*files, bad], folds=[2], progress=False)
    line = shlex.join(map(str, ["predict", "--run", run.path, *files, bad, "--fold", 2]))
    assert main([*shlex.split(line), "--format", "json"]) == 1
    assert type(found).model_validate_json(capsys.readouterr().out) == found
    assert [unused.path for unused in found.unused] == [str(bad)]
    alone = trainer.predict(run.path, files[0], folds=[2], progress=False)
    assert alone.predictions == found.predictions[:1]
    shown = trainer.predict(str(run.path), sounds() / "audio/fold3", checkpoint="last")
    assert shown.folds == (1, 2)
    assert len(shown.predictions) == 48
    with pytest.raises(TrainedRunError, match="no network held out fold 3"):
        trainer.predict(run, files, folds=[3])


def test_the_functions_take_every_option_of_the_commands_with_its_text() -> None:
    signature = inspect.signature(trainer.train)
    for kind in (TrainingOptions, ExecutionOptions):
        for field in fields(kind):
            parameter = signature.parameters[field.name]
            assert parameter.kind is parameter.KEYWORD_ONLY
            assert parameter.default == ("resize" if field.name == "method" else field.default)
            assert f"\n        {field.name}: " in (trainer.train.__doc__ or "")
    assert set(inspect.signature(trainer.resume).parameters) >= {
        field.name for field in fields(ExecutionOptions)
    }


def test_a_store_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    class Stop:
        def started(self, manifest: object, num_done: int) -> None:
            raise KeyboardInterrupt

        def committed(self, outcome: object) -> None:
            raise AssertionError("nothing is built")

    with pytest.raises(KeyboardInterrupt):
        build(load_dataset("synthetic", sounds()), tmp_path / "s.zarr", observer=Stop())
    with pytest.raises(UnfinishedError, match="is not finished"):
        trainer.train(tmp_path / "s.zarr", **SMALL, progress=False)
    store = featurestore.open_store(tmp_path / "s.zarr", committed_only=True)
    with pytest.raises(UnfinishedError, match="is not finished"):
        trainer.train(store, **SMALL, progress=False)

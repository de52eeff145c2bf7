import hashlib
import io
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import torchvision
import typer

from schemas import RunConfig, RunResult
from tests.integration.trainer_store import (
    TINY,
    lonely_class_store,
    one_fold_store,
    tiny_plan,
    tiny_store,
)
from tests.loopback import Served, serving
from trainer.cli import app, main
from trainer.commands.run import _MAY_CHANGE, _OF_CONFIG, _check_same
from trainer.errors import ResumeError
from trainer.run import begin

SMALL = "--init random --arch resnet18 --batch-size 48 --threads 1"
QUICK = f"{SMALL} --epochs-scale 0.01 --device cpu"


def command(store: Path, rest: str) -> list[str]:
    return ["run", "--store", str(store), *rest.split()]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def test_a_run_says_what_it_does_and_what_it_found(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(
        command(
            tiny_store(),
            f"--method baseline --fold 2 --fold 3 --seed 4 {QUICK.replace('resnet18', TINY)} "
            "--folds-at-once 3",
        )
    )
    text = capsys.readouterr().out
    assert code == 0
    for part in (
        "baseline on synthetic: 143 clips, 6 classes, held-out folds 2, 3 of 3",
        "R3/full",
        "3.33e-05",
        "execution: eager · folds in parallel: 2 · threads per fold: 1",
        "placement: R3/full in host memory",
        "warning: there are no learning rates for 'synthetic'",
        "fold 2: best",
        "mean ± std",
        "Run: runs/synthetic-baseline-seed4",
    ):
        assert part in text
    result = RunResult.model_validate_json(
        Path("runs/synthetic-baseline-seed4/result.json").read_bytes()
    )
    assert [fold.fold for fold in result.folds] == [2, 3]
    for fold in result.folds:
        assert f"{100 * fold.best_accuracy:.2f}" in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--method rezise", 1, "did you mean 'resize'"),
        ("--method mel --fold 9", 1, "no fold 9 in the store; it has: 1, 2, 3"),
        ("--method mel --fold 1 --fold 1", 1, "folds repeat"),
        ("--method mel --dataset birds", 1, "birds"),
        ("--method mel --device cuda:99", 1, "--device"),
        ("--method mel --device gpu", 1, "no device 'gpu'"),
        ("--method mel --init absent.pth --arch resnet18", 1, "absent.pth"),
        ("--method mel --epochs-scale 0", 1, "epochs_scale"),
        ("--method mel --epochs-scale nan", 1, "epochs_scale"),
        ("--method mel --mixup -0.1", 1, "mixup -0.1"),
        ("--method mel --mixup nan", 1, "mixup nan"),
        ("--method mel --freq-mask 0.7", 1, "freq_mask 0.7"),
        ("--method mel --time-mask much", 2, "time-mask"),
        ("--method mel --label-smoothing 1", 1, "label_smoothing 1.0"),
        ("--method mel --out taken", 1, "already holds a run"),
        ("--method mel --epochs-scale fast", 2, "epochs-scale"),
        ("--method mel --batch-size 1", 2, "batch-size"),
        ("--method mel --seed -1", 2, "seed"),
        ("--method mel --arch vgg16", 1, "no network 'vgg16'; there are: resnet18"),
        ("--method mel --fold first", 1, "no fold 'first' in the store; it has: 1, 2, 3"),
        ("--method mel --acceleration fast", 2, "acceleration"),
        ("--method mel --placement tape", 2, "placement"),
        ("--method mel --folds-at-once 0", 2, "folds-at-once"),
        ("--method mel --threads 0", 2, "threads"),
        (
            "--method mel --resize-operator area",
            1,
            "'mel' uses no resized image; resize, alternate",
        ),
        ("--method resize --resize-operator aera", 2, "resize-operator"),
        ("--method resize --resize-operator area", 1, "--variant resize-area --store"),
        ("--method own --methods-file absent.yaml", 1, "absent.yaml: cannot be read"),
        ("--nonsense", 2, "nonsense"),
        ("", 2, "--method"),
    ],
)
def test_bad_arguments_are_one_clear_error(
    arguments: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").mkdir()
    Path("taken/run.json").write_text("{}")
    assert main(command(tiny_store(), arguments)) == code
    error = capsys.readouterr().err
    assert message in error
    if code == 1:
        assert error.startswith("error: ")
        assert error.count("\n") == 1
    assert not Path("runs").exists()


def test_the_download_of_the_first_weights_is_shown_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = io.BytesIO()
    torch.save(torchvision.models.resnet18().state_dict(), buffer)
    data = buffer.getvalue()
    name = f"resnet18-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    with serving() as server:
        url = server.add(f"/{name}", Served(data))
        monkeypatch.setattr("trainer.weights.imagenet_file", lambda arch: (url, tmp_path / name))
        Path("m.yaml").write_text("once: [{array: R1/mel, epochs: 1, max_lr: 0.001}]")
        quick = QUICK.replace("--init random --arch", "--init imagenet --arch")
        arguments = f"--method once --methods-file m.yaml {quick} --fold 1"
        assert main(command(tiny_store(), arguments)) == 0
    assert len(server.files[f"/{name}"].asked) == 1, "it was read and hashed once"
    text = capsys.readouterr().out
    megabytes = round(len(data) / 1e6)
    line = f"downloading ImageNet's weights of resnet18, {megabytes} MB"
    assert text.count("downloading") == 1
    assert text.index(line) < text.index("placement: ") < text.index("fold 1: ")


def test_mlflow_that_is_not_installed_is_told_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "trainer.tracking", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert main(command(tiny_store(), f"--method mel {QUICK} --mlflow http://host:5000")) == 1
    error = capsys.readouterr().err
    assert error == "error: mlflow is not installed: pip install 'featurestore[mlflow]'\n"
    assert not Path("runs").exists()


def test_a_store_that_cannot_be_trained_from_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    stores = {
        tmp_path / "absent.zarr": "absent.zarr",
        tmp_path / "empty": "empty",
        one_fold_store(): "one fold only",
        lonely_class_store(): "every clip of low",
    }
    for store, message in stores.items():
        assert main(command(store, f"--method baseline {QUICK}")) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--help"], ["run", "--help"], ["report", "--help"]])
def test_help_is_given(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    assert "Usage" in capsys.readouterr().out


def test_report_of_what_is_no_run_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "absent"]) == 1
    assert "error: absent" in capsys.readouterr().err
    assert main(["report"]) == 2


@pytest.mark.parametrize(
    ("number", "folds_at_once"),
    [
        (signal.SIGTERM, 1),
        pytest.param(signal.SIGINT, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 2, marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_and_sigterm_end_with_a_code_of_theirs_and_keep_what_was_done(
    number: signal.Signals, folds_at_once: int, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path("runs/synthetic-mel-seed0").absolute()

    def interrupt_after_an_epoch() -> None:
        for _ in range(4800):
            metrics = [out / f"fold{fold}/metrics.csv" for fold in range(1, folds_at_once + 1)]
            if all(one.exists() and one.read_text().count("\n") > 1 for one in metrics):
                break
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt_after_an_epoch)
    thread.start()
    code = main(command(tiny_store(), f"--method mel {SMALL} --folds-at-once {folds_at_once}"))
    thread.join()
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "stopped. runs/synthetic-mel-seed0" in capsys.readouterr().err
    for fold in range(1, folds_at_once + 1):
        assert (out / f"fold{fold}" / "last.pt").is_file()
    assert not any(thread.name.startswith("fold") for thread in threading.enumerate())
    assert not (out / "result.json").exists()


@pytest.mark.parametrize(
    "ignored",
    ["--resize-operator area", "--methods-file m.yaml", "--out other", "--recipe paper"],
)
def test_a_run_is_not_resumed_with_an_option_that_would_be_ignored(
    ignored: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, plan = tiny_plan()
    begin(dataset, plan, tmp_path / "run")
    assert main(["run", "--resume", str(tmp_path / "run"), "--init", "auto"]) == 1
    assert "init (auto, the run has random)" in capsys.readouterr().err
    assert main(["run", "--resume", str(tmp_path / "run"), *ignored.split()]) == 1
    error = capsys.readouterr().err
    assert f"{ignored.split()[0]} cannot change" in error
    assert error.count("\n") == 1


def test_every_option_of_run_is_compared_or_free_or_refused_when_a_run_is_resumed() -> None:
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    names = {_OF_CONFIG.get(p.name, p.name) for p in command.params} - {"help"}
    unrecorded = names - _MAY_CHANGE - set(RunConfig.model_fields)
    assert unrecorded == {"resize_operator", "methods_file", "max_lr", "out", "recipe"}
    with pytest.raises(ResumeError, match="--methods-file, --out, --recipe, --resize-operator"):
        _check_same(Path("r"), tiny_plan()[1].config, dict.fromkeys(names))

import csv
from pathlib import Path

import pytest

from schemas import LrFind
from tests.integration.trainer_store import TINY, tiny_store
from trainer.cli import main

SMALL = f"--arch {TINY} --batch-size 16 --init random --device cpu --threads 1"

STEPS = 25  # the same sweep in greater strides


def command(rest: str) -> list[str]:
    return ["lr-find", "--store", str(tiny_store()), *rest.split()]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trainer.training.lr_find.NUM_STEPS", STEPS)


def test_a_test_says_what_it_found_beside_the_methods_own_rate_and_leaves_it_in_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainer.plan.FEW_STEPS", 10**6)  # of which a run would be warned
    assert main(command(f"--method resize --stage 2 --fold 3 --seed 1 --out found {SMALL}")) == 0
    text = " ".join(capsys.readouterr().out.split())
    found = LrFind.model_validate_json(Path("found/lr-find.json").read_bytes())
    with Path("found/lr-find.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (found.fold, found.config.folds, found.stage) == (3, (3,), 2)
    assert found.init_used == "random"
    assert found.num_steps == len(rows) <= STEPS
    assert float(rows[0]["lr"]) == pytest.approx(1e-7)
    assert float(rows[-1]["lr"]) == pytest.approx(found.last_lr)
    assert float(rows[0]["loss"]) == float(rows[0]["smoothed"])
    suggested = "none" if found.suggestion is None else f"{found.suggestion:.2g}"
    for part in (
        f"resize stage 2 (R1/resize), fold 3 held out, {TINY} from random weights, seed 1",
        "no earlier stage was trained",
        "the body at 0.333 times it",
        f"suggested λ: {suggested}, ",
        "the method's own λ: 0.0005",
        "no learning rates for 'synthetic'",
        "Written: found/lr-find.csv, found/lr-find.json, found/lr-find.png",
    ):
        assert part in text
    assert "steps or fewer" not in text
    assert Path("found/lr-find.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in Path("found").iterdir()} == {
        "lr-find.csv",
        "lr-find.json",
        "lr-find.png",
        "lr-find.svg",
    }


@pytest.mark.slow
def test_regularisers_are_at_work_in_the_test_and_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.training.lr_find.NUM_STEPS", 2)
    options = "--mixup 0.3 --freq-mask 0.1 --time-mask 0.2 --label-smoothing 0.1"
    losses = []
    for chosen in ("", options, f"{options} --placement stream"):
        rest = f"--method resize {SMALL} {chosen}"
        assert main(command(rest)) == 0
        found = LrFind.model_validate_json(Path("lr-find/lr-find.json").read_bytes())
        losses.append(Path("lr-find/lr-find.csv").read_text())
    text = " ".join(capsys.readouterr().out.split())
    assert "mixup 0.3, freq mask 0.1, time mask 0.2, label smoothing 0.1" in text
    assert (found.config.mixup, found.config.threads) == (0.3, 1)
    assert losses[0] != losses[1] == losses[2]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--method rezise", 1, "did you mean 'resize'"),
        ("--method resize --stage 7", 1, "stage 7: the last one of resize is 6"),
        ("--method resize --stage 0", 2, "stage"),
        ("--method resize --threads 0", 2, "threads"),
        ("--method resize --mixup 99", 1, "mixup 99"),
        ("--method resize --fold 9", 1, "no fold 9 in the store; it has: 1, 2, 3"),
        ("--method resize --device cuda:99", 1, "--device"),
        ("--method resize --init absent.pth", 1, "absent.pth"),
        ("--method resize --out taken", 1, "taken"),
        ("", 2, "method"),
    ],
)
def test_bad_arguments_are_one_clear_error(
    arguments: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").write_text("a file")
    assert main(command(arguments)) == code
    error = capsys.readouterr().err
    assert message in error
    if code == 1:
        assert error.startswith("error: ")
        assert error.count("\n") == 1

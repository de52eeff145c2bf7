"""An option that is given is used, or refused or warned of: never silently ignored."""

from pathlib import Path
from typing import Any

import pytest
import typer

from featurestore import open_store
from tests.integration.test_official_splits import SMALL as SPLIT
from tests.integration.test_official_splits import split_store
from tests.integration.trainer_runs import finished_run
from tests.integration.trainer_store import tiny_plan, tiny_store
from trainer.cli import app, main
from trainer.config import TrainingOptions
from trainer.errors import ConfigError
from trainer.methods import find_method
from trainer.plan import plan_run

NEEDS = {
    "run": {
        "--validation-share": "--validation-share 0.1",
        "--carry": "--selection last --carry stage",
        "--best-of": "--selection last --best-of array",
        "--resize-operator": "--resize-operator bilinear",
        "--dry-run": "--resume RUN --dry-run",
        "--moments": None,
        "--layer-groups": None,
        "--freq-mask": None,
        "--time-mask": None,
    },
    "sweep": {
        "--folds-at-once": "--out s --scheduler tcp://127.0.0.1:9 --folds-at-once 2",
        "--file": "--out s --file s.yaml",
        "--set": "--out s --set validation-share=0.1",
    },
    "reproduce": {
        "--folds-at-once": "--scheduler tcp://127.0.0.1:9 --folds-at-once 2",
        "--set": "--set validation-share=0.1,0.2",
    },
    "lr-find": {
        "--resize-operator": "--resize-operator area",
        "--layer-groups": None,
        "--freq-mask": None,
        "--time-mask": None,
    },
    "predict": {
        "--top": "x.wav --top 2 --format json",
        "--threshold": "x.wav --threshold 0.5",
    },
    "evaluate": {"--dataset": "--dataset synthetic"},
}
"""Options that depend on others, with a command that refuses them; None if it warns, see below."""
ALWAYS = {
    "run": (
        "--store --resume --dataset --fold --out --seed --device --precision --recipe --first-conv "
        "--init --batch-size --arch --threads --mixup --label-smoothing --allow-duplicates "
        "--methods-file --method --selection --max-lr --epochs-scale --acceleration --placement "
        "--folds-at-once --checkpoint-every --mlflow --json --quiet"
    ),
    "sweep": (
        "--store --dataset --fold --scheduler --out --method --seed --placement "
        "--checkpoint-every --mlflow --quiet"
    ),
    "reproduce": (
        "--store --dataset --fold --scheduler --out --seeds --placement --checkpoint-every "
        "--mlflow --quiet"
    ),
    "lr-find": (
        "--store --method --stage --dataset --fold --seed --device --precision --recipe "
        "--first-conv --init --batch-size --arch --threads --mixup --label-smoothing "
        "--allow-duplicates --methods-file --placement --out --quiet"
    ),
    "predict": "--run audio --fold --checkpoint --format --out --device --quiet",
    "evaluate": (
        "--run --store --fold --network --checkpoint --out --device --batch-size --placement "
        "--json --quiet"
    ),
    "interpret": "run --store --fold --checkpoint --top --out --json --quiet",
    "ensemble": "runs --checkpoint --out --quiet",
    "export": "--run --fold --format --checkpoint --out --quiet",
    "report": "runs --out --json --quiet",
}
"""Options that are used whatever else is given. `--resume` is tested in test_trainer_cli."""
WITH = {
    "run": "--method mel --store STORE",
    "sweep": "--method mel --store STORE",
    "reproduce": "--store STORE",
    "lr-find": "--method mel --store STORE",
    "predict": "--run RUN",
    "evaluate": "--run RUN",
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def test_every_option_of_every_command_is_said_to_be_used_or_is_tested_here() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        options = {parameter.opts[0] for parameter in command.params} - {"--help"}
        assert options == {*ALWAYS[name].split(), *NEEDS.get(name, {})}, name


@pytest.mark.parametrize(
    ("command", "option"), [(c, o) for c, of in NEEDS.items() for o, line in of.items() if line]
)
def test_an_option_that_would_be_ignored_is_refused_by_its_name(
    command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"{WITH[command]} {NEEDS[command][option]}"
    line = line.replace("RUN", str(finished_run())).replace("STORE", str(tiny_store()))
    assert main([command, *line.split()]) in (1, 2)
    error = capsys.readouterr().err
    name = {"--set": "--validation-share", "--resize-operator": "resize operator"}
    assert name.get(option, option) in error
    assert "Traceback" not in error
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"carry": "run", "moments": "carried", "best_of": "run"}, "--best-of, --carry, --moments"),
        ({"layer_groups": 3, "arch": "resnet18"}, "--layer-groups"),
        ({"freq_mask": 0.01, "time_mask": 0.5}, "--freq-mask"),
        ({"time_mask": 0.01}, "--time-mask"),
        ({"carry": "last", "selection": "last"}, "--carry"),
        ({}, None),
        ({"freq_mask": 0.1, "time_mask": 0.1, "mixup": 0.1, "label_smoothing": 0.1}, None),
    ],
)
def test_an_option_that_affects_nothing_with_the_methods_stages_is_warned_of(
    options: dict[str, Any], named: str | None
) -> None:
    Path("m.yaml").write_text("once: [{array: R3/full, epochs: 9, max_lr: 0.001}]")
    _, plan = tiny_plan(method="once", methods_file=Path("m.yaml"), **options)
    told = [text for text in plan.warnings if text.startswith("without effect on once")]
    assert [text.partition(": ")[2] for text in told] == ([named] if named else [])


def test_what_affects_the_methods_stages_is_not_warned_of() -> None:
    for method in ("baseline", "mel"):
        options = {"carry": "run", "best_of": "stage", "moments": "carried", "layer_groups": 3}
        _, plan = tiny_plan(method=method, arch="resnet18", **options)
        assert not [text for text in plan.warnings if "without effect" in text]


def test_a_share_is_refused_where_the_validation_fold_is_official() -> None:
    options = {"method": "mel", "selection": "validation", "validation_share": 0.1}
    with pytest.raises(ConfigError, match="has an official validation fold"):
        plan_run(
            open_store(split_store("train", "val", "test")), TrainingOptions(**(SPLIT | options))
        )


def test_methods_are_taken_from_one_place() -> None:
    Path("m.yaml").write_text("once: [{array: R3/full, epochs: 9, max_lr: 0.001}]")
    with pytest.raises(ConfigError, match="methods_file and own_methods are given"):
        find_method("mel", "m.yaml", own={"mine": find_method("mel").cycles})

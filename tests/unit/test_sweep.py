from pathlib import Path

import pytest
import typer

from trainer.cli import app
from trainer.commands.sweep import PAPER, Shared
from trainer.errors import ConfigError
from trainer.sweep import _SETTINGS, Sweep, parse_setting, read_sweep

YAML = """
methods: [baseline, mel]
seeds: [0, 1]
folds: [2]
settings:
  arch: resnet18
  mixup: [0, 0.2]
"""


def test_a_setting_of_a_sweep_is_an_option_of_run() -> None:
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    assert {parameter.name for parameter in command.params} >= _SETTINGS
    assert len(_SETTINGS) > 10


def test_methods_seeds_and_settings_are_crossed_and_named_by_what_differs() -> None:
    sweep = Sweep(("baseline", "mel"), (0, 1), (2,), {"arch": ("resnet18",), "mixup": (0, 0.2)})
    runs = sweep.runs()
    assert [run.name for run in runs[:4]] == [
        "baseline-mixup=0-seed0",
        "baseline-mixup=0.2-seed0",
        "mel-mixup=0-seed0",
        "mel-mixup=0.2-seed0",
    ]
    assert len({run.name for run in runs}) == len(runs) == 8
    last = runs[-1].options
    assert (last.method, last.seed, last.folds, last.arch, last.mixup) == (
        "mel", 1, (2,), "resnet18", 0.2,
    )  # fmt: skip
    assert (last.device, last.precision, last.threads) == ("auto", "auto", None)


def test_what_is_named_twice_is_run_once() -> None:
    assert len(Sweep(("mel", "mel"), (0, 0)).runs()) == 1


def test_a_name_cannot_lead_out_of_the_sweep() -> None:
    (run, _) = Sweep(("mel",), settings={"init": ("../../x", "random")}).runs()
    assert run.name == "mel-init=.._.._x-seed0"


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (Sweep(("mel",), settings={"mixpu": (0.2,)}), "did you mean 'mixup'"),
        (Sweep(("mel",), settings={"seed": (1,)}), "no setting 'seed'"),
        (Sweep(("mel",), settings={"batch_size": ("many",)}), "batch_size 'many'"),
        (Sweep(("mel",), settings={"epochs_scale": (None,)}), "epochs_scale None"),
        (Sweep(("mel",), settings={"methods_file": (3,)}), r"methods_file.* 3:"),
        (Sweep(()), "needs a method"),
        (Sweep(("mel",), ()), "needs a method"),
        (Sweep(("mel",), settings={"mixup": ()}), "a value of each"),
    ],
)
def test_what_cannot_be_swept_is_told(sweep: Sweep, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep.runs()


def test_a_file_says_the_same_as_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(YAML)
    settings = dict(map(parse_setting, ("arch=resnet18", "mixup=0,0.2")))
    assert read_sweep(tmp_path / "s.yaml") == Sweep(("baseline", "mel"), (0, 1), (2,), settings)
    assert parse_setting("label-smoothing=0.1") == ("label_smoothing", (0.1,))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("methods: [", "no YAML"),
        ("- mel", "expected a mapping"),
        ("methods: [mel]\nseed: 1", "expected a mapping with some of"),
        ("seeds: [1]", "expected a list of methods"),
        ("methods: [mel]\nseeds: [one]", "seeds: 'one' is no int"),
        ("methods: [mel]\nfolds: [true]", "folds: True is no int"),
        ("methods: [1]", "methods: 1 is no str"),
        ("methods: [mel]\nsettings: [mixup]", "settings as a mapping"),
    ],
)
def test_a_file_that_is_no_sweep_is_one_clear_error(
    text: str | None, message: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_sweep(tmp_path / "s.yaml")


@pytest.mark.parametrize("text", ["mixup", "=1", "mixup=", ""])
def test_a_setting_without_name_or_value_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="expected NAME=VALUE"):
        parse_setting(text)


def test_a_reproduction_is_in_float32_unless_told_otherwise() -> None:
    for settings, expected in (([], ("float32",)), (["precision=auto,bf16"], ("auto", "bf16"))):
        asked = Shared("s.zarr", settings=settings).reproduction(2)
        assert asked.methods == PAPER
        assert asked.seeds == (0, 1)
        assert asked.settings is not None
        assert asked.settings["precision"] == expected

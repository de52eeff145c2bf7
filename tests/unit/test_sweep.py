import math
import re
from itertools import combinations
from pathlib import Path
from typing import get_args

import pytest
import typer

from schemas import RunConfig, RunResult, Selection, Stage
from trainer.cli import app
from trainer.commands.sweep import PAPER, SweepOptions
from trainer.config import TrainingOptions
from trainer.errors import ConfigError
from trainer.plan import Plan
from trainer.report.series import settings_of
from trainer.sameness import Planned, refuse_same
from trainer.selection import unused_settings
from trainer.sweep import _SETTINGS, FREE, Sweep, parse_setting, read_sweep

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


def test_methods_seeds_and_settings_are_crossed_and_named_by_what_they_are() -> None:
    sweep = Sweep(("baseline", "mel"), (0, 1), (2,), {"arch": ("resnet18",), "mixup": (0, 0.2)})
    runs = sweep.runs()
    assert [run.name for run in runs[:4]] == [
        "baseline-seed0-fold=2-arch=resnet18",
        "baseline-seed0-fold=2-arch=resnet18-mixup=0.2",
        "mel-seed0-fold=2-arch=resnet18",
        "mel-seed0-fold=2-arch=resnet18-mixup=0.2",
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
    init = ("/../x", "../" * 99 + "x", "a/../../x", "random")
    (one, _) = Sweep(("mel",), settings={"init": init[:1] + init[3:]}).runs()
    assert one.name == "mel-seed0-init=_x"
    for path in init[1:]:
        (one,) = Sweep(("mel",), settings={"init": (path,)}).runs()
        assert "/" not in one.name


TWO_FILES = ("methods_file", "resize_operator")


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (Sweep(("mel",), settings={"mixpu": (0.2,)}), "did you mean 'mixup'"),
        (Sweep(("mel",), settings={"seed": (1,)}), "no setting 'seed'"),
        (Sweep(("mel",), settings={"batch_size": ("many",)}), "batch_size 'many'"),
        (Sweep(("mel",), settings={"epochs_scale": (None,)}), "epochs_scale None"),
        (Sweep(("mel",), settings={"methods_file": (3,)}), r"methods_file.* 3:"),
        (Sweep(("mel",), settings=dict.fromkeys(TWO_FILES, ([3],))), r"methods_file \[3\]:"),
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


def test_settings_that_are_all_commented_out_are_none(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("methods: mel\nsettings:\n  # mixup: [0, 0.2]\n")
    assert read_sweep(tmp_path / "s.yaml") == Sweep(("mel",), settings={})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("methods: [", "no YAML"),
        ("- mel", "expected a mapping"),
        ("methods: [mel]\nseed: 1", "seed: no such field; did you mean 'seeds'"),
        ("seeds: [1]", "methods: is missing"),
        ("methods: [mel]\nseeds: [one]", "seeds.0: expected a whole number"),
        ("methods: [mel]\nfolds: [true]", "folds.0.*got true"),
        ("methods: [1]", "methods.0: expected text"),
        ("methods: [mel]\nsettings: [mixup]", "settings: expected a mapping"),
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


@pytest.mark.parametrize("text", ["max-lr=1e-3,1e-4", "max-lr=1e-3", "max-lr=auto,1"])
def test_rates_by_hand_in_a_setting_are_refused_with_the_way_to_give_them(text: str) -> None:
    with pytest.raises(ConfigError, match="takes rates from its YAML file only"):
        SweepOptions("s.zarr", settings=[text]).sweep(["mel"], (0,)).runs()


def test_a_reproduction_is_in_float32_unless_told_otherwise() -> None:
    for settings, expected in (([], ("float32",)), (["precision=auto,bf16"], ("auto", "bf16"))):
        asked = SweepOptions("s.zarr", settings=settings).reproduction(2)
        assert asked.methods == PAPER
        assert asked.seeds == (0, 1)
        assert asked.settings is not None
        assert asked.settings["precision"] == expected


ONE_EACH = {
    "mixup": (0, 0.2),
    "arch": ("resnet34", "resnet18"),
    "init": ("random",),
    "selection": ("heldout", "last"),
    "label_smoothing": ("0.1",),
    "threads": (2,),
}


@pytest.mark.parametrize("left_out", [*ONE_EACH, None])
def test_a_runs_directory_does_not_depend_on_the_rest_of_the_sweep(left_out: str | None) -> None:
    """Each run of a smaller sweep is a run of the larger one, under the same name."""
    larger = {
        run.name: run.options for run in Sweep(("mel", "resize"), (0, 1), (), ONE_EACH).runs()
    }
    for name, values in ONE_EACH.items():
        if name == left_out:
            continue
        smaller = Sweep(("mel",), (1,), (), ONE_EACH | {name: values[-1:]}).runs()
        assert {run.name: run.options for run in smaller}.items() <= larger.items()


@pytest.mark.parametrize("name", sorted(_SETTINGS - FREE - {"methods_file", "resize_operator"}))
def test_every_setting_that_may_change_a_number_is_in_the_name(name: str) -> None:
    default = Sweep(("mel",)).runs()[0].options
    other = OTHER.get(name, 0.25)
    (run,) = Sweep(("mel",), settings={name: (other,)}).runs()
    assert getattr(run.options, name) != getattr(default, name)
    assert run.name == f"mel-seed0-{name.replace('_', '-')}={other}"
    same = getattr(default, name)
    if same is not None:
        assert Sweep(("mel",), settings={name: (same,)}).runs()[0].name == "mel-seed0"


@pytest.mark.parametrize("near", [0.2 + 1e-8, math.nextafter(0.2, 1), 1 / 5 * 1.0000001])
def test_values_that_differ_in_any_digit_are_two_runs_and_two_series(near: float) -> None:
    names = [run.name for run in Sweep(("mel",), settings={"mixup": (0.2, near)}).runs()]
    assert names == ["mel-seed0-mixup=0.2", f"mel-seed0-mixup={near!r}"]
    stage = Stage(array="R1/mel", epochs=1, max_lr=1.0)
    results = (
        RunResult.model_construct(
            config=RunConfig(dataset="d", method="m", stages=(stage,), folds=(1,), mixup=value),
            fingerprint="f",
            init_used="random",
        )
        for value in (0.2, near)
    )
    assert len(set(map(settings_of, results))) == 2


OTHER: dict[str, object] = {
    "allow_duplicates": True,
    "arch": "resnet18",
    "batch_size": 32,
    "best_of": "run",
    "carry": "last",
    "first_conv": "red-frozen",
    "init": "random",
    "layer_groups": 3,
    "max_lr": "auto",
    "moments": "carried",
    "precision": "bf16",
    "recipe": "fastai-2019",
    "selection": "last",
}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mixup": (0, 0.0)}, "mel-seed0: mixup=0 and mixup=0.0"),
        ({"mixup": (0.2, "0.20")}, "mel-seed0-mixup=0.2: mixup=0.2 and mixup=0.20"),
        ({"mixup": (0.2, 0.2)}, "a value is given twice"),
        ({"threads": (1, 2)}, "threads=1 and threads=2"),
        ({"device": ("cpu", "auto")}, "device=cpu and device=auto"),
        ({"batch_size": (64, "64")}, "a value is given twice"),
        ({"init": ("a/b", "a_b")}, "init=a/b and init=a_b"),
    ],
)
def test_values_that_make_the_same_run_are_refused_before_any_trains(
    settings: dict[str, tuple[object, ...]], told: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        Sweep(("mel",), settings=settings).runs()


SPELLINGS: list[tuple[dict[str, object], ...]] = [
    ({}, {"carry": "stage"}, {"best_of": "array"}, {"moments": "fresh"}, {"layer_groups": "2"}),
    ({}, {"first_conv": "sum"}, {"precision": "auto"}, {"resize_operator": "bilinear"}),
    ({}, {"epochs_scale": 1}, {"epochs_scale": "1.00"}, {"mixup": -0.0}, {"init": "auto"}),
    ({"mixup": 0.1}, {"mixup": "0.10"}, {"mixup": "1e-1"}),
    ({"arch": "timm:test_resnet"}, {"arch": "timm:test_resnet.r160_in1k"}),
    ({"batch_size": 32}, {"batch_size": "32"}, {"batch_size": 32.0}),
    ({"max_lr": "1e-2,5e-3"}, {"max_lr": "0.01,0.005"}, {"max_lr": " 1.0E-2, .5e-2"}),
    ({"init": "HERE/w.pt"}, {"init": "w.pt"}, {"init": "./w.pt"}, {"init": "a/../w.pt"}),
    ({"selection": "last"}, {"selection": "last", "carry": "last"}),
    ({"selection": "validation"}, {"selection": "validation", "validation_share": 0.1}),
    (
        {"recipe": "fastai-2019"},
        {"recipe": "fastai-2019", "precision": "float32", "best_of": "stage", "moments": "carried"},
    ),
]


@pytest.mark.parametrize("spellings", SPELLINGS)
def test_a_value_that_is_spelled_otherwise_is_the_same_run(
    spellings: tuple[dict[str, object], ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    alike = [
        {n: str(v).replace("HERE", str(tmp_path)) if n == "init" else v for n, v in one.items()}
        for one in spellings
    ]
    names = set()
    for settings in alike:
        values = {name: (value,) for name, value in settings.items()}
        names |= {run.name for run in Sweep(("resize",), settings=values).runs()}
    assert len(names) == 1
    ordinary = [f"{name.replace('_', '-')}={value}" for name, value in alike[0].items()]
    assert names == {re.sub("[,:/]", "_", "-".join(["resize-seed0", *ordinary]))}


def test_a_run_has_the_same_name_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = set()
    for folder in (tmp_path, tmp_path.parent, Path("/")):
        monkeypatch.chdir(folder)
        (run,) = Sweep(("mel",), settings={"init": (str(tmp_path / "w.pt"),)}).runs()
        names.add(run.name)
    assert len(names) == 1


def test_what_is_given_although_it_is_not_the_default_is_in_the_name() -> None:
    for settings in ({"precision": "float32"}, {"recipe": "fastai-2019", "best_of": "array"}):
        (run,) = Sweep(("mel",), settings={name: (v,) for name, v in settings.items()}).runs()
        assert all(
            f"{name.replace('_', '-')}={value}" in run.name for name, value in settings.items()
        )


def test_a_run_is_without_what_it_cannot_have_if_another_one_has_it() -> None:
    """As `trainer run` would refuse it; what no run can have is refused when it is planned."""
    shares = {"selection": ("heldout", "validation", "last"), "validation_share": (0.2, 0.3)}
    rules = {"carry": ("run", "last"), "best_of": ("run",)}
    names = [run.name.removeprefix("mel-seed0-") for run in Sweep(("mel",), settings=shares).runs()]
    assert names == [
        "mel-seed0",
        "selection=validation-validation-share=0.2",
        "selection=validation-validation-share=0.3",
        "selection=last",
    ]
    runs = Sweep(("mel",), settings={"selection": ("last", "heldout")} | rules).runs()
    assert [(run.options.selection, run.options.carry, run.options.best_of) for run in runs] == [
        ("last", None, None),
        ("heldout", "run", "run"),
        ("heldout", "last", "run"),
    ]
    (run,) = Sweep(("mel",), settings={"validation_share": (0.2,)}).runs()
    assert run.options.validation_share == 0.2


RESULTING = ("epochs_scale", "validation_share")
"""Their results, stages and splits, are compared, and are equal here."""
OTHERS: dict[str, object] = {
    "validation_share": 0.2,
    "carry": "last",
    "best_of": "stage",
    "layer_groups": 3,
    "mixup": 0.2,
    "precision": "bf16",
    "epochs_scale": 0.5,
    "arch": "resnet18",
    "moments": "carried",
    "weight_decay": 0.2,
}


@pytest.mark.parametrize("selection", get_args(Selection))
@pytest.mark.parametrize("ratios", [(1,), (0.5,), (1, 0.5), (0.5, 1, 0.5)])
def test_a_sweep_refuses_the_runs_that_a_report_would_take_for_one(
    selection: Selection, ratios: tuple[float, ...]
) -> None:
    """Or the report fails after days of training: it has one run of a seed and fold in a series."""
    stages = tuple(
        Stage(array=f"R{ratio}/mel", epochs=3, max_lr=1.0, body_lr_ratio=ratio) for ratio in ratios
    )
    one = RunConfig(dataset="d", method="mel", stages=stages, folds=(1,), selection=selection)
    for name, value in OTHERS.items():
        other = one.model_copy(update={name: value})
        first, second = (
            RunResult.model_construct(config=of, fingerprint="f", init_used="random")
            for of in (one, other)
        )
        unused = unused_settings(one) - {"carry", "best_of"}  # of which each has a table
        if settings_of(first) == settings_of(second) or name in (*RESULTING, *unused):
            with pytest.raises(ConfigError, match="a and b would be the same run"):
                compare(one, other)
        else:
            compare(one, other)


def compare(*configs: RunConfig) -> None:
    """Refuse configs that would give the same numbers."""
    names = "ab"[: len(configs)]
    refuse_same(
        lambda array: (16, 24),
        [
            Planned(name, TrainingOptions(method=config.method, init=config.init), Plan(config, {}))
            for name, config in zip(names, configs, strict=True)
        ],
    )


@pytest.mark.parametrize("field", ["precision", "init"])
def test_a_choice_of_another_machine_may_be_that_of_another_run(field: str) -> None:
    """On a cluster `auto` may become either; a file is none of what `auto` may become."""
    stage = Stage(array="R1/mel", epochs=1, max_lr=1.0)
    one = RunConfig(dataset="d", method="mel", stages=(stage,), folds=(1,))
    values = {"precision": ("float32", "bf16"), "init": ("random", "imagenet", "0" * 64)}[field]
    auto = one.model_copy(update={field: "auto"})
    for value in values:
        other = one.model_copy(update={field: value})
        if value == "0" * 64:
            compare(auto, other)
            continue
        with pytest.raises(ConfigError, match="a and b would be the same run"):
            compare(auto, other)
    for two in combinations(values, 2):
        compare(*(one.model_copy(update={field: value}) for value in two))


def test_a_setting_that_is_spelled_in_two_ways_in_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("methods: [mel]\nsettings: {freq-mask: 0.1, freq_mask: 0.2}")
    with pytest.raises(ConfigError, match="given twice: freq_mask"):
        read_sweep(file)
    file.write_text("methods: [mel]\nsettings: {mixup: 0.1, mixup: 0.2}")
    with pytest.raises(ConfigError, match="'mixup' is there twice"):
        read_sweep(file)


def test_an_operator_is_crossed_with_the_methods_that_resize_and_others_run_once() -> None:
    settings = {"resize_operator": ("bilinear", "area")}
    found = [run.name for run in Sweep(("mel", "resize"), settings=settings).runs()]
    assert found == ["mel-seed0", "resize-seed0", "resize-seed0-resize-operator=area"]
    (run, _) = Sweep(("mel",), settings=settings).runs()
    assert run.options.resize_operator == "bilinear", "no method resizes: planning it says so"


def test_the_guides_sweep_works_with_its_comments_made_active(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = block("many-runs.md", "# sweep.yaml")
    active = re.sub(r"^( *)# (?=[a-z-]+: )", r"\1", text, flags=re.MULTILINE)
    assert active.count("\n") == text.count("\n")
    assert "  methods-file: methods.yaml" in active
    assert "  resize-operator: [" in active
    monkeypatch.chdir(tmp_path)
    (tmp_path / "methods.yaml").write_text(block("train.md", "# methods.yaml"))
    (tmp_path / "sweep.yaml").write_text(active)
    asked = read_sweep(tmp_path / "sweep.yaml")
    names = [run.name for run in asked.runs()]
    assert len(names) == len(set(names)) == 3 * 2 * (3 + 3), "baseline, mel, control; resize thrice"
    assert "resize-seed0-fold=1_2-arch=resnet18-mixup=0.2-resize-operator=area" in names
    plain = [run.name for run in read_sweep(written(tmp_path, text)).runs()]
    assert len(plain) == 3 * 2 * 4
    assert set(plain) <= set(names)


def written(folder: Path, text: str) -> Path:
    file = folder / "plain.yaml"
    file.write_text(text)
    return file


def block(page: str, first: str) -> str:
    """The YAML of a guide that begins with that line."""
    text = (Path(__file__).parents[2] / "docs/howto" / page).read_text()
    found = re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)
    (wanted,) = [yaml for yaml in found if yaml.startswith(first)]
    return wanted

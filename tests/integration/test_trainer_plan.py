import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from featurestore import StoredDataset, open_store
from featurestore.building.build import build
from featurestore.cli import main
from featurestore.datasets import load_dataset
from featurestore.errors import UnknownNameError
from featurestore.terminal import Terminal
from schemas import FeatureSpec
from tests.conftest import write_folder
from tests.integration.trainer_store import (
    lonely_class_store,
    one_fold_store,
    sounds,
    tiny_plan,
    tiny_store,
)
from trainer.config import TrainingOptions
from trainer.console import print_plan
from trainer.errors import ConfigError, DataError, UnknownMethodError
from trainer.plan import few_steps_warning, plan_run


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> StoredDataset:
    """Twenty clips with the paper's features and `mel-time`."""
    place = tmp_path_factory.mktemp("papers")
    spec = FeatureSpec(variants=("mel", "resize", "mel-time"))
    build(load_dataset("folder", write_folder(place / "sounds")), place / "s.zarr", spec)
    return open_store(place / "s.zarr")


def test_all_folds_are_planned_by_default() -> None:
    _, plan = tiny_plan(folds=())
    assert plan.config.folds == (1, 2, 3)
    assert sum(plan.num_train.values()) == 2 * 143


def test_what_the_config_does_not_say_is_the_papers() -> None:
    plan = plan_run(open_store(tiny_store()), TrainingOptions(method="baseline"))
    assert (plan.config.batch_size, plan.config.weight_decay) == (64, 0.1)
    assert (plan.config.arch, sum(stage.epochs for stage in plan.config.stages)) == (
        "resnet34",
        190,
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "rezise"}, UnknownMethodError, "did you mean 'resize'"),
        ({"folds": (7,)}, UnknownNameError, "fold 7.*1, 2, 3"),
        ({"folds": (1, 1)}, ConfigError, "folds repeat"),
        ({"batch_size": 1}, ConfigError, "batch_size 1"),
        ({"selection": "last", "best_of": "stage"}, ConfigError, "no epoch is the best one"),
        ({"seed": -1}, ConfigError, "seed -1"),
        # No value of an option is taken for its absence.
        ({"layer_groups": 0, "arch": "resnet18"}, ConfigError, "layer_groups 0"),
        ({"epochs_scale": 0.0}, ConfigError, "epochs_scale 0.0"),
        ({"epochs_scale": 1e9}, ConfigError, "epochs_scale"),
        ({"epochs_scale": float("nan")}, ConfigError, "epochs_scale nan"),
        ({"epochs_scale": float("inf")}, ConfigError, "epochs_scale inf"),
        ({"arch": "vgg"}, ConfigError, "no network 'vgg'"),
    ],
)
def test_what_cannot_be_done_is_told(
    options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tiny_plan(**options)


def test_the_command_for_a_store_that_a_method_lacks_builds_one_that_it_can_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = open_store(tiny_store())
    with pytest.raises(UnknownNameError) as caught:
        plan_run(dataset, TrainingOptions(method="mel-bands"))
    told = str(caught.value)
    assert "no array 'R1/mel-bands' in the store; it has: R1/mel, R1/resize" in told
    assert "SPEC is the spec file of this one" in told
    (command,) = re.findall("`featurestore (.*?)`", told)
    (tmp_path / "SPEC").write_text(dataset.manifest.spec.model_dump_json())
    assert main([*command.split(), "--root", str(sounds()), "--workers", "0"]) == 0
    built = open_store("synthetic-mel-bands.zarr")
    plan = plan_run(built, TrainingOptions(method="mel-bands"))
    assert built.shape(plan.config.stages[0].array) == (16, 40)
    assert set(built.arrays) == {*dataset.arrays, "R1/mel-bands", "R2/mel-bands"}


def test_a_store_of_the_papers_features_is_told_its_command_whole(papers: StoredDataset) -> None:
    area = TrainingOptions(method="resize", resize_operator="area")
    with pytest.raises(UnknownNameError) as caught:
        plan_run(papers, area)
    assert str(caught.value).endswith(
        "The method 'resize-area' needs it: build another store, `featurestore build --dataset "
        "folder --variant mel-time --variant resize-area --store folder-resize-area.zarr`"
    )


def test_a_resolution_that_the_store_lacks_is_told(tmp_path: Path) -> None:
    file = tmp_path / "methods.yaml"
    for array in ("R9/mel", "R3/mel", "R1/mell"):
        file.write_text(f"a: [{{array: {array}, epochs: 1, max_lr: 1}}]")
        with pytest.raises(UnknownNameError, match="no --variant adds it"):
            tiny_plan(method="a", methods_file=file)


def test_arrays_that_alternate_must_have_one_shape(papers: StoredDataset, tmp_path: Path) -> None:
    file = tmp_path / "methods.yaml"
    text = "a: [{array: R1/mel, alternate: R1/OTHER, epochs: 1, max_lr: 1}]"
    file.write_text(text.replace("OTHER", "mel-time"))
    with pytest.raises(ConfigError, match=r"R1/mel \(64, 128\) and R1/mel-time \(128, 128\)"):
        plan_run(papers, TrainingOptions(method="a", methods_file=file))
    file.write_text(text.replace("OTHER", "resize"))
    assert plan_run(papers, TrainingOptions(method="a", methods_file=file)).config.stages[
        0
    ].alternate == ("R1/resize")
    file.write_text(text.replace("OTHER", "resize-bicubic"))
    with pytest.raises(UnknownNameError, match=r"no array 'R1/resize-bicubic'.*--variant mel-time"):
        plan_run(papers, TrainingOptions(method="a", methods_file=file))


def test_the_config_holds_the_stages_that_were_asked_for_under_a_name_of_their_own() -> None:
    _, plan = tiny_plan(method="alternate", resize_operator="bilinear")
    assert plan.config.method == "alternate"
    assert [(s.array, s.alternate) for s in plan.config.stages][::2] == [
        ("R1/mel", "R1/resize"),
        ("R2/mel", "R2/resize"),
        ("R3/full", None),
    ]


def test_one_fold_is_too_few() -> None:
    with pytest.raises(DataError, match="one fold only"):
        plan_run(open_store(one_fold_store()), TrainingOptions(method="baseline"))


def test_a_class_that_is_never_trained_on_is_told_with_its_fold() -> None:
    dataset = open_store(lonely_class_store())
    with pytest.raises(DataError, match=r"fold 2: every clip of low"):
        plan_run(dataset, TrainingOptions(method="baseline"))
    assert plan_run(dataset, TrainingOptions(method="baseline", folds=(1,))).config.folds == (1,)


def with_filters(mel_scale: str) -> StoredDataset:
    """The tiny store with other filters in its manifest; no image is read for a plan."""
    dataset = open_store(tiny_store())
    spec = dataset.manifest.spec.model_copy(update={"mel_scale": mel_scale})
    dataset.manifest = dataset.manifest.model_copy(update={"spec": spec})
    return dataset


def test_a_recipe_fills_in_what_is_left_open_and_nothing_else() -> None:
    asked = TrainingOptions(
        method="resize", arch="resnet18", precision="auto", recipe="fastai-2019"
    )
    filled = plan_run(with_filters("torchaudio-2019"), asked).config
    assert (filled.layer_groups, filled.moments, filled.first_conv) == (3, "carried", "red-frozen")
    assert (filled.carry, filled.best_of, filled.precision) == ("stage", "stage", "float32")
    own = {"layer_groups": 2, "moments": "fresh", "first_conv": "sum", "carry": "run"}
    own |= {"best_of": "array", "precision": "float32"}
    config = plan_run(with_filters("torchaudio-2019"), replace(asked, **own)).config
    assert {name: getattr(config, name) for name in own} == own
    with pytest.raises(ConfigError, match="torchaudio-2019"):
        plan_run(with_filters("htk"), asked)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, ""),
        ({"carry": "run", "best_of": "run"}, "carry run · best of run"),
        ({"layer_groups": 3, "moments": "carried"}, "layer groups 3 · moments carried"),
        ({"first_conv": "red-frozen", "selection": "last"}, "first conv red-frozen"),
    ],
)
def test_the_plan_shows_what_is_not_as_in_the_recipe_of_the_paper(
    options: dict[str, Any], line: str
) -> None:
    dataset, file = open_store(tiny_store()), StringIO()
    config = plan_run(dataset, TrainingOptions(method="mel", arch="resnet18", **options)).config
    print_plan(Terminal(file=file, width=1000), dataset, config, 1)
    shown = [text for text in file.getvalue().splitlines() if "recipe" in text]
    assert shown == ([f"not as in recipe paper: {line}"] if line else [])
    slow = 5e-4 / 3, 5e-4 / 3**0.5
    rates = slow if config.layer_groups == 3 else slow[:1]
    assert f" {', '.join(f'{rate:.3g}' for rate in rates)} " in file.getvalue()


def test_stages_of_few_steps_are_warned_of_by_their_number_and_steps() -> None:
    _, plan = tiny_plan(batch_size=24)  # 95 or 96 training clips: 3 or 4 steps per epoch
    (warning,) = [text for text in plan.warnings if "steps or fewer" in text]
    steps = min(plan.num_train.values()) // 24
    assert f": 1 ({steps}), 2 ({steps})" in warning
    stages = [stage.model_copy(update={"epochs": 50 // steps}) for stage in plan.config.stages]
    stages[1] = stages[1].model_copy(update={"epochs": 50 // steps + 1})
    config = plan.config.model_copy(update={"stages": tuple(stages)})
    told = few_steps_warning(config, min(plan.num_train.values()))
    assert told is not None
    assert "1 (" in told
    assert "2 (" not in told
    longer = (stages[1],) * len(stages)
    enough = config.model_copy(update={"stages": longer})
    assert few_steps_warning(enough, min(plan.num_train.values())) is None

"""Runs of a sweep that would compute the same are refused before any trains; others are not."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from featurestore import open_store
from tests.integration.trainer_store import TINY, tiny_store
from trainer.config import ExecutionOptions
from trainer.errors import ConfigError
from trainer.sweep import Sweep, SweepRun, plan_sweep

METHODS = """
once: [{array: R3/full, epochs: 10, max_lr: 0.001}]
two: [{array: R1/mel, epochs: 10, max_lr: 0.001}, {array: R3/full, epochs: 10, max_lr: 0.001}]
copy-of-mel:
"""
SMALL = {"init": ("random",), "arch": (TINY,), "device": ("cpu",), "methods_file": ("m.yaml",)}
MEL = "5e-3,5e-4,5e-3,5e-6,5e-3,5e-6"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stages = "".join(
        f"- {{array: {array}, epochs: {epochs}, max_lr: {lr}, body_lr_ratio: {ratio}}}\n"
        for array, epochs, lr, ratio in zip(
            ("R1/mel", "R1/mel", "R2/mel", "R2/mel", "R3/full", "R3/full"),
            (20, 20, 20, 20, 20, 70),
            MEL.split(","),
            (1, 1 / 3) * 3,
            strict=True,
        )
    )
    Path("m.yaml").write_text(METHODS + stages)


def planned(methods: str, **settings: Any) -> list[SweepRun]:
    values = {name: v if isinstance(v, tuple) else (v,) for name, v in (SMALL | settings).items()}
    runs = Sweep(tuple(methods.split()), settings=values).runs()
    return [run for run, _ in plan_sweep(open_store(tiny_store()), runs, ExecutionOptions())]


VALIDATION = {"selection": "validation"}


@pytest.mark.parametrize(
    ("methods", "settings", "told"),
    [
        ("once", {"moments": ("fresh", "carried")}, "moments=fresh and moments=carried"),
        ("once two", {"layer_groups": (2, 3), "arch": "resnet18"}, "layer_groups=2 and"),
        ("mel", {"epochs_scale": (0.1, 0.1001)}, "epochs_scale=0.1 and epochs_scale=0.1001"),
        ("mel", {"max_lr": (None, MEL)}, "max_lr=None and max_lr=5e-3"),
        ("mel copy-of-mel", {}, "method=mel and method=copy-of-mel"),
        ("mel alternate", {"epochs_scale": 0.01}, "method=mel and method=alternate"),
        ("mel", {"freq_mask": (0.1, 0.1001)}, "freq_mask=0.1 and freq_mask=0.1001"),
        ("mel", {"time_mask": (0.001, 0.002)}, "time_mask=0.001 and time_mask=0.002"),
        ("mel", {"mixup": 0.2, "freq_mask": (0, 0.001)}, "freq_mask=0.0 and freq_mask=0.001"),
        ("mel", {"batch_size": (1000, 2000)}, "batch_size=1000 and batch_size=2000"),
        ("mel", VALIDATION | {"validation_share": (0.2, 0.2001)}, "validation_share=0.2 and"),
        ("mel", {"allow_duplicates": (True, False)}, "allow_duplicates=True and"),
        ("mel", {"init": ("a.pt", "b.pt")}, "init=a.pt and init=b.pt"),
        ("mel", {"arch": (TINY, f"{TINY}.r160_in1k")}, "and arch=timm:test_resnet.r160"),
        ("mel", {"recipe": "paper", "carry": ("stage", "stage")}, "a value is given twice"),
    ],
)
def test_runs_that_would_compute_the_same_are_refused_with_both_names_and_the_setting(
    methods: str, settings: dict[str, Any], told: str
) -> None:
    if "init" in settings:
        torch.save({}, "a.pt")
        shutil.copy("a.pt", "b.pt")
    with pytest.raises(ConfigError, match=told):
        planned(methods, **settings)


@pytest.mark.parametrize(
    ("methods", "settings"),
    [
        # By each rule, as no table of a report has two: so each has every method.
        ("baseline mel", {"best_of": ("array", "run"), "carry": ("stage", "run")}),
        ("once two", {"best_of": ("array", "run"), "carry": ("stage", "run", "last")}),
        ("baseline", {"best_of": ("array", "stage")}),
        ("mel", {"best_of": ("array", "stage", "run"), "carry": ("stage", "run", "last")}),
        ("two", {"carry": ("stage", "last"), "moments": ("fresh", "carried")}),
        ("mel", {"layer_groups": (2, 3), "arch": "resnet18"}),
        ("mel", {"epochs_scale": (0.1, 0.11)}),
        ("mel", {"max_lr": (None, "auto", MEL.replace("5e-3", "6e-3"))}),
        ("mel alternate", {"epochs_scale": 0.1}),
        ("mel", {"freq_mask": (0, 0.2), "time_mask": (0, 0.2)}),
        ("mel", {"freq_mask": (0, 0.001, 0.2)}),  # dropout's random numbers are other ones
        ("mel", {"batch_size": (24, 48, 1000)}),
        ("mel", {"selection": ("heldout", "validation", "last"), "validation_share": (0.2, 0.4)}),
        ("mel resize", {"resize_operator": ("bilinear",), "mixup": (0, 0.2)}),
    ],
)
def test_runs_that_compute_something_else_are_all_run(
    methods: str, settings: dict[str, Any]
) -> None:
    runs = planned(methods, **settings)
    assert len({run.name for run in runs}) == len(runs) > 1


def test_folds_that_are_given_are_in_the_name_by_number_and_all_of_them_are_none() -> None:
    dataset = open_store(tiny_store())
    given: list[tuple[int | str, ...]] = [(), (1,), ("1",), (1, 2), ("2", "1"), (3, 1, 2)]
    names = {folds: Sweep(("mel",), folds=folds).on(dataset).runs()[0].name for folds in given}
    assert names == {
        (): "mel-seed0",
        (1,): "mel-seed0-fold=1",
        ("1",): "mel-seed0-fold=1",
        (1, 2): "mel-seed0-fold=1_2",
        ("2", "1"): "mel-seed0-fold=1_2",
        (3, 1, 2): "mel-seed0",
    }
    runs = Sweep(("mel",), folds=(1, 2, 3, 3)).on(dataset).runs()
    with pytest.raises(ConfigError, match="folds repeat"):
        plan_sweep(dataset, runs, ExecutionOptions())

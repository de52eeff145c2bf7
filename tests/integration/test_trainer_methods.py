"""Every method that there is, trained from the command line to its end."""

import csv
import math
from functools import cache
from pathlib import Path

import pytest

from featurestore.building.build import build
from featurestore.datasets import load_dataset
from schemas import FeatureSpec, RunResult
from tests.integration.trainer_store import RESOLUTIONS, place, sounds
from trainer.cli import main
from trainer.methods import METHODS, find_method, stages

OWN = """
own:
- {array: R1/resize-area, alternate: R1/resize, epochs: 2, max_lr: 1e-3}
- {array: R3/full, epochs: 1, max_lr: {esc50: 1e-4}, body_lr_ratio: 0.333}
"""
VARIANTS = ("mel", "resize", "mel-bands", "mel-time", "resize-area")


@cache
def store() -> Path:
    """The tiny sounds with all images that the methods need."""
    built = place() / "variants.zarr"
    spec = FeatureSpec(resolutions=RESOLUTIONS, variants=VARIANTS)
    build(load_dataset("synthetic", sounds()), built, spec)
    return built


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "operator", "scale"),
    [
        *((name, None, 0.1 if name == "alternate" else 0.001) for name in METHODS),
        ("resize", "area", 0.001),
        ("own", None, 1),
    ],
)
def test_a_run_of_every_method_ends_with_finite_metrics_of_its_stages(
    method: str,
    operator: str | None,
    scale: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own.yaml"
    own.write_text(OWN)
    small = "--fold 2 --init random --arch resnet18 --batch-size 48 --threads 1 --device cpu"
    chosen = f"--method {method} --methods-file {own} --epochs-scale {scale}"
    chosen += f" --resize-operator {operator}" if operator else ""
    assert main(f"run --store {store()} --out run {chosen} {small}".split()) == 0
    result = RunResult.model_validate_json(Path("run/result.json").read_bytes())
    wanted = find_method(method, own, operator)
    schedule = stages(wanted, "synthetic", scale)
    assert (result.config.method, result.config.stages) == (wanted.name, schedule)
    with Path("run/fold2/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["stage"]), row["array"]) for row in rows] == [
        (number, (stage.alternate or stage.array) if epoch % 2 else stage.array)
        for number, stage in enumerate(schedule, start=1)
        for epoch in range(stage.epochs)
    ]
    values = [float(row[key]) for row in rows for key in ("train_loss", "valid_loss")]
    assert all(map(math.isfinite, values))

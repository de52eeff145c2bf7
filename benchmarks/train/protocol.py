"""Time of the paper's protocol: some folds are trained, whole tables are projected."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.train.setting import Bench
from schemas import Stage
from trainer.methods import find_method, stages
from trainer.run import run

TABLES = {"esc50": (2000, 5), "urbansound8k": (8732, 10)}
"""Number of clips and of folds of each dataset."""
METHODS = ("baseline", "mel", "resize")
Rates = dict[str, dict[str, float]]


def whole_folds(bench: Bench) -> dict[str, Any]:
    """Time one fold of `resize` and of `baseline`, with data, validation and checkpoints."""
    found: dict[str, Any] = {"divisor_of_epochs": bench.how.divisor}
    with tempfile.TemporaryDirectory() as folder:
        for method in ("resize", "baseline"):
            plan = bench.plan(method)
            schedule = plan.config.stages
            if bench.how.divisor > 1:
                schedule = _shortened(schedule, bench.how.divisor)
            config = plan.config.model_copy(update={"stages": schedule})
            plan = dataclasses.replace(plan, config=config)
            result = run(bench.dataset, plan, Path(folder) / method)
            found[f"{method}_s"] = result.folds[0].seconds
            found[f"{method}_epochs"] = sum(stage.epochs for stage in schedule)
            found[f"{method}_warnings"] = result.warnings
            found[f"{method}_pixels"] = sum(
                stage.epochs * int(np.prod(bench.dataset.shape(stage.array))) for stage in schedule
            )
    found["resize_over_baseline"] = found["resize_s"] / found["baseline_s"]
    found["arithmetic"] = found["resize_pixels"] / found["baseline_pixels"]
    return found


def _shortened(schedule: Sequence[Stage], divisor: int) -> tuple[Stage, ...]:
    """Return one stage per array, with the sum of its epochs divided by `divisor`."""
    epochs: dict[str, int] = {}
    for stage in schedule:
        epochs[stage.array] = epochs.get(stage.array, 0) + stage.epochs
    return tuple(
        Stage(array=array, epochs=max(1, round(number / divisor)), max_lr=1e-3)
        for array, number in epochs.items()
    )


def projection(rates: Rates) -> dict[str, Any]:
    """Return the time of a fold and of the paper's tables at the measured rates; train nothing."""
    hours = {
        name: {
            method: folds * _seconds(rates, method, name, clips * (folds - 1) // folds, clips)
            for method in METHODS
        }
        for name, (clips, folds) in TABLES.items()
    }
    hours = {name: {m: s / 3600 for m, s in table.items()} for name, table in hours.items()}
    fold = {method: _seconds(rates, method, "esc50", 1600, 2000) for method in METHODS}
    return {
        "esc50_fold_s": fold,
        "resize_over_baseline": fold["resize"] / fold["baseline"],
        "arithmetic": 0.63,
        "table_hours": hours,
        "both_tables_hours": sum(sum(table.values()) for table in hours.values()),
    }


def _seconds(rates: Rates, method: str, dataset: str, train: int, clips: int) -> float:
    """Return the seconds of one fold's epochs, each with validation, at the measured rates."""
    total = 0.0
    for stage in stages(find_method(method), dataset):
        rate = rates[stage.array.split("/")[0]]
        epoch = train / rate["trainer_samples_per_s"]
        total += stage.epochs * (epoch + (clips - train) / rate["valid_samples_per_s"])
    return total

"""Finished runs as directories, written by hand: what reports and comparisons read."""

import csv
import math
import zlib
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from featurestore import EXTRACTOR_VERSION
from schemas import (
    CheckpointName,
    EpochMetrics,
    FeatureSpec,
    FoldRecord,
    FoldResult,
    RunConfig,
    RunRecord,
    RunResult,
    Selection,
    Stage,
)
from tests.once import made_once
from trainer.records.rundir import RunDirectory
from trainer.records.tables import ClipPredictions, parse_predictions, predictions_bytes
from trainer.report import Report, Section, Table
from trainer.report.comparisons import agreements
from trainer.report.paper import URBANSOUND8K
from trainer.report.series import group, read_run
from trainer.report.write import text_section, told_apart
from trainer.safefiles import file_digest, replace_file, write_sealed

SHORT = {"baseline": (2, 5, 12), "progressive": (2, 2, 2, 2, 2, 7)}
ARRAYS = ("R1/{}", "R1/{}", "R2/{}", "R2/{}", "R3/full", "R3/full")
CLASSES = ("air conditioner", "car horn", "children playing", "dog bark", "drilling")
NUM_TEST = 100
"""Clips of a fold, where accuracies in whole per cent are given."""


def stages_of(method: str) -> tuple[Stage, ...]:
    if method == "baseline":
        return tuple(
            Stage(array="R3/full", epochs=epochs, max_lr=lr)
            for epochs, lr in zip(SHORT["baseline"], (1e-2, 5e-6, 1e-6), strict=True)
        )
    arrays = ["R3/full"] * 6 if method == "control" else [a.format(method) for a in ARRAYS]
    rates = (1e-2, 1e-3, 5e-3, 5e-6, 5e-3, 5e-6)
    return tuple(
        Stage(array=array, epochs=epochs, max_lr=lr)
        for array, epochs, lr in zip(arrays, SHORT["progressive"], rates, strict=True)
    )


def num_test(*percents: float) -> int:
    """So many clips that each of these accuracies can be one of them."""
    possible = (n for n in range(NUM_TEST, 10_000, 50) if all(_fits(p, n) for p in percents))
    return next(possible, 10_000)


def _fits(percent: float, clips: int) -> bool:
    right = percent * clips / 100
    return abs(right - round(right)) < 1e-9


def fold_result(
    fold: int, percent: float, last: float, stages: Sequence[Stage], selection: Selection
) -> FoldResult:
    """With the accuracies that a selection gives, and no others; the epochs give the best one."""
    picked, validates = selection != "last", selection == "validation"
    clips = num_test(percent, last)
    found = FoldResult(
        fold=fold,
        num_train=7000,
        num_test=clips,
        best_accuracy=round(percent * clips / 100) / clips if picked else None,
        best_epoch=None,
        last_accuracy=None if validates else round(last * clips / 100) / clips,
        last_epoch=sum(stage.epochs for stage in stages),
        seconds=12.5,
        num_valid=700 if validates else 0,
    )
    accuracies = [row.valid_accuracy for row in epochs_of(found, stages, percent)]
    best = max(accuracies)
    update = {"best_epoch": accuracies.index(best) + 1 if picked else None}
    return found.model_copy(update=update | ({"valid_accuracy": best} if validates else {}))


def epochs_of(fold: FoldResult, stages: Sequence[Stage], top: float) -> list[EpochMetrics]:
    """Plausible curves: each stage forgets a little, then learns more than it forgot."""
    rows = []
    starts = [0, *accumulate(stage.epochs for stage in stages)]
    for number, (stage, start) in enumerate(zip(stages, starts, strict=False)):
        for step in range(1, stage.epochs + 1):
            learnt = 1 - math.exp(-4 * (start + step) / fold.last_epoch)
            dip = 0.1 * math.exp(-step) * (number > 0)
            wobble = 0.01 * math.sin(7 * fold.fold + 3 * (start + step))
            other = stage.alternate and step % 2 == 0
            rows.append(
                EpochMetrics(
                    fold=fold.fold,
                    stage=number + 1,
                    epoch=start + step,
                    array=stage.alternate if other else stage.array,
                    max_lr=stage.max_lr,
                    train_loss=2.3 * (1 - learnt) + dip + abs(wobble) + 0.1 * bool(other),
                    valid_loss=1.0,
                    valid_accuracy=max(0.0, top / 100 * learnt - dip - abs(wobble)),
                    seconds=0.5,
                    samples_per_s=18000 / (number + 1),
                )
            )
    return rows


def answers(
    name: str, accuracy: float, classes: Sequence[str] = CLASSES, number: int = NUM_TEST
) -> ClipPredictions:
    """Answers of about that accuracy; a clip that is misjudged is taken for the next class."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    labels = np.arange(number, dtype=np.int64) % len(classes)
    predicted = labels.copy()
    wrong = rng.permutation(number)[round(accuracy * number) :]
    predicted[wrong] = (labels[wrong] + 1) % len(classes)
    shares = rng.uniform(0, 0.1, (number, len(classes)))
    shares[np.arange(number), predicted] += rng.uniform(0.2, 1, number)
    probabilities = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    return ClipPredictions(
        tuple(f"{name}-{i}" for i in range(number)), labels, probabilities, tuple(classes)
    )


def read_outputs(path: Path) -> ClipPredictions:
    """A network's answers in a file."""
    return parse_predictions(path, path.read_bytes())


def make_run(
    path: Path,
    method: str,
    accuracies: dict[int, float],
    *,
    dataset: str = "urbansound8k",
    fingerprint: str = "3f9a0c55d1e2b7a4",
    init_used: str = "imagenet",
    warnings: tuple[str, ...] = (),
    last: float = 1.0,
    classes: Sequence[str] = CLASSES,
    init_sha256: str | None = None,
    **config: Any,
) -> Path:
    """A finished run's directory.

    `accuracies` are those of the best epoch by fold, or of the last one where none is picked;
    `last` is by how many points the last epoch is worse than the best.
    """
    stages = config.pop("stages", stages_of(method))
    selection: Selection = config.get("selection", "heldout")
    lost = last if selection == "heldout" else 0.0
    config = {"carry": "last" if selection == "last" else "stage", "best_of": "array"} | config
    folds = [fold_result(fold, a, a - lost, stages, selection) for fold, a in accuracies.items()]
    record = RunRecord(
        config=RunConfig(
            dataset=dataset, method=method, stages=stages, folds=tuple(accuracies), **config
        ),
        fingerprint=fingerprint,
        store="/nowhere",
        features=FeatureSpec(),
        extractor_version=EXTRACTOR_VERSION,
        class_names=tuple(classes),
        versions={"torch": "2.9"},
        device_name="NVIDIA H200",
        started="2026-01-01T00:00:00+00:00",
        init_used=init_used,  # type: ignore[arg-type]
        init_sha256=init_sha256,
    )
    result = RunResult(
        config=record.config,
        fingerprint=fingerprint,
        folds=tuple(folds),
        init_used=init_used,  # type: ignore[arg-type]
        warnings=warnings,
        versions=record.versions,
        device_name=record.device_name,
    )
    path.mkdir(parents=True)
    (path / "run.json").write_text(record.model_dump_json())
    (path / "result.json").write_text(result.model_dump_json())
    for fold in folds:
        _write_fold(path / f"fold{fold.fold}", fold, stages, accuracies[fold.fold], classes)
    return seal(path)


def seal(run: Path) -> Path:
    """Let a run's records vouch for its files as they are now."""
    directory = RunDirectory(run)
    record = RunRecord.model_validate_json((run / "run.json").read_bytes())
    result = RunResult.model_validate_json((run / "result.json").read_bytes())
    record = write_sealed(run / "run.json", record)
    digests = {"run.json": str(record.sha256)}
    for fold in result.folds:
        folder = directory.fold(fold.fold)
        files = {path.name: file_digest(path.read_bytes()) for path in folder.path.glob("*[vt]")}
        outcome = FoldRecord(**fold.model_dump(), files=files, record_sha256=record.sha256)
        outcome = write_sealed(folder.path / "fold.json", outcome)
        digests[f"fold{fold.fold}/fold.json"] = str(outcome.sha256)
    write_sealed(run / "result.json", result.model_copy(update={"digests": digests}))
    return run


def _write_fold(
    path: Path, fold: FoldResult, stages: Sequence[Stage], top: float, classes: Sequence[str]
) -> None:
    path.mkdir()
    with (path / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(EpochMetrics.model_fields))
        writer.writeheader()
        writer.writerows(row.model_dump() for row in epochs_of(fold, stages, top))
    names: tuple[CheckpointName, ...] = ("best", "last")
    for name, accuracy in zip(names, (fold.best_accuracy, fold.last_accuracy), strict=True):
        if accuracy is not None:
            said = answers(f"fold{fold.fold}", accuracy, classes, fold.num_test)
            replace_file(path / f"{name}.csv", predictions_bytes(said))


@cache
def paper_runs() -> tuple[Path, ...]:
    """The paper's accuracies to half a per cent as if ours, and a control; not to be changed.

    Half a per cent can be one of 200 clips; a hundredth needs 10,000 a fold, and ten seconds.
    """
    methods = {
        method: {fold: round(2 * value) / 2 for fold, value in URBANSOUND8K.by_fold(method).items()}
        for method in URBANSOUND8K.splits
    }
    methods["control"] = {fold: value + 1 for fold, value in methods["baseline"].items()}

    def make(place: Path) -> None:
        for method, values in methods.items():
            make_run(place / method, method, values)

    place = made_once("paper-runs", make)
    return tuple(place / method for method in methods)


def sections_of(*runs: Path) -> list[Section]:
    """Return the contents of a report, without the pictures."""
    groups = group([read_run(run) for run in runs])
    sections = {key: text_section(series, agreements(series)) for key, series in groups.items()}
    return list(told_apart(sections))


def text_report(*runs: Path) -> Report:
    """Return a report without the pictures, of which each takes a fifth of a second."""
    return Report(Path("out"), tuple(sections_of(*runs)), runs, "Made here.", "trainer report")


def section_of(*runs: Path) -> Section:
    """Return the contents of the report of runs of one dataset and selection."""
    (section,) = sections_of(*runs)
    return section


def table(section: Section, *words: str) -> Table:
    """The first table whose title has all the words."""
    return next(one for one in section.tables if all(word in one.title for word in words))


def row(found: Table, *start: str) -> dict[str, str]:
    """The row that starts with these cells, by heading."""
    cells = next(cells for cells in found.rows if cells[: len(start)] == start)
    return dict(zip((column.heading for column in found.columns), cells, strict=True))

"""Data about runs for the page of `featurestore browse`.

The entry point `featurestore.runs` leads here. Runs are read and compared as for a report: by their
reported network, and only if a report would compare them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.errors import RunError
from featurestore.text import json_text
from trainer.errors import TrainerError
from trainer.records.finished import epoch_of, score_of
from trainer.report.comparisons import CLASS_NOTE, NOTE, agreements, class_tests
from trainer.report.series import Run, Series, group, read_run
from trainer.report.tables import pairs
from trainer.selection import OPTIMISTIC, RULES, carrying, other_images

_EPOCHS = ("stage", "epoch", "array", "max_lr", "train_loss", "valid_loss", "score")


def browsed_runs(paths: Sequence[Path]) -> dict[str, Any]:
    """Return runs and their comparisons.

    Args:
        paths: Run directories, in any order, of any methods, folds, seeds and datasets.

    Returns:
        `runs`: for each its path, label, method, seed, dataset, fingerprint (of the store), score
        (name of what is shown; with the rules if runs differ in these), notes, class_names,
        multilabel (whether clips may have several labels); `folds`: accuracy or mean average
        precision in [0, 1], number of clips and epoch of each; `precisions`: with several labels,
        average precision of each class by fold, or None; `epochs`: columns by name, by fold;
        `clips`: clip_id and probabilities (n, classes) float32.
        `comparisons`: for each pair of methods first and second (labels), dataset, fingerprint,
        seeds, p of McNemar's test or None, a note, and `clips`: (clip_id, whether the first is
        correct, whether the second is), once per common seed; or, with several labels, `classes`:
        num_folds, and mean, low, high and p of the difference in average precision or None.

    Raises:
        RunError: A directory is not a run, a run is unfinished or damaged, or two are the same.
    """
    try:
        runs = [read_run(path, keep_probabilities=True) for path in paths]
        groups = group(runs)
        labels = {
            run: series.label
            for section in groups.values()
            for series in section
            for run in series.runs
        }
        return {
            "runs": [_run(run, labels[run], _shown(run, runs)) for run in runs],
            "comparisons": [one for series in groups.values() for one in _comparisons(series)],
        }
    except TrainerError as error:
        raise RunError(str(error)) from error


def _shown(run: Run, runs: Sequence[Run]) -> str:
    """Return the name of a run's score, by which runs that are not comparable are told apart."""
    selection, rules = run.config.selection, carrying(run.config)
    score = RULES[selection].scores[0]
    alike = {carrying(other.config) for other in runs if other.config.selection == selection}
    return f"{score}: {rules}" if len(alike) > 1 else score


def _run(run: Run, label: str, score: str) -> dict[str, Any]:
    config, finished = run.config, run.finished
    checkpoint = finished.checkpoints[0]
    predictions = run.probabilities.values()
    notes = [*run.result.warnings]
    if unlike := other_images(run.result, checkpoint):
        notes.insert(0, unlike)
    if config.selection == "heldout" and checkpoint == "best":
        notes.insert(0, OPTIMISTIC)
    return {
        "path": json_text(finished.path),
        "label": f"{label}, seed {config.seed}",
        "method": config.method,
        "seed": config.seed,
        "dataset": config.dataset,
        "fingerprint": run.result.fingerprint,
        "score": score,
        "notes": notes,
        "class_names": list(finished.record.class_names),
        "multilabel": config.task == "multilabel",
        "precisions": {
            fold: [None if np.isnan(value) else float(value) for value in of]
            for fold, of in run.precisions.items()
        },
        "folds": {
            fold.fold: {
                "accuracy": score_of(fold, checkpoint),
                "clips": fold.num_test,
                "epoch": epoch_of(fold, checkpoint),
            }
            for fold in run.result.folds
        },
        "epochs": {
            fold: {name: [getattr(row, name) for row in rows] for name in _EPOCHS}
            for fold, rows in run.epochs.items()
        },
        "clips": {
            "clip_id": [clip for of in predictions for clip in of.clip_ids],
            "probabilities": np.concatenate([of.probabilities for of in predictions]),
        },
    }


def _comparisons(series: Sequence[Series]) -> Iterator[dict[str, Any]]:
    """Yield the comparison of each pair of methods: clip by clip, or class by class."""
    for one in agreements(series):
        right = ((by == one.label).tolist() for by in (one.by_first, one.by_second))
        clips = list(zip(one.clip_ids, *right, strict=True))
        yield _compared(one.first, one.second, NOTE, p=one.p, clips=clips)
    for a, b in pairs(series):
        if a.multilabel and a.method != b.method:
            tests = class_tests(a, b)
            classes = [{"num_folds": n} | (test.model_dump() if test else {}) for n, test in tests]
            yield _compared(a, b, CLASS_NOTE, classes=classes)


def _compared(first: Series, second: Series, note: str, **outcome: object) -> dict[str, Any]:
    return {
        "first": first.label,
        "second": second.label,
        "dataset": first.dataset,
        "fingerprint": first.runs[0].result.fingerprint,
        "seeds": sorted({*first.seeds} & {*second.seeds}),
        "note": note,
        **outcome,
    }

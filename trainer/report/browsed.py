"""Runs for the page of `featurestore browse`, which knows nothing of trainers.

The entry point `featurestore.runs` leads here. Runs are read and compared as for a report: by the
network that counts, and only where a report would compare them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.errors import RunError
from featurestore.text import json_text
from schemas import EpochMetrics
from trainer.errors import TrainerError
from trainer.records.contradictions import epoch_of, score_of
from trainer.records.finished import open_finished
from trainer.report.agreement import NOTE, Agreement, agreements
from trainer.report.series import Run, group, read_run
from trainer.selection import OPTIMISTIC, RULES
from trainer.stats import mcnemar_p

_EPOCHS = ("stage", "epoch", "array", "max_lr", "train_loss", "valid_loss", "valid_accuracy")


def browsed_runs(paths: Sequence[Path]) -> dict[str, Any]:
    """Return runs and how they compare.

    Args:
        paths: Run directories, in any order, of any methods, folds, seeds and datasets.

    Returns:
        `runs`: of each its path, label, method, seed, dataset, fingerprint (of the store), score
        (words for what is shown), notes, class_names; `folds`: accuracy in [0, 1], number of clips
        and epoch of each; `epochs`: columns by name, by fold; `clips`: clip_id, predicted class_id
        and probabilities (n, classes) float32.
        `comparisons`: of each pair of methods first and second (labels), dataset, fingerprint,
        seeds, p of McNemar's test or None, a note, and `clips`: (clip_id, whether the first is
        right, whether the second is), once per common seed.

    Raises:
        RunError: A directory is no run, or the run is unfinished or damaged, or two are the same.
    """
    try:
        runs = [read_run(path) for path in paths]
        for run in runs:
            if run.result.config.task == "multilabel":
                raise RunError(
                    f"{run.path}: is of clips with several labels, which the page does not show; "
                    "`trainer report` does"
                )
        groups = group(runs)
        labels = {
            run.path: series.label
            for section in groups.values()
            for series in section
            for run in series.runs
        }
        return {
            "runs": [_run(run, labels[run.path]) for run in runs],
            "comparisons": [_comparison(one) for s in groups.values() for one in agreements(s)],
        }
    except TrainerError as error:
        raise RunError(str(error)) from error


def _run(run: Run, label: str) -> dict[str, Any]:
    config, finished = run.result.config, open_finished(run.path)
    checkpoint = finished.checkpoints[0]
    predictions = [finished.predictions(fold, checkpoint) for fold in finished.folds]
    notes = [*run.result.warnings]
    if config.selection == "heldout" and checkpoint == "best":
        notes.insert(0, OPTIMISTIC)
    return {
        "path": json_text(run.path),
        "label": f"{label}, seed {config.seed}",
        "method": config.method,
        "seed": config.seed,
        "dataset": config.dataset,
        "fingerprint": run.result.fingerprint,
        "score": RULES[config.selection].scores[0],
        "notes": notes,
        "class_names": list(run.record.class_names),
        "folds": {
            fold.fold: {
                "accuracy": score_of(fold, checkpoint),
                "clips": fold.num_test,
                "epoch": epoch_of(fold, checkpoint),
            }
            for fold in run.result.folds
        },
        "epochs": {fold: _epochs(run.epochs, fold) for fold in finished.folds},
        "clips": {
            "clip_id": [clip for of in predictions for clip in of.clip_ids],
            "predicted": np.concatenate([of.predicted for of in predictions]),
            "probabilities": np.concatenate([of.probabilities for of in predictions]),
        },
    }


def _epochs(epochs: Sequence[EpochMetrics], fold: int) -> dict[str, list[Any]]:
    rows = [row for row in epochs if row.fold == fold]
    return {name: [getattr(row, name) for row in rows] for name in _EPOCHS}


def _comparison(one: Agreement) -> dict[str, Any]:
    _, only_first, only_second, _ = one.counts()
    alone = len(one.seeds) == 1
    return {
        "first": one.first.label,
        "second": one.second.label,
        "dataset": one.first.dataset,
        "fingerprint": one.first.runs[0].result.fingerprint,
        "seeds": sorted(one.seeds),
        "p": mcnemar_p(only_first, only_second) if alone else None,
        "note": NOTE,
        "clips": list(_outcomes(one)),
    }


def _outcomes(one: Agreement) -> Iterator[tuple[str, bool, bool]]:
    for clip in one.clips:
        yield clip.clip_id, clip.first, clip.second

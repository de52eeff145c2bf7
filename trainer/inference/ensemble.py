"""Ensembles of runs: averaged probabilities, compared with each run alone.

Reads the tables of predictions next to the networks, but neither the store nor the networks.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from featurestore.text import json_text
from schemas import CheckpointName, Ensemble, EnsembleMember
from trainer.errors import EnsembleError
from trainer.records.finished import FinishedRun
from trainer.records.tables import ClipPredictions
from trainer.selection import OPTIMISTIC, carrying, other_images
from trainer.stats import mean, paired_test, sample_std

_ALIKE: tuple[tuple[str, Callable[[FinishedRun], str], str], ...] = (
    ("dataset", lambda run: run.config.dataset, "runs on one dataset"),
    ("task", lambda run: run.config.task, "runs of one task"),
    ("selection", lambda run: run.config.selection, "runs of one --selection"),
    ("rules", lambda run: carrying(run.config), "runs of one --carry and --best-of"),
    (
        "held-out folds",
        lambda run: ", ".join(map(str, run.folds)),
        "predictions of every run on the same folds: train the missing ones, or leave the run out",
    ),
)
"""Properties that runs must share: name, function of a run, and advice if it differs."""


def average(
    runs: Sequence[FinishedRun], checkpoint: CheckpointName | None = None
) -> tuple[Ensemble, ClipPredictions]:
    """Average the probabilities of runs, each with one vote.

    Args:
        runs: At least two runs with the same dataset, selection, folds and clips.
        checkpoint: `best` or `last`; by default the network that counts in their selection.

    Returns:
        The accuracies, and the averaged probabilities of all folds' clips.

    Raises:
        EnsembleError: The runs cannot be averaged.
        TrainedRunError: A table of predictions is missing or damaged.
    """
    _check_runs(runs)
    name = checkpoint or runs[0].checkpoints[0]
    if name not in runs[0].checkpoints:
        raise EnsembleError(
            f"runs with selection {runs[0].config.selection} have no predictions of the {name} "
            f"network; give --checkpoint {runs[0].checkpoints[0]}"
        )
    folds = runs[0].folds
    predictions = {fold: _predictions(runs, fold, name) for fold in folds}
    averages = {fold: _average(predictions[fold]) for fold in folds}
    whole = {fold: averages[fold].score for fold in folds}
    task = runs[0].config.task
    members = tuple(
        _member(run, {fold: predictions[fold][at].score for fold in folds}, whole)
        for at, run in enumerate(runs)
    )
    ensemble = Ensemble(
        dataset=runs[0].config.dataset,
        selection=runs[0].config.selection,
        checkpoint=name,
        folds=folds,
        num_clips=tuple(len(averages[fold].labels) for fold in folds),
        members=members,
        best_member=max(range(len(members)), key=lambda at: members[at].mean),
        accuracies=tuple(whole.values()),
        mean=mean(list(whole.values())),
        std=sample_std(list(whole.values())),
        warnings=tuple(_warnings(runs, name)),
        task=task,
        scores=tuple(averages[fold].scores for fold in folds) if task == "multilabel" else (),
    )
    return ensemble, _concatenated(list(averages.values()))


def _check_runs(runs: Sequence[FinishedRun]) -> None:
    """Refuse what is not at least two different runs of one dataset, selection and folds."""
    if len(runs) < 2:
        raise EnsembleError("an average takes at least two runs; give another one")
    paths = [run.path.resolve() for run in runs]
    for at, run in enumerate(runs):
        if paths[at] in paths[:at]:
            raise EnsembleError(f"{run.path}: is given twice; each run has one vote")
    for one, other in pairwise(runs):
        if unlike := [fact for fact in _ALIKE if fact[1](one) != fact[1](other)]:
            differing = " and ".join(f"{name} ({of(one)}; {of(other)})" for name, of, _ in unlike)
            needed = ", and ".join(remedy for *_, remedy in unlike)
            raise EnsembleError(
                f"{one.path} and {other.path} differ in {differing}; an average needs {needed}"
            )


def _predictions(
    runs: Sequence[FinishedRun], fold: int, checkpoint: CheckpointName
) -> list[ClipPredictions]:
    """Return every run's predictions on a fold, in the order of the first run's clips."""
    first, *rest = [run.predictions(fold, checkpoint) for run in runs]
    aligned = [first]
    for run, predictions in zip(runs[1:], rest, strict=True):
        where = f"fold {fold}: {runs[0].path} and {run.path}"
        if predictions.class_names != first.class_names:
            raise EnsembleError(f"{where} have different classes; only the same can be averaged")
        aligned.append(_aligned(predictions, first, where))
    return aligned


def _aligned(predictions: ClipPredictions, first: ClipPredictions, where: str) -> ClipPredictions:
    rows = {clip: row for row, clip in enumerate(predictions.clip_ids)}
    if other := rows.keys() ^ set(first.clip_ids):
        raise EnsembleError(
            f"{where} have different clips, {len(other)} are only in one of them, such as "
            f"{min(other)}; give runs on stores of the same clips"
        )
    order = np.array([rows[clip] for clip in first.clip_ids])
    labels = predictions.labels[order]
    differs = (labels != first.labels).reshape(len(order), -1).any(axis=1)
    if differs.any():
        clip = first.clip_ids[int(differs.argmax())]
        raise EnsembleError(f"{where} give clip {clip} different classes; one of them is mistaken")
    return replace(first, probabilities=predictions.probabilities[order])


def _average(predictions: Sequence[ClipPredictions]) -> ClipPredictions:
    stacked = np.stack([one.probabilities for one in predictions])
    mean_of = stacked.astype(np.float64).mean(axis=0).astype(np.float32)
    return replace(predictions[0], probabilities=mean_of)


def _concatenated(parts: Sequence[ClipPredictions]) -> ClipPredictions:
    return ClipPredictions(
        tuple(clip for part in parts for clip in part.clip_ids),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        parts[0].class_names,
    )


def _member(
    run: FinishedRun, accuracies: dict[int, float], averaged: dict[int, float]
) -> EnsembleMember:
    return EnsembleMember(
        run=json_text(run.path),
        method=run.config.method,
        seed=run.config.seed,
        fingerprint=run.result.fingerprint,
        accuracies=tuple(accuracies.values()),
        mean=mean(list(accuracies.values())),
        std=sample_std(list(accuracies.values())),
        gain=paired_test(averaged, accuracies),
    )


def _warnings(runs: Sequence[FinishedRun], checkpoint: CheckpointName) -> list[str]:
    warnings = list(dict.fromkeys(text for run in runs for text in run.partial))
    warnings += [run.warning for run in runs if run.warning]
    unlike = {run.path: other_images(run.result, checkpoint) for run in runs}
    warnings += [f"{path}: {text}" for path, text in unlike.items() if text]
    stores = dict.fromkeys(run.result.fingerprint[:12] for run in runs)
    if len(stores) > 1:
        warnings.append(f"the runs' stores differ ({', '.join(stores)}); their clips are the same")
    if runs[0].config.selection == "heldout" and checkpoint == "best":
        warnings.append(OPTIMISTIC)
    return warnings

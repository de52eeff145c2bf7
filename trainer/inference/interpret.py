"""Mistakes of a run's networks: the worst clips, and each class's recall with its interval.

Reads the predictions on the held-out folds that training has saved; no network is run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas import CheckpointName
from trainer.metrics import LIKELY, average_precisions
from trainer.records.finished import FinishedRun, epoch_of
from trainer.records.tables import ClipPredictions
from trainer.stats import mean, wilson_interval


@dataclass(frozen=True)
class WrongClip:
    """A misclassified clip, or one with at least one wrong label.

    Args:
        clip_id: Id of the clip.
        fold: Held-out fold of the clip.
        class_name: Class of the clip; or its labels, separated by commas.
        probability: Probability of its class, in [0, 1]; with several labels, that of the truth
            about `predicted`: that the clip has this label, or has not.
        predicted: Predicted class; with several labels, the most wrong one: a label that was
            missed, or falsely predicted.
        predicted_probability: Probability of `predicted`, in [0, 1].
        array: Key of the array that its network takes.
    """

    clip_id: str
    fold: int
    class_name: str
    probability: float
    predicted: str
    predicted_probability: float
    array: str


@dataclass(frozen=True)
class ClassRecall:
    """Number of clips of a class, and its recall with the 95 % Wilson interval.

    With several labels, a label is predicted from a probability of 1/2 on. Average precision is the
    mean over the folds in which the class occurs.
    """

    class_name: str
    num_clips: int
    recall: float | None
    low: float | None
    high: float | None
    average_precision: float | None


@dataclass(frozen=True)
class Interpretation:
    """Mistakes of a run's networks.

    Args:
        num_clips: Number of clips of the folds.
        accuracy: Fraction of correct clips, in [0, 1]; with several labels, all must be correct.
        classes: All classes, lowest recall first.
        wrong: All wrong clips, the most confident mistakes first.
    """

    num_clips: int
    accuracy: float
    classes: tuple[ClassRecall, ...]
    wrong: tuple[WrongClip, ...]


def interpret(
    run: FinishedRun, checkpoint: CheckpointName, folds: Sequence[int] = ()
) -> Interpretation:
    """Return the mistakes of a run's networks, each on the fold that it held out.

    Args:
        run: A finished run.
        checkpoint: `best` or `last`: networks of the best or of the last epoch.
        folds: Held-out folds; all of the run's by default.

    Raises:
        TrainedRunError: The run has no such predictions, or did not hold out a given fold.
    """
    names, several = run.record.class_names, run.config.task == "multilabel"
    has, hits, precisions = [], [], []
    wrong: list[WrongClip] = []
    for fold in run.chosen(folds):
        predictions, array = run.predictions(fold, checkpoint), _array(run, fold, checkpoint)
        ids, shares = predictions.clip_ids, predictions.probabilities
        labels, taken, worst, truths = _judged(predictions)
        has.append(labels)
        hits.append(labels & taken)
        precisions.append(average_precisions(labels, shares))
        for row in np.flatnonzero((labels != taken).any(axis=1)).tolist():
            own = ", ".join(names[i] for i in np.flatnonzero(labels[row])) or "no label"
            truth, taken_as, share = float(truths[row]), worst[row], float(shares[row, worst[row]])
            wrong.append(WrongClip(ids[row], fold, own, truth, names[taken_as], share, array))
    # Equal probabilities are told apart by name, so that the order is always the same.
    wrong.sort(key=lambda c: (c.probability if several else -c.predicted_probability, c.clip_id))
    num_clips = sum(map(len, has))
    counts = (np.concatenate(of).sum(axis=0).tolist() for of in (hits, has))
    classes = list(starmap(_recall, zip(names, *counts, np.transpose(precisions), strict=True)))
    classes.sort(key=lambda one: (one.recall is None, one.recall or 0.0))
    accuracy = (num_clips - len(wrong)) / num_clips
    return Interpretation(num_clips, accuracy, tuple(classes), tuple(wrong))


def _array(run: FinishedRun, fold: int, checkpoint: CheckpointName) -> str:
    """Return the array that a network takes: the one on which its epoch was trained."""
    outcome = next(one for one in run.result.folds if one.fold == fold)
    number = epoch_of(outcome, checkpoint)
    return next(row.array for row in run.epochs(fold) if row.epoch == number)


def _judged(predictions: ClipPredictions) -> tuple[NDArray[Any], ...]:
    """Return labels and classes taken, (n, classes) bool, and the worst class with its truth."""
    rows, shares = np.arange(len(predictions.labels)), predictions.probabilities
    if predictions.multilabel:
        labels, taken = predictions.labels > 0, shares >= LIKELY
        truths = np.where(labels, shares, 1 - shares)
        worst = (truths - (labels != taken)).argmin(axis=1)  # of 1/2 each, the wrong one
        return labels, taken, worst, truths[rows, worst]
    each, own = np.eye(shares.shape[1], dtype=np.bool_), predictions.labels
    predicted = predictions.predicted
    return each[own], each[predicted], predicted, shares[rows, own]


def _recall(name: str, num_right: int, num_clips: int, by_fold: Sequence[float]) -> ClassRecall:
    known = [float(precision) for precision in by_fold if not np.isnan(precision)]
    precision = mean(known) if known else None
    if not num_clips:
        return ClassRecall(name, 0, None, None, None, precision)
    interval = wilson_interval(num_right, num_clips)
    return ClassRecall(name, num_clips, num_right / num_clips, *interval, precision)

"""Mistakes of a run's networks: the worst clips, and each class's recall with its uncertainty.

Reads the predictions that training left on the held-out folds; no network is run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas import CheckpointName
from trainer.records.finished import FinishedRun
from trainer.stats import confusion_matrix, wilson_interval


@dataclass(frozen=True)
class WrongClip:
    """A clip that a network took for another class.

    Args:
        clip_id: As the store has it.
        fold: The held-out fold that it is in.
        class_name: Its class.
        probability: What the network gave to its class, in [0, 1].
        predicted: The class that the network chose.
        predicted_probability: What the network gave to that one.
    """

    clip_id: str
    fold: int
    class_name: str
    probability: float
    predicted: str
    predicted_probability: float


@dataclass(frozen=True)
class ClassRecall:
    """A class's clips, and the fraction that was recognised with its 95 % Wilson interval."""

    class_name: str
    num_clips: int
    recall: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Interpretation:
    """Mistakes of a run's networks.

    Args:
        num_clips: Clips of the folds.
        accuracy: Fraction of them that was recognised.
        classes: Every class that has clips or not, the lowest recall first.
        wrong: All clips that were not recognised, the most confident mistakes first.
    """

    num_clips: int
    accuracy: float
    classes: tuple[ClassRecall, ...]
    wrong: tuple[WrongClip, ...]


def interpret(
    run: FinishedRun, checkpoint: CheckpointName, folds: Sequence[int] = ()
) -> Interpretation:
    """Return what the networks of a run get wrong, each on the fold that it held out.

    Args:
        run: Finished, of clips with one class each.
        checkpoint: Networks of the best epoch, or of the last one.
        folds: Held-out folds; all of the run's by default.

    Raises:
        TrainedRunError: The run has no such predictions, or did not hold a fold out.
    """
    names = run.record.class_names
    confusion = np.zeros((len(names),) * 2, np.int64)
    wrong: list[WrongClip] = []
    for fold in run.chosen(folds):
        answers = run.predictions(fold, checkpoint)
        confusion += confusion_matrix(answers.labels, answers.predicted, len(names))
        for row in np.flatnonzero(answers.predicted != answers.labels).tolist():
            label, predicted = int(answers.labels[row]), int(answers.predicted[row])
            wrong.append(
                WrongClip(
                    answers.clip_ids[row],
                    fold,
                    names[label],
                    float(answers.probabilities[row, label]),
                    names[predicted],
                    float(answers.probabilities[row, predicted]),
                )
            )
    # Equal probabilities are told apart by name, so that the order is always the same.
    wrong.sort(key=lambda clip: (-clip.predicted_probability, clip.clip_id))
    classes = [
        _recall(name, int(row[i]), int(row.sum()))
        for i, (name, row) in enumerate(zip(names, confusion, strict=True))
    ]
    classes.sort(key=lambda one: (one.recall is None, one.recall or 0.0))
    total = int(confusion.sum())
    accuracy = float(confusion.trace() / total)
    return Interpretation(total, accuracy, tuple(classes), tuple(wrong))


def _recall(name: str, num_right: int, num_clips: int) -> ClassRecall:
    if not num_clips:
        return ClassRecall(name, 0, None, None, None)
    return ClassRecall(
        name, num_clips, num_right / num_clips, *wilson_interval(num_right, num_clips)
    )

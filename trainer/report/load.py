"""Data of a run for a report, read once: its result, its epochs, its confusions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schemas import CheckpointName, EpochMetrics, RunResult
from trainer.inference.confusion import Matrix, confusion_matrix
from trainer.records.finished import FinishedRun, open_finished


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        path: Its directory.
        result: Its result.json.
        epochs: Epochs of all folds.
        class_names: By class_id.
        confusions: By the network that was tried on the held-out folds: their sum.
    """

    path: Path
    result: RunResult
    epochs: tuple[EpochMetrics, ...]
    class_names: tuple[str, ...]
    confusions: Mapping[CheckpointName, Matrix]


def read_run(path: Path) -> Run:
    """Read a finished run's directory.

    Raises:
        TrainedRunError: The directory is not a run, or the run is unfinished or damaged.
    """
    run = open_finished(path)
    result = run.result
    if run.warning:
        result = result.model_copy(update={"warnings": (*result.warnings, run.warning)})
    epochs = tuple(row for fold in run.folds for row in run.epochs(fold))
    names = run.record.class_names
    confusions = {name: _confusion(run, name, names) for name in run.checkpoints}
    return Run(path, result, epochs, names, confusions)


def _confusion(run: FinishedRun, checkpoint: CheckpointName, names: tuple[str, ...]) -> Matrix:
    total = np.zeros((len(names), len(names)), np.int64)
    for fold in run.folds:
        answers = run.answers(fold, checkpoint)
        total += confusion_matrix(answers.labels, answers.predicted, len(names))
    return total

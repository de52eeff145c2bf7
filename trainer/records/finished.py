"""A finished run as its directory tells it, for reports and comparisons; no network is loaded.

Every foreign error becomes a TrainedRunError here.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from featurestore.errors import first_problem
from schemas import CheckpointName, EpochMetrics, FoldResult, RunConfig, RunResult, Selection
from trainer.errors import TrainedRunError
from trainer.records.outputs import Outputs, read_outputs

RECORD, RESULT, METRICS = "run.json", "result.json", "metrics.csv"
AGAIN = "run it again, or leave it out"
CHECKPOINTS: dict[Selection, tuple[CheckpointName, ...]] = {
    "heldout": ("best", "last"),
    "validation": ("best",),
    "last": ("last",),
}
"""The networks that were tried on the held-out fold; the one that counts first."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Args:
        path: Its directory.
        result: Its result.json; every fold once, with the accuracies that its selection gives.
    """

    path: Path
    result: RunResult

    @property
    def config(self) -> RunConfig:
        """What was asked for."""
        return self.result.config

    @property
    def folds(self) -> tuple[int, ...]:
        """Held out in turn, ascending."""
        return tuple(sorted(fold.fold for fold in self.result.folds))

    @property
    def checkpoints(self) -> tuple[CheckpointName, ...]:
        """Those of `CHECKPOINTS` for its selection."""
        return CHECKPOINTS[self.config.selection]

    def answers(self, fold: int, checkpoint: CheckpointName) -> Outputs:
        """What a network said of its held-out fold.

        Raises:
            TrainedRunError: The table is absent, damaged, or of other clips than the result.
        """
        path = self._folder(fold) / f"{checkpoint}.csv"
        found = read_outputs(path)
        expected = next(one.num_test for one in self.result.folds if one.fold == fold)
        if len(found.labels) != expected:
            raise TrainedRunError(
                f"{path}: has {len(found.labels)} clips, {RESULT} says {expected}; {AGAIN}"
            )
        ids, shares = found.labels, found.probabilities
        if ids.min() < 0 or ids.max() >= len(found.class_names) or not np.isfinite(shares).all():
            raise TrainedRunError(
                f"{path}: is damaged: a class_id or a probability is out of range; {AGAIN}"
            )
        return found

    def epochs(self, fold: int) -> tuple[EpochMetrics, ...]:
        """The rows of a fold's metrics.csv.

        Raises:
            TrainedRunError: It is absent or damaged, or is not about every epoch of this fold.
        """
        path = self._folder(fold) / METRICS
        rows = _read_rows(path)
        last = next(one.last_epoch for one in self.result.folds if one.fold == fold)
        if [(row.fold, row.epoch) for row in rows] != [(fold, n + 1) for n in range(last)]:
            raise TrainedRunError(
                f"{path}: is damaged: expected the epochs 1 to {last} of fold {fold}, each once; "
                f"{AGAIN}"
            )
        return rows

    def _folder(self, fold: int) -> Path:
        return self.path / f"fold{fold}"


def accuracy_of(fold: FoldResult, checkpoint: CheckpointName) -> float | None:
    """A network's accuracy on the held-out fold, in [0, 1]; None where it was not tried there."""
    return fold.best_accuracy if checkpoint == "best" else fold.last_accuracy


def open_finished(path: Path) -> FinishedRun:
    """Read a finished run's result.

    Raises:
        TrainedRunError: The directory is not a run, or the run is unfinished or damaged.
    """
    if not path.is_dir():
        raise TrainedRunError(
            f"{path}: no such directory; give the directories that `trainer run` wrote"
        )
    if not (path / RESULT).is_file():
        raise TrainedRunError(_why_no_result(path))
    run = FinishedRun(path, _read_result(path / RESULT))
    _check_folds(run)
    return run


def _why_no_result(path: Path) -> str:
    if (path / RECORD).is_file():
        return f"{path}: the run is unfinished, it has no {RESULT}; finish it, or leave it out"
    inside = sorted(child.parent for child in path.glob(f"*/{RESULT}"))
    if inside:
        return f"{path}: is not a run but holds {len(inside)}: give them, such as {inside[0]}"
    return f"{path}: is not a run, it has neither {RECORD} nor {RESULT}"


def _read_result(path: Path) -> RunResult:
    try:
        return RunResult.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise TrainedRunError(f"{path}: is damaged: {_reason(error)}; {AGAIN}") from error


def _check_folds(run: FinishedRun) -> None:
    if not run.folds or len(set(run.folds)) < len(run.folds):
        listed = ", ".join(map(str, run.folds)) or "none"
        raise TrainedRunError(
            f"{run.path / RESULT}: expected each fold once, found folds: {listed}; {AGAIN}"
        )
    for fold in run.result.folds:
        for name in run.checkpoints:
            if accuracy_of(fold, name) is None:
                raise TrainedRunError(
                    f"{run.path / RESULT}: fold {fold.fold} has no {name}_accuracy, which "
                    f"selection {run.config.selection} gives; {AGAIN}"
                )


def _read_rows(path: Path) -> tuple[EpochMetrics, ...]:
    line = 1
    rows = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for line, row in enumerate(csv.DictReader(file), start=2):  # noqa: B007 - in the error
                rows.append(EpochMetrics.model_validate(row))
    except FileNotFoundError:
        raise TrainedRunError(f"{path}: is missing; {AGAIN}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise TrainedRunError(
            f"{path}: is damaged at line {line}: {_reason(error)}; {AGAIN}"
        ) from error
    return tuple(rows)


def _reason(error: Exception) -> str:
    """One line of what was wrong; the first problem, where pydantic found several."""
    if not isinstance(error, ValidationError):
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return first_problem(error)

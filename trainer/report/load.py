"""Reading run directories. Every foreign error becomes a ReportError here."""

import csv
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from schemas import EpochMetrics, RunResult
from trainer.errors import ReportError

RECORD, RESULT, METRICS = "run.json", "result.json", "metrics.csv"
AGAIN = "run it again, or leave it out of the report"


@dataclass(frozen=True)
class Run:
    """A finished run: what result.json and metrics.csv say."""

    path: Path
    result: RunResult
    epochs: tuple[EpochMetrics, ...]


def read_run(path: Path) -> Run:
    """Read a finished run's directory.

    Raises:
        ReportError: The directory is not a run, or the run is unfinished or damaged.
    """
    if not path.is_dir():
        raise ReportError(
            f"{path}: no such directory; give the directories that `trainer run` wrote"
        )
    if not (path / RESULT).is_file():
        raise ReportError(_why_no_result(path))
    run = Run(path, _read_result(path / RESULT), _read_epochs(path / METRICS))
    _check_folds(run)
    return run


def _why_no_result(path: Path) -> str:
    if (path / RECORD).is_file():
        return f"{path}: the run is unfinished, it has no {RESULT}; {AGAIN}"
    inside = sorted(child.parent for child in path.glob(f"*/{RESULT}"))
    if inside:
        return f"{path}: is not a run but holds {len(inside)}: give them, such as {inside[0]}"
    return f"{path}: is not a run, it has neither {RECORD} nor {RESULT}"


def _read_result(path: Path) -> RunResult:
    try:
        return RunResult.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: is damaged: {_reason(error)}; {AGAIN}") from error


def _read_epochs(path: Path) -> tuple[EpochMetrics, ...]:
    line = 1
    epochs = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for line, row in enumerate(csv.DictReader(file), start=2):  # noqa: B007 - in the error
                epochs.append(EpochMetrics.model_validate(row))
    except FileNotFoundError:
        raise ReportError(f"{path}: is missing; {AGAIN}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise ReportError(
            f"{path}: is damaged at line {line}: {_reason(error)}; {AGAIN}"
        ) from error
    return tuple(epochs)


def _check_folds(run: Run) -> None:
    """Each fold of the result must appear once, and have its epochs."""
    folds = [fold.fold for fold in run.result.folds]
    if not folds or len(set(folds)) < len(folds):
        listed = ", ".join(map(str, folds)) or "none"
        raise ReportError(
            f"{run.path / RESULT}: expected each fold once, found folds: {listed}; {AGAIN}"
        )
    if missing := set(folds) - {row.fold for row in run.epochs}:
        listed = ", ".join(map(str, sorted(missing)))
        raise ReportError(f"{run.path / METRICS}: has no epoch of fold {listed}; {AGAIN}")


def _reason(error: Exception) -> str:
    """One line of what was wrong; the first problem, where pydantic found several."""
    if not isinstance(error, ValidationError):
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]

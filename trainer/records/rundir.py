"""A run's directory: its records as files that are whole at any moment.

What belongs to all folds lies at the top; each fold's directory is complete in itself, so that any
process may train a fold, and one that is finished is never touched again.
"""

import csv
import io
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from featurestore import StoredDataset
from featurestore.storage import locate
from featurestore.store.lock import locked
from featurestore.text import json_text
from schemas import EpochMetrics, FoldResult, RunConfig, RunRecord, RunResult, Schema
from trainer.errors import RunDirectoryError
from trainer.files import make_folder, replace_file, unwritable, write_record
from trainer.problems import first_problem
from trainer.records.checkpoint import save_checkpoint
from trainer.records.outputs import Outputs, write_outputs
from trainer.records.state import FoldState, check_is_of, load_state, save_state

RECORD, RESULT = "run.json", "result.json"
METRICS, FOLD_RESULT, STATE = "metrics.csv", "fold.json", "state.pt"
BEST, LAST = "best", "last"

_Kind = TypeVar("_Kind", bound=Schema)


def default_out(config: RunConfig) -> Path:
    """Where a run goes that is not told where."""
    return Path("runs") / f"{config.dataset}-{config.method}-seed{config.seed}"


def place(dataset: StoredDataset) -> str:
    """Where the dataset's store is, from any working directory, as `json_text` has it."""
    path = str(dataset.path)
    return path if "://" in path else json_text(Path(path).absolute())


def check_free(path: Path) -> None:
    """Refuse a path that a new run could harm.

    Raises:
        RunDirectoryError: It holds a run, or is no directory.
    """
    if path.exists() and not path.is_dir():
        raise RunDirectoryError(f"{path}: is not a directory; give another --out")
    for name in (RECORD, RESULT):
        if (path / name).exists():
            finish = f", go on with it by --resume {path}" if name == RECORD else ""
            raise RunDirectoryError(
                f"{path}: already holds a run ({name}); give another --out{finish}, or remove it "
                "first"
            )


class FoldDirectory:
    """The directory of one held-out fold, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def network(self, which: str) -> Path:
        """Where the best or last network is."""
        return self.path / f"{which}.pt"

    def outputs(self, which: str) -> Path:
        """Where that network's answers on the held-out fold are."""
        return self.path / f"{which}.csv"

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from training the same fold; the directory is made.

        Raises:
            featurestore.errors.BusyError: One does.
        """
        return locked(locate(str(self.path)))

    def remove_debris(self) -> None:
        """Delete what killed writers left half written, and the state that a finished fold had.

        Only for who holds the lock.
        """
        for aside in self.path.glob(".*.tmp"):
            aside.unlink(missing_ok=True)
        if (self.path / FOLD_RESULT).exists():
            (self.path / STATE).unlink(missing_ok=True)

    def result(self) -> FoldResult | None:
        """What the fold gave, once it is finished.

        Raises:
            RunDirectoryError: The record is damaged.
        """
        found = self.path / FOLD_RESULT
        return _read(found, FoldResult) if found.exists() else None

    def state(self, record: RunRecord, fold: int) -> FoldState | None:
        """Where an unfinished fold stopped; None where it is to begin.

        Raises:
            CheckpointError: It is damaged, or of another store or config.
        """
        path = self.path / STATE
        if not path.exists():
            return None
        state = load_state(path)
        check_is_of(path, state.last, record, fold)
        return state

    def write_state(self, state: FoldState) -> None:
        """Write state.pt."""
        save_state(self.path / STATE, state)

    def write_networks(self, state: FoldState) -> None:
        """Write best.pt, where there is a best one, and last.pt."""
        for which, checkpoint in ((BEST, state.best), (LAST, state.last)):
            if checkpoint is not None:
                save_checkpoint(self.network(which), checkpoint)

    def write_outputs(self, which: str, outputs: Outputs) -> None:
        """Write best.csv or last.csv."""
        write_outputs(self.outputs(which), outputs)

    def finish(self, result: FoldResult) -> None:
        """Write fold.json, which marks the fold as finished, and drop what is needed no more."""
        write_record(self.path / FOLD_RESULT, result)
        self.remove_debris()

    def write_metrics(self, epochs: Iterable[EpochMetrics]) -> None:
        """Make metrics.csv anew, of these rows; it survives a power cut."""
        rows = [
            list(EpochMetrics.model_fields),
            *(list(row.model_dump().values()) for row in epochs),
        ]
        replace_file(self.path / METRICS, _lines(rows).encode())

    def epochs(self) -> tuple[EpochMetrics, ...]:
        """The rows of metrics.csv so far, without one that is being written.

        Raises:
            RunDirectoryError: It is damaged.
        """
        path = self.path / METRICS
        if not path.exists():
            return ()
        whole, newline, _ = path.read_text(encoding="utf-8").rpartition("\n")
        try:
            rows = csv.DictReader(io.StringIO(whole + newline))
            return tuple(EpochMetrics.model_validate(row) for row in rows)
        except (ValidationError, csv.Error) as error:
            raise RunDirectoryError(f"{path}: is damaged; train again") from error

    def append(self, metrics: EpochMetrics) -> None:
        """Add a row to metrics.csv; the system has it when this returns."""
        path = self.path / METRICS
        try:
            with path.open("a", encoding="utf-8", newline="") as file:
                file.write(_lines([list(metrics.model_dump().values())]))
        except OSError as error:
            raise unwritable(path, error) from error


class RunDirectory:
    """A run's directory, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fold(self, fold: int) -> FoldDirectory:
        """The directory of a fold."""
        return FoldDirectory(self.path / f"fold{fold}")

    def record(self) -> RunRecord:
        """What the run was asked to do.

        Raises:
            RunDirectoryError: There is no run, or its record is damaged.
        """
        if not (self.path / RECORD).is_file():
            raise RunDirectoryError(f"{self.path}: is not a run, it has no {RECORD}")
        return _read(self.path / RECORD, RunRecord)

    def result(self) -> RunResult | None:
        """What the run found, once it is finished."""
        found = self.path / RESULT
        return _read(found, RunResult) if found.exists() else None

    def write_record(self, record: RunRecord) -> None:
        """Write run.json, in a directory that is made where it is missing.

        Raises:
            RunDirectoryError: It cannot be written.
        """
        make_folder(self.path)
        write_record(self.path / RECORD, record)

    def write_result(self, result: RunResult) -> None:
        """Write result.json, which marks the run as finished."""
        write_record(self.path / RESULT, result)


def _lines(rows: Iterable[list[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _read(path: Path, kind: type[_Kind]) -> _Kind:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunDirectoryError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise RunDirectoryError(
            f"{path}: is damaged, or of another version: {first_problem(error)}; train again"
        ) from error

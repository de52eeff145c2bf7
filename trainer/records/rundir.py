"""A run's directory: the one place that knows its files, writes them and reads them back.

What belongs to all folds lies at the top; each fold's directory is complete in itself, so that any
process may train a fold, and one that is finished is never touched again. Every file is whole at
any moment, and is compared with its digest when it is read: run.json, fold.json and result.json
carry their own, fold.json has those of the fold's files, result.json those of run.json and each
fold.json. Whether what they say fits together is for `trainer.records.finished`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.errors import BusyError
from featurestore.files import LockedError, is_temporary, locked
from schemas import (
    CheckpointName,
    EpochMetrics,
    FoldRecord,
    FoldResult,
    RunConfig,
    RunRecord,
    RunResult,
)
from trainer.errors import RunDirectoryError
from trainer.files import append_file, create_file, make_folder, read_file, replace_file, unwritable
from trainer.records.metricstable import metrics_bytes, parse_metrics
from trainer.records.outputs import Outputs, outputs_bytes
from trainer.records.sealing import (
    check_digest,
    file_digest,
    read_sealed,
    record_bytes,
    sealed,
    write_sealed,
)

if TYPE_CHECKING:  # a report is written without torch, which takes seconds to load
    from trainer.records.checkpoint import Checkpoint
    from trainer.records.state import FoldState

RECORD, RESULT = "run.json", "result.json"
METRICS, FOLD_RESULT, STATE = "metrics.csv", "fold.json", "state.pt"
BEST, LAST = "best", "last"
LOCK, RUN_LOCK = "build.lock", "run.lock"
MOST_TABLE_BYTES = 1 << 30
UNVOUCHED = (
    "was written by an older version, which kept no digests: damage to its files may go unseen"
)


def default_out(config: RunConfig) -> Path:
    """Where a run goes that is not told where."""
    return Path("runs") / f"{config.dataset}-{config.method}-seed{config.seed}"


def check_free(path: Path) -> None:
    """Refuse a path that a new run could harm.

    Raises:
        RunDirectoryError: It holds a run, or is no directory.
    """
    if path.exists() and not path.is_dir():
        raise RunDirectoryError(f"{path}: is not a directory; give another --out")
    for name in (RECORD, RESULT):
        if (path / name).exists():
            raise taken(path, name)


def taken(path: Path, name: str = RECORD) -> RunDirectoryError:
    """The error for a directory that holds a run; it names who trains it, if somebody does."""
    try:
        with _locked(path / RUN_LOCK):
            finish = f", go on with it by --resume {path}" if name == RECORD else ""
    except BusyError as error:
        return RunDirectoryError(f"{error}, or give another --out")
    except RunDirectoryError:
        finish = ""
    return RunDirectoryError(
        f"{path}: already holds a run ({name}); give another --out{finish}, or remove it first"
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock of the directory that the path is in.

    Raises:
        featurestore.errors.BusyError: Another process holds it.
        RunDirectoryError: It cannot be made.
    """
    try:
        lock = locked(path)
        lock.__enter__()
    except LockedError as error:
        raise BusyError(
            f"{path.parent} is being trained, {error.strerror}: wait for it to end, or stop it"
        ) from error
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


class FoldDirectory:
    """The directory of one held-out fold, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: dict[str, str] = {}

    def network(self, which: str) -> Path:
        """Where the best or last network is."""
        return self.path / f"{which}.pt"

    def outputs(self, which: str) -> Path:
        """Where that network's answers on the held-out fold are."""
        return self.path / f"{which}.csv"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training the same fold; the directory is made.

        Raises:
            featurestore.errors.BusyError: One does.
            RunDirectoryError: It cannot be made, or is a link: then files elsewhere would be
                written to.
        """
        if self.path.is_symlink():
            raise RunDirectoryError(f"{self.path}: is a link; remove it, or give another --out")
        make_folder(self.path)
        with _locked(self.path / LOCK):
            yield

    def remove_debris(self) -> None:
        """Delete what killed writers left half written, and the state that a finished fold had.

        Only for who holds the lock.
        """
        for aside in self.path.glob(".*"):
            if is_temporary(aside.name) or aside.suffix == ".tmp":  # that of older versions
                aside.unlink(missing_ok=True)
        if (self.path / FOLD_RESULT).exists():
            (self.path / STATE).unlink(missing_ok=True)

    def result(self) -> FoldRecord | None:
        """What the fold gave, once it is finished.

        Raises:
            RunDirectoryError: The record is damaged.
        """
        found = self.result_and_digest()
        return found[0] if found else None

    def result_and_digest(self) -> tuple[FoldRecord, str] | None:
        """The same, with the digest of what fold.json says."""
        path = self.path / FOLD_RESULT
        return read_sealed(path, FoldRecord) if path.exists() else None

    def read(self, name: str, record: FoldRecord | None, max_bytes: int) -> bytes:
        """A file of a finished fold, as it was when the fold was finished.

        Args:
            name: Of the file.
            record: The fold's; None where an older version wrote none.
            max_bytes: No such file is larger.

        Raises:
            RunDirectoryError: It is missing, or is not what the record vouches for.
        """
        path = self.path / name
        data = read_file(path, max_bytes)
        if record is not None and record.sha256 is not None:
            if name not in record.files:
                raise RunDirectoryError(
                    f"{path}: is not a file that {FOLD_RESULT} knows of; remove it"
                )
            check_digest(path, file_digest(data), record.files[name], FOLD_RESULT)
        return data

    def state(self, record: RunRecord, fold: int) -> "FoldState | None":
        """Where an unfinished fold stopped; None where it is to begin.

        Raises:
            CheckpointError: It is damaged, or of another store or config.
        """
        from trainer.records.state import check_is_of, load_state

        path = self.path / STATE
        if not path.exists():
            return None
        state = load_state(path)
        for checkpoint in filter(None, (state.last, state.best)):
            check_is_of(path, checkpoint, record, fold)
        return state

    def checkpoint(self, which: CheckpointName, record: FoldRecord | None) -> "Checkpoint":
        """A network of a finished fold.

        Raises:
            CheckpointError: It is missing or damaged, or not what the record vouches for.
        """
        from trainer.records.checkpoint import load_checkpoint

        path, wanted = self.network(which), None
        if record is not None and record.sha256 is not None:
            wanted = record.files.get(path.name, "nothing")
        return load_checkpoint(path, wanted)

    def write_state(self, state: "FoldState") -> None:
        """Write state.pt."""
        from trainer.records.state import save_state

        save_state(self.path / STATE, state)

    def write_networks(self, state: "FoldState") -> None:
        """Write best.pt, where there is a best one, and last.pt."""
        from trainer.records.checkpoint import save_checkpoint

        for which, checkpoint in ((BEST, state.best), (LAST, state.last)):
            if checkpoint is not None:
                path = self.network(which)
                self._written[path.name] = save_checkpoint(path, checkpoint)

    def write_outputs(self, which: str, outputs: Outputs) -> None:
        """Write best.csv or last.csv."""
        self._write(self.outputs(which), outputs_bytes(outputs))

    def write_metrics(self, epochs: Iterable[EpochMetrics]) -> None:
        """Make metrics.csv anew, of these rows; it survives a power cut."""
        self._write(self.path / METRICS, metrics_bytes(epochs))

    def _write(self, path: Path, data: bytes) -> None:
        replace_file(path, data)
        self._written[path.name] = file_digest(data)

    def finish(self, result: FoldResult, record_sha256: str | None = None) -> FoldRecord:
        """Write fold.json, which marks the fold as finished, and drop what is needed no more.

        It vouches for what this object has written.

        Args:
            result: Of the fold.
            record_sha256: Digest of the run.json that was carried out.
        """
        known = FoldRecord.model_validate(result.model_dump())
        files = known.files | self._written
        record = known.model_copy(update={"files": files, "record_sha256": record_sha256})
        record = write_sealed(self.path / FOLD_RESULT, record)
        self.remove_debris()
        return record

    def epochs(self) -> tuple[EpochMetrics, ...]:
        """The rows of metrics.csv so far, without one that is being written.

        Raises:
            RunDirectoryError: It is damaged.
        """
        path = self.path / METRICS
        if not path.exists():
            return ()
        whole, newline, _ = self.read(METRICS, self.result(), MOST_TABLE_BYTES).rpartition(b"\n")
        return parse_metrics(path, whole + newline)

    def append(self, metrics: EpochMetrics) -> None:
        """Add a row to metrics.csv; the system has it when this returns."""
        append_file(self.path / METRICS, metrics_bytes([metrics], header=False))


class RunDirectory:
    """A run's directory, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fold(self, fold: int) -> FoldDirectory:
        """The directory of a fold."""
        return FoldDirectory(self.path / f"fold{fold}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training the whole run.

        Raises:
            featurestore.errors.BusyError: One does.
        """
        with _locked(self.path / RUN_LOCK):
            yield

    def record(self) -> RunRecord:
        """What the run was asked to do; its `sha256` is None in a run of an older version.

        Raises:
            RunDirectoryError: There is no run, or its record is damaged.
        """
        return self.record_and_digest()[0]

    def record_and_digest(self) -> tuple[RunRecord, str]:
        """The same, with the digest of what run.json says."""
        if not (self.path / RECORD).is_file():
            raise RunDirectoryError(f"{self.path}: is not a run, it has no {RECORD}")
        return read_sealed(self.path / RECORD, RunRecord)

    def result(self) -> RunResult | None:
        """What the run found, once it is finished.

        Raises:
            RunDirectoryError: The record is damaged.
        """
        path = self.path / RESULT
        return read_sealed(path, RunResult)[0] if path.exists() else None

    def create_record(self, record: RunRecord) -> None:
        """Write run.json, in a directory that is made where it is missing.

        Raises:
            RunDirectoryError: There is one already, or it cannot be written.
        """
        make_folder(self.path)
        if not create_file(self.path / RECORD, record_bytes(sealed(record))):
            raise taken(self.path)

    def write_record(self, record: RunRecord) -> None:
        """Write run.json in place of the one that is there."""
        make_folder(self.path)
        write_sealed(self.path / RECORD, record)

    def write_result(self, result: RunResult) -> RunResult:
        """Write result.json, which marks the run as finished; returns it as it was written."""
        return write_sealed(self.path / RESULT, result)

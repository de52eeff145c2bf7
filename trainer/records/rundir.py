"""The directory of a run: the only module that knows, writes and reads its files.

Files of the whole run are at the top; each fold's directory is self-contained, so that any process
may train a fold, and a finished fold is never modified. Every file is written atomically, and
compared with its digest when it is read: run.json, fold.json and result.json contain their own,
fold.json those of the fold's files, and result.json those of run.json and each fold.json.
`trainer.records.finished` checks their consistency.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.errors import BusyError
from featurestore.files import LockedError, create_file, is_temporary, locked, open_own
from featurestore.text import did_you_mean
from schemas import (
    CheckpointName,
    EpochMetrics,
    FoldRecord,
    FoldResult,
    RunConfig,
    RunRecord,
    RunResult,
)
from trainer import safefiles
from trainer.errors import RunDirectoryError
from trainer.records.tables import ClipPredictions, metrics_bytes, parse_metrics, predictions_bytes

if TYPE_CHECKING:
    from trainer.records.checkpoint import Checkpoint, FoldState

RECORD, RESULT = "run.json", "result.json"
RUN_LOCK = "run.lock"
UNVOUCHED = (
    "was written by an older version, which kept no digests: damage to its files may go unseen"
)


def default_out(config: RunConfig) -> Path:
    """Return the default directory of a run."""
    return Path("runs") / f"{config.dataset}-{config.method}-seed{config.seed}"


def check_free(path: Path) -> None:
    """Check that a new run may use a path.

    Raises:
        RunDirectoryError: It contains a run, or is not a directory.
    """
    if path.exists() and not path.is_dir():
        raise RunDirectoryError(f"{path}: is not a directory; give another --out")
    for name in (RECORD, RESULT):
        if (path / name).exists():
            raise taken(path, name)


def taken(path: Path, name: str = RECORD) -> RunDirectoryError:
    """Return the error for a directory with a run; names the process that trains it, if any."""
    try:
        with held(path / RUN_LOCK):
            finish = f", resume it by --resume {path}" if name == RECORD else ""
    except BusyError as error:
        return RunDirectoryError(f"{error}, or give another --out")
    except RunDirectoryError:
        finish = ""
    return RunDirectoryError(
        f"{path}: already holds a run ({name}); give another --out{finish}, or remove it first"
    )


_MOST_LOOKED_AT = 1000
"""Maximum number of directories among which a mistyped one is looked for."""


def no_run(path: Path) -> str:
    """Return why there is no run at a path, in a line: there is no directory, or another one."""
    if path.is_dir():
        return f"{path}: is not a run, it has no {RECORD}"
    try:
        beside = islice(path.parent.iterdir(), _MOST_LOOKED_AT)
        names = [one.name for one in beside if (one / RECORD).is_file()]
    except OSError:
        names = []
    advice = f"give the directory that `trainer run` wrote{did_you_mean(path.name, names)}"
    return f"{path}: no such directory; {advice}"


METRICS, FOLD_RESULT, STATE = "metrics.csv", "fold.json", "state.pt"
BEST, LAST = "best", "last"
LOCK = "build.lock"
MOST_TABLE_BYTES = 1 << 30


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock at a path.

    Raises:
        featurestore.errors.BusyError: Another process holds the lock.
        RunDirectoryError: The lock cannot be created.
    """
    with ExitStack() as lock:
        with safefiles.writing(path):
            try:
                lock.enter_context(locked(path))
            except LockedError as error:
                raise BusyError(
                    f"{path.parent} is being trained, {error.strerror}: wait for it to end, or "
                    "stop it"
                ) from error
        yield


def _recorded(record: FoldRecord | None, name: str) -> str | None:
    """Return a file's digest by its fold's record, as `check_digest` takes it."""
    if record is None or record.sha256 is None:
        return None
    return record.files.get(name, "")


class FoldDirectory:
    """The directory of one held-out fold, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: dict[str, str] = {}

    def network(self, which: str) -> Path:
        """Return the path of the best or last network."""
        return self.path / f"{which}.pt"

    def predictions(self, which: str) -> Path:
        """Return the path of a network's predictions on the held-out fold."""
        return self.path / f"{which}.csv"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the fold against training by other processes; its directory is created.

        Raises:
            featurestore.errors.BusyError: Another process trains it.
            RunDirectoryError: The directory cannot be created, or is a symbolic link to elsewhere.
        """
        safefiles.refuse_link(self.path)
        safefiles.make_folder(self.path)
        with held(self.path / LOCK):
            yield

    def remove_partial(self) -> None:
        """Delete partial files of killed writers, and the state of a finished fold.

        The caller must hold the lock.
        """
        for aside in self.path.glob(".*"):
            if is_temporary(aside.name) or aside.suffix == ".tmp":  # that of older versions
                aside.unlink(missing_ok=True)
        if (self.path / FOLD_RESULT).exists():
            (self.path / STATE).unlink(missing_ok=True)

    def result(self) -> FoldRecord | None:
        """Return the fold's result; None if it is unfinished.

        Raises:
            RunDirectoryError: The record is damaged.
        """
        path = self.path / FOLD_RESULT
        return safefiles.read_sealed(path, FoldRecord) if path.exists() else None

    def read(self, name: str, record: FoldRecord | None, max_bytes: int) -> bytes:
        """Read a file of a finished fold, and check that it has not changed since.

        Args:
            name: Name of the file.
            record: Record of the fold; None if an older version wrote none.
            max_bytes: Maximum size in bytes.

        Raises:
            RunDirectoryError: The file is missing, or differs from the record.
        """
        path = self.path / name
        data = safefiles.read_file(path, max_bytes)
        digest = safefiles.file_digest(data)
        safefiles.check_digest(path, digest, _recorded(record, name), FOLD_RESULT)
        return data

    def state(self, record: RunRecord, fold: int) -> "FoldState | None":
        """Return the saved state of an unfinished fold; None if there is none.

        Raises:
            CheckpointError: The state is damaged, or of another store or config.
        """
        from trainer.records.checkpoint import check_is_of, load_state

        path = self.path / STATE
        if not path.exists():
            return None
        state = load_state(path)
        for checkpoint in filter(None, (state.last, state.best, state.carried)):
            check_is_of(path, checkpoint, record, fold)
        return state

    def checkpoint(self, which: CheckpointName, record: FoldRecord | None) -> "Checkpoint":
        """Return a network of a finished fold.

        Raises:
            CheckpointError: The file is missing, damaged, or differs from the record.
        """
        from trainer.records.checkpoint import load_checkpoint

        path = self.network(which)
        return load_checkpoint(path, _recorded(record, path.name))

    def write_state(self, state: "FoldState") -> None:
        """Write state.pt."""
        from trainer.records.checkpoint import save_state

        save_state(self.path / STATE, state)

    def write_networks(self, state: "FoldState") -> None:
        """Write best.pt, if there is a best one, and last.pt."""
        from trainer.records.checkpoint import save_checkpoint

        for which, checkpoint in ((BEST, state.best), (LAST, state.last)):
            if checkpoint is not None:
                path = self.network(which)
                self._written[path.name] = save_checkpoint(path, checkpoint)

    def write_predictions(self, which: str, predictions: ClipPredictions) -> None:
        """Write best.csv or last.csv."""
        self._write(self.predictions(which), predictions_bytes(predictions))

    def write_metrics(self, epochs: Iterable[EpochMetrics]) -> None:
        """Rewrite metrics.csv with these rows, durably."""
        self._write(self.path / METRICS, metrics_bytes(epochs))

    def _write(self, path: Path, data: bytes) -> None:
        safefiles.replace_file(path, data)
        self._written[path.name] = safefiles.file_digest(data)

    def finish(self, result: FoldResult, record_sha256: str | None = None) -> FoldRecord:
        """Write fold.json, which marks the fold as finished, and remove its state.

        It has the digests of the files written by this object.

        Args:
            result: Result of the fold.
            record_sha256: Digest of the run.json from which the fold was trained.
        """
        known = FoldRecord.model_validate(result.model_dump())
        files = known.files | self._written
        record = known.model_copy(update={"files": files, "record_sha256": record_sha256})
        record = safefiles.write_sealed(self.path / FOLD_RESULT, record)
        self.remove_partial()
        return record

    def epochs(self) -> tuple[EpochMetrics, ...]:
        """Return the complete rows of metrics.csv.

        Raises:
            RunDirectoryError: The file is damaged.
        """
        path = self.path / METRICS
        if not path.exists():
            return ()
        whole, newline, _ = self.read(METRICS, self.result(), MOST_TABLE_BYTES).rpartition(b"\n")
        return parse_metrics(path, whole + newline)

    def append(self, metrics: EpochMetrics) -> None:
        """Append a row to metrics.csv; it survives a killed process once this returns."""
        path = self.path / METRICS
        with safefiles.writing(path), os.fdopen(open_own(path), "ab") as file:
            file.write(metrics_bytes([metrics], header=False))


class RunDirectory:
    """The directory of a run, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def started(self) -> bool:
        """Whether a run was started in it, which can be resumed."""
        return (self.path / RECORD).is_file()

    def fold(self, fold: int) -> FoldDirectory:
        """Return the directory of a fold."""
        return FoldDirectory(self.path / f"fold{fold}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the whole run against training by other processes.

        Raises:
            featurestore.errors.BusyError: One does.
        """
        with held(self.path / RUN_LOCK):
            yield

    def record(self) -> RunRecord:
        """Return the run's config and environment; `sha256` is None for a run of an older version.

        Raises:
            RunDirectoryError: There is no run, or its record is damaged.
        """
        if not self.started:
            raise RunDirectoryError(no_run(self.path))
        return safefiles.read_sealed(self.path / RECORD, RunRecord)

    def digested_record(self) -> RunRecord:
        """Return the run's record with the digest of run.json, whichever version wrote it."""
        record = self.record()
        digest = safefiles.digest_of(self.path / RECORD, record)
        return record.model_copy(update={"sha256": digest})

    def result(self) -> RunResult | None:
        """Return the run's result; None if it is unfinished.

        Raises:
            RunDirectoryError: The record is damaged.
        """
        path = self.path / RESULT
        return safefiles.read_sealed(path, RunResult) if path.exists() else None

    def create_record(self, record: RunRecord) -> None:
        """Write run.json; its directory is created if missing.

        Raises:
            RunDirectoryError: It exists already, or cannot be written.
        """
        safefiles.make_folder(self.path)
        path, data = self.path / RECORD, safefiles.record_bytes(safefiles.sealed(record))
        with safefiles.writing(path):
            is_new = create_file(path, data)
        if not is_new:
            raise taken(self.path)

    def write_result(self, result: RunResult) -> RunResult:
        """Write result.json, which marks the run as finished; returns it as written."""
        return safefiles.write_sealed(self.path / RESULT, result)

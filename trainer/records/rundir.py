"""A run's directory: the one place that knows its files, writes them and reads them back.

What belongs to all folds lies at the top; each fold's directory is complete in itself, so that any
process may train a fold, and one that is finished is never touched again. Every file is whole at
any moment, and is compared with its digest when it is read: run.json, fold.json and result.json
carry their own, fold.json has those of the fold's files, result.json those of run.json and each
fold.json. Whether what they say fits together is for `trainer.records.finished`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.errors import BusyError
from schemas import (
    RunConfig,
    RunRecord,
    RunResult,
)
from trainer.errors import RunDirectoryError
from trainer.files import create_file, make_folder, record_bytes
from trainer.records.folddir import FoldDirectory, held
from trainer.records.sealing import (
    read_sealed,
    sealed,
    write_sealed,
)

if TYPE_CHECKING:  # a report is written without torch, which takes seconds to load
    pass

RECORD, RESULT = "run.json", "result.json"
RUN_LOCK = "run.lock"
UNVOUCHED = (
    "was written by an older version, which kept no digests: damage to its files may go unseen"
)


def default_out(config: RunConfig) -> Path:
    """Return the default directory of a run."""
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
    """Return the error for a directory that holds a run; it names who trains it, if anybody."""
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


class RunDirectory:
    """A run's directory, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fold(self, fold: int) -> FoldDirectory:
        """Return the directory of a fold."""
        return FoldDirectory(self.path / f"fold{fold}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training the whole run.

        Raises:
            featurestore.errors.BusyError: One does.
        """
        with held(self.path / RUN_LOCK):
            yield

    def record(self) -> RunRecord:
        """Return the run's config and environment; `sha256` is None in a run of an older version.

        Raises:
            RunDirectoryError: There is no run, or its record is damaged.
        """
        return self.record_and_digest()[0]

    def record_and_digest(self) -> tuple[RunRecord, str]:
        """Return the run's record with the digest of run.json."""
        if not (self.path / RECORD).is_file():
            raise RunDirectoryError(f"{self.path}: is not a run, it has no {RECORD}")
        return read_sealed(self.path / RECORD, RunRecord)

    def result(self) -> RunResult | None:
        """Return the run's result, once it is finished.

        Raises:
            RunDirectoryError: The record is damaged.
        """
        path = self.path / RESULT
        return read_sealed(path, RunResult)[0] if path.exists() else None

    def create_record(self, record: RunRecord) -> None:
        """Write run.json, in a directory that is created if it is missing.

        Raises:
            RunDirectoryError: There is one already, or it cannot be written.
        """
        make_folder(self.path)
        if not create_file(self.path / RECORD, record_bytes(sealed(record))):
            raise taken(self.path)

    def write_record(self, record: RunRecord) -> None:
        """Replace run.json."""
        make_folder(self.path)
        write_sealed(self.path / RECORD, record)

    def write_result(self, result: RunResult) -> RunResult:
        """Write result.json, which marks the run as finished; returns it as it was written."""
        return write_sealed(self.path / RESULT, result)

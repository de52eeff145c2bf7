"""A finished run, read back: for reports, comparisons, and whoever asks its networks.

Nothing of it is believed unseen: each file is compared with its digest, and with what others say
of it. Whatever does not fit is a TrainedRunError, or a CheckpointError of a network.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from schemas import (
    NOT_COMPARABLE,
    CheckpointName,
    EpochMetrics,
    FoldRecord,
    FoldResult,
    RunConfig,
    RunRecord,
    RunResult,
)
from trainer.errors import CheckpointError, RunDirectoryError, TrainedRunError
from trainer.records.rundir import (
    FOLD_RESULT,
    METRICS,
    MOST_TABLE_BYTES,
    RECORD,
    RESULT,
    UNVOUCHED,
    FoldDirectory,
    RunDirectory,
)
from trainer.records.tables import ClipPredictions, parse_metrics, parse_predictions
from trainer.safefiles import RESTORE, check_digest
from trainer.selection import RULES, reported_epoch

if TYPE_CHECKING:
    from trainer.records.checkpoint import Checkpoint


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Args:
        path: Its directory.
        record: Its run.json.
        result: Its result.json; every fold once, with the accuracies that its selection gives.
        folders: The fold.json of each fold; None if result.json is of an older version.
    """

    path: Path
    record: RunRecord
    result: RunResult
    folders: dict[int, FoldRecord | None]

    @property
    def config(self) -> RunConfig:
        """The config of the run."""
        return self.record.config

    @property
    def partial(self) -> tuple[str, ...]:
        """Words that say that it was trained on a part of a published dataset; none if not."""
        return tuple(text for text in self.result.warnings if text.endswith(NOT_COMPARABLE))

    @property
    def folds(self) -> tuple[int, ...]:
        """Held-out folds, ascending."""
        return tuple(sorted(self.config.folds))

    @property
    def checkpoints(self) -> tuple[CheckpointName, ...]:
        """Networks evaluated on the held-out folds; the one that counts first."""
        return RULES[self.config.selection].checkpoints

    @property
    def warning(self) -> str | None:
        """A warning if its files have no digests."""
        sealed = all(folder and folder.sha256 for folder in self.folders.values())
        return None if sealed else f"{self.path}: {UNVOUCHED}"

    def chosen(self, asked: Sequence[int]) -> tuple[int, ...]:
        """Return the folds asked for, each once; all if none is.

        Raises:
            TrainedRunError: The run did not hold one of them out.
        """
        for fold in asked:
            if fold not in self.config.folds:
                listed = ", ".join(map(str, self.config.folds))
                raise TrainedRunError(
                    f"{self.path}: no network held out fold {fold}; there are those of: {listed}"
                )
        return tuple(dict.fromkeys(asked)) or self.config.folds

    def predictions(self, fold: int, checkpoint: CheckpointName) -> ClipPredictions:
        """Return a network's predictions on its held-out fold.

        Raises:
            TrainedRunError: The table is absent, damaged, or not what the result says.
        """
        outcome, directory = self._outcome(fold), self._directory(fold)
        path = directory.predictions(checkpoint)
        with _explained():
            data = directory.read(path.name, self.folders[fold], MOST_TABLE_BYTES)
            predictions = parse_predictions(path, data)
        problems = prediction_problems(predictions, outcome, checkpoint, self.record.class_names)
        _refuse(path, problems)
        return predictions

    def epochs(self, fold: int) -> tuple[EpochMetrics, ...]:
        """Return the rows of a fold's metrics.csv.

        Raises:
            TrainedRunError: It is absent or damaged, or is not about every epoch of this fold.
        """
        directory = self._directory(fold)
        path = directory.path / METRICS
        with _explained():
            data = directory.read(METRICS, self.folders[fold], MOST_TABLE_BYTES)
            rows = parse_metrics(path, data)
        _refuse(path, metrics_problems(rows, self._outcome(fold), self.config))
        return rows

    def checkpoint(self, fold: int, name: CheckpointName) -> "Checkpoint":
        """Return a network that the run kept of a fold.

        Raises:
            CheckpointError: It is absent, damaged, or of another run, fold or epoch.
        """
        from trainer.records.checkpoint import check_is_of

        directory = self._directory(fold)
        path = directory.network(name)
        found = directory.checkpoint(name, self.folders[fold])
        check_is_of(path, found, self.record, fold)
        problems = list(schedule_problems(found.stage, found.epoch, found.array, self.config))
        if found.epoch != (wanted := epoch_of(self._outcome(fold), name)):
            problems.append(f"is of epoch {found.epoch}, {RESULT} says {wanted}")
        if problems:
            raise CheckpointError(f"{path}: {problems[0]}; {RESTORE}")
        return found

    def verify(self, networks: bool = True) -> None:
        """Compare the files of the run with their digests, and with what the others say.

        Args:
            networks: Whether those, too, which take a tenth of a second each.

        Raises:
            TrainedRunError, CheckpointError: One is damaged, absent, or does not fit.
        """
        kept: tuple[CheckpointName, ...] = ("best", "last")
        for fold in self.folds:
            self.epochs(fold)
            for name in self.checkpoints:
                self.predictions(fold, name)
            for name in kept if networks else ():
                if name == "last" or self.config.selection != "last":
                    self.checkpoint(fold, name)

    def _directory(self, fold: int) -> FoldDirectory:
        return RunDirectory(self.path).fold(fold)

    def _outcome(self, fold: int) -> FoldResult:
        return next(one for one in self.result.folds if one.fold == fold)


def open_finished(path: Path) -> FinishedRun:
    """Read a finished run's records.

    Raises:
        TrainedRunError: The directory is not a run, or the run is unfinished or damaged.
    """
    if not path.is_dir():
        raise TrainedRunError(
            f"{path}: no such directory; give the directories that `trainer run` wrote"
        )
    if not (path / RESULT).is_file():
        raise TrainedRunError(_why_no_result(path))
    directory = RunDirectory(path)
    with _explained():
        record, digest = directory.record_and_digest()
        result = directory.result()
    assert result is not None, "it is there"  # noqa: S101
    return check_finished(directory, record, digest, result)


def check_finished(
    directory: RunDirectory, record: RunRecord, digest: str, result: RunResult
) -> FinishedRun:
    """Compare the records of a run with one another.

    Args:
        directory: The run's.
        record: Its run.json.
        digest: Digest of what run.json says.
        result: Its result.json, or what is to become it.

    Raises:
        TrainedRunError: They do not fit together, or a fold.json is missing or damaged.
    """
    with _explained():
        check_digest(directory.path / RECORD, digest, result.digests.get(RECORD), RESULT)
    _refuse(directory.path / RESULT, result_problems(result, record))
    for outcome in result.folds:
        _refuse(directory.path / RESULT, fold_problems(outcome, record.config))
    with _explained():
        folders = {one.fold: _fold_record(directory, result, one, digest) for one in result.folds}
    return FinishedRun(directory.path, record, result, folders)


def _fold_record(
    directory: RunDirectory, result: RunResult, outcome: FoldResult, record_digest: str
) -> FoldRecord | None:
    """Return a fold's own record, which the result repeats; None if the result has no digests."""
    folder = directory.fold(outcome.fold)
    path = folder.path / FOLD_RESULT
    found = folder.result_and_digest()
    if result.sha256 is None:
        if found and found[0].sha256:
            raise RunDirectoryError(f"{directory.path / RESULT}: has lost its digest; {RESTORE}")
        return None
    if found is None:
        raise RunDirectoryError(f"{path}: is missing; {RESTORE}")
    record, digest = found
    name = str(path.relative_to(directory.path))
    check_digest(path, digest, result.digests.get(name, "nothing"), RESULT)
    check_digest(directory.path / RECORD, record_digest, record.record_sha256, name)
    if plain(record) != outcome:
        raise RunDirectoryError(f"{path}: is not what {RESULT} says of the fold; {RESTORE}")
    return record


def plain(record: FoldResult) -> FoldResult:
    """Return a fold's result without digests."""
    return FoldResult.model_validate(record.model_dump(include=set(FoldResult.model_fields)))


def _why_no_result(path: Path) -> str:
    if (path / RECORD).is_file():
        return f"{path}: the run is unfinished, it has no {RESULT}; finish it, or leave it out"
    inside = sorted(child.parent for child in path.glob(f"*/{RESULT}"))
    if inside:
        return f"{path}: is not a run but holds {len(inside)}: give them, such as {inside[0]}"
    return f"{path}: is not a run, it has neither {RECORD} nor {RESULT}"


def _refuse(path: Path, problems: Iterator[str]) -> None:
    for problem in problems:
        raise TrainedRunError(f"{path}: is damaged or was changed: {problem}; {RESTORE}")


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except RunDirectoryError as error:
        raise TrainedRunError(str(error)) from error


_ALIKE = ("config", "fingerprint", "init_used", "versions", "device_name")
"""Fields that run.json and result.json share."""


def accuracy_of(fold: FoldResult, checkpoint: CheckpointName) -> float | None:
    """Return a network's held-out accuracy, in [0, 1]; None if it was not evaluated there."""
    return fold.best_accuracy if checkpoint == "best" else fold.last_accuracy


def epoch_of(fold: FoldResult, checkpoint: CheckpointName) -> int | None:
    """Return the epoch, from 1, of a network."""
    return fold.best_epoch if checkpoint == "best" else fold.last_epoch


def result_problems(result: RunResult, record: RunRecord) -> Iterator[str]:
    """Yield the contradictions between result.json and run.json."""
    for name in _ALIKE:
        if getattr(result, name) != getattr(record, name):
            yield f"its {name} is not that of run.json"
    folds = tuple(fold.fold for fold in result.folds)
    if folds != record.config.folds:
        listed = ", ".join(map(str, folds)) or "none"
        wanted = ", ".join(map(str, record.config.folds)) or "none"
        yield f"expected each fold once, {wanted}; found folds: {listed}"


def fold_problems(fold: FoldResult, config: RunConfig) -> Iterator[str]:
    """Yield what a fold's outcome cannot be under a config."""
    where, selection = f"fold {fold.fold}", config.selection
    given = {"best": fold.best_accuracy, "last": fold.last_accuracy}
    for name, accuracy in given.items():
        if accuracy is None and name in RULES[selection].checkpoints:
            yield f"{where} has no {name}_accuracy, which selection {selection} gives"
        if accuracy is not None and name not in RULES[selection].checkpoints:
            yield f"{where} has a {name}_accuracy, which selection {selection} does not give"
    num_epochs = sum(stage.epochs for stage in config.stages)
    if fold.last_epoch != num_epochs:
        yield f"{where} ends with epoch {fold.last_epoch}, the schedule has {num_epochs}"
    picks = selection != "last"
    if picks != (fold.best_epoch is not None) or not 1 <= (fold.best_epoch or 1) <= num_epochs:
        yield f"{where} cannot have {fold.best_epoch} as its best epoch"
    validates = selection == "validation"
    if validates != (fold.valid_accuracy is not None) or validates != (fold.num_valid > 0):
        yield f"{where}: a validation part goes with selection validation, this is {selection}"
    if fold.num_test < 1 or fold.num_train < 1:
        yield f"{where} has no clips"


def metrics_problems(
    rows: Sequence[EpochMetrics], fold: FoldResult, config: RunConfig
) -> Iterator[str]:
    """Yield the contradictions between metrics.csv and the schedule, or the fold's outcome."""
    if [(row.fold, row.epoch) for row in rows] != [
        (fold.fold, epoch) for epoch in range(1, fold.last_epoch + 1)
    ]:
        yield f"expected the epochs 1 to {fold.last_epoch} of fold {fold.fold}, each once"
        return
    for row in rows:
        yield from schedule_problems(row.stage, row.epoch, row.array, config)
        if row.max_lr != config.stages[row.stage - 1].max_lr:
            yield f"epoch {row.epoch} has max_lr {row.max_lr:g}, its stage another"
    if (picked := reported_epoch(rows, config)) is None:
        return
    if fold.best_epoch != picked.epoch:
        yield f"its best epoch is {picked.epoch}, the fold's outcome says {fold.best_epoch}"
    if fold.best_array not in (None, picked.array):
        yield f"its best epoch is of {picked.array}, the fold's outcome says {fold.best_array}"
    if fold.valid_accuracy not in (None, picked.valid_accuracy):
        yield "its best accuracy is not the fold's valid_accuracy"


def schedule_problems(stage: int, epoch: int, array: str, config: RunConfig) -> Iterator[str]:
    """Yield the contradictions between an epoch and the schedule."""
    stops = list(accumulate(stage.epochs for stage in config.stages))
    number = next((n for n, stop in enumerate(stops, start=1) if epoch <= stop), 0)
    if stage != number or epoch < 1:
        yield f"epoch {epoch} is said to be of stage {stage}, the schedule has it in {number}"
        return
    of = config.stages[stage - 1]
    if array not in (of.array, of.alternate):
        yield f"epoch {epoch} is said to be of array {array}, its stage has {of.array}"


def prediction_problems(
    predictions: ClipPredictions,
    fold: FoldResult,
    checkpoint: CheckpointName,
    class_names: Sequence[str],
) -> Iterator[str]:
    """Yield the contradictions between a network's predictions, the fold's outcome, and the run."""
    if len(predictions.labels) != fold.num_test:
        yield f"has {len(predictions.labels)} clips, result.json says {fold.num_test}"
    elif predictions.accuracy != accuracy_of(fold, checkpoint):
        yield (
            f"its accuracy is {predictions.accuracy:.6g}, result.json says "
            f"{accuracy_of(fold, checkpoint)}"
        )
    if predictions.class_names != tuple(class_names):
        yield "its classes are not those of run.json"

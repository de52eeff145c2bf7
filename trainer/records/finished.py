"""Finished runs, read for reports, comparisons and predictions.

Each file is compared with its digest and checked for consistency with the others. Any mismatch is a
TrainedRunError, or a CheckpointError for a network.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from featurestore.arguments import typed, typed_methods
from featurestore.errors import MissingLibraryError
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
    no_run,
)
from trainer.records.tables import ClipPredictions, parse_metrics, parse_predictions
from trainer.safefiles import RESTORE, check_digest, digest_of
from trainer.selection import RULES, SCORE_NAMES, reported_epoch
from trainer.stats import mean, sample_std

if TYPE_CHECKING:
    import pandas as pd

    from trainer.records.checkpoint import Checkpoint


@typed_methods
@dataclass(frozen=True, repr=False)
class FinishedRun:
    """A finished run, returned by `train`, `resume` and `open_finished`.

    Attributes:
        path: Directory of the run.
        record: Content of run.json.
        result: Content of result.json: every fold once, with the accuracies of its selection.
        folders: Content of fold.json by fold; None if result.json is from an older version.
    """

    path: Path
    record: RunRecord
    result: RunResult
    folders: dict[int, FoldRecord | None]

    def __repr__(self) -> str:
        std = "" if self.std is None else f" ± {self.std:.4f}"
        return (
            f"<FinishedRun {self.path}: {self.config.method} on {self.config.dataset}, "
            f"{SCORE_NAMES[self.config.task]} {self.mean:.4f}{std}, folds: {len(self.folds)}>"
        )

    @property
    def accuracies(self) -> dict[int, float]:
        """Accuracy (or mAP) by held-out fold, in [0, 1], of the reported network.

        This is the network of the best epoch or, with `selection="last"`, of the last. With
        `selection="heldout"`, as in the paper, the best epoch is picked on the held-out fold
        itself, so its accuracy is optimistic.
        """
        known = {fold.fold: score_of(fold, self.checkpoints[0]) for fold in self.result.folds}
        return {fold: value for fold, value in sorted(known.items()) if value is not None}

    @property
    def mean(self) -> float:
        """Mean of `accuracies`."""
        return mean(list(self.accuracies.values()))

    @property
    def std(self) -> float | None:
        """Sample standard deviation of `accuracies`; None for a single fold."""
        return sample_std(list(self.accuracies.values()))

    def to_pandas(self) -> "pd.DataFrame":
        """Return the metrics of all epochs of all folds, with the fields of `schemas.EpochMetrics`.

        Raises:
            featurestore.errors.MissingLibraryError: pandas is not installed.
            TrainedRunError: A table is missing or damaged.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingLibraryError(
                "this needs pandas, which is not installed: pip install 'featurestore[analysis]'"
            ) from error
        rows = [row.model_dump() for fold in self.folds for row in self.epochs(fold)]
        return pd.DataFrame(rows, columns=list(EpochMetrics.model_fields))

    @property
    def config(self) -> RunConfig:
        """The config of the run."""
        return self.record.config

    @property
    def partial(self) -> tuple[str, ...]:
        """Phrase saying that it was trained on a part of a published dataset; empty if not."""
        return tuple(text for text in self.result.warnings if text.endswith(NOT_COMPARABLE))

    @property
    def folds(self) -> tuple[int, ...]:
        """Held-out folds, ascending."""
        return tuple(sorted(self.config.folds))

    @property
    def checkpoints(self) -> tuple[CheckpointName, ...]:
        """Networks evaluated on the held-out folds, the reported one first."""
        return RULES[self.config.selection].checkpoints

    @property
    def warning(self) -> str | None:
        """Warning if its files have no digests, else None."""
        sealed = all(folder and folder.sha256 for folder in self.folders.values())
        return None if sealed else f"{self.path}: {UNVOUCHED}"

    def chosen(self, folds: Sequence[int]) -> tuple[int, ...]:
        """Return the given folds, each once, or all if none is given.

        Raises:
            TrainedRunError: The run did not hold out one of them.
        """
        for fold in folds:
            if fold not in self.config.folds:
                listed = ", ".join(map(str, self.config.folds))
                raise TrainedRunError(
                    f"{self.path}: no network held out fold {fold}; there are those of: {listed}"
                )
        return tuple(dict.fromkeys(folds)) or self.config.folds

    def predictions(self, fold: int, checkpoint: CheckpointName) -> ClipPredictions:
        """Return a network's predictions on its held-out fold.

        Raises:
            TrainedRunError: The table is missing, damaged, or contradicts the result.
        """
        directory = self._directory(fold)
        path = directory.predictions(checkpoint)
        data = directory.read(path.name, self.folders[fold], MOST_TABLE_BYTES)
        predictions = parse_predictions(path, data)
        names = self.record.class_names
        _refuse(path, _of_predictions(predictions, self._outcome(fold), checkpoint, names))
        return predictions

    def epochs(self, fold: int) -> tuple[EpochMetrics, ...]:
        """Return the metrics of a fold's epochs from metrics.csv.

        Raises:
            TrainedRunError: The file is missing or damaged, or lacks epochs of this fold.
        """
        directory = self._directory(fold)
        path = directory.path / METRICS
        rows = parse_metrics(path, directory.read(METRICS, self.folders[fold], MOST_TABLE_BYTES))
        _refuse(path, _of_metrics(rows, self._outcome(fold), self.config))
        return rows

    def checkpoint(self, fold: int, name: CheckpointName) -> "Checkpoint":
        """Return a network of a fold.

        Raises:
            CheckpointError: The file is missing, damaged, or of another run, fold or epoch.
        """
        from trainer.records.checkpoint import check_is_of

        directory = self._directory(fold)
        path = directory.network(name)
        checkpoint = directory.checkpoint(name, self.folders[fold])
        check_is_of(path, checkpoint, self.record, fold)
        expected = epoch_of(self._outcome(fold), name)
        if checkpoint.epoch != expected or not _is_scheduled(checkpoint, self.config):
            raise CheckpointError(
                f"{path}: is of epoch {checkpoint.epoch}, stage {checkpoint.stage}, "
                f"{checkpoint.array}; {RESULT} says epoch {expected}; {RESTORE}"
            )
        return checkpoint

    def verify(self, networks: bool = True) -> None:
        """Compare the files of the run with their digests and with each other.

        Args:
            networks: Whether to check the networks, too, which takes 0.1 s each.

        Raises:
            TrainedRunError, CheckpointError: A file is missing, damaged, or contradicts another.
        """
        for fold in self.folds:
            self.epochs(fold)
            for name in self.checkpoints:
                self.predictions(fold, name)
            for name in get_args(CheckpointName) if networks else ():
                if name == "last" or self.config.selection != "last":
                    self.checkpoint(fold, name)

    def _directory(self, fold: int) -> FoldDirectory:
        return RunDirectory(self.path).fold(fold)

    def _outcome(self, fold: int) -> FoldResult:
        return next(one for one in self.result.folds if one.fold == fold)


@typed
def open_finished(path: Path | str) -> FinishedRun:
    """Read a finished run's records.

    Args:
        path: Directory of the run.

    Raises:
        TrainedRunError: The directory is not a run, or the run is unfinished or damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise TrainedRunError(no_run(path))
    if not (path / RESULT).is_file():
        raise TrainedRunError(_why_no_result(path))
    directory = RunDirectory(path)
    record, result = directory.digested_record(), directory.result()
    assert result is not None, "it is there"  # noqa: S101
    return check_finished(directory, record, result)


def check_finished(directory: RunDirectory, record: RunRecord, result: RunResult) -> FinishedRun:
    """Check the records of a run for consistency.

    Args:
        directory: Directory of the run.
        record: Content of run.json, with its digest.
        result: Content of result.json, or what is about to be written there.

    Raises:
        TrainedRunError: They contradict each other, or a fold.json is missing or damaged.
    """
    digest = str(record.sha256)
    check_digest(directory.path / RECORD, digest, result.digests.get(RECORD), RESULT)
    _refuse(directory.path / RESULT, _of_result(result, record))
    folders = {one.fold: _fold_record(directory, result, one, digest) for one in result.folds}
    return FinishedRun(directory.path, record, result, folders)


def _fold_record(
    directory: RunDirectory, result: RunResult, outcome: FoldResult, record_digest: str
) -> FoldRecord | None:
    """Return a fold's own record, which the result repeats; None if the result has no digests."""
    folder = directory.fold(outcome.fold)
    path = folder.path / FOLD_RESULT
    record = folder.result()
    if result.sha256 is None:
        if record and record.sha256:
            raise RunDirectoryError(f"{directory.path / RESULT}: has lost its digest; {RESTORE}")
        return None
    if record is None:
        raise RunDirectoryError(f"{path}: is missing; {RESTORE}")
    name = str(path.relative_to(directory.path))
    check_digest(path, digest_of(path, record), result.digests.get(name, ""), RESULT)
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


def _refuse(path: Path, facts: Iterator[tuple[object, str]]) -> None:
    """Refuse a file for the first of the facts that is true."""
    for is_wrong, what in facts:
        if is_wrong:
            raise TrainedRunError(f"{path}: is damaged or was changed: {what}; {RESTORE}")


_ROUNDING = 1e-12
"""Tolerance for equal scores: NumPy may add floats in another order on another machine."""
_ALIKE = ("config", "fingerprint", "init_used", "versions", "device_name")
"""Fields that run.json and result.json share."""
_OF_ONE = ("best_accuracy", "last_accuracy", "valid_accuracy")
_OF_SEVERAL = ("best_scores", "last_scores", "valid_map")


def score_of(fold: FoldResult, checkpoint: CheckpointName) -> float | None:
    """Return a network's accuracy or mean average precision on the held-out fold, in [0, 1].

    None if it was not evaluated there.
    """
    return fold.best_score if checkpoint == "best" else fold.last_score


def epoch_of(fold: FoldResult, checkpoint: CheckpointName) -> int | None:
    """Return the epoch of a network, from 1."""
    return fold.best_epoch if checkpoint == "best" else fold.last_epoch


def _of_result(result: RunResult, record: RunRecord) -> Iterator[tuple[object, str]]:
    """Yield what result.json cannot be, by run.json, each with whether it is that."""
    config = record.config
    selection, rule = config.selection, RULES[config.selection]
    for name in _ALIKE:
        yield getattr(result, name) != getattr(record, name), f"its {name} is not that of run.json"
    folds = tuple(fold.fold for fold in result.folds)
    listed = ", ".join(map(str, folds)) or "none"
    expected = ", ".join(map(str, config.folds))
    yield folds != config.folds, f"expected each fold once, {expected}; found folds: {listed}"
    num_epochs = sum(stage.epochs for stage in config.stages)
    other_task = _OF_ONE if config.task == "multilabel" else _OF_SEVERAL
    for fold in result.folds:
        where = f"fold {fold.fold}"
        of_other = [name for name in other_task if getattr(fold, name) is not None]
        yield of_other, f"{where} has scores of another task than {config.task}: {of_other}"
        scored = {name for name in get_args(CheckpointName) if score_of(fold, name) is not None}
        gives = " and ".join(rule.checkpoints)
        named = " and ".join(sorted(scored)) or "no"
        what = f"{where} has scores of the {named} network, selection {selection} of the {gives}"
        yield scored != set(rule.checkpoints), what
        last, best = fold.last_epoch, fold.best_epoch
        yield last != num_epochs, f"{where} ends with epoch {last}, the schedule has {num_epochs}"
        possible = (None,) if selection == "last" else range(1, num_epochs + 1)
        yield best not in possible, f"{where} cannot have {best} as its best epoch"
        parts = {fold.valid_score is not None, fold.num_valid > 0, selection == "validation"}
        yield len(parts) > 1, f"{where}: a validation part goes with selection validation"
        yield min(fold.num_train, fold.num_test) < 1, f"{where} has no clips"


def _of_metrics(
    rows: Sequence[EpochMetrics], fold: FoldResult, config: RunConfig
) -> Iterator[tuple[object, str]]:
    """Yield what metrics.csv cannot be, by the schedule and the fold's outcome."""
    expected = [(fold.fold, epoch) for epoch in range(1, fold.last_epoch + 1)]
    what = f"expected the epochs 1 to {fold.last_epoch} of fold {fold.fold}, each once"
    yield [(row.fold, row.epoch) for row in rows] != expected, what
    for row in rows:
        where = f"epoch {row.epoch} of stage {row.stage}"
        yield not _is_scheduled(row, config), f"{where}, {row.array}, is not in the schedule"
        rate = config.stages[row.stage - 1].max_lr
        yield row.max_lr != rate, f"{where} has max_lr {row.max_lr:g}, its stage {rate:g}"
    if picked := reported_epoch(rows, config):
        for name, of_fold, own in (
            ("epoch", fold.best_epoch, picked.epoch),
            ("array", fold.best_array or picked.array, picked.array),
            ("score", picked.score if fold.valid_score is None else fold.valid_score, picked.score),
        ):
            yield of_fold != own, f"the {name} of its best is {own}, the fold's outcome: {of_fold}"


def _is_scheduled(row: "EpochMetrics | Checkpoint", config: RunConfig) -> bool:
    """Return whether an epoch is of the stage, and of an array, that the schedule gives it."""
    stops = list(accumulate(stage.epochs for stage in config.stages))
    number = next((n for n, stop in enumerate(stops, start=1) if 1 <= row.epoch <= stop), 0)
    stage = config.stages[number - 1]
    return row.stage == number > 0 and row.array in (stage.array, stage.alternate)


def _of_predictions(
    predictions: ClipPredictions,
    fold: FoldResult,
    checkpoint: CheckpointName,
    class_names: Sequence[str],
) -> Iterator[tuple[object, str]]:
    """Yield what a network's predictions cannot be, by the fold's outcome and the run."""
    number, name = len(predictions.labels), "mAP" if predictions.multilabel else "accuracy"
    yield number != fold.num_test, f"has {number} clips, {RESULT} says {fold.num_test}"
    of_one = fold.best_scores is None and fold.last_scores is None
    yield predictions.multilabel == of_one, f"its labels are of another task than {RESULT} scores"
    own, recorded = predictions.score, score_of(fold, checkpoint)
    differs = abs(own - (recorded or 0.0)) > _ROUNDING
    yield differs, f"its {name} is {own:.6g}, {RESULT} says {recorded}"
    yield predictions.class_names != tuple(class_names), f"its classes are not those of {RECORD}"

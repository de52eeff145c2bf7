"""Contradictions between the files of a finished run, as sentences. Pure."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from schemas import CheckpointName, EpochMetrics, FoldResult, RunConfig, RunRecord, RunResult
from trainer.records.tables import ClipPredictions
from trainer.selection import RULES, reported_epoch

_OF_ONE = ("best_accuracy", "last_accuracy", "valid_accuracy")
_OF_SEVERAL = ("best_scores", "last_scores", "valid_map")
_ROUNDING = 1e-12
"""Difference of the same scores: NumPy may add floats in another order on another machine."""
_ALIKE = ("config", "fingerprint", "init_used", "versions", "device_name")
"""Fields that run.json and result.json share."""


def score_of(fold: FoldResult, checkpoint: CheckpointName) -> float | None:
    """Return a network's accuracy, or mean average precision, on the held-out fold, in [0, 1].

    None if it was not evaluated there.
    """
    return fold.best_score if checkpoint == "best" else fold.last_score


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
        expected = ", ".join(map(str, record.config.folds)) or "none"
        yield f"expected each fold once, {expected}; found folds: {listed}"


def fold_problems(fold: FoldResult, config: RunConfig) -> Iterator[str]:
    """Yield what a fold's outcome cannot be under a config."""
    where, selection = f"fold {fold.fold}", config.selection
    several = config.task == "multilabel"
    field = "scores" if several else "accuracy"
    for name in ("best", "last"):
        value = getattr(fold, f"{name}_{field}")
        if value is None and name in RULES[selection].checkpoints:
            yield f"{where} has no {name}_{field}, which selection {selection} gives"
        if value is not None and name not in RULES[selection].checkpoints:
            yield f"{where} has a {name}_{field}, which selection {selection} does not give"
    if any(getattr(fold, name) is not None for name in (_OF_ONE if several else _OF_SEVERAL)):
        yield f"{where} has scores of another task than {config.task}"
    num_epochs = sum(stage.epochs for stage in config.stages)
    if fold.last_epoch != num_epochs:
        yield f"{where} ends with epoch {fold.last_epoch}, the schedule has {num_epochs}"
    picks = selection != "last"
    if picks != (fold.best_epoch is not None) or not 1 <= (fold.best_epoch or 1) <= num_epochs:
        yield f"{where} cannot have {fold.best_epoch} as its best epoch"
    validates = selection == "validation"
    if validates != (fold.valid_score is not None) or validates != (fold.num_valid > 0):
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
    if fold.valid_score not in (None, picked.score):
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
    elif predictions.multilabel == (fold.best_scores is None and fold.last_scores is None):
        yield "its labels are of another task than result.json has scores of"
    elif abs(predictions.score - (score_of(fold, checkpoint) or 0.0)) > _ROUNDING:
        name = "mAP" if predictions.multilabel else "accuracy"
        yield (
            f"its {name} is {predictions.score:.6g}, result.json says {score_of(fold, checkpoint)}"
        )
    if predictions.class_names != tuple(class_names):
        yield "its classes are not those of run.json"

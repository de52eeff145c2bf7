"""Selections: rules for the reported epoch and for the start of the next stage, and wording.

Training applies the rules after each epoch, and readers of a finished run check it by them. Runs
that differ in selection, `carry` or `best_of` are never averaged, compared or drawn together.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import get_args

from schemas import (
    BestOf,
    Carry,
    CheckpointName,
    EpochMetrics,
    RunConfig,
    RunResult,
    Selection,
    Stage,
)
from schemas import Task as TaskName

OPTIMISTIC = (
    "the best epoch was picked on the held-out fold itself, so its score there is optimistic; "
    "--checkpoint last was not picked by it"
)
"""Warning with every score of the best network with selection `heldout`."""

SCORE_NAMES: dict[TaskName, str] = {"multiclass": "accuracy", "multilabel": "mAP"}
"""Names of the scores by which epochs and runs are compared; defined here as `task` needs torch."""


@dataclass(frozen=True)
class Rule:
    """Rule for choosing the reported networks.

    Args:
        checkpoints: Networks evaluated on the held-out fold, the reported one first.
        scores: Names of the accuracies of these networks in headings.
        picked_by: Phrase for headings and figures.
        watched: Name of the accuracy measured after each epoch.
        summary: Sentence below a run's result.
        note: Explanation of its scores in a report.
    """

    checkpoints: tuple[CheckpointName, ...]
    scores: tuple[str, ...]
    picked_by: str
    watched: str
    summary: str
    note: str


RULES: dict[Selection, Rule] = {
    "heldout": Rule(
        checkpoints=("best", "last"),
        scores=("best epoch", "last epoch"),
        picked_by="best epoch picked on the held-out fold itself, as in the paper",
        watched="held-out accuracy",
        summary="The best epoch is chosen on the held-out fold itself: its figure is optimistic.",
        note="The best epoch is picked on the test fold itself, as in the paper, so its accuracy "
        "is optimistic. The last epoch is not picked; but unless stages start from the last epoch "
        "of the one before, the test fold did pick what they start from, so it is not wholly free "
        "of it either.",
    ),
    "validation": Rule(
        checkpoints=("best",),
        scores=("picked on the validation part",),
        picked_by="epoch picked on a validation part of the training folds",
        watched="validation accuracy",
        summary="The epoch is picked on clips set apart from the training folds; the held-out fold "
        "was looked at once.",
        note="The epoch that counts, and the one each stage starts from, is picked on whole "
        "recordings set apart from the training folds. The held-out fold is looked at once, at the "
        "end: nothing of it leaks into these figures. The networks train on that many clips fewer.",
    ),
    "last": Rule(
        checkpoints=("last",),
        scores=("last epoch",),
        picked_by="no epoch picked: the last one counts",
        watched="held-out accuracy",
        summary="Nothing is picked: the last epoch counts.",
        note="Nothing is picked: each stage continues from the last epoch of the one before, and "
        "the last epoch of all counts. The held-out fold is watched and changes nothing, so there "
        "is no best epoch here.",
    ),
}
_STARTS_FROM: dict[Carry, str] = {
    "stage": "each stage starts from the best epoch of the one before",
    "run": "each stage starts from the best epoch so far",
    "last": "each stage starts from the last epoch",
}
_AMONG: dict[BestOf, str] = {
    "array": "the best is of the epochs on the last stage's array",
    "stage": "the best is of the epochs of the last stage",
    "run": "the best is of all epochs",
}


def reported_epoch(epochs: Sequence[EpochMetrics], config: RunConfig) -> EpochMetrics | None:
    """Return the epoch whose network is reported as the best.

    Args:
        epochs: Epochs so far.
        config: Config of the run, with `selection` and `best_of`.

    Returns:
        The epoch; None if nothing is picked, or none of these epochs is eligible: by default those
        on the last stage's array are, so that methods are compared at the same configuration.
    """
    if config.selection == "last":
        return None
    return _first_best(e for e in epochs if _counts(e.stage, e.array, config))


def carried_epoch(epochs: Sequence[EpochMetrics], config: RunConfig) -> EpochMetrics:
    """Return the epoch from whose network the next stage starts.

    Source: PROTOCOL section 2; the default, `stage`, is what the callback of the paper's library
    did: it resets its best at the start of each cycle, and reloads the cycle's best at its end.

    Args:
        epochs: Epochs so far, at least one.
        config: Config of the run, with `selection` and `carry`.
    """
    last = epochs[-1]
    if config.selection == "last" or config.carry == "last":
        return last
    of_stage = config.carry == "stage"
    best = _first_best(e for e in epochs if not of_stage or e.stage == last.stage)
    return best or last


def carried_among(config: RunConfig) -> tuple[range, ...]:
    """Return the epochs among which `carried_epoch` picks at the end of each stage but the last."""
    stops = list(accumulate(stage.epochs for stage in config.stages))
    rule = "last" if config.selection == "last" else config.carry
    return tuple(
        range({"stage": start, "run": 0, "last": stop - 1}[rule] + 1, stop + 1)
        for start, stop in zip([0, *stops], stops[:-1], strict=False)
    )


def reported_among(config: RunConfig) -> tuple[tuple[int, str], ...]:
    """Return the epochs among which `reported_epoch` picks, by stage and array."""
    if config.selection == "last":
        return ()
    stages = enumerate(config.stages, start=1)
    pairs = [(number, array) for number, stage in stages for array in trained_arrays(stage)]
    return tuple(pair for pair in pairs if _counts(*pair, config))


def trained_arrays(stage: Stage) -> tuple[str, ...]:
    """Return the arrays of a stage's epochs: an alternate is the second one's."""
    second = stage.alternate if stage.epochs > 1 else None
    return (stage.array, second) if second else (stage.array,)


def inapplicable(selection: Selection) -> set[str]:
    """Return the names of the settings that a selection has no use for, whatever the method."""
    names = set() if selection == "validation" else {"validation_share"}
    return names | ({"carry", "best_of"} if selection == "last" else set())


def unused_settings(config: RunConfig) -> set[str]:
    """Return the names of the settings that affect nothing with the config's selection and stages.

    Every other value of theirs gives the same numbers.
    """
    carries = {carried_among(config.model_copy(update={"carry": c})) for c in get_args(Carry)}
    bests = {reported_among(config.model_copy(update={"best_of": b})) for b in get_args(BestOf)}
    is_unused = {
        "validation_share": config.selection != "validation",
        "carry": len(carries) == 1,
        "best_of": len(bests) == 1,
        "moments": len(config.stages) == 1,
        "layer_groups": all(stage.body_lr_ratio == 1 for stage in config.stages),
    }
    return {name for name, unused in is_unused.items() if unused}


def carrying(config: RunConfig) -> str:
    """Return a phrase on what stages start from and what is reported; may be empty."""
    if config.selection == "last":
        return ""
    return f"{_STARTS_FROM[config.carry]}; {_AMONG[config.best_of]}"


def other_images(
    result: RunResult, checkpoint: CheckpointName = "best", folds: Collection[int] | None = None
) -> str | None:
    """Return a warning if networks were trained on other images than the last stage's, else None.

    Args:
        result: Result of a run. If it is from an older version, arrays are unknown.
        checkpoint: Which networks are used; the last ones are of the last stage.
        folds: Folds whose networks are used; by default all.
    """
    last = result.config.stages[-1]
    unlike: dict[str, list[str]] = {}
    for fold in result.folds if checkpoint == "best" else ():
        used = folds is None or fold.fold in folds
        if used and fold.best_array not in (None, last.array, last.alternate):
            unlike.setdefault(str(fold.best_array), []).append(str(fold.fold))
    if not unlike:
        return None
    listed = "; ".join(f"{array} (fold {', '.join(of)})" for array, of in unlike.items())
    return (
        f"best networks were trained on other images than those of the last stage, {last.array}: "
        f"{listed}; do not compare them with networks of {last.array}"
    )


def _counts(stage: int, array: str, config: RunConfig) -> bool:
    """Return whether an epoch of a stage, from 1, on an array may be reported."""
    last = config.stages[-1]
    rules: dict[BestOf, bool] = {
        "array": array in (last.array, last.alternate),
        "stage": stage == len(config.stages),
        "run": True,
    }
    return rules[config.best_of]


def _first_best(epochs: Iterable[EpochMetrics]) -> EpochMetrics | None:
    """Return the epoch of the highest score; the earliest of equally good ones."""
    return max(epochs, key=lambda epoch: epoch.score, default=None)

"""What the averaged probabilities of several runs come to: ensemble.json."""

from typing import Annotated

from pydantic import Field

from schemas.base import Schema
from schemas.prediction import CheckpointName, Count
from schemas.run import Accuracy, Selection


class PairedDifference(Schema):
    """A paired comparison over folds; differences are of accuracies in [0, 1]."""

    num_folds: Annotated[int, Field(ge=2)]
    mean: float
    std: float
    """Sample standard deviation over folds."""
    low: float
    """Lower end of the 95 % confidence interval of the mean, by Student's t."""
    high: float
    d_z: float | None
    """Cohen's: mean over std. None, as t and p, where every fold differs by the same amount."""
    t: float | None
    p: float | None
    """Two-sided, of the paired t-test."""
    rank_p: float | None
    """Two-sided, of Wilcoxon's signed-rank test; None where no fold differs."""


class EnsembleMember(Schema):
    """One of the runs, alone."""

    run: str
    """Its directory."""
    method: str
    seed: int
    fingerprint: str
    """Of the store it was trained on."""
    accuracies: tuple[Accuracy, ...]
    """On each held-out fold."""
    mean: Accuracy
    """Over folds."""
    std: float | None
    """Sample standard deviation over folds; None of a single one."""
    gain: PairedDifference | None
    """Of the average over this run; None for a single fold."""


class Ensemble(Schema):
    """ensemble.json: runs whose probabilities are averaged clip by clip, each run with one vote."""

    dataset: str
    selection: Selection
    checkpoint: CheckpointName
    folds: tuple[int, ...]
    num_clips: tuple[Count, ...]
    """Of each fold."""
    members: tuple[EnsembleMember, ...]
    best_member: int
    """Index of the member with the highest mean: picked on these very folds."""
    accuracies: tuple[Accuracy, ...]
    """Of the average, on each fold."""
    mean: Accuracy
    std: float | None
    warnings: tuple[str, ...] = ()

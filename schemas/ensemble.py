"""The averaged probabilities of several runs, compared with each run alone: ensemble.json."""

from typing import Annotated

from pydantic import Field

from schemas.base import Schema
from schemas.prediction import CheckpointName, Count
from schemas.run import Accuracy, MultilabelScores, Selection, Task


class PairedDifference(Schema):
    """A paired comparison over folds of accuracies, or mean average precisions, in [0, 1]."""

    num_folds: Annotated[int, Field(ge=2)]
    mean: float
    """Mean of the differences."""
    std: float
    """Sample standard deviation of the differences."""
    low: float
    """Lower end of the 95 % confidence interval of the mean, by Student's t."""
    high: float
    """Upper end of that interval."""
    d_z: float | None
    """Cohen's d_z, mean / std; like t and p, None if every fold differs by the same amount."""
    t: float | None
    """Student's t of the paired test."""
    p: float | None
    """Two-sided p-value of the paired t-test."""
    rank_p: float | None
    """Two-sided p-value of Wilcoxon's signed-rank test; None if no fold differs."""


class EnsembleMember(Schema):
    """One of the averaged runs by itself."""

    run: str
    """Directory of the run."""
    method: str
    seed: int
    fingerprint: str
    """Fingerprint of the store it was trained on."""
    accuracies: tuple[Accuracy, ...]
    """Accuracy on each held-out fold; with the task `multilabel`, mean average precision."""
    mean: Accuracy
    """Mean over folds."""
    std: float | None
    """Sample standard deviation over folds; None for a single fold."""
    gain: PairedDifference | None
    """Comparison of the average with this run; None for a single fold."""


class Ensemble(Schema):
    """ensemble.json: runs whose probabilities are averaged clip by clip, each run with one vote."""

    dataset: str
    selection: Selection
    checkpoint: CheckpointName
    folds: tuple[int, ...]
    num_clips: tuple[Count, ...]
    """Clips of each fold."""
    members: tuple[EnsembleMember, ...]
    best_member: int
    """Index of the member with the highest mean, which is picked on these same folds."""
    accuracies: tuple[Accuracy, ...]
    """Accuracy of the average on each fold; with the task `multilabel`, mean average precision."""
    mean: Accuracy
    std: float | None
    warnings: tuple[str, ...] = ()
    task: Task = "multiclass"
    """Kind of task; determines what `accuracies` are."""
    scores: tuple[MultilabelScores, ...] = ()
    """Scores of the average on each fold, if clips may have several labels; else empty."""

"""Predictions of trained networks: `trainer predict` as JSON, and evaluation.json."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Schema
from schemas.run import Accuracy, MultilabelScores, Share

CheckpointName = Literal["best", "last"]
"""Network of a fold: that of the best epoch, or of the last one."""
Count = Annotated[int, Field(ge=0)]


class Prediction(Schema):
    """Prediction for one file."""

    path: str
    class_name: str
    """The most probable class."""
    probability: Share
    """Probability of that class."""
    probabilities: dict[str, Share]
    """Probability of every class by its name: the mean over the networks. They sum to 1, unless
    sounds may have several labels."""
    labels: tuple[str, ...] | None = None
    """Labels whose probability is at least the threshold, most probable first; None if sounds have
    one class each."""


class UnusedFile(Schema):
    """A file that could not be used, and why."""

    path: str
    reason: str


class Predictions(Schema):
    """Predictions of a run's networks for some files."""

    run: str
    """Directory of the run."""
    fingerprint: str
    """Fingerprint of the store it was trained on."""
    checkpoint: CheckpointName
    folds: tuple[int, ...]
    """Folds that the networks held out; one network per fold."""
    predictions: tuple[Prediction, ...]
    threshold: Share | None = None
    """Minimum probability of a label if clips may have several labels; else None."""
    unused: tuple[UnusedFile, ...] = ()
    warnings: tuple[str, ...] = ()


class FoldEvaluation(Schema):
    """One fold of a store, evaluated with some of a run's networks."""

    fold: int
    networks: tuple[int, ...]
    """Networks, by the fold each held out in training; their probabilities are averaged."""
    num_clips: Count
    num_trained_on: Count | None
    """Clips that a network was trained on; None if that is unknown."""
    accuracy: Accuracy | None
    """Accuracy on the fold; None if clips may have several labels."""
    scores: MultilabelScores | None = None
    """Scores, if clips may have several labels."""


class ClassEvaluation(Schema):
    """One class over all evaluated clips."""

    class_name: str
    num_clips: Count
    num_predicted: Count
    """Clips predicted to be of it; with several labels, at a probability of at least 1/2."""
    recall: Share | None
    """Fraction of its clips that were recognised; None if it has no clips."""
    average_precision: Share | None = None
    """Average precision, if clips may have several labels; None if it has no clips."""
    auc: Share | None = None
    """Area under the ROC curve, if clips may have several labels; None if all clips or none have
    the class."""


class Evaluation(Schema):
    """evaluation.json: results of a run's networks on a store."""

    run: str
    store: str
    dataset: str
    fingerprint: str
    """Fingerprint of the store."""
    checkpoint: CheckpointName
    num_clips: Count
    accuracy: Accuracy | None
    """Accuracy over all clips; None if clips may have several labels."""
    folds: tuple[FoldEvaluation, ...]
    classes: tuple[ClassEvaluation, ...]
    """Results of each class, by class_id."""
    scores: MultilabelScores | None = None
    """Scores over all clips, if they may have several labels."""
    confusion: tuple[tuple[Count, ...], ...]
    """Number of clips by true class (row) and predicted class (column); empty if clips may have
    several labels."""
    warnings: tuple[str, ...] = ()

"""What trained networks say of sounds: `trainer predict` as JSON, and evaluation.json."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Schema
from schemas.run import Accuracy, Share

CheckpointName = Literal["best", "last"]
"""Of a fold's networks: that of the best epoch, or that of the last one."""
Count = Annotated[int, Field(ge=0)]


class Prediction(Schema):
    """One file."""

    path: str
    class_name: str
    """The most probable class."""
    probability: Share
    """Of that class."""
    probabilities: dict[str, Share]
    """Of every class by its name; mean over the networks. Their sum is 1."""


class UnusedFile(Schema):
    """A file that could not be used, and why."""

    path: str
    reason: str


class Predictions(Schema):
    """What a run's networks say of some files."""

    run: str
    """Its directory."""
    fingerprint: str
    """Of the store it was trained on."""
    checkpoint: CheckpointName
    folds: tuple[int, ...]
    """Those that the networks held out: one network each."""
    predictions: tuple[Prediction, ...]
    unused: tuple[UnusedFile, ...] = ()
    warnings: tuple[str, ...] = ()


class FoldEvaluation(Schema):
    """One fold of a store, judged by some of a run's networks."""

    fold: int
    networks: tuple[int, ...]
    """By the fold each had held out in training; their probabilities are averaged."""
    num_clips: Count
    num_trained_on: Count | None
    """Clips that a network was trained on; None where that cannot be known."""
    accuracy: Accuracy


class ClassEvaluation(Schema):
    """One class over all clips that were judged."""

    class_name: str
    num_clips: Count
    num_predicted: Count
    recall: Share | None
    """Share of its clips that were recognised; None where it has no clips."""


class Evaluation(Schema):
    """evaluation.json: how a run's networks do on a store."""

    run: str
    store: str
    dataset: str
    fingerprint: str
    """Of the store."""
    checkpoint: CheckpointName
    num_clips: Count
    accuracy: Accuracy
    """Over all clips."""
    folds: tuple[FoldEvaluation, ...]
    classes: tuple[ClassEvaluation, ...]
    """By class_id."""
    confusion: tuple[tuple[Count, ...], ...]
    """Clips by true class (row) and predicted class (column)."""
    warnings: tuple[str, ...] = ()

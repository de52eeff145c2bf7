"""Events of a run, for whoever watches it; showing them is the watcher's part."""

from collections.abc import Callable
from dataclasses import dataclass

from featurestore.download.fetch import Progress
from schemas import EpochMetrics, FoldResult, RunRecord, Stage


@dataclass(frozen=True)
class WeightsComing:
    """The initial weights are being downloaded."""

    progress: Progress


@dataclass(frozen=True)
class RatesComing:
    """A step of the range tests that measure the stages' learning rates was taken.

    Args:
        done: Steps so far, also those that a test which ended early left out.
        most: Steps of all tests.
    """

    done: int
    most: int


@dataclass(frozen=True)
class RunStarted:
    """The run's record is on disk; it holds the warnings."""

    record: RunRecord


@dataclass(frozen=True)
class FoldStarted:
    """A held-out fold is about to be trained for, from the first epoch or after `epochs_done`."""

    fold: int
    num_train: int
    num_test: int
    epochs_done: int = 0


@dataclass(frozen=True)
class StageStarted:
    """A stage's data is about to be loaded; `number` counts from 1."""

    fold: int
    number: int
    stage: Stage


@dataclass(frozen=True)
class BatchDone:
    """One step was handed to the device."""

    fold: int


@dataclass(frozen=True)
class EpochDone:
    """An epoch was trained and validated; `best_score` is the fold's so far on that array."""

    metrics: EpochMetrics
    best_score: float


@dataclass(frozen=True)
class FoldDone:
    """A fold's schedule is over."""

    result: FoldResult


@dataclass(frozen=True)
class Warned:
    """Something is not as the config says; sent once per run."""

    message: str


Event = (
    WeightsComing
    | RatesComing
    | RunStarted
    | FoldStarted
    | StageStarted
    | BatchDone
    | EpochDone
    | FoldDone
    | Warned
)
Notify = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Do nothing with an event."""

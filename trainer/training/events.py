"""Events of a run, for observers."""

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
    """A step of the range tests that measure learning rates was taken.

    Args:
        done: Number of steps so far, including those skipped by tests that ended early.
        most: Total number of steps of all tests.
    """

    done: int
    most: int


@dataclass(frozen=True)
class RunStarted:
    """The run's record, which includes the warnings, has been written."""

    record: RunRecord


@dataclass(frozen=True)
class FoldStarted:
    """Training of a fold is about to start, or to resume after `epochs_done`."""

    fold: int
    epochs_done: int = 0


@dataclass(frozen=True)
class StageStarted:
    """The data of a stage is about to be loaded; `number` counts from 1."""

    fold: int
    number: int
    stage: Stage


@dataclass(frozen=True)
class BatchDone:
    """One step was queued on the device."""

    fold: int


@dataclass(frozen=True)
class EpochDone:
    """An epoch was trained and evaluated; `best_score` is the fold's best so far on that array."""

    metrics: EpochMetrics
    best_score: float


@dataclass(frozen=True)
class FoldDone:
    """A fold is finished."""

    result: FoldResult


@dataclass(frozen=True)
class Warned:
    """Something differs from the config; sent once per run."""

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

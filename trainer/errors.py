"""Errors of `trainer`.

    TrainerError
    ├── ConfigError              an option is unknown or invalid
    │   ├── UnknownMethodError
    │   └── DeviceError              the device is not available, or unknown
    ├── DataError                the clips cannot be split into a training and a test set
    ├── WeightsError             initial weights are missing, damaged or of another network
    ├── DivergedError            the loss is no longer finite
    ├── DeviceMemoryError        data or a step do not fit into the device's memory
    ├── TrainedRunError          a run is missing, unfinished, damaged, or lacks what was requested
    │   └── RunDirectoryError        its directory is in use, damaged, or cannot be written
    │       └── CheckpointError          a checkpoint is missing or damaged
    ├── ResumeError              a run cannot be resumed with these settings
    ├── ClusterError             no Dask cluster can be reached
    ├── SweepError               runs of a sweep failed; the others are finished
    ├── ReportError              no report can be made of the given runs
    ├── EnsembleError            the predictions of the runs cannot be averaged
    ├── AudioInputError          files to classify are missing or unusable
    └── ExportError              a network could not be written in another format

A fold or array that the store lacks is a `featurestore.errors.UnknownNameError`. A message says
what happened and where, what was expected and found, and what to do. The command line prints it as
one line and exits with code 1.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from featurestore.errors import first_problem, problem_text
from schemas import Stage


class TrainerError(Exception):
    """Any error that the user can fix."""


class TrainerWarning(UserWarning):
    """A warning of a function that prints nothing."""


class ConfigError(TrainerError):
    """An option is unknown or invalid."""


class UnknownMethodError(ConfigError):
    """There is no method with that name."""


class DeviceError(ConfigError):
    """The device is not available, or its name is invalid."""


class DataError(TrainerError):
    """The store's clips cannot be split into a training and a test set."""


class WeightsError(TrainerError):
    """Initial weights are missing, damaged or of another network."""


class DivergedError(TrainerError):
    """The loss is no longer finite."""


class DeviceMemoryError(TrainerError):
    """Data or a training step do not fit into the device's memory."""


class TrainedRunError(TrainerError):
    """A run is missing, unfinished, damaged, or lacks what was requested."""


class RunDirectoryError(TrainedRunError):
    """The run directory is in use, damaged, or cannot be written."""


class CheckpointError(RunDirectoryError):
    """A checkpoint is missing or damaged."""


class ResumeError(TrainerError):
    """A run cannot be resumed with these settings."""


class ClusterError(TrainerError):
    """No Dask cluster can be reached."""


class SweepError(TrainerError):
    """Runs of a sweep failed; the others are finished."""


class ReportError(TrainerError):
    """No report can be made of the given runs."""


class EnsembleError(TrainerError):
    """The predictions of the runs cannot be averaged."""


class AudioInputError(TrainerError):
    """Files to classify are missing or unusable."""


class ExportError(TrainerError):
    """A network could not be written in another format."""


def diverged(
    fold: int,
    stage: int,
    settings: Stage,
    epoch: int,
    rates: tuple[float, float],
    kept: Path | None,
) -> DivergedError:
    """Return the error for a loss that is not finite.

    Args:
        fold: The held-out fold.
        stage: Number of the stage, from 1.
        settings: Settings of the stage.
        epoch: Number of the epoch in the whole schedule, from 1.
        rates: Lowest and highest learning rate of the epoch's steps.
        kept: Checkpoint of the last good epoch; None if there is none.
    """
    good = f"the last good model is {kept}" if kept else "no epoch was finished"
    low, high = rates
    between = f"{low:.3g}" if low == high else f"between {low:.3g} and {high:.3g}"
    return DivergedError(
        f"the loss became NaN or infinite in fold {fold}, stage {stage} ({settings.array}, "
        f"λ {settings.max_lr:g}), epoch {epoch}, where λ was {between}; {good}. A larger batch or "
        "another seed may help; else λ is too large for this dataset: see `trainer lr-find`"
    )


_MOST_CHARS = 40


def in_a_line(error: Exception) -> str:
    """Return an error as one line; of several pydantic problems the first."""
    if isinstance(error, ValidationError):
        return first_problem(error)
    return " ".join(str(error).split()) or type(error).__name__


# A sweep splits its values at commas, and YAML reads a single rate as a number.
_RATES_AS_TEXT = (
    ", which is 'auto' or the rates of all stages, such as '1e-3,1e-4'; a sweep takes rates from "
    'its YAML file only, as max_lr: ["1e-3,1e-4"]'
)


def refused(error: ValidationError, name: str = "") -> ConfigError:
    """Return an error for the first invalid option: its name, its value, and what is wrong.

    Args:
        error: Error raised by pydantic.
        name: Name of the option, if pydantic does not know it.
    """
    first = error.errors(include_url=False)[0]
    name = name or ".".join(map(str, first["loc"]))
    what = re.sub(r", got [^;]*", "", problem_text(first))  # it is said next to the name
    if name == "max_lr":
        what += _RATES_AS_TEXT
    return ConfigError(f"{name} {_short(repr(first['input']))}: {what}")


def differing(values: Mapping[str, object], recorded: Mapping[str, object]) -> list[str]:
    """Return name and both values, in words, of each of `values` that differs."""
    return [
        f"{name} ({_short(value)}, the run has {_short(recorded[name])})"
        for name, value in values.items()
        if value != recorded[name]
    ]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MOST_CHARS else f"{text[: _MOST_CHARS - 1]}…"

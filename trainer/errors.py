"""Errors of `trainer`.

    TrainerError
    ├── ConfigError              what was asked for is unknown or impossible
    │   ├── UnknownMethodError
    │   └── DeviceError              the device is absent, or no device
    ├── DataError                the store's clips do not make a training and a test set
    ├── WeightsError             initial weights that are absent, damaged or of another network
    ├── DivergedError            the loss is no longer a number
    ├── DeviceMemoryError        data or a step do not fit into the device's memory
    ├── TrainedRunError          a run that cannot be used as asked for
    │   └── RunDirectoryError        its directory is taken, damaged, or cannot be written
    │       └── CheckpointError          a checkpoint that is absent or damaged
    ├── ResumeError              a run cannot be resumed as asked for
    ├── ClusterError             no Dask cluster can be reached
    ├── SweepError               runs of a sweep failed; the others are done
    ├── ReportError              a report could not be made of the runs given
    ├── EnsembleError            runs whose predictions cannot be averaged
    ├── AudioInputError          files to predict that are not there, or not usable
    └── ExportError              a network could not be written in another format

What the store itself lacks (a fold, an array) is a `featurestore.errors.UnknownNameError`. A
message says what, where, what was expected, what was found and what to do. The command line
prints it as one line and exits with 1.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from featurestore.errors import first_problem, problem_text
from schemas import Stage


class TrainerError(Exception):
    """Anything the user can put right."""


class TrainerWarning(UserWarning):
    """Something the user should know, of a call that prints nothing."""


class ConfigError(TrainerError):
    """An option is unknown or impossible."""


class UnknownMethodError(ConfigError):
    """There is no method of that name."""


class DeviceError(ConfigError):
    """The device is absent, or the name is not one of a device."""


class DataError(TrainerError):
    """The store's clips do not make a training and a test set."""


class WeightsError(TrainerError):
    """Initial weights are absent, damaged or of another network."""


class DivergedError(TrainerError):
    """The loss is no longer a number."""


class DeviceMemoryError(TrainerError):
    """Data or a training step do not fit into the device's memory."""


class TrainedRunError(TrainerError):
    """A run cannot be used as asked for."""


class RunDirectoryError(TrainedRunError):
    """The run directory is taken or damaged, or cannot be written."""


class CheckpointError(RunDirectoryError):
    """A checkpoint is absent or damaged."""


class ResumeError(TrainerError):
    """A run cannot be resumed as asked for."""


class ClusterError(TrainerError):
    """No Dask cluster can be reached."""


class SweepError(TrainerError):
    """Runs of a sweep failed; the others are done."""


class ReportError(TrainerError):
    """A report could not be made of the runs given."""


class EnsembleError(TrainerError):
    """Predictions of the runs cannot be averaged."""


class AudioInputError(TrainerError):
    """Files to predict are missing or unusable."""


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
    """Return the error of a loss that is not finite.

    Args:
        fold: The held-out fold.
        stage: Number of the stage, from 1.
        settings: The stage.
        epoch: Number of the epoch, from 1 over the whole schedule.
        rates: The lowest and the highest learning rate of that epoch's steps.
        kept: Checkpoint of the last good epoch; None if there was none.
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
    """Return one line of what was wrong; the first problem, if pydantic found several."""
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
        error: What pydantic raised.
        name: Name of the option, if pydantic does not know it.
    """
    first = error.errors(include_url=False)[0]
    name = name or ".".join(map(str, first["loc"]))
    what = re.sub(r", got [^;]*", "", problem_text(first))  # it is said next to the name
    if name == "max_lr":
        what += _RATES_AS_TEXT
    return ConfigError(f"{name} {_short(repr(first['input']))}: {what}")


def differing(values: Mapping[str, object], recorded: Mapping[str, object]) -> list[str]:
    """Return the differing values, by name and with both values; names of `values` alone count."""
    return [
        f"{name} ({_short(value)}, the run has {_short(recorded[name])})"
        for name, value in values.items()
        if value != recorded[name]
    ]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MOST_CHARS else f"{text[: _MOST_CHARS - 1]}…"

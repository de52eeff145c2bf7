"""From what the user asks for to a run that can be done, or a reason why it cannot.

Looks at the store's tables only: no image is read, no device touched, nothing written.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import ValidationError

from featurestore import ClipTable, StoredDataset
from featurestore.errors import UnknownNameError
from schemas import Reading, RunConfig, Stage
from trainer.errors import ConfigError, DataError
from trainer.methods import rates_warning, stages


@dataclass(frozen=True)
class Options:
    """What the user asks for; see RunConfig for the meanings.

    Args:
        method: A key of `trainer.methods.METHODS`.
        folds: Held out one after the other; all of the store's where empty.
        device: A PyTorch device that is there.
        precision: What the device supports.
        acceleration: What can be had there.
        threads: Of a CPU, for each fold.
        reading: Where the data shall lie; no part of the config, as it changes no number.
        folds_at_once: How many train at a time; no part of it either.
        warning: What could not be had.
    """

    method: str
    folds: tuple[int, ...] = ()
    seed: int = 0
    device: str = "cpu"
    precision: str = "float32"
    init: str = "auto"
    epochs_scale: float = 1.0
    batch_size: int = 64
    arch: str = "resnet34"
    acceleration: str = "eager"
    threads: int = 1
    mixup: float = 0.0
    freq_mask: float = 0.0
    time_mask: float = 0.0
    label_smoothing: float = 0.0
    reading: Reading | Literal["auto"] = "auto"
    folds_at_once: int = 1
    warning: str | None = None


@dataclass(frozen=True)
class Plan:
    """A run that can be done.

    Args:
        config: All that shapes its numbers.
        num_train: Training clips by held-out fold.
        warnings: What the user should know before it starts.
        reading: Where the data shall lie.
        folds_at_once: How many train at a time.
    """

    config: RunConfig
    num_train: dict[int, int]
    warnings: tuple[str, ...]
    reading: Reading | Literal["auto"]
    folds_at_once: int


def plan_run(dataset: StoredDataset, options: Options) -> Plan:
    """Check that the dataset has what the options need.

    Raises:
        ConfigError: A method is unknown, or a value out of range.
        DataError: There are too few folds, or clips, or a class is never trained on.
        featurestore.errors.UnknownNameError: The store lacks a fold or an array.
    """
    schedule = stages(options.method, dataset.name, options.epochs_scale)
    _check_arrays(dataset, options.method, schedule)
    folds = _chosen_folds(dataset, options.folds)
    clips = dataset.clips()
    for fold in folds:
        _check_split(clips, fold, dataset.class_names)
    absent = _absent_classes(clips, dataset.class_names)
    found = (options.warning, rates_warning(dataset.name), absent)
    return Plan(
        config=_config(dataset.name, options, schedule, folds),
        num_train={fold: int((clips.fold != fold).sum()) for fold in folds},
        warnings=tuple(warning for warning in found if warning),
        reading=options.reading,
        folds_at_once=options.folds_at_once,
    )


def _config(
    dataset: str, options: Options, schedule: tuple[Stage, ...], folds: tuple[int, ...]
) -> RunConfig:
    asked = vars(options) | {"dataset": dataset, "stages": schedule, "folds": folds}
    del asked["reading"], asked["folds_at_once"], asked["warning"]
    try:
        return RunConfig.model_validate(asked)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{name} {first['input']!r}: {first['msg']}") from error


def _check_arrays(dataset: StoredDataset, method: str, schedule: tuple[Stage, ...]) -> None:
    for stage in schedule:
        if stage.array not in dataset.arrays:
            hint = f"The method {method!r} needs it: build a store with that resolution and variant"
            raise UnknownNameError("array", stage.array, dataset.arrays, hint)


def _chosen_folds(dataset: StoredDataset, asked: tuple[int, ...]) -> tuple[int, ...]:
    if len(dataset.folds) < 2:
        raise DataError(
            f"{dataset.name} has one fold only, {dataset.folds[0]}: one is held out, so training "
            "needs two or more"
        )
    for fold in asked:
        if fold not in dataset.folds:
            raise UnknownNameError("fold", fold, dataset.folds)
    if len(set(asked)) < len(asked):
        raise ConfigError(f"folds repeat: {', '.join(map(str, asked))}")
    return asked or dataset.folds


def _check_split(clips: ClipTable, fold: int, class_names: tuple[str, ...]) -> None:
    """Both sides of a split need clips, and training one of every class that is tested."""
    held_out = clips.fold == fold
    if not held_out.any():
        raise DataError(f"fold {fold} has no clips with features; choose other folds with --fold")
    if np.count_nonzero(~held_out) < 2:
        raise DataError(f"fold {fold}: fewer than two clips in the other folds to train on")
    tested = np.unique(clips.class_id)
    missing = np.setdiff1d(tested, clips.class_id[~held_out])
    if len(missing):
        names = ", ".join(class_names[i] for i in missing)
        raise DataError(
            f"fold {fold}: every clip of {names} is in it, so with it held out there is none to "
            "train on; choose other folds with --fold"
        )


def _absent_classes(clips: ClipTable, class_names: tuple[str, ...]) -> str | None:
    absent = np.setdiff1d(np.arange(len(class_names)), clips.class_id)
    if not len(absent):
        return None
    return f"no clip has features of: {', '.join(class_names[i] for i in absent)}"

"""From the user's options to a feasible run, or the reason why it is not.

Reads the store's tables and checks this machine; no image is read, and nothing is written.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from featurestore import ClipTable, StoredDataset, usable_cores
from schemas import RunConfig
from trainer.config import TrainingOptions
from trainer.data.split import (
    FoldSplit,
    check_duplicates,
    default_folds,
    fold_numbers,
    recordings,
    split_folds,
    trained_folds,
    validation_folds,
)
from trainer.errors import ConfigError, DataError, refused
from trainer.methods import check_arrays, find_method, scale_warning, stages
from trainer.model import RESNETS, check_arch, check_shapes
from trainer.recipes import AUTO, RECIPES, check_filters, defaults, rates_warning
from trainer.selection import trained_arrays, unused_settings
from trainer.threads import threads_per_fold
from trainer.training.acceleration import choose_acceleration
from trainer.training.augment import most_masked
from trainer.training.device import choose_precision, resolve_device
from trainer.training.lr_find import clips_for_rates
from trainer.training.schedule import FEW_STEPS, num_steps
from trainer.weights import INITS

_NOT_IN_CONFIG = {"methods_file", "resize_operator", "own_methods", "recipe", "max_lr"}
"""Options not in the config, which has the method, stages and settings that result from them."""


@dataclass(frozen=True)
class Plan:
    """A feasible run.

    Args:
        config: Everything that determines the results.
        splits: Split by held-out fold.
        warnings: Warnings for the user before it starts.
        sweep_end: Learning rate of the last step of a range test.
    """

    config: RunConfig
    splits: Mapping[int, FoldSplit]
    warnings: tuple[str, ...] = ()
    sweep_end: float = 10.0

    @property
    def num_train(self) -> dict[int, int]:
        """Number of training clips, by held-out fold."""
        return {fold: split.num_train for fold, split in self.splits.items()}

    @property
    def num_valid(self) -> dict[int, int]:
        """Number of clips evaluated after each epoch (held-out or validation), by held-out fold."""
        return {fold: split.num_valid or split.num_test for fold, split in self.splits.items()}


def plan_run(dataset: StoredDataset, options: TrainingOptions, folds_at_once: int = 1) -> Plan:
    """Resolve options for a dataset and this machine, and check that the run is feasible.

    Args:
        dataset: Dataset to train on.
        options: Training options.
        folds_at_once: Number of folds trained in parallel, which share the cores.

    Raises:
        ConfigError: A method is unknown, or a value out of range.
        DeviceError: The device is not available.
        DataError: There are too few folds or clips, a class has no training clips, a recording is
            on both sides of a split, or a file is in several folds.
        featurestore.errors.UnknownNameError: The store lacks a fold or an array.
    """
    method = find_method(
        options.method, options.methods_file, options.resize_operator, options.own_methods
    )
    schedule = stages(method, dataset.dataset_name, options.epochs_scale, options.max_lr)
    check_arrays(dataset, method.name, schedule)
    check_filters(dataset.manifest.spec, options.recipe)
    check_arch(options.arch)
    check_shapes(options.arch, [dataset.shape(stage.array) for stage in schedule])
    folds = _chosen_folds(dataset, tuple(options.folds))
    given, options = options, _filled_in(options)
    _check_share(dataset, given, folds)
    clips = dataset.clips()
    unseen = []
    for fold in folds:
        trained = trained_folds(dataset, fold)
        _check_split(clips, fold, trained)
        unseen.append(_check_classes(dataset, fold, trained))
    least_side = min(side for stage in schedule for side in dataset.shape(stage.array))
    chosen, warning = _on_this_machine(options, min(folds_at_once, len(folds)), least_side)
    planned = {"dataset": dataset.name, "method": method.name, "stages": schedule, "folds": folds}
    planned["max_lr_from"] = {None: "method", AUTO: "measured"}.get(options.max_lr, "given")
    planned["task"] = "multilabel" if dataset.multilabel else "multiclass"
    config = _config(chosen.values() | planned)
    absent = _absent_classes(dataset)
    duplicates = check_duplicates(dataset, clips, allowed=options.allow_duplicates)
    splits = split_folds(dataset, config)
    warnings = (
        dataset.partial,
        warning,
        None if options.max_lr else rates_warning(method.cycles, dataset.dataset_name),
        scale_warning(options.epochs_scale, [cycle.epochs for cycle in method.cycles]),
        few_steps_warning(config, min(split.num_train for split in splits.values())),
        absent,
        *unseen,
        duplicates,
        _rates_from_held_out(dataset, config),
        _unused_validation(dataset, config),
        _without_effect(dataset, given, config),
    )
    sweep_end = RECIPES[options.recipe].sweep_end
    return Plan(config, splits, tuple(filter(None, warnings)), sweep_end)


def few_steps_warning(config: RunConfig, num_clips: int) -> str | None:
    """Return a warning if a stage has so few steps that the choice of its best epoch is noise.

    Args:
        config: Config of the run.
        num_clips: Minimum number of training clips over the folds.
    """
    per_epoch = num_steps(num_clips, config.batch_size)
    steps = {n: per_epoch * s.epochs for n, s in enumerate(config.stages, start=1)}
    few = {number: count for number, count in steps.items() if count <= FEW_STEPS}
    if not few:
        return None
    listed = ", ".join(f"{number} ({count})" for number, count in few.items())
    return (
        f"stages with {FEW_STEPS} steps or fewer: {listed}. There batch normalisation's running "
        "means lag behind, so the best epoch is picked on noise, and the 1cycle may differ from "
        "fastai's by more than 5 % of λ: train more epochs, or in smaller batches"
    )


def _filled_in(options: TrainingOptions) -> TrainingOptions:
    """Return the options with defaults for those that are left out.

    Raises:
        ConfigError: Nothing is picked, and the best is to be carried or reported; or a setting is
            not defined for the network.
    """
    nothing_picked = options.selection == "last"
    if nothing_picked and options.carry not in (None, "last"):
        raise ConfigError(
            f"carry {options.carry!r}: with selection 'last' no epoch is the best one, so each "
            "stage continues from the last; leave --carry out, or choose another --selection"
        )
    if nothing_picked and options.best_of is not None:
        raise ConfigError(
            f"best_of {options.best_of!r}: with selection 'last' no epoch is the best one; leave "
            "--best-of out, or choose another --selection"
        )
    values = defaults(options.recipe, options.selection)
    filled = replace(
        options,
        **{n: value for n, value in values.items() if getattr(options, n) in (None, "auto")},
    )
    if options.arch not in RESNETS and (filled.layer_groups, filled.first_conv) != (2, "sum"):
        raise ConfigError(
            f"arch {options.arch!r}: three layer groups and a frozen first convolution are defined "
            "for torchvision's ResNets only; use --layer-groups 2 --first-conv sum"
        )
    return filled


def _on_this_machine(
    options: TrainingOptions, folds_at_once: int, least_side: int
) -> tuple[TrainingOptions, str | None]:
    """Return the options without `auto`, and what is unavailable."""
    device = resolve_device(options.device)
    acceleration = choose_acceleration(options.acceleration, device)
    batch = max(1, options.batch_size)
    threads = threads_per_fold(usable_cores(), folds_at_once, batch, device.type)
    chosen = replace(
        options,
        device=str(device),
        init=absolute_init(options.init),
        precision=choose_precision(options.precision, device, least_side),
        acceleration=acceleration.used,
        threads=threads if options.threads is None else options.threads,
    )
    return chosen, acceleration.warning


def absolute_init(init: str) -> str:
    """Return `init` with the path of a file made absolute, and `..` resolved."""
    path = Path(init).absolute()
    if ".." in path.parts and "\0" not in init:  # of which no path can be resolved
        path = Path(os.path.realpath(path))
    return init if init in INITS else str(path)


def _check_share(dataset: StoredDataset, given: TrainingOptions, folds: Sequence[int]) -> None:
    """Refuse a share of the clips for validation if none is set aside by it.

    Raises:
        ConfigError: Another selection is given, or the validation folds are official.
    """
    if given.validation_share is None:
        return
    if given.selection != "validation":
        raise ConfigError(
            f"validation_share {given.validation_share:g}: with selection {given.selection!r} no "
            "clips are set aside; leave --validation-share out, or give --selection validation"
        )
    if all(validation_folds(dataset, fold) for fold in folds):
        raise ConfigError(
            f"validation_share {given.validation_share:g}: {dataset.name} has an official "
            "validation fold, which is used as it is; leave --validation-share out"
        )


def _without_effect(
    dataset: StoredDataset, given: TrainingOptions, config: RunConfig
) -> str | None:
    """Return a warning if options that are given affect nothing with the method's stages."""
    names = {name for name in unused_settings(config) if getattr(given, name) is not None}
    shapes = [dataset.shape(a) for stage in config.stages for a in trained_arrays(stage)]
    for name, axis in (("freq_mask", 0), ("time_mask", 1)):
        share = getattr(config, name)
        if share and not any(most_masked(share, shape[axis]) for shape in shapes):
            names.add(name)
    if not names:
        return None
    listed = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names))
    return f"without effect on {config.method} with selection {config.selection}: {listed}"


def _config(values: Mapping[str, object]) -> RunConfig:
    try:
        return RunConfig.model_validate({n: values[n] for n in values if n not in _NOT_IN_CONFIG})
    except ValidationError as error:
        raise refused(error) from error


def _rates_from_held_out(dataset: StoredDataset, config: RunConfig) -> str | None:
    """Return a warning if learning rates are measured on clips that a fold of the run holds out."""
    seen = clips_for_rates(dataset, config.folds)
    if config.max_lr_from != "measured" or not set(seen) & set(config.folds):
        return None
    return (
        "no clip is trained on in every fold, so the learning rates are measured on what is "
        f"trained on with fold {config.folds[0]} held out, which other folds hold out: choose "
        "fewer folds with --fold, or give the rates with --max-lr X,Y,…, to be free of that"
    )


def _unused_validation(dataset: StoredDataset, config: RunConfig) -> str | None:
    """Return a warning if there is an official validation fold that nothing is picked on."""
    official = [fold for held in config.folds for fold in validation_folds(dataset, held)]
    if not official or config.selection != "heldout":
        return None
    name = dataset.fold_names[official[0]]
    return (
        f"the best epoch is picked on the held-out fold itself, although there is an official "
        f"{name} fold, which is not trained on: --selection validation picks on it"
    )


def _chosen_folds(dataset: StoredDataset, chosen: tuple[int | str, ...]) -> tuple[int, ...]:
    if len(dataset.folds) < 2:
        raise DataError(
            f"{dataset.name} has one fold only, {dataset.folds[0]}: one is held out, so training "
            "needs two or more; `featurestore build --folds 5` makes them"
        )
    folds = fold_numbers(dataset, chosen)
    if len(set(folds)) < len(folds):
        raise ConfigError(f"folds repeat: {', '.join(map(str, chosen))}")
    return folds or default_folds(dataset)


def _check_split(clips: ClipTable, fold: int, trained: tuple[int, ...]) -> None:
    """Check that both sides of a split have clips, and no recording is on both."""
    held_out = clips.fold == fold
    if not held_out.any():
        raise DataError(f"fold {fold} has no clips with features; choose other folds with --fold")
    in_training = np.isin(clips.fold, trained)
    if np.count_nonzero(in_training) < 2:
        raise DataError(f"fold {fold}: fewer than two clips in the other folds to train on")
    of = np.array(recordings(clips), object)
    if both := sorted(set(of[held_out]) & set(of[~held_out])):
        # Accuracy would measure memory.
        raise DataError(
            f"fold {fold}: recordings with clips in it and in the folds trained on: {len(both)}, "
            f"such as {both[0]}; its accuracy would mean nothing; correct the dataset's folds"
        )


def _check_classes(dataset: StoredDataset, fold: int, trained: tuple[int, ...]) -> str | None:
    """Check that training has a clip of every class; return a warning where it may lack one.

    Raises:
        DataError: It lacks one, and clips are of one class each; or no held-out clip has a label.
    """
    missing = np.setdiff1d(_present(dataset), _present(dataset, trained))
    names = ", ".join(dataset.class_names[i] for i in missing)
    if len(missing) and not dataset.multilabel:
        raise DataError(
            f"fold {fold}: every clip of {names} is in it, so with it held out there is none to "
            "train on; choose other folds with --fold"
        )
    if not len(_present(dataset, [fold])):
        raise DataError(
            f"fold {fold}: no clip of it has a label, so nothing can be measured on it; choose "
            "other folds with --fold"
        )
    if not len(missing):
        return None
    return (
        f"fold {fold}: with it held out, no clip to train on has the labels {names}; where "
        "held-out clips have them, their average precision is that of guessing, and counts"
    )


def _present(dataset: StoredDataset, folds: Sequence[int] | None = None) -> NDArray[np.int64]:
    """Return the classes of which some folds have a clip with features, ascending."""
    labels = dataset.all_labels(folds)
    return np.flatnonzero(labels.any(axis=0)) if dataset.multilabel else np.unique(labels)


def _absent_classes(dataset: StoredDataset) -> str | None:
    names = dataset.class_names
    absent = np.setdiff1d(np.arange(len(names)), _present(dataset))
    if not len(absent):
        return None
    return f"no clip has features of: {', '.join(names[i] for i in absent)}"

"""The LR range test: a stage's training with a learning rate that grows at each step.

What its losses suggest is for `trainer.training.lrcurve`.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from itertools import count

import torch

from featurestore import StoredDataset
from schemas import LrFind, Reading, RunConfig
from trainer.data.fold_split import split_fold
from trainer.data.interface import StageData
from trainer.data.order import EpochOrder
from trainer.data.reading import Asked, array_bytes, choose_readings, open_split
from trainer.data.shared import training_folds
from trainer.data.waiting import Waiting
from trainer.errors import ConfigError
from trainer.network.model import Network, build_model
from trainer.network.weights import initial_weights
from trainer.outofmemory import loading
from trainer.seeds import derive_seed
from trainer.training.device import device_title, make_repeatable
from trainer.training.engine import StageTrainer
from trainer.training.fitting import stepping
from trainer.training.lrcurve import Suggestion, broken, smoothed, suggest
from trainer.training.schedule import Sweep
from trainer.training.threads import computing_threads

NUM_STEPS = 100


@dataclass(frozen=True)
class Curve:
    """What a range test saw.

    Args:
        lrs: Learning rate of each step taken.
        losses: Mean cross entropy of each step's batch, before the step; the last may be NaN.
        stopped_early: Whether the losses ended it.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    stopped_early: bool

    @property
    def smoothed(self) -> list[float]:
        """The losses, smoothed as in the paper's code."""
        return smoothed(self.losses)

    @property
    def suggestion(self) -> Suggestion:
        """The learning rate that the losses suggest."""
        return suggest(self.lrs, self.losses)


@dataclass(frozen=True)
class Trial:
    """What is swept.

    Args:
        config: Of a run; its first fold is the held-out one.
        stage: Number of the stage, from 1.
        data: The stage's array; only what is trained on is read.
        order: Of the training rows; its epochs follow one another as in training.
    """

    config: RunConfig
    stage: int
    data: StageData
    order: EpochOrder


def find_lr(
    dataset: StoredDataset,
    config: RunConfig,
    stage: int,
    after_step: Callable[[], None],
    asked: Asked = "auto",
) -> tuple[Curve, LrFind, tuple[str, ...]]:
    """The range test of a stage, from the initial weights.

    Args:
        dataset: An open store's dataset.
        config: Of a run of one held-out fold, which is not looked at.
        stage: Number of the stage, from 1.
        after_step: Called after each step.
        asked: Where the stage's data shall lie; changes no number.

    Returns:
        The curve, what it says, and what the user should know.

    Raises:
        ConfigError: The method has no such stage.
        WeightsError: The initial weights cannot be had.
        DeviceMemoryError: The data or a step do not fit.
        featurestore.errors.StoreError: The store is damaged.
    """
    if stage > len(config.stages):
        raise ConfigError(f"stage {stage}: {config.method} has {len(config.stages)} stages")
    device, (fold,) = torch.device(config.device), config.folds
    settings = config.stages[stage - 1]
    weights = initial_weights(config.init, config.arch)
    make_repeatable(device)
    reading = choose_readings(dataset, [settings.array], device, asked)[settings.array]
    with computing_threads(config.threads):
        seed = derive_seed("init", config.seed, fold)
        network = build_model(config.arch, len(dataset.class_names), seed, weights.state)
        trial = Trial(config, stage, *_training_rows(dataset, config, settings.array, reading))
        with stepping(network, settings, dataset.shape(settings.array), config, reading):
            curve = range_test(network.to(device), trial, Sweep(NUM_STEPS), after_step)
    suggestion = curve.suggestion
    found = LrFind(
        config=config,
        fingerprint=dataset.fingerprint,
        stage=stage,
        fold=fold,
        init_used=weights.used,
        num_steps=len(curve.lrs),
        last_lr=curve.lrs[-1],
        stopped_early=curve.stopped_early,
        suggestion=suggestion.lr,
        reason=suggestion.reason,
        device_name=device_title(device),
    )
    return curve, found, (weights.warning,) if weights.warning else ()


def _training_rows(
    dataset: StoredDataset, config: RunConfig, array: str, reading: Reading
) -> tuple[StageData, EpochOrder]:
    """An array of the training folds, and its order; the held-out fold is not read."""
    device, (fold,) = torch.device(config.device), config.folds
    with loading(array, array_bytes(dataset, array), reading, config.device):
        rows = open_split(dataset, array, training_folds(dataset, fold), device, reading)
    return StageData(array, rows, rows), split_fold(dataset, config, fold).order


def range_test(
    network: Network, trial: Trial, sweep: Sweep, after_step: Callable[[], None]
) -> Curve:
    """Train a copy of the network while the learning rate grows, until the loss breaks.

    Ends where the loss is no number, or where, smoothed, it is four times the best so far.

    Source: PROTOCOL section 2.

    Args:
        network: On the device; nothing of it changes.
        trial: Gives the data, batch size, weight decay and the body's share of the rate.
        sweep: The learning rates.
        after_step: Called after each step.
    """
    stage = trial.config.stages[trial.stage - 1]
    trainer = StageTrainer(deepcopy(network), stage, trial.data, trial.config, schedule=sweep)
    lrs: list[float] = []
    losses: list[float] = []
    for _ in _steps(trainer, trial):
        lrs.append(sweep.lr(len(lrs)))
        losses.append(trainer.take_totals().loss)
        after_step()
        stop = broken(losses)
        if stop or len(losses) == sweep.num_steps:
            break
    return Curve(tuple(lrs), tuple(losses), stop)


def _steps(trainer: StageTrainer, trial: Trial) -> Iterator[None]:
    """Steps without end: epoch after epoch, each as in training."""
    fold = trial.config.folds[0]
    for epoch in count(1):
        seed = derive_seed("dropout", trial.config.seed, fold, epoch)
        with closing(trainer.steps(trial.order.windows(epoch), seed, Waiting())) as steps:
            yield from steps

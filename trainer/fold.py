"""One held-out fold: the whole schedule, from the initial weights to the fold's result.

Everything random comes from seeds of its own (`trainer.seeds`), so folds are independent of each
other and of the order they are run in.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from featurestore import StoredDataset
from schemas import EpochMetrics, FoldResult, RunConfig, Stage
from trainer.checkpoint import Checkpoint
from trainer.data import StageData
from trainer.device import own_stream
from trainer.engine import StageTrainer
from trainer.errors import DivergedError
from trainer.events import BatchDone, EpochDone, FoldDone, FoldStarted, Notify, StageStarted, Warned
from trainer.keeper import Keeper
from trainer.model import Network, build_model
from trainer.order import EpochOrder
from trainer.seeds import derive_seed
from trainer.shared import HeldArray, SharedArrays, training_folds


@dataclass(frozen=True)
class Job:
    """What every fold of a run shares.

    Args:
        dataset: The features.
        config: Of the run; its device is there.
        arrays: What is trained on.
        body_state: Initial weights of the body, or None for random ones.
        notify: Told what happens.
    """

    dataset: StoredDataset
    config: RunConfig
    arrays: SharedArrays
    body_state: Mapping[str, Tensor] | None
    notify: Notify


def train_fold(job: Job, fold: int, folder: Path) -> FoldResult:
    """Train for one held-out fold, and leave its best and last network in `folder`.

    However it ends, the last good networks are on disk afterwards.

    Raises:
        DivergedError: A loss is not finite.
        RunDirectoryError: A checkpoint cannot be written.
        featurestore.errors.CorruptError: The store is damaged.
    """
    device = torch.device(job.config.device)
    with own_stream(device), Keeper(folder) as keeper:
        return _FoldTrainer(job, fold, keeper).run()


class _FoldTrainer:
    """A fold in progress."""

    def __init__(self, job: Job, fold: int, keeper: Keeper) -> None:
        self._job, self._fold, self._keeper = job, fold, keeper
        self._model = _initial_model(job, fold).to(torch.device(job.config.device))
        self._order = _training_order(job, fold)
        self._held: HeldArray | None = None
        self._epochs: list[EpochMetrics] = []

    def run(self) -> FoldResult:
        """Every stage in turn."""
        started = time.perf_counter()
        num_train, num_test = sum(self._order.sizes), len(self._job.dataset.clips([self._fold]))
        self._job.notify(FoldStarted(self._fold, num_train, num_test))
        for number, stage in enumerate(self._job.config.stages, start=1):
            self._run_stage(number, stage)
        best, last = self._best(), self._epochs[-1]
        result = FoldResult(
            fold=self._fold,
            num_train=num_train,
            num_test=num_test,
            best_accuracy=best.valid_accuracy,
            best_epoch=best.epoch,
            last_accuracy=last.valid_accuracy,
            last_epoch=last.epoch,
            seconds=time.perf_counter() - started,
        )
        self._job.notify(FoldDone(result))
        return result

    def _best(self) -> EpochMetrics:
        """The first of the epochs of the highest accuracy."""
        return max(self._epochs, key=lambda epoch: epoch.valid_accuracy)

    def _run_stage(self, number: int, stage: Stage) -> None:
        """One 1cycle, from the best network so far."""
        self._job.notify(StageStarted(self._fold, number, stage))
        if self._keeper.best is not None:
            self._model.load_state_dict(self._keeper.best.model)
        data = self._load(stage.array)
        trainer = StageTrainer(self._model, stage, data, self._job.config, self._warn)
        for _ in range(stage.epochs):
            self._run_epoch(number, stage, trainer)

    def _load(self, array: str) -> StageData:
        """The stage's data; neighbouring stages of one array share it."""
        if self._held is None or self._held.name != array:
            self._held = None  # two stages' data are never held at once
            self._held = self._job.arrays.hold(array)
        return self._held.stages[self._fold]

    def _warn(self, message: str) -> None:
        self._job.notify(Warned(message))

    def _run_epoch(self, number: int, stage: Stage, trainer: StageTrainer) -> None:
        epoch = len(self._epochs) + 1
        order = self._order.windows(epoch)
        seed = derive_seed("dropout", self._job.config.seed, self._fold, epoch)
        done = BatchDone(self._fold)
        outcome = trainer.run_epoch(order, seed, lambda: self._job.notify(done))
        if not outcome.finite:
            kept = self._keeper.last_path if self._keeper.last else None
            raise DivergedError(self._fold, number, stage, epoch, outcome.rates, kept)
        metrics = EpochMetrics(
            fold=self._fold,
            stage=number,
            epoch=epoch,
            array=stage.array,
            max_lr=stage.max_lr,
            train_loss=outcome.train.loss,
            valid_loss=outcome.valid.loss,
            valid_accuracy=outcome.valid.accuracy,
            seconds=outcome.seconds,
            samples_per_s=outcome.samples_per_s,
            wait_share=outcome.wait_share,
        )
        self._epochs.append(metrics)
        self._keeper.keep(self._checkpoint(metrics))
        self._job.notify(EpochDone(metrics, self._best().valid_accuracy))

    def _checkpoint(self, metrics: EpochMetrics) -> Checkpoint:
        return Checkpoint(
            model={name: value.clone() for name, value in self._model.state_dict().items()},
            fold=self._fold,
            stage=metrics.stage,
            epoch=metrics.epoch,
            accuracy=metrics.valid_accuracy,
            config=self._job.config,
            fingerprint=self._job.dataset.fingerprint,
            class_names=self._job.dataset.class_names,
        )


def _initial_model(job: Job, fold: int) -> Network:
    """The network a fold starts from; the same for every method."""
    seed = derive_seed("init", job.config.seed, fold)
    return build_model(job.config.arch, len(job.dataset.class_names), seed, job.body_state)


def _training_order(job: Job, fold: int) -> EpochOrder:
    """The order of all folds but one; the same for every method."""
    dataset = job.dataset
    folds = training_folds(dataset, fold)
    sizes = tuple(len(dataset.labels(block)) for block in dataset.blocks(folds))
    return EpochOrder(job.config.seed, dataset.fingerprint, folds, sizes)

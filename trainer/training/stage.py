"""Training of one stage: a 1cycle of AdamW over batches, with evaluation after each epoch.

Within an epoch nothing waits for the device. An epoch is a generator, so that one thread can train
several folds in turns and waits only if it has nothing else to do. When to stop, what to keep and
what to report are decided in `trainer.training.fold`.
"""

import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from schemas import RunConfig, Stage
from trainer.data.buffers import download
from trainer.data.order import Window
from trainer.data.source import Source, StageData, as_float32
from trainer.model import Network
from trainer.records.checkpoint import StageState
from trainer.task import TASKS
from trainer.training.acceleration import Fallbacks, accelerate, without_compiler
from trainer.training.augment import Augmentation
from trainer.training.schedule import OneCycle, Schedule, lr_range, num_steps
from trainer.training.step import (
    BETA2,
    Totals,
    make_eval_step,
    make_optimizer,
    make_train_step,
    totals,
)

T = TypeVar("T")
Ready = Callable[[], bool]
"""Function that returns whether the awaited result is ready."""
Progress = Generator[Ready | None, None, T]
"""Generator that pauses after each step (None), and while it waits until something is ready."""


class Stopwatch:
    """Measures the seconds a loop waits for its next item.

    Attributes:
        seconds: Total so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, timing how long each takes to arrive."""
        source = iter(items)
        while True:
            started = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - started
            yield item


@dataclass(frozen=True)
class EpochResult:
    """Result of an epoch.

    Args:
        train: Totals of training, each batch evaluated before its step.
        valid: Totals of the evaluation after the epoch.
        score: Score of the evaluation, in [0, 1].
        train_s: Seconds spent training.
        seconds: Seconds spent training and evaluating.
        wait_s: Seconds of these spent waiting for data.
        lrs: Lowest and highest learning rate of the epoch's steps.
        failed_recordings: Number of attempts to record a step as a CUDA graph that failed or were
            put off.
    """

    train: Totals
    valid: Totals
    score: float
    train_s: float
    seconds: float
    wait_s: float
    lrs: tuple[float, float]
    failed_recordings: int = 0

    @property
    def finite(self) -> bool:
        """Whether both losses are finite."""
        return self.train.finite and self.valid.finite

    @property
    def samples_per_s(self) -> float:
        """Training clips per second of training."""
        return self.train.num_samples / self.train_s

    @property
    def wait_share(self) -> float:
        """Fraction of all seconds spent waiting for data."""
        return self.wait_s / self.seconds


class StageTrainer:
    """A stage in progress: network, new optimiser, and position in the schedule.

    Args:
        model: The network, on the device; trained in place.
        stage: Settings of the stage: epochs and learning rates.
        data: Data of the stage.
        config: Config with batch size, weight decay, precision and acceleration.
        warn: Called with a line if a step cannot run with the configured acceleration.
        alternate: Data for every second epoch: other images of the same shape and clips.
        schedule: Learning rates and momentum; by default the 1cycle of the stage.
    """

    def __init__(
        self,
        model: Network,
        stage: Stage,
        data: StageData,
        config: RunConfig,
        warn: Callable[[str], None] = warnings.warn,
        alternate: StageData | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        self._model = model.to(memory_format=torch.channels_last)  # the layout of fast convolutions
        self._data = (data, alternate or data)
        self._config = config
        self._steps = num_steps(len(data.train), config.batch_size)
        self._schedule = schedule or OneCycle(self._steps * stage.epochs, stage.max_lr)
        self._step = 0
        self._optimizer = make_optimizer(
            model, stage.body_lr_ratio, config.weight_decay, config.layer_groups
        )
        device = data.train.device
        self._generator = torch.Generator(device)
        augment = Augmentation(config, device)
        # One tensor for a batch's random numbers, refilled at each step: dropout takes the first
        # columns, mixing and masks the last.
        self._batch = min(config.batch_size, len(data.train))
        self._shape: torch.Size | None = None  # of every training batch, once there was one
        self._noise = torch.empty(self._batch, model.noise_size + augment.noise_size, device=device)
        # Sums stay on the device, so that no step waits for it; float64, as epochs are long.
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)
        # The steps hold no reference to this object: they would keep it, and its data, in a circle
        # that is freed late.
        train_step = partial(make_train_step, self._optimizer, self._sums, config, augment)
        self._task, self._kept = TASKS[config.task], list[tuple[Tensor, Tensor]]()
        eval_step = partial(make_eval_step, self._sums, config, self._kept)
        # A recorded evaluation could not append each batch's probabilities to a list.
        how = config.acceleration
        eval_how = "eager" if self._task.keeps_probabilities else without_compiler(how)
        self._fallbacks = Fallbacks(warn)
        self._train_step = accelerate(train_step, self._model, how, self._fallbacks)
        self._eval_step = accelerate(eval_step, self._model, eval_how, self._fallbacks)

    def state(
        self, copy: Callable[[Mapping[str, Any]], Mapping[str, Any]] = deepcopy
    ) -> StageState:
        """Return everything that the rest of the stage depends on, except the network.

        Args:
            copy: Function that copies the optimiser's state dict.
        """
        return StageState(self._step, copy(self._optimizer.state_dict()))

    def restore(self, state: StageState) -> None:
        """Resume from a state of this stage, as if never interrupted."""
        self._step = state.step
        self._load_optimizer(state.optimizer)

    def take_moments(self, optimizer: Mapping[str, Any]) -> None:
        """Continue with the moments and step counts of another stage's optimiser.

        Args:
            optimizer: `StageState.optimizer` of a stage of the same network.
        """
        # This stage keeps its own groups, which hold its learning rates' ratios.
        groups = self._optimizer.state_dict()["param_groups"]
        self._load_optimizer({"state": optimizer["state"], "param_groups": groups})

    def _load_optimizer(self, state: Mapping[str, Any]) -> None:
        # PyTorch keeps the given tensors and trains them in place; the caller saves its own if this
        # epoch is stopped.
        self._optimizer.load_state_dict(deepcopy(dict(state)))

    @property
    def data(self) -> StageData:
        """Data of the next epoch."""
        return self._data[self._step // self._steps % 2]

    def run_epoch(
        self, order: Iterable[Window], seed: int, after_batch: Callable[[], None]
    ) -> EpochResult:
        """Train for an epoch, evaluate, and wait for the result.

        Args:
            order: Order of the training rows.
            seed: Random seed, see `steps`.
            after_batch: Called after each step was queued on the device.
        """
        epoch = self.epoch(order, seed)
        while True:
            try:
                if next(epoch) is None:
                    after_batch()
            except StopIteration as end:
                result: EpochResult = end.value
                return result

    def epoch(self, order: Iterable[Window], seed: int) -> Progress[EpochResult]:
        """Train for an epoch, and evaluate.

        Args:
            order: Order of the training rows.
            seed: Random seed, see `steps`.
        """
        valid = self.data.valid  # before the epoch: its last step moves `data` on to the next
        waiting, first, failed = Stopwatch(), self._step, self._fallbacks.failed_recordings
        started = time.perf_counter()
        with closing(self.steps(order, seed, waiting)) as steps:
            yield from steps
        train = yield from self._totals()
        train_s = time.perf_counter() - started
        self._validate(valid, waiting)
        judged = yield from self._totals()
        kept = [list(parts) for parts in zip(*self._kept, strict=True)] or [[], []]
        self._kept.clear()
        return EpochResult(
            train=train,
            valid=judged,
            score=self._task.score(judged.accuracy, *kept) if judged.finite else 0.0,
            train_s=train_s,
            seconds=time.perf_counter() - started,
            wait_s=waiting.seconds,
            lrs=lr_range(self._schedule, first, self._step),
            failed_recordings=self._fallbacks.failed_recordings - failed,
        )

    def steps(
        self, order: Iterable[Window], seed: int, waiting: Stopwatch
    ) -> Generator[None, None, None]:
        """Train for an epoch, and yield after every step (one per whole batch).

        Args:
            order: Order of the training rows.
            seed: Seed of the epoch's dropout, mixing and masks, in [0, 2**63).
            waiting: Stopwatch for the time spent waiting for data.
        """
        self._generator.manual_seed(seed)
        self._model.train()
        source = self.data.train
        with closing(source.batches(order, self._config.batch_size)) as batches:
            for images, labels in waiting.timed(islice(batches, self._steps)):
                # AdamW reads the gradients where the recorded step left them. A step of another
                # shape or dtype would leave them elsewhere, unread: arrays that alternate may be
                # stored differently, so images are converted before the step.
                self._shape = self._shape or torch.Size((self._batch, *images.shape[1:]))
                if images.shape != self._shape:
                    raise ValueError(f"a batch of {[*images.shape]}, expected {[*self._shape]}")
                noise = self._noise.uniform_(generator=self._generator)
                self._train_step(as_float32(images, source.scale), labels, noise)
                self._update()
                yield

    def take_totals(self) -> Totals:
        """Return the totals of all steps since the last call; waits for the device."""
        since = totals(self._sums)
        self._sums.zero_()
        return since

    def _totals(self) -> Progress[Totals]:
        """Return what `take_totals` does; pauses instead of waiting."""
        sums, ready = download(self._sums)
        self._sums.zero_()
        while not ready():
            yield ready
        return totals(sums)

    @torch.inference_mode()
    def _validate(self, source: Source, waiting: Stopwatch) -> None:
        """Evaluate every clip of the validation part or the held-out fold."""
        self._model.eval()
        with closing(source.in_order(self._config.batch_size)) as batches:
            for images, labels in waiting.timed(batches):
                self._eval_step(as_float32(images, source.scale), labels)

    def _update(self) -> None:
        """Apply the gradients at the schedule's learning rate and momentum."""
        # Outside the recorded step: a fused AdamW takes its momentum as a number, and a graph would
        # repeat the recorded one for ever.
        lr, momentum = self._schedule.lr(self._step), self._schedule.momentum(self._step)
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group["lr_ratio"]
            group["betas"] = (momentum, BETA2)
        self._optimizer.step()
        self._step += 1

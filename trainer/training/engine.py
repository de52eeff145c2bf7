"""One stage's training: a 1cycle of AdamW over batches, and validation.

Within an epoch nothing waits for the device. When to stop, what to keep and what to report are
for `trainer.training.fold`.
"""

import time
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from schemas import RunConfig, Stage
from trainer.data.interface import Split, StageData, as_float32
from trainer.data.order import Window
from trainer.data.waiting import Waiting
from trainer.network.model import Network
from trainer.records.state import StageState
from trainer.training.acceleration import Forward, Step, accelerate, without_compiler
from trainer.training.augment import Augmentation, training_loss
from trainer.training.device import autocast
from trainer.training.metrics import Totals, batch_sums, totals
from trainer.training.schedule import OneCycle, Schedule, span

BETA2, EPS = 0.99, 1e-8


def num_steps(num_samples: int, batch_size: int) -> int:
    """Steps an epoch: whole batches only, but never none; fewer samples make one small batch."""
    return max(1, num_samples // batch_size)


@dataclass(frozen=True)
class Outcome:
    """What an epoch gave.

    Args:
        train: Over the epoch, each batch as the network was before its step.
        valid: Over the clips it is judged by, after the epoch.
        train_s: Seconds spent training.
        seconds: With validation.
        wait_s: Seconds of these spent waiting for data.
        rates: The lowest and the highest learning rate of the epoch's steps.
    """

    train: Totals
    valid: Totals
    train_s: float
    seconds: float
    wait_s: float
    rates: tuple[float, float]

    @property
    def finite(self) -> bool:
        """Whether both losses are numbers."""
        return self.train.finite and self.valid.finite

    @property
    def samples_per_s(self) -> float:
        """Training samples a second of training."""
        return self.train.num_samples / self.train_s

    @property
    def wait_share(self) -> float:
        """Of all seconds, those spent waiting for data."""
        return self.wait_s / self.seconds


class StageTrainer:
    """A stage in progress: the network, a fresh optimiser, and the position in the schedule.

    Args:
        model: On the device, and trained in place.
        stage: Gives the epochs and learning rates.
        data: The stage's arrays.
        config: Gives batch size, weight decay, precision and acceleration.
        warn: Told, in a line, why a step is not run as the config wants it.
        alternate: What every second epoch sees instead: images of the same shape and clips.
        schedule: Learning rates and momentum; the stage's 1cycle by default.
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
        self._model = model.to(memory_format=torch.channels_last)
        self._data = (data, alternate or data)
        self._config = config
        self._steps = num_steps(len(data.train), config.batch_size)
        self._schedule = schedule or OneCycle(self._steps * stage.epochs, stage.max_lr)
        self._step = 0
        self._optimizer = make_optimizer(model, stage.body_lr_ratio, config.weight_decay)
        device = data.train.device
        self._generator = torch.Generator(device)
        size = min(config.batch_size, len(data.train))
        augment = Augmentation(config, device)
        noise_size = model.noise_size + augment.noise_size
        self._noise = torch.empty(size, noise_size, device=device)
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)
        learning = partial(
            _learning, self._optimizer, self._sums, config, augment, data.train.scale
        )
        judging = partial(_judging, self._sums, config.precision, data.valid.scale)
        how = config.acceleration
        self._learn = accelerate(learning, self._model, how, warn)
        self._judge = accelerate(judging, self._model, without_compiler(how), warn)

    def state(self) -> StageState:
        """A copy of all that the rest of the stage depends on, next to the network."""
        return StageState(self._step, deepcopy(self._optimizer.state_dict()))

    def restore(self, state: StageState) -> None:
        """Go on from a state of this stage, as if never interrupted."""
        self._step = state.step
        self._optimizer.load_state_dict(dict(state.optimizer))

    @property
    def data(self) -> StageData:
        """What the next epoch sees."""
        return self._data[self._step // self._steps % 2]

    def run_epoch(
        self, order: Iterable[Window], seed: int, after_batch: Callable[[], None]
    ) -> Outcome:
        """Train for an epoch, then validate.

        Args:
            order: The order of the training rows.
            seed: See `steps`.
            after_batch: Called after each step was handed to the device.
        """
        valid = self.data.valid
        waiting = Waiting()
        first = self._step
        started = time.perf_counter()
        with closing(self.steps(order, seed, waiting)) as steps:
            for _ in steps:
                after_batch()
        train = self.take_totals()
        train_s = time.perf_counter() - started
        found = self._validate(valid, waiting)
        seconds = time.perf_counter() - started
        rates = span(self._schedule, first, self._step)
        return Outcome(train, found, train_s, seconds, waiting.seconds, rates)

    def steps(
        self, order: Iterable[Window], seed: int, waiting: Waiting
    ) -> Generator[None, None, None]:
        """Train for an epoch, a step on every whole batch of the order, one for each item.

        Args:
            order: The order of the training rows.
            seed: Of the epoch's dropout, mixing and masks, in [0, 2**63).
            waiting: Times how long data are waited for.
        """
        self._generator.manual_seed(seed)
        self._model.train()
        with closing(self.data.train.batches(order, self._config.batch_size)) as batches:
            for images, labels in waiting.watch(islice(batches, self._steps)):
                self._learn(images, labels, self._noise.uniform_(generator=self._generator))
                self._update()
                yield

    def take_totals(self) -> Totals:
        """Of all steps since the last time, at least one; waits for the device."""
        found = totals(self._sums)
        self._sums.zero_()
        return found

    @torch.inference_mode()
    def _validate(self, split: Split, waiting: Waiting) -> Totals:
        """Every clip that the epoch is judged by, in batches."""
        self._model.eval()
        with closing(split.in_order(self._config.batch_size)) as batches:
            for batch in waiting.watch(batches):
                self._judge(*batch)
        return self.take_totals()

    def _update(self) -> None:
        """The optimiser's step, never recorded: a fused AdamW takes its momentum as a number."""
        lr, momentum = self._schedule.lr(self._step), self._schedule.momentum(self._step)
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group["lr_ratio"]
            group["betas"] = (momentum, BETA2)
        self._optimizer.step()
        self._step += 1


# The steps know nothing of the stage's trainer: it would hold itself, and its data, in a circle.


def _learning(
    optimizer: torch.optim.Optimizer,
    sums: Tensor,
    config: RunConfig,
    augment: Augmentation,
    scale: float,
    network: Forward,
) -> Step:
    """Gradients of a batch, and what it adds to the epoch's sums."""

    def learn(images: Tensor, labels: Tensor, noise: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        seen, targets = augment(as_float32(images, scale), labels, noise)
        with autocast(config.precision, images.device):
            logits = network(seen, noise)
            loss = training_loss(logits, targets, config.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        sums.add_(batch_sums(loss, logits, labels))

    return learn


def _judging(sums: Tensor, precision: str, scale: float, network: Forward) -> Step:
    """What a batch adds to the validation's sums."""

    def judge(images: Tensor, labels: Tensor) -> None:
        with autocast(precision, images.device):
            logits = network(as_float32(images, scale))
            loss = cross_entropy(logits, labels)
        sums.add_(batch_sums(loss, logits, labels))

    return judge


def make_optimizer(model: Network, body_lr_ratio: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW with decoupled decay on all parameters, in two groups: the body and the head.

    Each group's `lr_ratio` is its learning rate over the cycle's; rates are set at each step.
    """

    def group(part: nn.Module, ratio: float) -> dict[str, object]:
        return {"params": list(part.parameters()), "lr_ratio": ratio}

    return torch.optim.AdamW(
        [group(model.body, body_lr_ratio), group(model.head, 1.0)],
        eps=EPS,
        weight_decay=weight_decay,
        fused=True,  # one pass over the parameters: 3 times faster on a CPU
    )

"""The LR range test: training at increasing learning rates, and a suggestion from the losses.

For a single stage (`find_lr`), and for all stages of a run before it trains (`measure_rates`).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, count, takewhile

import numpy as np
import torch
from numpy.typing import NDArray

from featurestore import StoredDataset
from schemas import LrFind, Placement, RangeTest, RunConfig
from trainer.data.arrays import PlacementChoice, choose_placements, open_source
from trainer.data.order import EpochOrder, derive_seed
from trainer.data.source import Source, StageData
from trainer.data.split import FoldSplit, split_fold, trained_folds, training_folds
from trainer.errors import ConfigError
from trainer.model import Network, build_model
from trainer.oom import explain_oom_training
from trainer.threads import computing_threads
from trainer.training.device import computing_on, device_title, own_stream
from trainer.training.schedule import Sweep
from trainer.training.stage import StageTrainer, Stopwatch
from trainer.weights import InitialWeights, initial_weights

NUM_STEPS = 100
SMOOTHING = 0.98
STOP_RATIO = 4
"""Ratio of the smoothed loss to the best so far that ends a test."""
WINDOW_DECADES = 1.0
REDUCING = 0.5
"""Fraction of the steepest decrease of the smoothed loss that still counts as a reduction."""
RISING = 0.1
"""Rise, as a fraction of the batches' steepest decrease, that still counts as stable."""
SIGNIFICANT = 5
"""Number of standard errors by which the loss must decrease to exceed the noise of batches."""


@dataclass(frozen=True)
class Suggestion:
    """A suggested learning rate.

    Args:
        lr: Learning rate; None if the curve suggests none.
        reason: How it was found, or why there is none, in one line.
    """

    lr: float | None
    reason: str


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return the exponential moving average of losses, beta 0.98, with bias correction."""
    sums = accumulate(losses, lambda mean, x: SMOOTHING * mean + (1 - SMOOTHING) * x, initial=0.0)
    return [mean / (1 - SMOOTHING**n) for n, mean in enumerate(sums) if n]


def broken(losses: Sequence[float]) -> bool:
    """Return whether a test is over: the last loss is not finite, or smoothed 4 times the best."""
    if not math.isfinite(losses[-1]):
        return True
    means = smoothed(losses)
    return means[-1] > STOP_RATIO * min(means)


def suggest(lrs: Sequence[float], losses: Sequence[float]) -> Suggestion:
    """Suggest the largest learning rate at which the loss still decreased stably.

    The paper's words: "the largest value that achieves a stable reduction in loss". Lines are
    fitted to the smoothed losses and to the batches' own, over log λ, in the decade of λ around
    each step. The suggestion is the last step before the minimum of the smoothed loss with both:

    * a reduction: the smoothed loss decreases at least half as fast as at its steepest;
    * stability: the batches' losses do not rise faster than a tenth of their steepest decrease.
      They react earlier than the smoothed loss, which decreases as long as they are below it.

    Effects that a batch cannot show are missed: without noise, a converged direction diverges for
    some steps before it becomes visible.

    There is no suggestion if no decade's mean loss is below the first one's by 5 standard errors,
    estimated from differences between successive batches.

    Args:
        lrs: Learning rate of each step, growing by a constant factor.
        losses: Loss of each step's batch, before the step; the first non-finite one and all after
            it are ignored.
    """
    y = np.array(list(takewhile(math.isfinite, losses)))
    half = max(2, round(WINDOW_DECADES / 2 / math.log10(lrs[1] / lrs[0])))
    size = 2 * half + 1
    if len(y) < 2 * size:
        return Suggestion(None, f"the loss broke after {len(y)} steps, too soon to see it fall")
    x, means = np.log10(np.array(lrs[: len(y)])), np.array(smoothed(list(y)))
    stop = max(1, int(means.argmin()) + 1 - half)
    levels, slopes = (line[:stop] for line in _lines(x, y, size))
    _, smoothed_slopes = (line[:stop] for line in _lines(x, means, size))
    fall = float(levels[0] - levels.min())
    if fall <= SIGNIFICANT * _noise(y[: stop + 2 * half]) * math.sqrt(2 / size):
        return Suggestion(None, "the loss did not fall by more than its noise")
    reduced = smoothed_slopes <= REDUCING * smoothed_slopes.min()
    stable = slopes <= -RISING * slopes.min()
    chosen = np.flatnonzero(reduced & stable)
    if not len(chosen):
        return Suggestion(None, "the loss never fell stably")
    return Suggestion(
        float(lrs[chosen[-1] + half]),
        f"the last λ at which the smoothed loss fell at least {REDUCING:g} times as fast as at its "
        f"fastest, and the batches' own did not rise",
    )


def _lines(
    x: NDArray[np.float64], y: NDArray[np.float64], size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the least-squares slope of each window of `size` neighbours."""
    windows = np.lib.stride_tricks.sliding_window_view(y, size)
    places = x[:size] - x[:size].mean()
    return windows.mean(axis=1), windows @ places / (places @ places)


def _noise(y: NDArray[np.float64]) -> float:
    """Return the standard deviation of the noise, robust to a trend and to single jumps."""
    # Differences of neighbours cancel the trend; the median of their size ignores jumps. 0.6745 is
    # that median for a standard normal distribution.
    return float(np.median(np.abs(np.diff(y))) / (0.6745 * math.sqrt(2)))


@dataclass(frozen=True)
class Curve:
    """Learning rates and losses of a range test.

    Args:
        lrs: Learning rate of each step.
        losses: Mean cross-entropy of each step's batch, before the step; the last may be NaN.
        stopped_early: Whether the losses ended the test.
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
    """Input of a range test.

    Args:
        config: Config of a run, whose first fold is held out.
        stage: Number of the stage, from 1.
        data: Array of the stage, of which only training clips are used.
        order: Order of the training rows, over successive epochs as in training.
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
    choice: PlacementChoice = "auto",
    sweep: Sweep | None = None,
) -> tuple[Curve, LrFind, tuple[str, ...]]:
    """Run the range test of a stage, from the initial weights.

    Args:
        dataset: An open store's dataset.
        config: Config of a run with one held-out fold, which is not read.
        stage: Number of the stage, from 1.
        after_step: Called after each step.
        choice: Placement of the data; does not affect results.
        sweep: Learning rates; 1e-7 to 10 by default.

    Returns:
        The curve, its record, and warnings for the user.

    Raises:
        ConfigError: The method has no such stage.
        WeightsError: The initial weights are unavailable.
        DeviceMemoryError: The data or a step does not fit.
        featurestore.errors.StoreError: The store is damaged.
    """
    if stage > len(config.stages):
        raise ConfigError(f"stage {stage}: the last one of {config.method} is {len(config.stages)}")
    device, (fold,) = torch.device(config.device), config.folds
    array = config.stages[stage - 1].array
    weights = initial_weights(config.init, config.arch)
    placement = choose_placements(dataset, [array], device, choice)[array]
    with computing_on(device), own_stream(device), computing_threads(config.threads):
        rows = open_source(dataset, array, training_folds(dataset, fold), device, placement)
        split = split_fold(dataset, config, fold)
        trial = _trial(config, stage, rows, split)
        curve = _from_initial_weights(dataset, trial, weights, placement, after_step, sweep)
    suggestion = curve.suggestion
    record = LrFind(
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
    return curve, record, (weights.warning,) if weights.warning else ()


def _trial(config: RunConfig, stage: int, rows: Source, split: FoldSplit) -> Trial:
    data = StageData(config.stages[stage - 1].array, rows, rows)
    return Trial(config, stage, split.of(data), split.order)


def _from_initial_weights(
    dataset: StoredDataset,
    trial: Trial,
    weights: InitialWeights,
    placement: Placement,
    after_step: Callable[[], None],
    sweep: Sweep | None = None,
) -> Curve:
    config, stage = trial.config, trial.config.stages[trial.stage - 1]
    seed = derive_seed("init", config.seed, config.folds[0])
    num_classes = len(dataset.class_names)
    network = build_model(config.arch, num_classes, seed, weights.state, config.first_conv)
    with explain_oom_training(stage, dataset.shape(stage.array), config, placement):
        network.to(torch.device(config.device))
        return range_test(network, trial, sweep or Sweep(NUM_STEPS), after_step)


def measure_rates(
    dataset: StoredDataset,
    config: RunConfig,
    weights: InitialWeights,
    placements: Mapping[str, Placement],
    after_step: Callable[[int, int], None] = lambda _done, _most: None,
    sweep: Sweep | None = None,
) -> tuple[RangeTest, ...]:
    """Measure the learning rates of a run's stages, from the initial weights.

    The clips used are those that every fold of the run trains on, so that no held-out clip affects
    the rates. If all folds are held out in turn there are none: then the first fold's training
    clips are used, which other folds hold out. With a validation part, that of seed 0 and the
    first fold is left out; see `schemas.RangeTest`.

    Args:
        dataset: An open store's dataset.
        config: Config of the run; the rates of its stages are ignored.
        weights: Initial weights.
        placements: Placement of each array's data.
        after_step: Called after each step with the number of steps done and the maximum.
        sweep: Learning rates of each test, `NUM_STEPS` of them; 1e-7 to 10 by default.

    Returns:
        Tests that together cover every stage once.

    Raises:
        ConfigError: A stage's losses suggest no rate.
        DeviceMemoryError: The data or a step does not fit.
        featurestore.errors.StoreError: The store is damaged.
    """
    fold, device = config.folds[0], torch.device(config.device)
    seen = clips_for_rates(dataset, config.folds)
    # Seed 0 whatever the run's: runs of several seeds are to train at the same rates.
    config = config.model_copy(update={"folds": (fold,), "seed": 0})
    split = _restricted(split_fold(dataset, config, fold), dataset, fold, seen)
    alike: dict[tuple[str, float], list[int]] = {}
    for number, stage in enumerate(config.stages, start=1):
        alike.setdefault((stage.array, stage.body_lr_ratio), []).append(number)
    # Tests of one array are next to each other, so that it is read once.
    order = sorted(alike, key=lambda key: [array for array, _ in alike].index(key[0]))
    tests: list[RangeTest] = []
    opened: dict[str, Source] = {}
    with computing_on(device), own_stream(device), computing_threads(config.threads):
        for done, (array, ratio) in enumerate(order):
            if array not in opened:
                opened.clear()
                folds = training_folds(dataset, fold)
                opened[array] = open_source(dataset, array, folds, device, placements[array])
            stages, steps = alike[array, ratio], count(done * NUM_STEPS + 1)
            one = _trial(config, stages[0], opened[array], split)
            curve = _from_initial_weights(
                *(dataset, one, weights, placements[array]),
                partial(_report_step, after_step, steps, len(alike) * NUM_STEPS),
                sweep,
            )
            tests.append(_range_test(curve, stages, array, seen))
    return tuple(tests)


def _report_step(after_step: Callable[[int, int], None], steps: Iterator[int], most: int) -> None:
    after_step(next(steps), most)


def clips_for_rates(dataset: StoredDataset, held_out: Sequence[int]) -> tuple[int, ...]:
    """Return the folds whose clips are used to measure learning rates; see `measure_rates`."""
    trained = [trained_folds(dataset, fold) for fold in held_out]
    common = tuple(fold for fold in trained[0] if all(fold in folds for folds in trained))
    return common or trained[0]


def _restricted(
    split: FoldSplit, dataset: StoredDataset, fold: int, folds: Sequence[int]
) -> FoldSplit:
    """Return a split that trains on clips of those folds only."""
    kept = np.isin(dataset.clips(training_folds(dataset, fold)).fold, folds)
    if split.kept is not None:
        kept &= split.kept
    return replace(split, kept=kept, order=replace(split.order, kept=kept))


def _range_test(
    curve: Curve, stages: Sequence[int], array: str, folds: tuple[int, ...]
) -> RangeTest:
    suggestion = curve.suggestion
    if suggestion.lr is None:
        raise ConfigError(
            f"the range test of {array} (stage {stages[0]}) suggests no λ: {suggestion.reason}; "
            "give the stages' rates with --max-lr X,Y,…"
        )
    return RangeTest(
        stages=tuple(stages),
        folds=folds,
        num_steps=len(curve.lrs),
        max_lr=suggestion.lr,
        reason=suggestion.reason,
    )


def range_test(
    network: Network, trial: Trial, sweep: Sweep, after_step: Callable[[], None]
) -> Curve:
    """Train a copy of the network at increasing learning rates until the loss diverges.

    The test ends when the loss is not finite or, smoothed, four times the best so far.

    Source: PROTOCOL section 2.

    Args:
        network: The network, on the device; it is not modified.
        trial: Input of the test.
        sweep: Learning rates.
        after_step: Called after each step.
    """
    stage = trial.config.stages[trial.stage - 1]
    trainer = StageTrainer(deepcopy(network), stage, trial.data, trial.config, schedule=sweep)
    lrs: list[float] = []
    losses: list[float] = []
    for _ in _steps(trainer, trial):
        lrs.append(sweep.lr(len(lrs)))
        losses.append(trainer.take_totals().loss)  # waits for the device, unlike training
        after_step()
        stop = broken(losses)
        if stop or len(losses) == sweep.num_steps:
            break
    return Curve(tuple(lrs), tuple(losses), stop)


def _steps(trainer: StageTrainer, trial: Trial) -> Iterator[None]:
    """Yield steps without end: epoch after epoch, each as in training."""
    fold = trial.config.folds[0]
    for epoch in count(1):
        seed = derive_seed("dropout", trial.config.seed, fold, epoch)
        with closing(trainer.steps(trial.order.windows(epoch), seed, Stopwatch())) as steps:
            yield from steps

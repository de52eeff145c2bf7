"""The curve of an LR range test: smoothed as in the paper's code, and what it suggests. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile

import numpy as np
from numpy.typing import NDArray

SMOOTHING = 0.98
STOP_RATIO = 4
"""A smoothed loss of this many times the best so far ends a test."""
WINDOW_DECADES = 1.0
REDUCING = 0.5
"""Of the smoothed loss's fastest fall, what still counts as one."""
RISING = 0.1
"""Of the batches' fastest fall, the rise that is still none."""
SIGNIFICANT = 5
"""Standard errors that a fall must have, to be more than the batches' noise."""


@dataclass(frozen=True)
class Suggestion:
    """What a curve says of λ.

    Args:
        lr: The learning rate suggested; None where there is none.
        reason: In a line, how it was found or why there is none.
    """

    lr: float | None
    reason: str


def smoothed(losses: Sequence[float]) -> list[float]:
    """Exponential means of the losses so far, beta 0.98, without the bias to their start at 0."""
    sums = accumulate(losses, lambda mean, x: SMOOTHING * mean + (1 - SMOOTHING) * x, initial=0.0)
    return [mean / (1 - SMOOTHING**n) for n, mean in enumerate(sums) if n]


def broken(losses: Sequence[float]) -> bool:
    """Whether a test is over: the last loss is no number, or smoothed 4 times the best so far."""
    if not math.isfinite(losses[-1]):
        return True
    means = smoothed(losses)
    return means[-1] > STOP_RATIO * min(means)


def suggest(lrs: Sequence[float], losses: Sequence[float]) -> Suggestion:
    """The largest learning rate at which the loss was still being reduced, and stably so.

    The paper's words: "the largest value that achieves a stable reduction in loss". Lines are
    fitted to the smoothed losses and to the batches' own, over log λ, in the decade of λ around
    each step. Of the steps up to the lowest smoothed loss, it is the last one where both hold:

    * a reduction: the smoothed loss falls at least half as fast as at its fastest;
    * a stable one: the batches' losses do not rise faster than a tenth of their fastest fall. They
      tell earlier than the smoothed loss, which falls as long as they are below it.

    What a batch cannot show is not seen: without noise, a direction that has converged grows for
    some steps beyond its limit before it shows.

    There is none where no decade's mean loss is below the first one's by 5 standard errors, taken
    from the differences between one batch and the next.

    Args:
        lrs: λ of each step, growing by one factor.
        losses: Of each step's batch, before the step; what follows the first that is no finite
            number is left out.
    """
    y = np.array(list(takewhile(math.isfinite, losses)))
    half = max(2, round(WINDOW_DECADES / 2 / math.log10(lrs[1] / lrs[0])))
    size = 2 * half + 1
    if len(y) < 2 * size:
        return Suggestion(None, f"the loss broke after {len(y)} steps, too soon to see it fall")
    x, means = np.log10(np.array(lrs[: len(y)])), np.array(smoothed(list(y)))
    stop = max(1, int(means.argmin()) + 1 - half)
    levels, slopes = (found[:stop] for found in _lines(x, y, size))
    _, smoothed_slopes = (found[:stop] for found in _lines(x, means, size))
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
    """Mean and least-squares slope of each window of `size` neighbours."""
    windows = np.lib.stride_tricks.sliding_window_view(y, size)
    places = x[:size] - x[:size].mean()
    return windows.mean(axis=1), windows @ places / (places @ places)


def _noise(y: NDArray[np.float64]) -> float:
    """Standard deviation of what is random, robust to a trend and to single jumps."""
    return float(np.median(np.abs(np.diff(y))) / (0.6745 * math.sqrt(2)))

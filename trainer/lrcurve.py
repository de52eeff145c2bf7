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
SHARE = 0.5
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
    """The largest learning rate at which the loss was still falling well.

    The paper's words: "the largest value that achieves a stable reduction in loss". Here: a line is
    fitted to the losses over log λ in a window of a decade of λ around each step. Up to the window
    of the lowest mean loss, the last step whose line falls at least half as fast as the steepest
    one. There is no suggestion where the loss of that lowest window is below the first window's by
    less than 5 standard errors, taken from the losses' differences from step to step.

    The losses are those of the batches: smoothed with beta 0.98 they would lag by half the test,
    and their fall would go on far beyond the λ at which the batches' own rises.

    Args:
        lrs: λ of each step, growing by one factor.
        losses: Of each step's batch, before the step; what follows the first that is no finite
            number is left out.
    """
    y = np.array(list(takewhile(math.isfinite, losses)))
    x = np.log10(np.array(lrs[: len(y)], dtype=np.float64))
    half = max(2, round(WINDOW_DECADES / 2 / math.log10(lrs[1] / lrs[0])))
    size = 2 * half + 1
    if len(y) < 2 * size:
        return Suggestion(None, f"the loss broke after {len(y)} steps, too soon to see it fall")
    means, slopes = _lines(x, y, size)
    lowest = int(means.argmin())
    fall, noise = float(means[0] - means[lowest]), _noise(y[: lowest + size])
    if fall <= SIGNIFICANT * noise * math.sqrt(2 / size):
        return Suggestion(None, "the loss did not fall by more than its noise")
    falling = np.flatnonzero(slopes[: lowest + 1] <= SHARE * slopes[: lowest + 1].min())
    chosen = int(falling[-1])
    return Suggestion(
        float(lrs[chosen + half]),
        f"the last λ at which the loss fell at least {SHARE:g} times as fast as at its fastest "
        f"({slopes[chosen]:.2g} a decade, {slopes.min():.2g} at its fastest)",
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

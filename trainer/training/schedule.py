"""Learning rate and momentum at each step: the 1cycle policy, and the range test's sweep.

Pure arithmetic.
"""

import math
from dataclasses import dataclass
from typing import Protocol

WARM_UP = 0.3
"""Fraction of the steps in which the learning rate rises."""
START_DIVISOR = 25
END_DIVISOR = 250_000
FEW_STEPS = 50
"""Steps of a cycle up to which it is warned of: BatchNorm's running means, which keep 0.9 of
themselves at each step, lag behind, and the cycle differs from fastai's by more than 5 % of λ."""
LOW_MOMENTUM, HIGH_MOMENTUM = 0.85, 0.95
SWEEP_MOMENTUM = 0.9


class Schedule(Protocol):
    """Learning rate and momentum at each step."""

    def lr(self, step: int) -> float:
        """Return the learning rate of a step; steps count from 0."""

    def momentum(self, step: int) -> float:
        """Return the momentum (Adam's first beta) of a step; steps count from 0."""


def num_steps(num_samples: int, batch_size: int) -> int:
    """Return the steps per epoch: whole batches only, but at least one, of fewer clips if need be.

    Args:
        num_samples: Training clips, at least 1.
        batch_size: Clips per batch.
    """
    return max(1, num_samples // batch_size)


def lr_range(schedule: Schedule, first: int, stop: int) -> tuple[float, float]:
    """Return the lowest and the highest learning rate of steps first … stop - 1, at least one."""
    rates = [schedule.lr(step) for step in range(first, stop)]
    return min(rates), max(rates)


@dataclass(frozen=True)
class OneCycle:
    """1cycle in two cosine phases: up from λ/25 to λ in 30 % of the steps, then down to λ/250000.

    Momentum mirrors it: 0.95, 0.85, 0.95. A cycle of one step takes that step at the peak.

    Source: PROTOCOL section 2; equal to PyTorch's `OneCycleLR` with those parameters, but for the
    cycle of one step, which `OneCycleLR` takes at λ/250000.

    Args:
        num_steps: Steps of the whole cycle, at least 1.
        max_lr: λ.
    """

    num_steps: int
    max_lr: float

    def lr(self, step: int) -> float:
        """Return the learning rate of step 0 … num_steps - 1."""
        return self._at(step, self.max_lr / START_DIVISOR, self.max_lr, self.max_lr / END_DIVISOR)

    def momentum(self, step: int) -> float:
        """Return the momentum (Adam's first beta) of step 0 … num_steps - 1."""
        return self._at(step, HIGH_MOMENTUM, LOW_MOMENTUM, HIGH_MOMENTUM)

    def _at(self, step: int, start: float, peak: float, end: float) -> float:
        if self.num_steps == 1:
            return peak
        turn = WARM_UP * self.num_steps - 1
        last = self.num_steps - 1
        if step <= turn:
            return _cosine(start, peak, step / turn)
        return _cosine(peak, end, (step - turn) / (last - turn))


def _cosine(start: float, end: float, share: float) -> float:
    """Return a point between `start` (share 0) and `end` (share 1) along half a cosine."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


@dataclass(frozen=True)
class Sweep:
    """Learning rates that grow by the same factor at each step; momentum is 0.9.

    Source: PROTOCOL section 2; the momentum is Adam's default, as in fastai 1.

    Args:
        num_steps: At least 2.
        start: Learning rate of the first step, above 0.
        end: Learning rate of the last step.
    """

    num_steps: int = 100
    start: float = 1e-7
    end: float = 10.0

    def lr(self, step: int) -> float:
        """Return the learning rate of step 0 … num_steps - 1."""
        share = step / (self.num_steps - 1)
        return float(self.start ** (1 - share) * self.end**share)

    def momentum(self, step: int) -> float:
        """Return the momentum, the same at every step."""
        del step
        return SWEEP_MOMENTUM

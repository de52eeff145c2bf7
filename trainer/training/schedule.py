"""Schedules of learning rate and momentum: the 1cycle policy, and the sweep of the range test.

Pure arithmetic.
"""

import math
from dataclasses import dataclass

WARM_UP = 0.3
"""Fraction of the steps in which the learning rate increases."""
START_DIVISOR = 25
END_DIVISOR = 250_000
FEW_STEPS = 50
"""Maximum number of steps of a cycle that causes a warning: BatchNorm's running means, with a decay
of 0.9 per step, lag behind, and the cycle may differ from fastai's by more than 5 % of λ."""
LOW_MOMENTUM, HIGH_MOMENTUM = 0.85, 0.95
SWEEP_MOMENTUM = 0.9


def num_steps(num_samples: int, batch_size: int) -> int:
    """Return the number of steps per epoch: whole batches only, but at least one step.

    Args:
        num_samples: Number of training clips, at least 1.
        batch_size: Clips per batch.
    """
    return max(1, num_samples // batch_size)


def layer_ratios(body_lr_ratio: float, num_groups: int) -> list[float]:
    """Return each layer group's learning rate over the head's, from the input to the head.

    They increase geometrically from the body's ratio r to 1: with three groups, r, √r and 1.
    """
    last = num_groups - 1
    return [body_lr_ratio ** ((last - at) / last) for at in range(num_groups)]


@dataclass(frozen=True)
class OneCycle:
    """1cycle policy in two cosine phases: up from λ/25 to λ in 30 % of the steps, down to λ/250000.

    Momentum mirrors it: 0.95, 0.85, 0.95. A cycle of one step takes that step at the peak.

    Source: PROTOCOL section 2; equal to PyTorch's `OneCycleLR` with these parameters, except for a
    cycle of one step, which `OneCycleLR` takes at λ/250000.

    Args:
        num_steps: Number of steps of the whole cycle, at least 1.
        max_lr: Peak learning rate λ.
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
    """Learning rates that grow by a constant factor at each step; momentum is 0.9.

    Source: PROTOCOL section 2; the momentum is Adam's default, as in fastai 1.

    Args:
        num_steps: Number of steps, at least 2.
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
        """Return the momentum, which is constant."""
        del step
        return SWEEP_MOMENTUM


Schedule = OneCycle | Sweep
"""Learning rate and momentum at each step."""


def lr_range(schedule: Schedule, first: int, stop: int) -> tuple[float, float]:
    """Return the lowest and the highest learning rate of the steps [first, stop)."""
    rates = [schedule.lr(step) for step in range(first, stop)]
    return min(rates), max(rates)

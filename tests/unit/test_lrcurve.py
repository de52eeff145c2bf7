import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.report.curves import useful_range
from trainer.training.lr_find import broken, smoothed, suggest
from trainer.training.schedule import Sweep

SWEEP = Sweep()
RATES = [SWEEP.lr(step) for step in range(SWEEP.num_steps)]
DECADES = np.log10(RATES)


def noise(seed: int, size: float) -> NDArray[np.float64]:
    return size * np.random.default_rng(seed).standard_normal(len(RATES))


def descent(curvatures: NDArray[np.float64], seed: int) -> tuple[list[float], list[float]]:
    """Gradient descent on quadratics of these curvatures, whose batches' minima scatter."""
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(curvatures)
    place, losses = scale.copy(), []
    for rate in RATES:
        away = place - 0.1 * scale * rng.standard_normal(len(curvatures))
        losses.append(float(0.5 * (curvatures * away**2).sum()))
        if broken(losses):
            break
        place = place - rate * curvatures * away
    return RATES[: len(losses)], losses


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("largest", [0.5, 10.0, 1000.0])
def test_on_quadratics_the_suggestion_is_the_known_limit_of_stability_or_just_below(
    largest: float, seed: int
) -> None:
    limit = 2 / largest  # above it, plain gradient descent diverges
    step = RATES[1] / RATES[0]
    found = suggest(*descent(np.geomspace(largest / 1000, largest, 30), seed)).lr
    assert found is not None
    assert limit / 2 < found < limit * step


@pytest.mark.parametrize("seed", range(10))
def test_on_a_single_quadratic_descent_converges_at_the_suggestion(seed: int) -> None:
    curvature = 40.0
    found = suggest(*descent(np.array([curvature]), seed)).lr
    assert found is not None
    assert abs(1 - found * curvature) < 1
    assert found > 0.1 / curvature


def falling_then_rising(steepest: float, rise: float) -> NDArray[np.float64]:
    """From 2.3 to 1, steepest at a λ of 10**steepest, and up again from 10**rise on."""
    fall = 1.3 / (1 + np.exp(-3 * (DECADES - steepest)))
    return 2.3 - fall + np.where(rise < DECADES, 3 * (DECADES - rise) ** 2, 0)


@pytest.mark.parametrize("seed", range(10))
def test_of_a_usual_curve_the_suggestion_is_past_the_steepest_and_before_the_rise(
    seed: int,
) -> None:
    for steepest, rise in ((-3.5, -1), (-3, -2), (-5, -2.5)):
        found = suggest(RATES, list(falling_then_rising(steepest, rise) + noise(seed, 0.1))).lr
        assert found is not None
        assert steepest < math.log10(found) < rise


def test_rates_at_which_the_loss_only_stays_low_are_no_reduction() -> None:
    found = suggest(RATES, list(np.where(DECADES < -4, 2.3, 1.0) + noise(0, 0.05))).lr
    assert found is not None
    assert -4 < math.log10(found) < -1.5


def test_a_curve_that_falls_to_the_end_suggests_one_of_the_last_rates() -> None:
    found = suggest(RATES, list(2.3 - 0.2 * DECADES)).lr
    assert found is not None
    assert found > 1


@pytest.mark.parametrize(
    "losses",
    [
        np.full(len(RATES), 2.3),
        2.3 + 0.1 * (DECADES + 7),
        2.3 + np.exp(2 * (DECADES + 1)),
        *(2.3 + noise(seed, 0.2) for seed in range(20)),
    ],
)
def test_a_curve_without_a_reduction_has_no_suggestion(losses: NDArray[np.float64]) -> None:
    found = suggest(RATES, list(losses))
    assert found.lr is None
    assert "did not fall" in found.reason


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_follows_a_loss_that_is_no_number_is_left_out(bad: float) -> None:
    losses = list(falling_then_rising(-3.5, -1))
    whole = suggest(RATES, losses)
    losses[90] = bad
    assert suggest(RATES, losses) == whole
    early = suggest(RATES, [2.3, 2.2, bad, *losses[3:]])
    assert early.lr is None
    assert "broke after 2 steps" in early.reason


def test_smoothing_is_an_exponential_mean_of_weights_that_sum_to_one() -> None:
    losses = [3.0, 1.0, 4.0, 1.0, 5.0]
    for n, found in enumerate(smoothed(losses), start=1):
        weights = 0.98 ** np.arange(n)[::-1]
        assert found == pytest.approx(np.average(losses[:n], weights=weights), rel=1e-12)


@pytest.mark.parametrize(
    ("last", "over"), [(1.0, False), (math.nan, True), (math.inf, True), (1000.0, True)]
)
def test_a_test_is_over_at_four_times_the_best_or_no_number(last: float, over: bool) -> None:
    assert broken([1.0, 1.1, 0.9, last]) == over


def threshold(judge: Callable[[float], bool], low: float, high: float) -> float:
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if judge(middle) else (middle, high)
    return high


def test_it_is_the_smoothed_loss_that_is_four_times_the_best() -> None:
    last = threshold(lambda x: broken([1.0, x]), 1.0, 100.0)
    assert smoothed([1.0, last])[-1] == pytest.approx(4, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("end", [1.0, 1e3, 1e9, math.inf, math.nan])
def test_the_picture_shows_the_fall_from_0_at_the_lowest_however_high_the_loss_breaks(
    end: float, seed: int
) -> None:
    losses = [max(0.0, x) for x in falling_then_rising(-3, -1) + noise(seed, 0.05)]
    losses[-1] = end
    curve = smoothed(losses)
    low, high = useful_range(losses, curve)
    fallen = curve.index(min(x for x in curve if math.isfinite(x))) + 1
    assert 0 <= low <= min(curve[:fallen])
    assert max(curve[:fallen]) <= high < 2 * max(losses[:fallen])

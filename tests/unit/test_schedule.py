import itertools
import math
import warnings

import pytest
import torch
from torch import nn

from trainer.training.schedule import FEW_STEPS, OneCycle, Sweep, lr_range


def torch_one_cycle(num_steps: int, max_lr: float) -> list[tuple[float, float]]:
    """Learning rate and momentum of each step, by PyTorch."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], betas=(0.95, 0.99))
    with warnings.catch_warnings():
        # The optimiser's own steps do not matter here.
        warnings.filterwarnings("ignore", "Detected call of", UserWarning)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=max_lr,
            total_steps=num_steps,
            pct_start=0.3,
            anneal_strategy="cos",
            div_factor=25,
            final_div_factor=1e4,
            base_momentum=0.85,
            max_momentum=0.95,
            three_phase=False,
        )
        seen = []
        for step in range(num_steps):
            group = optimizer.param_groups[0]
            seen.append((group["lr"], group["betas"][0]))
            if step < num_steps - 1:
                scheduler.step()
    return seen


@pytest.mark.parametrize("max_lr", [1e-2, 5e-6])
@pytest.mark.parametrize("num_steps", [2, 3, 4, 5, 7, 10, 33, 100, 1280])
def test_each_step_equals_pytorch(num_steps: int, max_lr: float) -> None:
    cycle = OneCycle(num_steps, max_lr)
    for step, (lr, momentum) in enumerate(torch_one_cycle(num_steps, max_lr)):
        assert cycle.lr(step) == pytest.approx(lr, rel=1e-9)
        assert cycle.momentum(step) == pytest.approx(momentum, rel=1e-9)


def test_cycle_starts_at_a_25th_peaks_after_30_percent_and_ends_at_a_250000th() -> None:
    cycle = OneCycle(100, 1.0)
    assert cycle.lr(0) == pytest.approx(1 / 25)
    assert cycle.lr(29) == 1.0
    assert cycle.lr(99) == pytest.approx(1 / 250_000)
    assert max(map(cycle.lr, range(100))) == 1.0


def test_momentum_mirrors_the_learning_rate() -> None:
    cycle = OneCycle(100, 1.0)
    assert [cycle.momentum(step) for step in (0, 29, 99)] == pytest.approx([0.95, 0.85, 0.95])


def test_the_rise_and_the_fall_are_half_cosines() -> None:
    cycle = OneCycle(101, 1.0)
    turn = 0.3 * 101 - 1
    share = (65 - turn) / (100 - turn)
    low = 1 / 250_000
    assert cycle.lr(65) == pytest.approx(low + (1 - low) * (1 + math.cos(math.pi * share)) / 2)


def fastai_cycle(num_steps: int) -> list[float]:
    """Learning rate over λ of each step, by fastai 1.0.58's `OneCycleScheduler`.

    Two phases of whole steps, of which a step takes the rate before its own move; the last move,
    to λ/250000, is after the last step.
    """
    rise = int(num_steps * 0.3)
    phases = ((1 / 25, 1.0, rise), (1.0, 1 / 250_000, num_steps - rise))
    return [
        end + (start - end) / 2 * (math.cos(math.pi * step / length) + 1)
        for start, end, length in phases
        for step in range(length)
    ]


def furthest_from_fastai(num_steps: int) -> float:
    cycle = OneCycle(num_steps, 1.0)
    pairs = zip(map(cycle.lr, range(num_steps)), fastai_cycle(num_steps), strict=True)
    return max(abs(ours - theirs) for ours, theirs in pairs)


def test_the_cycle_is_near_fastais_if_it_has_more_than_few_steps() -> None:
    assert furthest_from_fastai(200) == pytest.approx(0.015, abs=0.001)
    assert furthest_from_fastai(20) == pytest.approx(0.15, abs=0.005)
    assert furthest_from_fastai(FEW_STEPS) > 0.05
    more = (*range(FEW_STEPS + 1, 300), *range(300, 2000, 41))
    assert all(furthest_from_fastai(num_steps) <= 0.05 for num_steps in more)


def test_running_means_have_forgotten_their_start_after_few_steps() -> None:
    momentum = nn.BatchNorm1d(1).momentum
    assert momentum is not None
    assert (1 - momentum) ** FEW_STEPS < 0.01


def test_a_cycle_of_one_step_takes_it_at_the_peak() -> None:
    assert OneCycle(1, 0.5).lr(0) == 0.5


def test_the_span_of_some_steps_is_their_lowest_and_highest_rate_with_a_peak_between() -> None:
    cycle = OneCycle(100, 1.0)
    assert lr_range(cycle, 0, 10) == (cycle.lr(0), cycle.lr(9))
    assert lr_range(cycle, 20, 40) == (cycle.lr(20), 1.0)
    assert lr_range(cycle, 50, 60) == (cycle.lr(59), cycle.lr(50))
    assert lr_range(cycle, 7, 8) == (cycle.lr(7), cycle.lr(7))


def test_a_sweep_grows_by_one_factor_from_a_ten_millionth_to_ten_in_a_hundred_steps() -> None:
    sweep = Sweep()
    rates = [sweep.lr(step) for step in range(sweep.num_steps)]
    assert len(rates) == 100
    assert rates[0] == pytest.approx(1e-7, rel=1e-12)
    assert rates[-1] == pytest.approx(10, rel=1e-12)
    factors = [b / a for a, b in itertools.pairwise(rates)]
    assert factors == pytest.approx([10 ** (8 / 99)] * 99, rel=1e-9)
    assert {sweep.momentum(step) for step in range(100)} == {0.9}

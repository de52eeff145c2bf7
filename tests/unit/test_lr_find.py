import math
from itertools import pairwise

import pytest
import torch

from schemas import Stage
from tests.unit.test_stage import CONFIG, small_network, tones
from trainer.data.order import EpochOrder, derive_seed
from trainer.data.source import StageData
from trainer.training.lr_find import Curve, Trial, broken, range_test
from trainer.training.schedule import Sweep
from trainer.training.stage import StageTrainer, Stopwatch

torch.set_num_threads(1)  # next to other tests, threads wait for cores they do not get


def trial(**stage: object) -> Trial:
    """Three steps per epoch, of 8 of 24 clips."""
    stages = (Stage.model_validate({"array": "R1/mel", "epochs": 1, "max_lr": 1e-3} | stage),)
    config = CONFIG.model_copy(update={"stages": stages})
    rows = tones(24, 0)
    return Trial(config, 1, StageData("R1/mel", rows, rows), EpochOrder(0, "f", (2,), (24,)))


def sweep(num_steps: int, end: float = 0.01) -> Curve:
    network = small_network()
    return range_test(network, trial(), Sweep(num_steps, 1e-5, end), lambda: None)


def test_the_network_and_the_random_state_are_as_before_a_test() -> None:
    network = small_network().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    range_test(network, trial(), Sweep(3, 1e-2, 1.0), lambda: None)
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network.training
    assert torch.get_rng_state().equal(state)


def test_epochs_follow_one_another_until_all_steps_are_taken() -> None:
    seen: list[None] = []
    network = small_network()
    curve = range_test(network, trial(), Sweep(8, 1e-5, 1e-3), lambda: seen.append(None))
    assert len(seen) == len(curve.losses) == len(curve.lrs) == len(curve.smoothed) == 8
    assert not curve.stopped_early
    factors = [b / a for a, b in pairwise(curve.lrs)]
    assert factors == pytest.approx([10 ** (2 / 7)] * 7)
    assert (curve.lrs[0], curve.lrs[-1]) == pytest.approx((1e-5, 1e-3))


def test_each_step_is_one_of_training_at_its_rate() -> None:
    asked = trial(body_lr_ratio=1 / 3)
    rates = Sweep(4, 1e-4, 1e-2)
    curve = range_test(small_network(), asked, rates, lambda: None)
    network = small_network()
    trainer = StageTrainer(
        network, asked.config.stages[0], asked.data, asked.config, schedule=rates
    )
    losses: list[float] = []
    for epoch in (1, 2):
        seed = derive_seed("dropout", 0, 1, epoch)
        steps = trainer.steps(asked.order.windows(epoch), seed, Stopwatch())
        losses += [trainer.take_totals().loss for _ in steps]
    assert curve.losses == tuple(losses[:4])
    groups = trainer._optimizer.param_groups
    assert groups[0]["lr"] == pytest.approx(groups[1]["lr"] / 3)


def test_a_test_repeats_to_the_bit() -> None:
    assert sweep(3) == sweep(3)


def test_a_loss_that_breaks_ends_the_test() -> None:
    curve = sweep(num_steps=40, end=1e30)
    assert curve.stopped_early
    assert len(curve.losses) < 40


def test_a_test_is_over_at_four_times_the_best_smoothed_loss_or_at_no_number() -> None:
    level = [1.0] * 50
    assert not broken(level)
    assert not broken([*level, 50.0]), "one jump is smoothed"
    for loss in (math.nan, math.inf, -math.inf):
        assert broken([*level, loss])
        assert broken([loss])
    assert broken([*level, *[20.0] * 40])
    assert not broken([*level, *[3.9] * 400])

import gc
import time
import weakref
from collections.abc import Iterable
from copy import deepcopy

import numpy as np
import pytest
import torch

from schemas import RunConfig, Stage
from trainer.data.order import Window
from trainer.data.source import Batch, Batches, DeviceSource, StageData, as_float32
from trainer.model import Network, build_model
from trainer.training.schedule import OneCycle, num_steps
from trainer.training.stage import EpochResult, StageTrainer, Stopwatch
from trainer.training.step import make_optimizer

torch.set_num_threads(1)  # next to other tests, threads wait for cores they do not get

CPU = torch.device("cpu")
STAGE = Stage(array="R1/mel", epochs=8, max_lr=3e-3)
CONFIG = RunConfig(
    dataset="tones", method="mel", stages=(STAGE,), folds=(1,), arch="resnet18", batch_size=8
)


def small_network() -> Network:
    """Return a network of two classes that makes a step in a tenth of the time of resnet18."""
    return build_model("timm:test_resnet", 2, seed=0)


def tones(num: int, seed: int, dtype: torch.dtype = torch.float32) -> DeviceSource:
    """Images of two classes that differ in the row that is bright."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num) % 2
    images = 0.2 * torch.rand(num, 1, 16, 16, generator=generator)
    images[labels == 0, :, 3] += 0.7
    images[labels == 1, :, 11] += 0.7
    scale = 1 / 255 if dtype == torch.uint8 else 1.0
    stored = (images / scale).to(dtype)
    return DeviceSource(stored, labels, scale, CPU)


def in_order(num: int) -> list[Window]:
    return [Window((0,), np.arange(num))]


def batch_of(split: DeviceSource, rows: list[int]) -> Batch:
    (batch,) = split.batches([Window((0,), np.array(rows))], len(rows))
    return batch


def trainer_of(data: StageData, model: Network | None = None) -> StageTrainer:
    return StageTrainer(model or small_network(), STAGE, data, CONFIG)


def run_epochs(data: StageData, model: Network, epochs: int) -> list[EpochResult]:
    trainer = trainer_of(data, model)
    order = in_order(len(data.train))
    return [trainer.run_epoch(order, 0, lambda: None) for _ in range(epochs)]


def test_the_loss_on_clearly_different_images_falls() -> None:
    # Only the training loss: after so few steps BatchNorm's running statistics lag far behind.
    data = StageData("R1/mel", tones(32, 0, torch.uint8), tones(3, 1, torch.uint8))
    outcomes = run_epochs(data, build_model("resnet18", 2, seed=0), epochs=3)
    assert outcomes[-1].train.loss < 0.5 * outcomes[0].train.loss


@pytest.mark.parametrize("dtype", [torch.float16, torch.uint8])
def test_what_is_stored_in_fewer_bits_trains_as_the_same_values_in_float32(
    dtype: torch.dtype,
) -> None:
    stored = [tones(8, 0, dtype), tones(3, 1, dtype)]
    exact = [DeviceSource(as_float32(s.images, s.scale), s.labels, 1.0, CPU) for s in stored]
    found = [
        run_epochs(StageData("R1/mel", *splits), small_network(), epochs=2)
        for splits in (stored, exact)
    ]
    assert [(o.train, o.valid) for o in found[0]] == [(o.train, o.valid) for o in found[1]]


def test_reading_a_batch_leaves_the_stored_images_alone() -> None:
    split = tones(4, 0)
    before = split.images.clone()
    images, _ = batch_of(split, [0, 1, 2, 3])
    images.zero_()
    assert torch.equal(split.images, before)


def test_an_epoch_tells_the_rates_it_went_through() -> None:
    data = StageData("R1/mel", tones(16, 0), tones(3, 1))
    cycle = OneCycle(2 * STAGE.epochs, STAGE.max_lr)
    first, second = run_epochs(data, small_network(), epochs=2)
    assert first.lrs == (cycle.lr(0), cycle.lr(1))
    assert second.lrs == (cycle.lr(2), cycle.lr(3))


def test_steps_are_made_one_at_a_time_and_their_totals_taken_between() -> None:
    data = StageData("R1/mel", tones(24, 0), tones(3, 1))
    whole = trainer_of(data).run_epoch(in_order(24), 5, lambda: None).train
    trainer = trainer_of(data)
    parts = [trainer.take_totals() for _ in trainer.steps(in_order(24), 5, Stopwatch())]
    assert [part.num_samples for part in parts] == [8, 8, 8]
    assert sum(part.loss for part in parts) / 3 == pytest.approx(whole.loss, rel=1e-12)


@pytest.mark.parametrize(("samples", "steps"), [(25, 3), (24, 3), (8, 1), (5, 1)])
def test_partial_batches_are_dropped_but_never_the_only_one(samples: int, steps: int) -> None:
    assert num_steps(samples, 8) == steps
    data = StageData("R1/mel", tones(samples, 0), tones(3, 1))
    done: list[None] = []
    outcome = trainer_of(data).run_epoch(in_order(samples), 0, lambda: done.append(None))
    assert len(done) == steps
    assert outcome.train.num_samples == min(samples, 8 * steps)


def test_validation_sees_every_clip_and_changes_nothing() -> None:
    data = StageData("R1/mel", tones(16, 0), tones(11, 1))
    model = small_network()
    trainer = trainer_of(data, model)
    outcome = trainer.run_epoch(in_order(16), 0, lambda: None)
    assert outcome.valid.num_samples == 11
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer._validate(data.valid, Stopwatch())
    assert trainer.take_totals() == outcome.valid
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_same_seed_gives_bit_equal_losses_and_weights() -> None:
    data = StageData("R1/mel", tones(16, 0), tones(3, 1))
    models = [small_network() for _ in range(2)]
    first, second = (run_epochs(data, model, epochs=2) for model in models)
    assert [(o.train, o.valid) for o in first] == [(o.train, o.valid) for o in second]
    states = [model.state_dict() for model in models]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


class Slow(DeviceSource):
    """Training data that keep one waiting, as a slow disk does."""

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        time.sleep(0.2)
        yield from super().batches(windows, size)


def test_the_share_of_waiting_is_that_of_the_data_not_of_the_steps() -> None:
    fast = tones(16, 0)
    slow = Slow(fast.images, fast.labels, fast.scale, fast.device)
    outcomes = [
        trainer_of(StageData("R1/mel", train, tones(3, 1))).run_epoch(in_order(16), 0, lambda: None)
        for train in (fast, slow)
    ]
    assert 0 < outcomes[0].wait_share < 0.5
    assert outcomes[1].wait_s >= 0.2
    assert outcomes[1].wait_share == outcomes[1].wait_s / outcomes[1].seconds < 1


def test_body_takes_steps_smaller_by_its_ratio() -> None:
    data = StageData("R1/mel", tones(8, 0), tones(3, 1))

    def moved(ratio: float) -> tuple[float, float]:
        stage = Stage(array="R1/mel", epochs=1, max_lr=1e-3, body_lr_ratio=ratio)
        model = build_model("resnet18", 2, seed=0)
        before = model.body.conv1.weight.clone(), model.head[2].weight.clone()
        StageTrainer(model, stage, data, CONFIG).run_epoch(in_order(8), 0, lambda: None)
        after = model.body.conv1.weight, model.head[2].weight
        body, head = ((a - b).norm().item() for a, b in zip(after, before, strict=True))
        return body, head

    whole, third = moved(1.0), moved(1 / 3)
    assert third[0] == pytest.approx(whole[0] / 3, rel=1e-4)
    assert third[1] == whole[1]


@pytest.mark.parametrize("groups", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_moments_of_a_stage_before_are_continued_at_this_stages_rates(groups: int) -> None:
    data = StageData("R1/mel", tones(16, 0), tones(3, 1))
    config = CONFIG.model_copy(update={"layer_groups": groups, "moments": "carried"})
    model = build_model("resnet18", 2, seed=0)
    before = StageTrainer(model, STAGE, data, config)
    before.run_epoch(in_order(16), 0, lambda: None)
    slow = STAGE.model_copy(update={"body_lr_ratio": 1 / 3})
    after = StageTrainer(model, slow, data, config)
    own = after.state().optimizer["param_groups"]
    after.take_moments(before.state().optimizer)
    taken, left = after.state().optimizer, before.state().optimizer
    assert taken["param_groups"] == own
    assert taken["state"].keys() == left["state"].keys()
    for key, kept in left["state"].items():
        assert kept["step"] == 2
        assert all(torch.equal(value, taken["state"][key][name]) for name, value in kept.items())


@pytest.mark.parametrize("way", ["restore", "take_moments"])
def test_training_leaves_the_state_that_it_continues_from_as_it_is(way: str) -> None:
    """It is what is written to disk if the epoch after it is stopped."""
    data = StageData("R1/mel", tones(16, 0), tones(3, 1))
    before = trainer_of(data)
    before.run_epoch(in_order(16), 0, lambda: None)
    state = before.state()
    kept = deepcopy(state.optimizer["state"])
    after = trainer_of(data)
    if way == "restore":
        after.restore(state)
    else:
        after.take_moments(state.optimizer)
    after.run_epoch(in_order(16), 0, lambda: None)
    pairs = [
        (value, state.optimizer["state"][key][name])
        for key, values in kept.items()
        for name, value in values.items()
    ]
    assert all(torch.equal(was, now) for was, now in pairs)


@pytest.mark.parametrize(("groups", "ratios"), [(2, (1 / 3, 1.0)), (3, (1 / 3, 3**-0.5, 1.0))])
def test_a_stage_steps_with_the_protocols_rates_betas_eps_and_decay(
    groups: int, ratios: tuple[float, ...]
) -> None:
    data = StageData("R1/mel", tones(16, 0), tones(3, 1))
    config = CONFIG.model_copy(update={"layer_groups": groups})
    stage = STAGE.model_copy(update={"body_lr_ratio": 1 / 3})
    trainer = StageTrainer(build_model("resnet18", 2, seed=0), stage, data, config)
    trainer.run_epoch(in_order(16), 0, lambda: None)
    cycle = OneCycle(2 * STAGE.epochs, STAGE.max_lr)
    made = trainer.state().optimizer["param_groups"]
    assert isinstance(trainer._optimizer, torch.optim.AdamW)
    assert [one["lr"] for one in made] == pytest.approx([cycle.lr(1) * r for r in ratios])
    for one in made:
        assert one["betas"] == (cycle.momentum(1), 0.99)
        assert (one["eps"], one["weight_decay"]) == (1e-8, 0.1)


def test_a_step_is_adam_with_decay_apart_from_the_gradient() -> None:
    model = small_network()
    optimizer = make_optimizer(model, body_lr_ratio=1.0, weight_decay=0.1)
    for group in optimizer.param_groups:
        group |= {"lr": 1e-2, "betas": (0.95, 0.99)}
    weight = model.head[2].weight
    before = weight.detach().clone()
    first, second = torch.zeros_like(before), torch.zeros_like(before)
    for step in (1, 2):
        gradient = torch.full_like(before, 0.3 * step)
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.3 * step)
        optimizer.step()
        first = 0.95 * first + 0.05 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        update = (first / (1 - 0.95**step)) / ((second / (1 - 0.99**step)).sqrt() + 1e-8)
        before = before * (1 - 1e-2 * 0.1) - 1e-2 * update
    torch.testing.assert_close(weight.detach(), before, rtol=1e-5, atol=1e-7)


class Uneven(DeviceSource):
    """Training data whose batches are not all of one size."""

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        yield from super().batches(windows, size // 2)


def test_a_training_batch_of_another_shape_than_the_stages_is_refused() -> None:
    """A recorded step would leave its gradients where AdamW does not look."""
    good = tones(16, 0)
    data = StageData(
        "R1/mel", Uneven(good.images, good.labels, good.scale, good.device), tones(3, 1)
    )
    with pytest.raises(ValueError, match=r"batch of \[4, 1, 16, 16\], expected \[8, 1, 16, 16\]"):
        trainer_of(data).run_epoch(in_order(16), 0, lambda: None)


def test_images_of_another_shape_than_those_they_alternate_with_are_refused() -> None:
    data, other = (
        StageData(
            "R1/mel",
            DeviceSource(torch.zeros(8, 1, 16, w), torch.arange(8) % 2, 1.0, CPU),
            tones(3, 1),
        )
        for w in (16, 24)
    )
    trainer = StageTrainer(small_network(), STAGE, data, CONFIG, alternate=other)
    trainer.run_epoch(in_order(8), 0, lambda: None)
    with pytest.raises(ValueError, match=r"batch of \[8, 1, 16, 24\], expected \[8, 1, 16, 16\]"):
        trainer.run_epoch(in_order(8), 0, lambda: None)


@pytest.mark.slow
def test_a_step_made_for_a_graph_gives_the_same_bits_where_none_can_be_recorded() -> None:
    data = StageData("R1/mel", tones(40, 0), tones(35, 1))
    told: list[str] = []

    def train(how: str) -> tuple[list[tuple[object, object]], Network]:
        model = small_network()
        config = CONFIG.model_copy(update={"acceleration": how})
        trainer = StageTrainer(model, STAGE, data, config, told.append)
        outcomes = [trainer.run_epoch(in_order(40), epoch, lambda: None) for epoch in (1, 2)]
        return [(outcome.train, outcome.valid) for outcome in outcomes], model

    (plain, first), (graphed, second) = train("eager"), train("graph")
    assert plain == graphed
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    (line,) = told
    assert line.startswith("no CUDA graph of the step, so it runs eagerly")


def test_dropout_depends_on_the_epochs_seed_alone() -> None:
    data = StageData("R1/mel", tones(8, 0), tones(3, 1))

    def loss(seed: int) -> float:
        return trainer_of(data).run_epoch(in_order(8), seed, lambda: None).train.loss

    torch.manual_seed(1)
    first, other = loss(0), loss(1)
    torch.manual_seed(2)
    assert loss(0) == first != other


@pytest.mark.parametrize("how", ["eager", "graph"])
def test_a_stage_that_is_over_lets_go_of_its_data_at_once(how: str) -> None:
    data = StageData("R1/mel", tones(40, 0), tones(3, 1))
    config = CONFIG.model_copy(update={"acceleration": how})
    model = small_network()
    trainer = StageTrainer(model, STAGE, data, config, lambda _: None)
    trainer.run_epoch(in_order(40), 0, lambda: None)
    watched = weakref.ref(data)
    gc.disable()
    try:
        del data, trainer
        assert watched() is None
    finally:
        gc.enable()

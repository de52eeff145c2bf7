"""Copies after each epoch: equal to what was there, apart from it, and in memory that is reused."""

from copy import deepcopy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.model import Network, build_model
from trainer.records.checkpoint import Snapshots, tensors_in
from trainer.training.step import make_optimizer


class Ops(TorchDispatchMode):
    """Counts the operations of PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN204
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def trained() -> tuple[Network, torch.optim.Optimizer]:
    """A network and an optimiser that has taken a step."""
    model = build_model("resnet18", 2, seed=0).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, 1.0, 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return model, optimizer


def test_a_copy_is_equal_apart_and_laid_out_alike(
    trained: tuple[Network, torch.optim.Optimizer],
) -> None:
    model, optimizer = trained
    for state in (dict(model.state_dict()), optimizer.state_dict()):
        copy = Snapshots().take(state)
        theirs, ours = dict(tensors_in(state)), dict(tensors_in(copy))
        assert ours.keys() == theirs.keys()
        for path, tensor in theirs.items():
            assert torch.equal(ours[path], tensor)
            assert ours[path].stride() == tensor.stride()
            assert ours[path].data_ptr() != tensor.data_ptr()
    assert copy["param_groups"] == state["param_groups"]
    assert copy["param_groups"][0] is not state["param_groups"][0]


def test_memory_in_use_keeps_what_it_holds_and_other_memory_is_used_again() -> None:
    snapshots, state = Snapshots(), {"w": torch.zeros(3)}
    best = snapshots.take(state)
    state["w"] += 1
    in_use = {id(best["w"])}
    last = snapshots.take(state, in_use)
    state["w"] += 1
    third = snapshots.take(state, in_use | {id(last["w"])})
    assert [copy["w"][0].item() for copy in (best, last, third)] == [0, 1, 2]
    state["w"] += 1
    assert snapshots.take(state, in_use | {id(third["w"])})["w"] is last["w"]


def test_an_optimiser_before_and_after_its_first_step_is_copied(
    trained: tuple[Network, torch.optim.Optimizer],
) -> None:
    model, optimizer = trained
    snapshots = Snapshots()
    fresh = make_optimizer(deepcopy(model), 1.0, 0.1)
    assert snapshots.take(fresh.state_dict())["state"] == {}
    assert (
        snapshots.take(optimizer.state_dict())["state"].keys()
        == optimizer.state_dict()["state"].keys()
    )


def test_a_copy_into_memory_that_is_there_takes_a_call_per_dtype(
    trained: tuple[Network, torch.optim.Optimizer],
) -> None:
    model, optimizer = trained
    networks, optimizers = Snapshots(), Snapshots()
    for _ in range(2):
        with Ops() as ops:
            networks.take(model.state_dict())
            optimizers.take(optimizer.state_dict())
    # Whole numbers and float32 of the network, float32 of the optimiser; state_dict detaches.
    detached = len(model.state_dict())
    assert ops.count - detached <= 10

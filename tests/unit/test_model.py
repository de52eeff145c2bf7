import pytest
import torch
import torchvision
from torch import Tensor, nn

from trainer.model import ConcatPool, Network, build_model, make_head
from trainer.training.step import make_optimizer


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("num_classes", "expected"), [(10, 533_002), (50, 553_522)])
def test_head_has_as_many_parameters_as_the_papers(num_classes: int, expected: int) -> None:
    assert count(make_head(512, num_classes)) == expected


def test_head_starts_with_kaiming_weights_and_zero_biases() -> None:
    torch.manual_seed(0)
    for layer in make_head(512, 50):
        if isinstance(layer, nn.Linear):
            assert layer.weight.std().item() == pytest.approx(
                (2 / layer.in_features) ** 0.5, rel=0.02
            )
            assert not layer.bias.any()


def test_pooling_gives_the_maxima_then_the_means() -> None:
    x = torch.randn(2, 3, 4, 5)
    pooled = ConcatPool()(x)
    assert torch.equal(pooled[:, :3], x.amax(dim=(2, 3)))
    torch.testing.assert_close(pooled[:, 3:], x.mean(dim=(2, 3)))


def test_body_answers_to_one_channel_as_torchvisions_does_to_three_equal_ones() -> None:
    torch.manual_seed(0)
    original = torchvision.models.resnet18()
    image = torch.rand(2, 1, 32, 48)
    network = Network("resnet18", 4, body_state=original.state_dict()).eval()
    original.avgpool, original.fc = ConcatPool(), nn.Identity()
    expected = original.eval()(image.expand(-1, 3, -1, -1))
    torch.testing.assert_close(network.body(image), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50"])
def test_every_architecture_takes_one_channel_of_any_size(arch: str) -> None:
    network = build_model(arch, 7, seed=0).eval()
    assert network(torch.rand(2, 1, 40, 33)).shape == (2, 7)


def test_paper_network_has_the_parameters_of_resnet34_but_for_stem_and_classifier() -> None:
    resnet34 = 21_797_672 - (512 * 1000 + 1000) - 2 * 64 * 7 * 7
    assert count(build_model("resnet34", 10, seed=0)) == resnet34 + 533_002


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_weights_depend_on_the_seed_alone() -> None:
    first = build_model("resnet18", 3, seed=1).state_dict()
    torch.rand(5)
    assert same(first, build_model("resnet18", 3, seed=1).state_dict())
    assert not same(first, build_model("resnet18", 3, seed=2).state_dict())


def test_building_leaves_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    build_model("resnet18", 3, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_given_weights_keep_the_head_random() -> None:
    state = torchvision.models.resnet18().state_dict()
    first, second = (build_model("resnet18", 3, seed, state) for seed in (1, 2))
    assert same(first.body.state_dict(), second.body.state_dict())
    assert not torch.equal(first.head[2].weight, second.head[2].weight)


def test_optimiser_decays_every_parameter_and_slows_the_body_alone() -> None:
    network = build_model("resnet18", 3, seed=0)
    optimizer = make_optimizer(network, body_lr_ratio=1 / 3, weight_decay=0.1)
    body, head = optimizer.param_groups
    assert (body["lr_ratio"], head["lr_ratio"]) == (1 / 3, 1.0)
    assert (body["weight_decay"], head["weight_decay"]) == (0.1, 0.1)
    grouped = {id(p) for group in (body, head) for p in group["params"]}
    assert grouped == {id(p) for p in network.parameters()}
    assert {id(p) for p in head["params"]} == {id(p) for p in network.head.parameters()}

from typing import get_args

import pytest
import torch
import torchvision
from torch import Tensor, nn

from schemas import FirstConv, LayerGroups
from trainer.model import ConcatPool, Head, Network, build_model, make_head
from trainer.training.step import make_optimizer

FIRST_CONVS: tuple[FirstConv, ...] = get_args(FirstConv)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("num_classes", "expected"), [(10, 533_002), (50, 553_522)])
def test_head_has_as_many_parameters_as_the_papers(num_classes: int, expected: int) -> None:
    assert count(make_head(1024, num_classes)) == expected


def test_head_starts_with_kaiming_weights_and_zero_biases() -> None:
    torch.manual_seed(0)
    for layer in make_head(1024, 50):
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


def test_three_groups_cut_a_resnet_before_its_third_residual_stage() -> None:
    network = build_model("resnet34", 3, seed=0)
    names = {id(p): name for name, p in network.named_parameters()}
    lower, upper, head = ([names[id(p)] for p in g] for g in network.layer_groups(3))
    tops = [sorted({".".join(name.split(".")[:2]) for name in g}) for g in (lower, upper)]
    assert tops == [
        ["body.bn1", "body.conv1", "body.layer1", "body.layer2"],
        ["body.layer3", "body.layer4"],
    ]
    assert {name.split(".")[0] for name in head} == {"head"}
    assert sorted([*lower, *upper, *head]) == sorted(names.values())


@pytest.mark.parametrize(("groups", "ratios"), [(2, (1 / 3, 1.0)), (3, (1 / 3, 1 / 3**0.5, 1.0))])
def test_rates_rise_by_one_factor_from_group_to_group(
    groups: LayerGroups, ratios: tuple[float, ...]
) -> None:
    network = build_model("resnet18", 3, seed=0)
    made = make_optimizer(network, 1 / 3, 0.1, groups).param_groups
    assert [group["lr_ratio"] for group in made] == pytest.approx(ratios, rel=1e-15)
    whole = make_optimizer(network, 1.0, 0.1, groups).param_groups
    assert [group["lr_ratio"] for group in whole] == [1.0] * groups


@pytest.mark.parametrize("groups", [2, 3])
def test_the_red_channels_weights_are_taken_as_they_are_and_never_trained(
    groups: LayerGroups,
) -> None:
    state = torchvision.models.resnet18().state_dict()
    network = build_model("resnet18", 3, 0, state, "red-frozen")
    conv = network.body.conv1.weight
    assert torch.equal(conv, state["conv1.weight"][:, :1])
    optimizer = make_optimizer(network, 1.0, 0.1, groups)
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in network.parameters()} - trained == {id(conv)}
    network(torch.rand(2, 1, 40, 40)).sum().backward()
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()
    assert torch.equal(conv, state["conv1.weight"][:, :1])


def test_how_the_first_convolution_is_made_changes_no_other_weight() -> None:
    first, second = (build_model("resnet18", 3, 0, None, how) for how in FIRST_CONVS)
    names = set(first.state_dict()) - {"body.conv1.weight"}
    assert all(torch.equal(first.state_dict()[n], second.state_dict()[n]) for n in names)


def test_optimiser_decays_every_parameter_and_slows_the_body_alone() -> None:
    network = build_model("resnet18", 3, seed=0)
    optimizer = make_optimizer(network, body_lr_ratio=1 / 3, weight_decay=0.1)
    body, head = optimizer.param_groups
    assert (body["lr_ratio"], head["lr_ratio"]) == (1 / 3, 1.0)
    assert (body["weight_decay"], head["weight_decay"]) == (0.1, 0.1)
    grouped = {id(p) for group in (body, head) for p in group["params"]}
    assert grouped == {id(p) for p in network.parameters()}
    assert {id(p) for p in head["params"]} == {id(p) for p in network.head.parameters()}


def test_head_is_the_papers_layer_by_layer() -> None:
    layers = list(make_head(1024, 10))
    assert [type(layer).__name__ for layer in layers] == [
        "BatchNorm1d", "Dropout", "Linear", "ReLU", "BatchNorm1d", "Dropout", "Linear",
    ]  # fmt: skip
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.25, 0.5]
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    assert [(one.in_features, one.out_features) for one in linear] == [(1024, 512), (512, 10)]


def test_dropout_by_given_noise_drops_what_is_below_p_and_keeps_the_scale() -> None:
    noise = torch.tensor([[0.1, 0.25, 0.9, 0.24]])
    kept = Head(nn.Dropout(0.25))(torch.ones(1, 4), noise)
    assert kept[0].tolist() == pytest.approx([0, 4 / 3, 4 / 3, 0])

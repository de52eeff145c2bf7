import hashlib
import pickle
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
import torchvision

from trainer.errors import WeightsError
from trainer.model import build_model
from trainer.weights import imagenet_file, initial_weights


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict as torchvision publishes it, with random numbers."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), path)
    return path


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a network on which every connection is refused."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    return tmp_path


def test_random_asks_for_nothing() -> None:
    found = initial_weights("random", "resnet18")
    assert (found.state, found.sha256) == (None, None)


def test_file_gives_the_body_without_the_classifier(resnet18: Path) -> None:
    found = initial_weights(str(resnet18), "resnet18")
    assert (found.used, found.warning) == ("file", None)
    assert found.state is not None
    assert found.state["conv1.weight"].shape == (64, 3, 7, 7)
    assert "fc.weight" not in found.state
    assert found.sha256 == hashlib.sha256(resnet18.read_bytes()).hexdigest()


@pytest.mark.parametrize("init", ["auto", "imagenet"])
def test_cached_imagenet_weights_are_taken(init: str, resnet18: Path, no_cache: Path) -> None:
    _, cached = imagenet_file("resnet18")
    assert cached.is_relative_to(no_cache)
    cached.parent.mkdir(parents=True)
    shutil.copy(resnet18, cached)
    found = initial_weights(init, "resnet18")
    assert (found.used, found.warning) == ("imagenet", None)
    assert found.state is not None
    assert found.sha256 == hashlib.sha256(resnet18.read_bytes()).hexdigest()


@pytest.mark.usefixtures("no_cache")
def test_auto_without_imagenet_starts_from_random_weights_with_a_warning() -> None:
    found = initial_weights("auto", "resnet34")
    assert (found.state, found.used) == (None, "random")
    assert "random weights" in (found.warning or "")


@pytest.mark.usefixtures("no_cache")
def test_imagenet_without_it_is_an_error_that_says_how_to_give_a_file() -> None:
    with pytest.raises(WeightsError, match=r"resnet34.*--init FILE"):
        initial_weights("imagenet", "resnet34")


def test_weights_of_another_network_are_refused_both_ways(resnet18: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"is not of resnet34"):
        initial_weights(str(resnet18), "resnet34")
    larger = tmp_path / "resnet34.pth"
    torch.save(torchvision.models.resnet34().state_dict(), larger)
    with pytest.raises(WeightsError, match=r"is not of resnet18"):
        initial_weights(str(larger), "resnet18")


def test_files_from_before_batch_counters_are_accepted(resnet18: Path, tmp_path: Path) -> None:
    state = torch.load(resnet18, weights_only=True)
    old = {name: value for name, value in state.items() if "num_batches" not in name}
    torch.save(old, tmp_path / "old.pth")
    assert initial_weights(str(tmp_path / "old.pth"), "resnet18").used == "file"


@pytest.mark.parametrize(
    "damage", ["empty", "text", "json", "pickle", "cut", "list", "numbers", "absent", "folder"]
)
# torch.load remarks on the protocol of a pickle that it then refuses.
@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
def test_anything_but_a_state_dict_is_a_clear_error(
    damage: str, resnet18: Path, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    contents = {
        "empty": b"",
        "text": b"hello, this is no network\n",
        "json": b"{}",
        "pickle": pickle.dumps([1, 2]),
        "cut": resnet18.read_bytes()[:100_000],
    }
    if damage in contents:
        path.write_bytes(contents[damage])
    elif damage == "list":
        torch.save([torch.zeros(2)], path)
    elif damage == "numbers":
        torch.save({0: torch.zeros(2), "conv1.weight": torch.zeros(2)}, path)
    elif damage == "folder":
        path.mkdir()
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        initial_weights(str(path), "resnet18")


among_the_slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        among_the_slow(lambda weight: weight.to(torch.int8), "conv1.weight is of torch.int8"),
        (lambda weight: weight.to(torch.complex64), "layer2.0.conv1.weight is of torch.complex64"),
        (lambda weight: weight.index_fill(0, torch.tensor(3), torch.nan), "NaN or infinite"),
        among_the_slow(
            lambda weight: weight.index_fill(0, torch.tensor(3), torch.inf), "NaN or infinite"
        ),
        (lambda weight: weight.double().index_fill(0, torch.tensor(3), 1e300), "in float32"),
        among_the_slow(lambda weight: weight.to(torch.bool), "is of torch.bool"),
        (lambda weight: weight.to(torch.float8_e4m3fn), "is of torch.float8_e4m3fn"),
        among_the_slow(
            lambda weight: weight.byte().view(torch.float4_e2m1fn_x2), "torch.float4_e2m1fn_x2"
        ),
        (lambda weight: weight.to_sparse(), "is torch.sparse_coo, expected a dense tensor"),
        (lambda weight: weight.to("meta"), "has no values, expected a dense tensor"),
        (lambda weight: weight.tolist(), "'layer2.0.conv1.weight' is a list, expected a tensor"),
    ],
)
# torch.load remarks on sparse tensors, which are then refused.
@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants:UserWarning")
def test_weights_that_are_no_finite_floating_point_numbers_are_refused(
    change: Callable[[torch.Tensor], torch.Tensor], message: str, resnet18: Path, tmp_path: Path
) -> None:
    state = torch.load(resnet18, weights_only=True)
    state["layer2.0.conv1.weight"] = change(state["layer2.0.conv1.weight"])
    torch.save(state, tmp_path / "spoiled.pth")
    with pytest.raises(WeightsError, match=re.escape(message)):
        initial_weights(str(tmp_path / "spoiled.pth"), "resnet18")


@pytest.mark.parametrize(
    ("arch", "value"),
    [
        ("resnet18", torch.tensor(3e38)),
        ("timm:test_resnet", torch.tensor(3e38)),
        ("timm:test_resnet", torch.tensor(4e4, dtype=torch.float16)),
    ],
)
def test_colours_whose_sum_is_infinite_are_refused(
    arch: str, value: torch.Tensor, tmp_path: Path
) -> None:
    of_timm = arch.startswith("timm:")
    model = timm.create_model(arch[5:]) if of_timm else torchvision.models.get_model(arch)
    state = model.state_dict()
    name = next(name for name, weight in state.items() if weight.ndim == 4)
    torch.save(state | {name: value.expand(state[name].shape).clone()}, tmp_path / "huge.pth")
    with pytest.raises(WeightsError, match=rf"{name}.* NaN or infinite"):
        initial_weights(str(tmp_path / "huge.pth"), arch)


@pytest.mark.parametrize("arch", ["resnet18", "timm:test_resnet"])
def test_a_state_dict_inside_another_is_told(arch: str, tmp_path: Path) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.zeros(2)}, "epoch": 3}, tmp_path / "all.pth")
    with pytest.raises(WeightsError, match=r"'state_dict' is a dict.*inside it\?"):
        initial_weights(str(tmp_path / "all.pth"), arch)


@pytest.mark.parametrize(
    "counter", [torch.zeros(3, dtype=torch.int64), torch.zeros((), device="meta"), 7, None]
)
def test_counters_may_be_absent_but_are_nothing_else(
    counter: object, resnet18: Path, tmp_path: Path
) -> None:
    state = torch.load(resnet18, weights_only=True)
    torch.save(state | {"bn1.num_batches_tracked": counter}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=r"bn1\.num_batches_tracked"):
        initial_weights(str(tmp_path / "odd.pth"), "resnet18")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_floating_point_format_are_taken(
    dtype: torch.dtype, resnet18: Path, tmp_path: Path
) -> None:
    state = torch.load(resnet18, weights_only=True)
    state["conv1.weight"] = state["conv1.weight"].to(dtype)
    torch.save(state, tmp_path / "half.pth")
    found = initial_weights(str(tmp_path / "half.pth"), "resnet18").state
    assert found is not None
    model = build_model("resnet18", 3, 0, found)
    assert model.body.conv1.weight.dtype == torch.float32

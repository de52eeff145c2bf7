"""Models of timm: trained, stopped, asked, exported; their weights as timm makes them."""

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor

from featurestore import StoredDataset
from schemas import RunRecord
from tests.integration.trainer_store import place, tiny_plan
from trainer.cli import main
from trainer.errors import ConfigError, WeightsError
from trainer.model import build_model, check_shapes, one_channel_state, timm_body
from trainer.plan import Plan
from trainer.records.checkpoint import load_checkpoint
from trainer.records.rundir import RECORD
from trainer.run import begin, resume, run
from trainer.training.events import EpochDone, Event
from trainer.weights import initial_weights

SMALL = "timm:test_resnet"
"""One of the networks of half a million parameters that timm has for tests."""


@cache
def published() -> dict[str, Tensor]:
    """A state dict as timm publishes them: three channels, a thousand classes."""
    torch.manual_seed(0)
    return timm.create_model("test_resnet", pretrained=False).state_dict()


@cache
def checkpoint(suffix: str) -> Path:
    path = place() / f"published.{suffix}"
    if suffix == "safetensors":
        safetensors.torch.save_file(published(), path)
    else:
        torch.save(published(), path)
    return path


def short_plan(**options: object) -> tuple[StoredDataset, Plan]:
    dataset, plan = tiny_plan(arch=SMALL, init=str(checkpoint("pth")), batch_size=24, **options)
    stages = plan.config.stages[::4]
    return dataset, replace(plan, config=plan.config.model_copy(update={"stages": stages}))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("timm") / "run"
    run(*short_plan(), out)
    return out


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_checkpoint_of_three_channels_becomes_what_timm_makes_of_it(suffix: str) -> None:
    weights = initial_weights(str(checkpoint(suffix)), SMALL)
    assert (weights.used, weights.sha256) == ("file", digest(checkpoint(suffix)))
    assert weights.state is not None
    overlay = {"file": str(checkpoint("pth"))}
    theirs = timm.create_model(
        "test_resnet", pretrained=True, pretrained_cfg_overlay=overlay, in_chans=1, num_classes=0
    ).state_dict()
    assert weights.state.keys() == theirs.keys()
    assert all(torch.equal(weights.state[name], theirs[name]) for name in theirs)
    model = build_model(SMALL, 3, seed=1, body_state=weights.state)
    assert torch.equal(model.body.state_dict()["conv1.0.weight"], theirs["conv1.0.weight"])


def test_a_run_of_a_model_of_timm_records_its_weights_and_resumes_to_the_same_bits(
    finished: Path, tmp_path: Path
) -> None:
    record = RunRecord.model_validate_json((finished / RECORD).read_bytes())
    assert (record.config.arch, record.init_used) == (SMALL, "file")
    assert record.init_sha256 == digest(checkpoint("pth"))
    assert record.versions["timm"] == timm.__version__
    dataset, plan = short_plan()
    begin(dataset, plan, tmp_path / "run")

    def stop(event: Event) -> None:
        if isinstance(event, EpochDone):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        resume(dataset, tmp_path / "run", stop)
    resume(dataset, tmp_path / "run")
    ours, whole = (load_checkpoint(p / "fold1/last.pt").model for p in (tmp_path / "run", finished))
    assert all(torch.equal(ours[name], whole[name]) for name in whole)


def test_its_network_is_exported(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = tmp_path / "network.pt2"
    arguments = ["--run", str(finished), "--fold", "1", "--format", "torch-export"]
    assert main(["export", *arguments, "--out", str(exported)]) == 0, capsys.readouterr().err
    assert exported.stat().st_size > 0


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("resnet43", "no network 'resnet43'; there are: resnet18, resnet34, resnet50, and timm:"),
        ("resnet43", "did you mean 'resnet34'"),
        ("timm:test_rsnet", "has no model 'test_rsnet'; did you mean 'timm:test_resnet'"),
        ("timm:test_resnet.r160_in2k", "did you mean 'timm:test_resnet.r160_in1k'"),
        ("timm:", "has no model ''"),
        ("timm:swin_tiny_patch4_window7_224", "cannot take images of 16×16: "),
    ],
)
def test_a_network_that_there_is_not_or_that_does_not_fit_is_refused_in_a_line(
    arch: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny_plan(arch=arch)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"layer_groups": 3}, {"first_conv": "red-frozen"}])
def test_pieces_that_only_resnets_have_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="are defined for torchvision's ResNets only"):
        tiny_plan(arch=SMALL, **options)


# torch.load remarks on sparse tensors, which are then refused.
@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants:UserWarning")
def test_weights_of_another_model_or_none_are_refused_in_a_line(tmp_path: Path) -> None:
    other = timm.create_model("test_convnext", pretrained=False).state_dict()
    with pytest.raises(ValueError, match=r"is not of timm:test_resnet: \d+ parameters are missing"):
        one_channel_state(SMALL, other)
    (tmp_path / "cut.safetensors").write_bytes(checkpoint("safetensors").read_bytes()[:1000])
    for path in (tmp_path / "cut.safetensors", tmp_path / "absent.pth"):
        with pytest.raises(WeightsError, match=path.name):
            initial_weights(str(path), SMALL)
    weight = published()["conv1.0.weight"]
    # As they are in the file: what the conversion to one channel makes of them says nothing.
    for broken, message in (
        (weight * float("nan"), "NaN"),
        (weight.to(torch.complex64), "is of torch.complex64"),
        (weight.to_sparse(), "expected a dense tensor"),
    ):
        torch.save(published() | {"conv1.0.weight": broken}, tmp_path / "broken.pth")
        with pytest.raises(WeightsError, match=message):
            initial_weights(str(tmp_path / "broken.pth"), SMALL)


def test_without_a_network_auto_starts_from_random_weights_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    weights = initial_weights("auto", SMALL)
    assert (weights.used, weights.state) == ("random", None)
    assert (weights.warning or "").startswith(
        "training starts from random weights: timm's weights of timm:test_resnet are unavailable"
    )
    with pytest.raises(WeightsError, match="Give the file with --init FILE"):
        initial_weights("imagenet", SMALL)


@pytest.mark.parametrize("kind", ["vit", "convnext", "efficientnet", "mambaout"])
def test_other_kinds_take_every_stages_images_and_leave_nothing_to_chance(kind: str) -> None:
    check_shapes(f"timm:test_{kind}", [(64, 128), (96, 214), (128, 300)])
    body = timm_body(f"timm:test_{kind}").train()
    images = torch.rand(2, 1, 64, 100)
    assert torch.equal(body(images), body(images))

import math
import platform
import resource
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from trainer.errors import DeviceError
from trainer.model import Network, build_model
from trainer.training.device import (
    LEAST_SIDE,
    autocast,
    choose_precision,
    computing_on,
    device_title,
    resolve_device,
)

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


def test_cpu_is_always_there_and_has_a_name() -> None:
    assert device_title(resolve_device("cpu"))


def test_the_precision_is_bf16_only_where_the_processor_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    flags = Path("/proc/cpuinfo").read_text().split()
    native = not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)
    assert choose_precision("auto", cpu) == ("bf16" if native else "float32")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert choose_precision("auto", cpu) == "float32"
    assert choose_precision("bf16", cpu) == "bf16", "asked for by name"
    assert choose_precision("float32", cpu) == "float32"


def test_auto_takes_what_there_is() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_float32_is_no_tf32_within_the_call_and_what_it_was_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "allow_tf32", True)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with computing_on(torch.device("cuda")):
            assert not cudnn.allow_tf32
            assert torch.get_float32_matmul_precision() == "highest"
        with computing_on(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
        assert cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@no_gpu
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_absent_gpu_is_an_error_that_says_what_to_do(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"'{name}' is absent.*--device"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", "", "meta"])
def test_what_is_no_device_is_told_with_those_there_are(name: str) -> None:
    with pytest.raises(DeviceError, match=r"auto, cpu, cuda"):
        resolve_device(name)


def _gradients(model: Network, side: int) -> dict[str, torch.Tensor]:
    """Return the gradients of a batch, with memory around it full of NaN."""
    sizes = np.random.default_rng(side).integers(1000, 400_000, 100).tolist()
    used = [torch.full((size,), math.nan) for size in sizes]
    del used
    images = torch.linspace(0, 1, 8 * side * side).reshape(8, 1, side, side)
    model.zero_grad(set_to_none=True)
    with autocast("bf16", torch.device("cpu")):
        model(images, torch.full((8, model.noise_size), 0.7)).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_gradients_in_bf16_do_not_depend_on_what_was_in_memory() -> None:
    model = build_model("resnet18", 3, seed=0).to(memory_format=torch.channels_last)
    first = _gradients(model, LEAST_SIDE)
    for _ in range(3):
        again = _gradients(model, LEAST_SIDE)
        assert all(torch.equal(first[name], again[name]) for name in first)


def test_small_images_are_not_trained_on_in_bf16_on_a_cpu() -> None:
    cpu, small = torch.device("cpu"), LEAST_SIDE - 1
    assert choose_precision("auto", cpu, small) == "float32"
    assert choose_precision("bf16", cpu, LEAST_SIDE) == "bf16"
    with pytest.raises(DeviceError, match=r"fewer than 33 .* here 32, .* use float32"):
        choose_precision("bf16", cpu, small)


def test_repeatable_algorithms_are_asked_for_within_the_call_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "deterministic", False)
    monkeypatch.setattr(cudnn, "benchmark", True)
    within: list[tuple[bool, bool]] = []
    with suppress(KeyError), computing_on(torch.device("cuda")):
        within.append((cudnn.deterministic, cudnn.benchmark))
        raise KeyError
    assert within == [(True, False)]
    assert (cudnn.deterministic, cudnn.benchmark) == (False, True)
    with computing_on(torch.device("cpu")):
        assert (cudnn.deterministic, cudnn.benchmark) == (False, True)


def faults_of_steps() -> int:
    """Return the pages that the kernel provides for twenty activations of 64 MiB, one at a time."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is asked")
def test_memory_is_reused_within_the_call_on_a_cpu_and_returned_after_it() -> None:
    pages, process = 2**26 // resource.getpagesize(), psutil.Process()
    with computing_on(torch.device("cpu")):
        assert faults_of_steps() < 10 * pages
        held = process.memory_info().rss
    assert process.memory_info().rss < held - 2**25

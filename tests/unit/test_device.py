import math
import platform
import resource
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import reduce
from multiprocessing import get_context
from pathlib import Path
from typing import Any

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


def precisions() -> list[object]:
    """Return PyTorch's settings of float32: the new ones, then the old ones, if readable."""
    backends: Any = torch.backends
    cuda, cudnn, mkldnn = backends.cuda, backends.cudnn, backends.mkldnn
    new = backends, cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn
    found: list[object] = [settings.fp32_precision for settings in new]
    for old in (torch.get_float32_matmul_precision, lambda: cudnn.allow_tf32):
        with suppress(RuntimeError):  # it contradicts the new ones
            found.append(old())
    return found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cuda.matmul.allow_tf32", True),
        ("cudnn.allow_tf32", False),
        ("fp32_precision", "tf32"),
        ("cudnn.conv.fp32_precision", "ieee"),
        ("cuda.matmul.fp32_precision", "tf32"),
        ("mkldnn.conv.fp32_precision", "bf16"),
    ],
)
def test_float32_is_float32_within_the_call_and_what_it_was_after_it(
    name: str, value: object
) -> None:
    """In another process: these settings of PyTorch cannot all be undone."""
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        before, within, after = pool.submit(_with_setting, name, value).result()
    assert within == [7 * ["ieee"] + ["highest", False]] * 2
    assert before == after


def _with_setting(
    name: str, value: object
) -> tuple[list[object], list[list[object]], list[object]]:
    *path, last = name.split(".")
    setattr(reduce(getattr, path, torch.backends), last, value)
    before, within = precisions(), []
    for device in ("cpu", "cuda"):
        with computing_on(torch.device(device)):
            within.append(precisions())
    return before, within, precisions()


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


@pytest.mark.slow
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


def test_settings_last_until_the_last_of_overlapping_calls_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two trainings of one process, each in a thread."""
    cudnn, cuda = torch.backends.cudnn, torch.device("cuda")
    monkeypatch.setattr(cudnn, "deterministic", False)
    first, second = computing_on(cuda), computing_on(cuda)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert cudnn.deterministic
    assert not cudnn.allow_tf32
    second.__exit__(None, None, None)
    assert not cudnn.deterministic
    assert cudnn.allow_tf32


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is asked")
def test_memory_is_reused_within_the_call_on_a_cpu_and_returned_after_it() -> None:
    pages, process = 2**26 // resource.getpagesize(), psutil.Process()
    with computing_on(torch.device("cpu")):
        with computing_on(torch.device("cpu")):  # as another training of this process
            pass
        assert faults_of_steps() < 10 * pages
        held = process.memory_info().rss
    assert process.memory_info().rss < held - 2**25


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is asked")
def test_memory_of_a_step_of_more_than_two_gib_is_reused_as_well() -> None:
    def step() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        activations = [torch.ones(2**26) for _ in range(9)]
        del activations
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    with computing_on(torch.device("cpu")):
        assert min(step() for _ in range(4)) < 1000

from pathlib import Path

import pytest
import torch

from trainer.errors import DeviceError
from trainer.training.device import choose_precision, device_title, resolve_device

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
    with pytest.raises(DeviceError, match="auto, float32, bf16"):
        choose_precision("half", cpu)


def test_auto_takes_what_there_is() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@no_gpu
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_absent_gpu_is_an_error_that_says_what_to_do(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"'{name}' is absent.*--device"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", "", "meta"])
def test_what_is_no_device_is_told_with_those_there_are(name: str) -> None:
    with pytest.raises(DeviceError, match=r"auto, cpu, cuda"):
        resolve_device(name)

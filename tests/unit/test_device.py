import pytest
import torch

from trainer.device import device_title, resolve_device, supported_precision
from trainer.errors import DeviceError

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


def test_cpu_is_always_there_and_trains_in_float32() -> None:
    device = resolve_device("cpu")
    assert supported_precision(device) == "float32"
    assert device_title(device)


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

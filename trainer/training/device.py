"""Which device trains, and in which precision."""

import platform
import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal, cast, get_args

import torch

from trainer.errors import DeviceError

Precision = Literal["float32", "bf16"]

_BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""Names in torch.cpu.get_capabilities, of x86 and of Arm."""


def resolve_device(name: str) -> torch.device:
    """The device of that name; `auto` is the GPU where there is one, else the CPU.

    Raises:
        DeviceError: It is absent, or the name is not one of a device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if match is None:
        raise DeviceError(f"no device {name!r}; there are: auto, cpu, cuda, cuda:N")
    if name != "cpu":
        _check_present(name, int(match[1] or 0))
    return torch.device(name)


def _check_present(name: str, index: int) -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        raise DeviceError(
            f"device {name!r} is absent: torch {torch.__version__} finds {count} GPUs here; "
            "use --device auto or --device cpu"
        )


LEAST_SIDE = 33
"""Bands, and frames, from which a ResNet's gradients in bf16 can be trusted on a CPU.

Below, a residual stage is entered by an image of fewer than three rows or columns, and oneDNN
leaves the gradient of the weights that meet nothing but padding as it finds it in memory: seen with
torch 2.15, other bits on every run, and NaN.
"""


def choose_precision(name: str, device: torch.device, least_side: int = LEAST_SIDE) -> Precision:
    """The precision of that name; `auto` is bf16 where the device computes in it, else float32.

    Asked for by name, bf16 also runs where it is emulated, 20 times slower than float32.

    Args:
        name: Asked for.
        device: That trains.
        least_side: Fewest bands or frames of the images; see `LEAST_SIDE`.

    Raises:
        DeviceError: The name is not one of a precision, or bf16 is asked for of small images on a
            CPU.
    """
    trusted = device.type == "cuda" or least_side >= LEAST_SIDE
    if name == "auto":
        return "bf16" if trusted and _computes_bf16(device) else "float32"
    if name == "bf16" and not trusted:
        raise DeviceError(
            f"precision 'bf16': images with fewer than {LEAST_SIDE} bands or frames, here "
            f"{least_side}, get wrong gradients in bf16 on a CPU; use float32"
        )
    if name not in get_args(Precision):
        raise DeviceError(f"no precision {name!r}; there are: auto, float32, bf16")
    return cast(Precision, name)


def _computes_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bf16 numbers."""
    if device.type != "cuda":
        found = torch.cpu.get_capabilities()
        return any(found.get(name, False) for name in _BF16_INSTRUCTIONS)
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Let the operations within compute in that precision."""
    if precision == "float32":
        return nullcontext()
    # A cache of converted weights would outlive a recording, and each is used once anyway.
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


def make_repeatable(device: torch.device) -> None:
    """Let cuDNN use only algorithms that give the same bits again; a CPU's do."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def own_stream(device: torch.device) -> AbstractContextManager[object]:
    """Let this thread's work be on a stream of its own, which a GPU runs beside other streams."""
    if device.type != "cuda":
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]


def device_title(device: torch.device) -> str:
    """The hardware's name, for records."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        info = ""
    match = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()

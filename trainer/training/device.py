"""The training device, its precision, its memory, and what else affects a run's last bits."""

import gc
import platform
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

from featurestore.malloc import (
    ARENA_MAX,
    DEFAULTS,
    MMAP_MAX,
    NEVER,
    TRIM_THRESHOLD,
    release_freed_memory,
    set_malloc,
)
from schemas import RunRecord
from trainer.errors import DeviceError
from trainer.records.rundir import UNVOUCHED
from trainer.threads import GPU_TURN

Precision = Literal["float32", "bf16"]

_BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""Names in torch.cpu.get_capabilities, for x86 and for Arm."""


def resolve_device(name: str) -> torch.device:
    """Return the device with a given name; `auto` is the GPU if there is one, else the CPU.

    Raises:
        DeviceError: The device is not available, or there is no device with that name.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if match is None:
        raise DeviceError(f"no device {name!r}; there are: auto, cpu, cuda, cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name != "cpu" and int(match[1] or 0) >= count:
        raise DeviceError(
            f"device {name!r} is absent: torch {torch.__version__} finds {count} GPUs here; "
            "use --device auto or --device cpu"
        )
    return torch.device(name)


LEAST_SIDE = 33
"""Minimum number of bands and frames for correct bf16 gradients of a ResNet on a CPU.

Below it, the input of a residual stage has fewer than three rows or columns, and oneDNN leaves the
gradient of weights that only see padding uninitialised: with torch 2.15, different bits on every
run, and NaN.
"""


def choose_precision(
    name: Precision | Literal["auto"], device: torch.device, least_side: int = LEAST_SIDE
) -> Precision:
    """Return the precision with a name; `auto` is bf16 if the device supports it, else float32.

    If requested by name, bf16 is also emulated, 20 times slower than float32.

    Args:
        name: `auto`, `float32` or `bf16`.
        device: Training device.
        least_side: Minimum number of bands or frames of the images; see `LEAST_SIDE`.

    Raises:
        DeviceError: bf16 is requested for small images on a CPU.
    """
    trusted = device.type == "cuda" or least_side >= LEAST_SIDE
    if name == "auto":
        return "bf16" if trusted and _computes_bf16(device) else "float32"
    if name == "bf16" and not trusted:
        raise DeviceError(
            f"precision 'bf16': images with fewer than {LEAST_SIDE} bands or frames, here "
            f"{least_side}, get wrong gradients in bf16 on a CPU; use float32"
        )
    return name


def _computes_bf16(device: torch.device) -> bool:
    """Return whether the device has instructions for products of bf16 numbers."""
    if device.type != "cuda":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in _BF16_INSTRUCTIONS)
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which operations are computed in a precision."""
    if precision == "float32":
        return nullcontext()
    # A cache of converted weights would outlive a recorded step, and each is used once anyway.
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


class _Overlapping:
    """Settings of the process for calls that may overlap: made by the first, undone by the last.

    Args:
        settings: Returns the context of the settings.
        lock: Lock held while a call starts or ends.
    """

    def __init__(
        self,
        settings: Callable[[], AbstractContextManager[object]],
        lock: AbstractContextManager[object],
    ) -> None:
        self._settings, self._made, self._lock = settings, ExitStack(), lock
        self._threads: list[int] = []

    @property
    def in_several_threads(self) -> bool:
        """Whether calls of several threads are in progress."""
        return len(set(self._threads)) > 1

    def __enter__(self) -> None:
        with self._lock:
            if not self._threads:
                self._made.enter_context(self._settings())
            self._threads.append(threading.get_ident())

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._threads.remove(threading.get_ident())
            if not self._threads:
                self._made.close()


@contextmanager
def computing_on(device: torch.device) -> Iterator[None]:
    """Make results repeatable to the bit, compute float32 in float32, and reuse memory.

    Calls may overlap, in several threads as well. Whatever uses a GPU is within one: so it is known
    whether a CUDA graph can be recorded, see `alone_on_gpu`.
    """
    with _FLOAT32, _MEMORY if device.type == "cpu" else _REPEATABLE:
        yield


@contextmanager
def _exact_float32() -> Iterator[None]:
    """Compute float32 in float32, whatever the process allows by PyTorch's old or new settings.

    By default cuDNN's convolutions round to TF32's 10 bits.
    """
    backends: Any = torch.backends
    cuda, cudnn, mkldnn = backends.cuda, backends.cudnn, backends.mkldnn
    kinds = cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn
    new = [(settings, settings.fp32_precision) for settings in (backends, *kinds)]
    matmul, tf32 = "highest", False
    # Unreadable if they contradict new settings, which are restored after them.
    with suppress(RuntimeError):
        matmul = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        tf32 = cudnn.allow_tf32
    # Both, as other libraries may read either.
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32 = False
    for settings, _ in new:
        settings.fp32_precision = "ieee"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        cudnn.allow_tf32 = tf32
        for settings, precision in new:
            settings.fp32_precision = precision


@contextmanager
def _repeatable_algorithms() -> Iterator[None]:
    """Let cuDNN take the same algorithms in every run."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    # Benchmarking picks the fastest algorithm by a race, which another one may win next time.
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


@contextmanager
def _reused_memory() -> Iterator[None]:
    """Keep freed memory for the next step; at the end, return it.

    By default the pages of every large activation are new in every step. Blocks over 32 MiB stay
    only without mappings of their own, and in one heap: others have 64 MiB at most.
    """
    set_malloc({ARENA_MAX: 1, MMAP_MAX: 0, TRIM_THRESHOLD: NEVER})
    try:
        yield
    finally:
        set_malloc(DEFAULTS)
        release_freed_memory()


_FLOAT32 = _Overlapping(_exact_float32, threading.Lock())
_MEMORY = _Overlapping(_reused_memory, threading.Lock())
_REPEATABLE = _Overlapping(_repeatable_algorithms, GPU_TURN)


@contextmanager
def alone_on_gpu() -> Iterator[bool]:
    """Keep the GPU from other threads, and the garbage collector from running.

    Yields whether no other training or prediction of this process uses a GPU. Within the context
    none can start, and no data is loaded.
    """
    with GPU_TURN:
        enabled = gc.isenabled()
        gc.disable()  # a finaliser may use the GPU
        try:
            yield not _REPEATABLE.in_several_threads
        finally:
            if enabled:
                gc.enable()


def own_stream(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which this thread's work is queued on its own CUDA stream."""
    if device.type != "cuda":
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]


def device_title(device: torch.device) -> str:
    """Return the name of the hardware, for records."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        info = ""
    match = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


_LIBRARIES = ("featurestore", "numpy", "torch", "torchvision")


def changes(path: Path, record: RunRecord) -> Iterator[str]:
    """Yield changes of the environment since the run was started that may affect its last bits."""
    if record.sha256 is None:
        yield f"{path}: {UNVOUCHED}"
    now = versions(record.config.arch) | {
        "device": device_title(torch.device(record.config.device))
    }
    before = record.versions | {"device": record.device_name}
    changed = [f"{n} {now[n]} ({before[n]} then)" for n in now if before.get(n, now[n]) != now[n]]
    if changed:
        yield (
            f"the setup changed since the run started; last bits may differ: {', '.join(changed)}"
        )


def versions(arch: str, of_store: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Return the versions of numerical libraries by name, including timm for its networks.

    That of librosa is the store's, if it has features computed by librosa.
    """
    names = (*_LIBRARIES, *(["timm"] if arch.startswith("timm:") else []))
    here = {"python": platform.python_version()} | {name: _version(name) for name in names}
    return here | {name: number for name, number in of_store if name == "librosa"}


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # run from a checkout
        return "not installed"

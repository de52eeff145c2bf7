"""Execution modes of a step, compared with the measured peak of matrix products."""

import dataclasses
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import record
from benchmarks.train.bare import BareLoop, ready_batches, wait
from benchmarks.train.setting import Bench, Setting
from schemas import Acceleration
from trainer.model import build_model
from trainer.training.acceleration import reason_of
from trainer.training.device import computing_on


def peak(how: Setting) -> dict[str, float]:
    """Measure TFLOP/s of a large matrix product, taken as the device's peak."""
    dtype = torch.bfloat16 if how.precision == "bf16" else torch.float32
    size, repeats = (8192, 30) if how.on_gpu else (1024, 3)
    a, b = (torch.randn(size, size, device=how.device, dtype=dtype) for _ in range(2))
    for _ in range(5):
        a @ b
    wait(how.device)
    started = time.perf_counter()
    for _ in range(repeats):
        a @ b
    wait(how.device)
    return {"tflops": repeats * 2 * size**3 / (time.perf_counter() - started) / 1e12}


def gflop_per_sample(how: Setting, shape: tuple[int, int]) -> float:
    """Return the GFLOP of one training sample, forward and backward, counted by torch."""
    small = dataclasses.replace(how, batch=4, steps=1, precision="float32")
    counter = FlopCounterMode(display=False)
    with counter:
        BareLoop(small, "eager", build_model(how.arch, 50, 0))(ready_batches(shape, small, 50))
    return float(counter.get_total_flops()) / 4 / 1e9


def modes(bench: Bench, resolution: str, tflops: float, *, compiled: bool) -> dict[str, Any]:
    """Measure the bare loop in each execution mode, in turns; a mode that fails stops no other.

    Args:
        bench: Store and setting.
        resolution: R1, R2 or R3.
        tflops: Measured peak in TFLOP/s; 0 if unknown.
        compiled: Whether to include the modes that compile, which takes a minute.

    Returns:
        By mode, `samples_per_s` and `share_of_peak`, the fraction of the peak that is reached.
    """
    how, shape = bench.how, bench.dataset.shape(bench.arrays[resolution])
    gflop = gflop_per_sample(how, shape)
    batches = ready_batches(shape, how, 50)
    ready: dict[str, Callable[[], object]] = {}
    found: dict[str, Any] = {"gflop_per_sample": gflop}
    for name in _names(how, compiled=compiled):
        try:
            ready[name] = _ready(name, how, batches)
        except Exception as error:  # noqa: BLE001  (one mode must not stop the others)
            found[name] = {"failed": reason_of(error)}
    for name, seconds in record.interleave(ready, how.rounds).items():
        rate = how.steps * how.batch / median(seconds)
        share = rate * gflop / 1000 / tflops if tflops else None
        found[name] = {"samples_per_s": rate, "share_of_peak": share}
    return found


FASTEST = ", any algorithm"
"""Suffix of the mode in which cuDNN may choose algorithms that do not repeat their bits."""


def _names(how: Setting, *, compiled: bool) -> list[str]:
    names = ["eager", *(["graph", f"graph{FASTEST}"] if how.on_gpu else [])]
    if compiled:
        names += ["compile", *(["compile-graph"] if how.on_gpu else [])]
    return names


def _ready(name: str, how: Setting, batches: Any) -> Callable[[], object]:  # noqa: ANN401
    acceleration: Acceleration = name.removesuffix(FASTEST)  # type: ignore[assignment]
    with computing_on(how.device):
        if name.endswith(FASTEST):
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
        loop = BareLoop(how, acceleration, build_model(how.arch, 50, 0))
        for _ in range(1 if how.steps > 3 else 3):  # enough steps to record a graph
            loop(batches)
    return lambda: loop(batches)

"""Three ways to run the same step: as it is, compiled, or recorded as a CUDA graph.

A step is a function of tensors that changes tensors in place. If a way is unavailable, the step
runs as it is, and a warning says why.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast, get_args

import torch
from torch import Tensor

from schemas import Acceleration
from trainer.errors import DeviceError
from trainer.oom import is_out_of_memory

Step = Callable[..., None]
"""Takes tensors of the current device; returns nothing, draws nothing random, never waits."""
Forward = Callable[..., Tensor]
"""A network, or a compiled form of one."""
Warn = Callable[[str], None]

WARM_UP = 3
"""Steps before one is recorded, in which cuDNN, cuBLAS and the allocator take what they keep."""

_ONE_AT_A_TIME = threading.Lock()
"""Held while recording, as a process may record one graph at a time, and while compiling, which is
no faster in two threads."""


@dataclass(frozen=True)
class Choice:
    """Execution of the steps.

    Args:
        used: The acceleration that works here.
        warning: Why it is not the one asked for; None if it is.
    """

    used: Acceleration
    warning: str | None = None


def choose_acceleration(name: str, device: torch.device) -> Choice:
    """Return the acceleration of that name if it works here; `auto` is `eager`.

    Graphs have never run on a GPU: until they have, nobody gets one who did not ask for it.
    A compiler is tried on a line of code, which takes seconds; a graph at the first steps.

    Raises:
        DeviceError: No acceleration has that name.
    """
    if name == "auto":
        return Choice("eager")
    if name not in get_args(Acceleration):
        known = ", ".join(("auto", *get_args(Acceleration)))
        raise DeviceError(f"no acceleration {name!r}; there are: {known}")
    if "graph" in name and device.type != "cuda":
        reason: str | None = f"CUDA graphs need a GPU, and the device is {device}"
    else:
        reason = compiler_fault(device) if "compile" in name else None
    if reason:
        return Choice("eager", f"no acceleration {name!r} here, so steps run eagerly: {reason}")
    return Choice(cast(Acceleration, name))


def compiler_fault(device: torch.device) -> str | None:
    """Return why torch.compile does not work here; None if it does."""
    try:
        torch.compile(_sample)(torch.ones(8, device=device))
    except Exception as error:  # noqa: BLE001  (a missing compiler shows in many ways)
        return reason_of(error)
    return None


def _sample(x: Tensor) -> Tensor:
    return x.sin() + 1


def reason_of(error: BaseException) -> str:
    """Return an error as one line of at most 300 characters."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def accelerate(
    make: Callable[[Forward], Step], network: Forward, how: Acceleration, warn: Warn
) -> Step:
    """Return a step of the network that runs in the given way.

    Args:
        make: Makes the step of a network.
        network: The network; its parameters are the same however the step runs.
        how: The acceleration.
        warn: Called with a line if it falls back to the step as it is.
    """
    step = make(network)
    if "compile" in how:
        step = Compiled(make(torch.compile(network, dynamic=False)), step, warn)
    return Recorded(step, warn) if "graph" in how else step


def without_compiler(how: Acceleration) -> Acceleration:
    """Return the acceleration for a step that is not worth minutes of compiling."""
    return "graph" if "graph" in how else "eager"


class Compiled:
    """A step through torch.compile, which falls back to the plain one if its first call fails.

    Args:
        compiled: The step of a compiled network.
        plain: The step of the network itself.
        warn: Called with the reason if the plain one runs.
    """

    def __init__(self, compiled: Step, plain: Step, warn: Warn) -> None:
        self._compiled, self._plain, self._warn = compiled, plain, warn
        self._step: Step | None = None

    def __call__(self, *inputs: Tensor) -> None:
        """Run the step."""
        if self._step is not None:
            self._step(*inputs)
            return
        try:
            with _ONE_AT_A_TIME:
                self._compiled(*inputs)
            self._step = self._compiled
        except Exception as error:
            # Too little memory is not the compiler's fault, and a plain step would need as much.
            if is_out_of_memory(error):
                raise
            self._warn(f"torch.compile failed, so steps run eagerly: {reason_of(error)}")
            self._step = self._plain
            self._step(*inputs)


class Recorded:
    """A step that is recorded as a CUDA graph once it is warm, and replayed from then on.

    The first calls are steps like any other. Inputs of another shape than the first ones run the
    step itself. Call it on one stream that is not the default one.

    Args:
        step: The step to record.
        warn: Called with the reason if it cannot be recorded.
    """

    def __init__(self, step: Step, warn: Warn) -> None:
        self._step, self._warn = step, warn
        self._shapes: list[torch.Size] = []
        self._calls = 0
        self._inputs: tuple[Tensor, ...] = ()
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> None:
        """Run the step, or replay its graph."""
        shapes = [tensor.shape for tensor in inputs]
        self._shapes = self._shapes or shapes
        if shapes != self._shapes:
            self._step(*inputs)
            return
        if self._calls == WARM_UP:
            self._record(inputs)
        self._calls += 1
        if self._graph is None:
            self._step(*inputs)
            return
        # A graph reads the memory it was recorded with: inputs are copied there.
        for own, tensor in zip(self._inputs, inputs, strict=True):
            own.copy_(tensor, non_blocking=True)
        self._graph.replay()

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        try:
            graph = torch.cuda.CUDAGraph()
            own = tuple(tensor.clone() for tensor in inputs)
            with _ONE_AT_A_TIME, _recording(graph):
                self._step(*own)  # recorded only: nothing runs yet
        except Exception as error:  # noqa: BLE001  (whatever cannot be recorded can still be run)
            # Ending a broken recording fails once more, so the cause is the context. It gets no
            # variable: that would hold this frame, and with it the stage's data, in a circle.
            # Out of memory is no exception: a graph keeps memory of its own, a plain step does not.
            why = reason_of(error.__context__ or error)
            self._warn(f"no CUDA graph of the step, so it runs eagerly: {why}")
        else:
            self._graph, self._inputs = graph, own


def _recording(graph: torch.cuda.CUDAGraph) -> torch.cuda.graph:
    """Record onto the current stream; other threads may allocate and wait meanwhile."""
    stream = torch.cuda.current_stream()
    return torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local")

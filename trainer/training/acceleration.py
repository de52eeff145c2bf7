"""Three ways to run one and the same step: as it is, compiled, or recorded as a CUDA graph.

A step is a function of tensors that changes tensors in place. What cannot be had falls back to the
step as it is, and says why.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast, get_args

import torch
from torch import Tensor

from schemas import Acceleration
from trainer.errors import DeviceError

Step = Callable[..., None]
"""Of tensors of the current device. Returns nothing, draws nothing random, never waits for it."""
Forward = Callable[..., Tensor]
"""A network."""
Warn = Callable[[str], None]

WARM_UP = 3
"""Steps before one is recorded: cuDNN, cuBLAS and the allocator first take what they keep."""

_ONE_AT_A_TIME = threading.Lock()
"""A process may record one graph at a time, and the compiler is no faster in two threads."""


@dataclass(frozen=True)
class Choice:
    """How steps will be run.

    Args:
        used: What can be had here.
        warning: Why it is not what was asked for; None where it is.
    """

    used: Acceleration
    warning: str | None = None


def choose_acceleration(name: str, device: torch.device) -> Choice:
    """The acceleration of that name; `auto` is `eager`.

    Graphs have never run on a GPU: until they have, nobody gets one who did not ask for it.
    A compiler is tried on a line of code, which takes seconds; a graph at the first steps.

    Raises:
        DeviceError: The name is not one of an acceleration.
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
    """Why torch.compile does not work here; None where it does."""
    try:
        torch.compile(_sample)(torch.ones(8, device=device))
    except Exception as error:  # noqa: BLE001  (a missing compiler shows in many ways)
        return reason_of(error)
    return None


def _sample(x: Tensor) -> Tensor:
    return x.sin() + 1


def reason_of(error: BaseException) -> str:
    """An error in one line of at most 300 characters."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def accelerate(
    make: Callable[[Forward], Step], network: Forward, how: Acceleration, warn: Warn
) -> Step:
    """A step of the network, run in the way that is wanted.

    Args:
        make: The step of a network.
        network: Called by the step; its parameters are the same however it is run.
        how: Of the four ways.
        warn: Told, in a line, what falls back and why.
    """
    step = make(network)
    if "compile" in how:
        step = Compiled(make(torch.compile(network, dynamic=False)), step, warn)
    return Recorded(step, warn) if "graph" in how else step


def without_compiler(how: Acceleration) -> Acceleration:
    """The same, of what is not worth the minutes of compiling."""
    return "graph" if "graph" in how else "eager"


class Compiled:
    """A step through torch.compile, until its first call fails.

    Args:
        compiled: The step of a compiled network.
        plain: The same of the network itself.
        warn: Told why the plain one is taken.
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
        except Exception as error:  # noqa: BLE001  (the compiler's own errors are of many kinds)
            self._warn(f"torch.compile failed, so steps run eagerly: {reason_of(error)}")
            self._step = self._plain
            self._step(*inputs)


class Recorded:
    """A step that is recorded as a CUDA graph once it is warm, and replayed from then on.

    The first calls are steps like any other. Recording runs nothing; a replay copies its inputs
    to the graph's own. Inputs of another shape than the first ones run the step itself. To be
    called on one stream that is not the default one.

    Args:
        step: What is recorded.
        warn: Told why it cannot be.
    """

    def __init__(self, step: Step, warn: Warn) -> None:
        self._step, self._warn = step, warn
        self._shapes: list[torch.Size] = []
        self._calls = 0
        self._inputs: tuple[Tensor, ...] = ()
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> None:
        """Run the step, or its graph."""
        shapes = [given.shape for given in inputs]
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
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        self._graph.replay()

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        try:
            graph = torch.cuda.CUDAGraph()
            own = tuple(given.clone() for given in inputs)
            with _ONE_AT_A_TIME, _recording(graph):
                self._step(*own)
        except Exception as error:  # noqa: BLE001  (whatever cannot be recorded can still be run)
            # The end of a broken recording fails once more. A variable of the cause would hold
            # this frame in a circle, and with it the stage's data.
            why = reason_of(error.__context__ or error)
            self._warn(f"no CUDA graph of the step, so it runs eagerly: {why}")
        else:
            self._graph, self._inputs = graph, own


def _recording(graph: torch.cuda.CUDAGraph) -> torch.cuda.graph:
    """Onto the current stream; other threads may go on allocating and waiting meanwhile."""
    stream = torch.cuda.current_stream()
    return torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local")

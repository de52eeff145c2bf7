"""Three ways to run the same step: as it is, compiled, or recorded as a CUDA graph.

A step is a function of tensors that changes tensors in place. If a way is unavailable, the step
runs as it is, and a warning says why. Graphs have never run on a GPU: they are experimental.
"""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast, get_args

import torch
from torch import Tensor

from schemas import Acceleration
from trainer.errors import DeviceError
from trainer.oom import is_out_of_memory
from trainer.threads import GPU_TURN

Step = Callable[..., None]
"""Takes tensors of the current device; returns nothing, draws nothing random, never waits."""
Forward = Callable[..., Tensor]
"""A network, or a compiled form of one."""
Warn = Callable[[str], None]
Replay = Callable[[], None]
"""Runs a recorded step again, on what the tensors it was recorded with hold by then."""
Recorder = Callable[[Step, tuple[Tensor, ...]], Replay]
"""Records a step of the given tensors, which it does not run."""

WARM_UP = 3
"""Steps before one is recorded, in which cuDNN, cuBLAS and the allocator take what they keep."""
TRIES = 3
"""Attempts to record a step; what breaks a recording may be over at the next step."""

_COMPILING = threading.Lock()
"""Held while compiling, which is no faster in two threads."""


@dataclass
class Fallbacks:
    """Reasons why steps do not run as they should.

    Args:
        warn: Called with a line once a step runs as it is for good.
        failed_recordings: Attempts to record a graph that failed.
    """

    warn: Warn
    failed_recordings: int = 0


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
    make: Callable[[Forward], Step], network: Forward, how: Acceleration, fallbacks: Fallbacks
) -> Step:
    """Return a step of the network that runs in the given way.

    Args:
        make: Makes the step of a network.
        network: The network; its parameters are the same however the step runs.
        how: The acceleration.
        fallbacks: Takes note if the step runs as it is.
    """
    step = make(network)
    if "compile" in how:
        step = Compiled(make(torch.compile(network, dynamic=False)), step, fallbacks.warn)
    return Recorded(step, fallbacks) if "graph" in how else step


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
            with _COMPILING:
                self._compiled(*inputs)
            self._step = self._compiled
        except Exception as error:
            # Too little memory is not the compiler's fault, and a plain step would need as much.
            if is_out_of_memory(error):
                raise
            self._warn(f"torch.compile failed, so steps run eagerly: {reason_of(error)}")
            self._step = self._plain
            self._step(*inputs)


@dataclass
class _Graph:
    """A step's graph for inputs of one shape, or the way to it."""

    calls: int = 0
    failures: int = 0
    inputs: tuple[Tensor, ...] = field(default=())
    replay: Replay | None = None

    @property
    def due(self) -> bool:
        """Whether the next call shall be recorded."""
        return self.replay is None and self.calls >= WARM_UP and self.failures < TRIES


class Recorded:
    """A step that is recorded as a CUDA graph once it is warm, and replayed from then on.

    The first calls are steps like any other. Each shape of the inputs has a graph of its own: the
    last batch of a pass has fewer clips. Call it on one stream that is not the default one.

    Args:
        step: The step to record.
        fallbacks: Counts the attempts that fail, and is told why once no more are made.
        recorder: Records; `record_graph`, but for tests.
    """

    def __init__(self, step: Step, fallbacks: Fallbacks, recorder: Recorder | None = None) -> None:
        self._step, self._fallbacks = step, fallbacks
        self._recorder = recorder or record_graph
        self._graphs: dict[tuple[torch.Size, ...], _Graph] = {}

    def __call__(self, *inputs: Tensor) -> None:
        """Run the step, or replay its graph."""
        graph = self._graphs.setdefault(tuple(tensor.shape for tensor in inputs), _Graph())
        if graph.due:
            self._record(graph, inputs)
        graph.calls += 1
        if graph.replay is None:
            self._step(*inputs)
            return
        # A graph reads the memory it was recorded with: inputs are copied there.
        for own, tensor in zip(graph.inputs, inputs, strict=True):
            own.copy_(tensor, non_blocking=True)
        graph.replay()

    def _record(self, graph: _Graph, inputs: tuple[Tensor, ...]) -> None:
        try:
            own = tuple(tensor.clone() for tensor in inputs)
            graph.replay = self._recorder(self._step, own)
        except Exception as error:  # noqa: BLE001  (whatever cannot be recorded can still be run)
            graph.failures += 1
            self._fallbacks.failed_recordings += 1
            if graph.failures == TRIES:
                # Ending a broken recording fails once more, so the cause is the context. It gets no
                # variable: that would hold this frame, and with it the stage's data, in a circle.
                # Out of memory is no exception: a graph keeps memory of its own, a plain step does
                # not.
                why = reason_of(error.__context__ or error)
                self._fallbacks.warn(f"no CUDA graph of the step, so it runs eagerly: {why}")
        else:
            graph.inputs = own


def record_graph(step: Step, inputs: tuple[Tensor, ...]) -> Replay:
    """Record a step on the current stream, which may not be the default one.

    Raises:
        RuntimeError: It cannot be recorded.
    """
    stream = torch.cuda.current_stream()
    # PyTorch would find this out too late, and its allocator would stay damaged.
    if stream == torch.cuda.default_stream():
        raise RuntimeError("a CUDA graph is recorded on a stream of its own")
    graph = torch.cuda.CUDAGraph()
    recording = torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local")
    with GPU_TURN, no_garbage_collection(), recording:
        step(*inputs)  # recorded only: nothing runs yet
    return graph.replay


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect garbage before, and none within: what a finaliser frees may break a recording."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

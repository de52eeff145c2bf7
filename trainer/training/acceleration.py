"""Three ways to run a training step: eager, compiled, or recorded as a CUDA graph.

A step is a function of tensors that modifies tensors in place. If a way is unavailable, the step
runs eagerly, with a warning. Graphs have never been run on a GPU: they are experimental.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from schemas import Acceleration
from trainer.oom import is_out_of_memory
from trainer.threads import GPU_TURN
from trainer.training.device import alone_on_gpu

Step = Callable[..., None]
"""A step: takes tensors of the current device, returns None, is deterministic, never waits."""
Forward = Callable[..., Tensor]
"""A network, or its compiled form."""
Warn = Callable[[str], None]
Replay = Callable[[], None]
"""Function that replays a recorded step on the current contents of its tensors."""
Recorder = Callable[[Step, tuple[Tensor, ...]], Replay]
"""Function that records a step for given tensors without running it."""

WARM_UP = 3
"""Number of steps before recording, for cuDNN, cuBLAS and the allocator to reserve memory."""
TRIES = 3
"""Maximum number of attempts to record a step, as the cause of a failure may be temporary."""
_MEMORY_HELD = (
    "if GPU memory runs out later, resume in a new process, as this may hold unused memory"
)
"""Advice after a failed recording: PyTorch 2.11 then takes one to be under way for ever, and frees
no cached memory before it gives up."""

_COMPILING = threading.Lock()
"""Lock held while compiling, which is no faster in two threads."""


@dataclass
class Fallbacks:
    """Record of steps that do not run with the requested acceleration.

    Args:
        warn: Called with a line, once, when a step falls back to eager mode.
        failed_recordings: Number of attempts to record a graph that failed or were put off.
    """

    warn: Warn
    failed_recordings: int = 0
    _warnings: set[str] = field(default_factory=set)

    def warn_once(self, message: str) -> None:
        """Warn, unless there was this warning before."""
        if message not in self._warnings:
            self._warnings.add(message)
            self.warn(message)


@dataclass(frozen=True)
class Choice:
    """Acceleration of the steps.

    Args:
        used: Acceleration that works here.
        warning: Why it is not the requested one; None if it is.
    """

    used: Acceleration
    warning: str | None = None


def choose_acceleration(name: Acceleration | Literal["auto"], device: torch.device) -> Choice:
    """Return the acceleration with a given name, if it works here; `auto` is `eager`.

    Graphs have never been run on a GPU, so they are used only on request. The compiler is tried on
    a line of code, which takes seconds; a graph is tried at the first steps.
    """
    if name == "auto":
        return Choice("eager")
    if "graph" in name and device.type != "cuda":
        reason: str | None = f"CUDA graphs need a GPU, and the device is {device}"
    else:
        reason = compiler_fault(device) if "compile" in name else None
    if reason:
        return Choice("eager", f"no acceleration {name!r} here, so steps run eagerly: {reason}")
    return Choice(name)


def compiler_fault(device: torch.device) -> str | None:
    """Return why torch.compile does not work here; None if it does."""
    try:
        with GPU_TURN:
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
    """Return a step of the network that runs with the given acceleration.

    Args:
        make: Function that makes the step of a network.
        network: The network, whose parameters are shared by all forms of the step.
        how: Acceleration.
        fallbacks: Record of fallbacks to eager mode.
    """
    step = make(network)
    if "compile" in how:
        step = Compiled(make(torch.compile(network, dynamic=False)), step, fallbacks.warn_once)
    return Recorded(step, fallbacks) if "graph" in how else step


def without_compiler(how: Acceleration) -> Acceleration:
    """Return the acceleration for a step that is not worth compiling for minutes."""
    return "graph" if "graph" in how else "eager"


class Compiled:
    """A step with torch.compile that falls back to eager mode if its first call fails.

    Args:
        compiled: Step of the compiled network.
        plain: Step of the network itself.
        warn: Called with the reason for a fallback.
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
    reason: str = ""
    inputs: tuple[Tensor, ...] = ()
    replay: Replay | None = None

    @property
    def due(self) -> bool:
        """Whether the next call shall be recorded."""
        return self.replay is None and self.calls >= WARM_UP and self.failures < TRIES


class Recorded:
    """A step that is recorded as a CUDA graph after warm-up, and replayed from then on.

    The first calls run eagerly. Each shape of the inputs has its own graph, as the last batch of a
    pass may be smaller. It must be called on one stream other than the default one. While another
    training or prediction of this process uses a GPU, nothing is recorded.

    Args:
        step: Step to record.
        fallbacks: Record of attempts that failed or were put off.
        recorder: Function that records; `record_graph` except in tests.
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
            with alone_on_gpu() as alone:
                if alone:
                    own = tuple(tensor.clone() for tensor in inputs)
                    graph.replay, graph.inputs = self._recorder(self._step, own), own
        except Exception as error:  # noqa: BLE001  (whatever cannot be recorded can still be run)
            # Ending a broken recording fails once more, so the cause is the context. It gets no
            # variable: that would hold this frame, and with it the stage's data, in a circle. Out
            # of memory is no exception: a graph keeps memory of its own, a plain step does not.
            graph.reason = f"{reason_of(error.__context__ or error)}; {_MEMORY_HELD}"
            graph.failures += 1
            self._fallbacks.failed_recordings += 1
            if graph.failures == TRIES:
                what = "no CUDA graph of the step, so it runs eagerly"
                self._fallbacks.warn_once(f"{what}: {graph.reason}")
            return
        if not alone:
            self._fallbacks.failed_recordings += 1
            self._fallbacks.warn_once(
                "no CUDA graph of the step, so it runs eagerly, as long as another training or "
                "prediction of this process uses a GPU"
            )
        elif graph.failures:
            what = f"a CUDA graph of the step was recorded at attempt {graph.failures + 1} only"
            self._fallbacks.warn_once(f"{what}: {graph.reason}")


def record_graph(step: Step, inputs: tuple[Tensor, ...]) -> Replay:
    """Record a step on the current stream, which must not be the default one.

    Raises:
        RuntimeError: The step cannot be recorded.
    """
    stream = torch.cuda.current_stream()
    # PyTorch would find this out too late, and its allocator would stay damaged.
    if stream == torch.cuda.default_stream():
        raise RuntimeError("a CUDA graph is recorded on a stream of its own")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        step(*inputs)  # recorded only: nothing runs yet
    return graph.replay

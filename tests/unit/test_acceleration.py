import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from tests.cpu_graphs import record_on_cpu
from tests.unit.test_stage import CONFIG, STAGE, in_order, small_network, tones
from trainer.data.source import StageData
from trainer.model import Network, build_model
from trainer.threads import GPU_TURN
from trainer.training.acceleration import (
    TRIES,
    WARM_UP,
    Choice,
    Compiled,
    Fallbacks,
    Recorded,
    Replay,
    Step,
    choose_acceleration,
    compiler_fault,
)
from trainer.training.device import computing_on
from trainer.training.stage import EpochResult, StageTrainer

torch.set_num_threads(1)  # next to other tests, threads wait for cores they do not get

CPU = torch.device("cpu")


def test_a_graph_is_had_on_a_gpu_by_asking_and_auto_is_eager_everywhere() -> None:
    for device in (CPU, torch.device("cuda")):
        assert choose_acceleration("auto", device) == Choice("eager")
    assert choose_acceleration("graph", torch.device("cuda")) == Choice("graph")


@pytest.mark.parametrize("name", ["graph", "compile-graph"])
def test_a_graph_asked_for_on_a_cpu_falls_back_and_says_why(name: str) -> None:
    found = choose_acceleration(name, CPU)
    assert found.used == "eager"
    assert found.warning is not None
    assert "CUDA graphs need a GPU, and the device is cpu" in found.warning


def test_a_step_whose_compilation_fails_runs_as_it_is_and_says_why_once() -> None:
    done: list[float] = []
    told: list[str] = []

    def broken(x: Tensor) -> None:
        raise RuntimeError("no compiler\nand a long trace")

    step = Compiled(broken, lambda x: done.append(x.item()), told.append)
    for value in (1.0, 2.0):
        step(torch.tensor(value))
    assert done == [1.0, 2.0]
    assert told == ["torch.compile failed, so steps run eagerly: RuntimeError: no compiler"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("bad_alloc"),
        RuntimeError("backend='inductor' raised: FIND was unable to find an engine to execute"),
    ],
)
def test_out_of_memory_in_a_compiled_first_step_is_not_the_compilers_fault(
    error: Exception,
) -> None:
    def step(x: Tensor) -> None:
        raise error

    compiled = Compiled(step, pytest.fail, pytest.fail)
    with pytest.raises(type(error)) as caught:
        compiled(torch.tensor(1.0))
    assert caught.value is error


def test_an_error_of_a_step_that_was_compiled_is_not_hidden() -> None:
    def step(x: Tensor) -> None:
        if not x:
            raise ZeroDivisionError

    compiled = Compiled(step, step, pytest.fail)
    compiled(torch.tensor(1.0))
    with pytest.raises(ZeroDivisionError):
        compiled(torch.tensor(0.0))


class Recording:
    """A recorder as CUDA's: runs nothing, and replays the step on the memory that it was given.

    Its first attempts fail.
    """

    def __init__(self, failures: int = 0) -> None:
        self.left, self.shapes = failures, []
        self.replayed = 0

    def __call__(self, step: Step, inputs: tuple[Tensor, ...]) -> Replay:
        assert GPU_TURN.locked(), "nothing else uses the GPU"
        assert not gc.isenabled(), "no finaliser runs"
        if self.left:
            self.left -= 1
            raise RuntimeError("operation not permitted when stream is capturing")
        self.shapes.append([tuple(tensor.shape) for tensor in inputs])

        def replay() -> None:
            self.replayed += 1
            step(*inputs)

        return replay


REFUSED = (
    "RuntimeError: operation not permitted when stream is capturing; if GPU memory runs out later, "
    "resume in a new process, as this may hold unused memory"
)
SIZES = [4] * 8 + [1] * 8 + [4, 1, 4]


def call(recorder: Recording) -> tuple[list[str], Fallbacks]:
    """Run a step of growing numbers through `Recorded`; what was told, and the fallbacks."""
    seen: list[list[float]] = []
    told: list[str] = []
    fallbacks = Fallbacks(told.append)
    step = Recorded(lambda x: seen.append(x.tolist()), fallbacks, recorder)
    batches = [torch.full((size,), float(number)) for number, size in enumerate(SIZES)]
    for batch in batches:
        step(batch)
    assert seen == [batch.tolist() for batch in batches], "every call is one step on its inputs"
    assert gc.isenabled()
    assert not GPU_TURN.locked()
    return told, fallbacks


def test_a_warm_step_is_recorded_once_for_each_shape_and_replayed_from_then_on() -> None:
    recorder = Recording()
    told, fallbacks = call(recorder)
    assert recorder.shapes == [[(4,)], [(1,)]]
    assert recorder.replayed == len(SIZES) - 2 * WARM_UP
    assert (told, fallbacks.failed_recordings) == ([], 0)


@pytest.mark.parametrize("failures", [1, TRIES - 1])
def test_a_recording_that_fails_is_tried_again_at_the_next_step_and_counted(failures: int) -> None:
    recorder = Recording(failures)
    told, fallbacks = call(recorder)
    assert recorder.replayed == len(SIZES) - 2 * WARM_UP - failures
    assert fallbacks.failed_recordings == failures
    assert told == [
        f"a CUDA graph of the step was recorded at attempt {failures + 1} only: {REFUSED}"
    ]


def test_a_step_that_cannot_be_recorded_runs_as_it_is_and_says_why_once() -> None:
    recorder = Recording(failures=100)
    told, fallbacks = call(recorder)
    assert recorder.replayed == 0
    assert fallbacks.failed_recordings == 2 * TRIES
    assert told == [f"no CUDA graph of the step, so it runs eagerly: {REFUSED}"]


@contextmanager
def elsewhere(device: str) -> Iterator[None]:
    """Let another thread train or predict on a device."""
    started, over = threading.Event(), threading.Event()

    def train() -> None:
        with computing_on(torch.device(device)):
            started.set()
            assert over.wait(60)

    thread = threading.Thread(target=train)
    thread.start()
    assert started.wait(60)
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_nothing_is_recorded_while_another_thread_trains_on_a_gpu_and_all_is_after_it() -> None:
    recorder, told = Recording(), list[str]()
    fallbacks = Fallbacks(told.append)
    step = Recorded(lambda x: None, fallbacks, recorder)
    with computing_on(torch.device("cuda")), computing_on(torch.device("cuda")):
        with elsewhere("cuda"):
            for _ in range(WARM_UP + 2 * TRIES):
                step(torch.ones(4))
        assert (recorder.shapes, fallbacks.failed_recordings) == ([], 2 * TRIES)
        with elsewhere("cpu"):
            step(torch.ones(4))
    assert recorder.replayed == 1
    assert told == [
        "no CUDA graph of the step, so it runs eagerly, as long as another training or "
        "prediction of this process uses a GPU"
    ]


def test_another_training_on_a_gpu_starts_when_a_recording_is_over() -> None:
    started: list[None] = []

    def train() -> None:
        with computing_on(torch.device("cuda")):
            started.append(None)

    def recorder(step: Step, inputs: tuple[Tensor, ...]) -> Replay:
        thread = threading.Thread(target=train, daemon=True)
        thread.start()
        thread.join(0.05)
        seen.append((thread, bool(started)))
        return lambda: None

    seen: list[tuple[threading.Thread, bool]] = []
    step = Recorded(lambda x: None, Fallbacks(pytest.fail), recorder)
    for _ in range(WARM_UP + 1):
        step(torch.ones(4))
    ((thread, meanwhile),) = seen
    thread.join(60)
    assert (meanwhile, bool(started)) == (False, True)


@pytest.mark.parametrize(
    ("failures", "dtype"),
    [(2, None), (0, torch.float16), pytest.param(1, torch.uint8, marks=pytest.mark.slow)],
)
def test_a_recorded_stage_gives_the_bits_of_an_eager_one_whatever_alternates_with_it(
    monkeypatch: pytest.MonkeyPatch, failures: int, dtype: torch.dtype | None
) -> None:
    """Also in the last partial batch. A step that left its gradients elsewhere would not count."""
    recording = Recording(failures)

    def recorder(step: Step, inputs: tuple[Tensor, ...]) -> Replay:
        recording(step, inputs)
        return record_on_cpu(step, inputs)

    monkeypatch.setattr("trainer.training.acceleration.record_graph", recorder)
    data = StageData("R1/mel", tones(40, 0), tones(11, 1))
    other = StageData("R1/resize", tones(40, 2, dtype), tones(11, 3, dtype)) if dtype else None

    told: list[str] = []

    def train(how: str) -> tuple[list[EpochResult], Network]:
        model = small_network()
        config = CONFIG.model_copy(update={"acceleration": how, "mixup": 0.2})
        trainer = StageTrainer(model, STAGE, data, config, told.append, other)
        return [trainer.run_epoch(in_order(40), n, lambda: None) for n in range(5)], model

    (eager, first), (graphs, second) = train("eager"), train("graph")
    assert [(e.train, e.valid) for e in graphs] == [(e.train, e.valid) for e in eager]
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert [shapes[0][0] for shapes in recording.shapes] == [8, 8, 3], "training, validation, rest"
    assert [e.failed_recordings for e in graphs] == [failures, 0, 0, 0, 0]
    assert len(told) == min(failures, 1)


def test_recorded_stages_resume_and_follow_each_other_to_the_bits_of_eager_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainer.training.acceleration.record_graph", record_on_cpu)
    stages = [StageData("R1/mel", tones(40, n), tones(11, n + 1)) for n in (0, 2)]

    def train(how: str, resumed: bool) -> Network:
        model = small_network()
        config = CONFIG.model_copy(update={"acceleration": how})
        moments = None
        for data in stages:
            trainer = StageTrainer(model, STAGE, data, config, pytest.fail)
            if moments:
                trainer.take_moments(moments)
            for epoch in range(4):
                trainer.run_epoch(in_order(40), epoch, lambda: None)
                if resumed and epoch == 1:
                    state = trainer.state()
                    model = deepcopy(model)
                    trainer = StageTrainer(model, STAGE, data, config, pytest.fail)
                    trainer.restore(state)
            moments = trainer.state().optimizer
        return model

    eager, graphs = (train(*how).state_dict() for how in (("eager", False), ("graph", True)))
    assert all(torch.equal(graphs[name], tensor) for name, tensor in eager.items())


def test_a_step_that_waits_for_the_device_is_not_recorded_on_a_cpu_either() -> None:
    def waiting(x: Tensor) -> None:
        x += x.sum().item()

    with pytest.raises(RuntimeError, match="stream is capturing"):
        record_on_cpu(waiting, (torch.ones(3),))


@pytest.mark.slow
def test_compiled_steps_give_the_same_loss_to_rounding() -> None:
    fault = compiler_fault(CPU)
    if fault:
        pytest.skip(f"torch.compile does not work here: {fault}")
    data = StageData("R1/mel", tones(8, 0), tones(3, 1))

    def train(how: str) -> tuple[float, Tensor]:
        model = build_model("resnet18", 2, seed=0)
        config = CONFIG.model_copy(update={"acceleration": how})
        trainer = StageTrainer(model, STAGE, data, config, pytest.fail)
        loss = trainer.run_epoch(in_order(8), 0, lambda: None).train.loss
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return loss, torch.cat(gradients)

    (loss, gradient), (compiled_loss, compiled_gradient) = train("eager"), train("compile")
    assert compiled_loss == pytest.approx(loss, rel=1e-4)
    assert (compiled_gradient - gradient).norm() < 1e-4 * gradient.norm()


@pytest.mark.slow
def test_a_missing_compiler_falls_back_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    torch.compiler.reset()
    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(config, "fx_graph_cache", False)
    found = choose_acceleration("compile", CPU)
    assert found.used == "eager"
    assert found.warning is not None
    assert "compiler" in found.warning

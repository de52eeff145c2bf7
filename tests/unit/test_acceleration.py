import pytest
import torch
from torch import Tensor

from tests.unit.test_stage import CONFIG, STAGE, in_order, tones
from trainer.data.source import StageData
from trainer.errors import DeviceError
from trainer.model import build_model
from trainer.training.acceleration import (
    WARM_UP,
    Choice,
    Compiled,
    Recorded,
    choose_acceleration,
    compiler_fault,
)
from trainer.training.stage import StageTrainer

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


def test_what_is_no_acceleration_is_told_with_those_there_are() -> None:
    with pytest.raises(DeviceError, match="auto, eager, compile, graph, compile-graph"):
        choose_acceleration("fast", CPU)


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
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("bad_alloc")],
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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_every_call_is_run_once_whatever_its_shape_where_nothing_can_be_recorded() -> None:
    seen: list[int] = []
    told: list[str] = []
    step = Recorded(lambda x: seen.append(len(x)), told.append)
    sizes = [4, 4, 1, 4, 4, 4, 4]
    for size in sizes:
        step(torch.zeros(size))
    assert seen == sizes
    assert sizes.count(4) > WARM_UP
    assert len(told) == 1


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
    assert compiled_loss == pytest.approx(loss, rel=1e-5)
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

import re
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.unit.test_stage import CONFIG, STAGE
from trainer.errors import DeviceMemoryError
from trainer.oom import explain_oom_loading, explain_oom_training, is_out_of_memory

ENORMOUS = 1 << 62
ALLOCATIONS = [
    lambda: torch.empty(ENORMOUS, dtype=torch.uint8),
    lambda: np.empty(ENORMOUS, dtype=np.uint8),
    lambda: bytearray(ENORMOUS),
]

LIMITED = """
import resource
from pathlib import Path

import numpy as np
import torch

from tests.unit.test_stage import CONFIG, STAGE
from trainer.data.source import StageData
from trainer.training.stage import StageTrainer
from trainer.errors import DeviceMemoryError
from trainer.model import build_model
from trainer.data.order import Window
from trainer.oom import explain_oom_training
from trainer.data.source import DeviceSource

torch.set_num_threads(1)
SHAPE = (64, 128)


def train(model, size):
    config = CONFIG.model_copy(update={"batch_size": size})
    images = torch.zeros(1, 1, *SHAPE).expand(2 * size, -1, -1, -1)
    split = DeviceSource(images, torch.zeros(2 * size, dtype=torch.int64), 1.0, torch.device("cpu"))
    trainer = StageTrainer(model, STAGE, StageData("R1/mel", split, split), config)
    with explain_oom_training(STAGE, SHAPE, config, "host"):
        trainer.run_epoch([Window((), np.arange(2 * size))], 0, lambda: None)


train(build_model("resnet18", 2, seed=0), 4)  # all libraries are loaded now
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20), resource.RLIM_INFINITY))
try:
    train(build_model("resnet18", 2, seed=0), 256)
except DeviceMemoryError as error:
    text = str(error)
print(text)
train(build_model("resnet18", 2, seed=0), 8)  # not above: there the error holds the first
print("8 fits")
"""


@pytest.mark.parametrize("allocate", ALLOCATIONS)
@pytest.mark.parametrize(
    ("placement", "advice"),
    [
        ("device", "memory of cuda:0: use --placement host, or stream"),
        ("host", "memory of the host: use --placement stream"),
        ("stream", "memory of the host: nothing needs less"),
    ],
)
def test_data_that_do_not_fit_are_one_line_with_the_reading_that_needs_less(
    placement: str, advice: str, allocate: Callable[[], object]
) -> None:
    message = re.escape(
        f"the images of R3/full (12 GB, placement: {placement}) do not fit into the "
    )
    with (
        pytest.raises(DeviceMemoryError, match=message + re.escape(advice)),
        explain_oom_loading("R3/full", 12_000_000_000, placement, "cuda:0"),
    ):
        allocate()


@pytest.mark.parametrize("allocate", ALLOCATIONS)
@pytest.mark.parametrize(("placement", "more"), [("host", ""), ("device", " or --placement host")])
def test_a_step_that_does_not_fit_is_one_line_that_says_to_halve_the_batch_size(
    placement: str, more: str, allocate: Callable[[], object]
) -> None:
    line = (
        "out of memory on cpu: a step of 8 clips of R1/mel 16×16 by resnet18 in float32 does not "
        "fit; halve --batch-size (now 8), or train fewer --folds-at-once, use a smaller --arch"
    )
    with (
        pytest.raises(DeviceMemoryError, match=f"^{re.escape(line + more)}$"),
        explain_oom_training(STAGE, (16, 16), CONFIG, placement),
    ):
        allocate()


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2"), ValueError("out of memory")])
def test_other_errors_pass_as_they_are(error: Exception) -> None:
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)) as caught, explain_oom_loading("R3/full", 1, "host", "cpu"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: not enough memory"),
        RuntimeError("could not create a primitive"),
        RuntimeError("FIND was unable to find an engine to execute this computation"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
    ],
)
def test_what_a_gpu_and_other_systems_say_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits address space")
def test_in_a_process_of_little_memory_a_smaller_batch_fits_after_one_that_does_not() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    said, fits = done.stdout.splitlines()
    assert "a step of 256 clips of R1/mel 64×128 by resnet18 in float32 does not fit" in said
    assert "halve --batch-size (now 256)" in said
    assert fits == "8 fits"

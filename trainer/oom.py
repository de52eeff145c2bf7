"""Out-of-memory errors: recognised in any exception, and explained in one line.

A process killed by the system for lack of memory cannot report anything: on a CPU, only failed
allocations (by a container's limit, `ulimit -v`, or an excessive size) are seen here.
"""

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from featurestore.text import quantity
from schemas import Placement, RunConfig, Stage
from trainer.errors import DeviceMemoryError
from trainer.threads import GPU_TURN

_SIGNS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "bad_alloc",
    "ALLOC_FAILED",
    "ALLOCATION_FAILED",
    "could not create a primitive",
    "unable to find an engine",
)
"""Phrases in messages of PyTorch's allocators for GPU and CPU, C++, cuBLAS and cuDNN, oneDNN, and
cuDNN if no convolution engine has a workspace that fits: the last two have no other words for
it."""
_REMEDIES = {
    "device": "use --placement host, or stream if that is too small as well",
    "host": "use --placement stream, which holds a few chunks at a time",
    "stream": "nothing needs less: end other programs, or build a store of fewer bytes (dtype)",
}


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out, on a GPU or the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)


@contextmanager
def explain_oom(explain: Callable[[], str]) -> Iterator[None]:
    """Translate out-of-memory errors into DeviceMemoryError.

    Args:
        explain: Returns the message; called after the failed calls have released their memory.

    Raises:
        DeviceMemoryError: Memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        release(error)
        raise DeviceMemoryError(explain()) from None


def explain_oom_loading(
    array: str, num_bytes: int, placement: Placement, device: str
) -> AbstractContextManager[None]:
    """Explain that data does not fit, and suggest a placement that needs less memory.

    Args:
        array: Key of the array, such as `R1/mel`.
        num_bytes: Size of all its images in bytes.
        placement: Placement of the data.
        device: Training device.

    Raises:
        DeviceMemoryError: The data does not fit.
    """
    place = device if placement == "device" else "the host"
    return explain_oom(
        lambda: (
            f"the images of {array} ({num_bytes / 1e9:.2g} GB, placement: {placement}) do not "
            f"fit into the memory of {place}: {_REMEDIES[placement]}"
        )
    )


def explain_oom_training(
    stage: Stage, shape: tuple[int, ...], config: RunConfig, placement: Placement
) -> AbstractContextManager[None]:
    """Explain that a training step does not fit.

    Args:
        stage: Stage being trained.
        shape: Shape of its images, usually (bands, frames).
        config: Config with batch size, device and precision.
        placement: Placement of the data.

    Raises:
        DeviceMemoryError: A step does not fit.
    """
    step = f"{quantity(config.batch_size, 'clip')} of {stage.array} {'×'.join(map(str, shape))}"
    remedies = "train fewer --folds-at-once, use a smaller --arch"
    remedies += " or --placement host" if placement == "device" else ""
    return explain_oom(
        lambda: (
            f"out of memory on {config.device}: a step of {step} by {config.arch} in "
            f"{config.precision} does not fit; {halve_batch(config.batch_size)}, or {remedies}"
        )
    )


def halve_batch(size: int) -> str:
    """Return the advice to halve the batch size."""
    return f"halve --batch-size (now {size})"


def release(error: BaseException) -> None:
    """Release the memory still referenced by the traceback of an error."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    if torch.cuda.is_available():
        with GPU_TURN:
            torch.cuda.empty_cache()

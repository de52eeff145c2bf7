"""Out of memory: recognised in whatever was raised, and explained in one line.

A process that the system kills for want of memory cannot say anything: on a CPU only a limit that
the allocator meets (a container's, `ulimit -v`, or more than there is) ends here.
"""

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from featurestore.text import quantity
from schemas import Reading, RunConfig, Stage
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
"""Words of PyTorch's allocators for a GPU and a CPU, of C++, of cuBLAS and cuDNN, of oneDNN, and of
cuDNN again, whose convolutions have no engine whose workspace fits: the last two have no other
words for a lack of memory."""
_REMEDIES = {
    "device": "use --reading host, or stream if that is too small as well",
    "host": "use --reading stream, which holds a few chunks at a time",
    "stream": "nothing needs less: end other programs, or build a store of fewer bytes (dtype)",
}


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)


@contextmanager
def explain_oom(explain: Callable[[], str]) -> Iterator[None]:
    """Turn running out of memory into one line of ours.

    Args:
        explain: Makes the line; called once the failed calls have let go of their memory.

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
    array: str, num_bytes: int, placement: Reading, device: str
) -> AbstractContextManager[None]:
    """Explain data that do not fit, with the placement that needs less.

    Args:
        array: `resolution/variant`.
        num_bytes: Bytes of all its images.
        placement: Where they shall lie.
        device: Device that trains.

    Raises:
        DeviceMemoryError: They do not fit.
    """
    place = device if placement == "device" else "the host"
    return explain_oom(
        lambda: (
            f"the images of {array} ({num_bytes / 1e9:.2g} GB, reading: {placement}) do not "
            f"fit into the memory of {place}: {_REMEDIES[placement]}"
        )
    )


def explain_oom_training(
    stage: Stage, shape: tuple[int, ...], config: RunConfig, placement: Reading
) -> AbstractContextManager[None]:
    """Explain a training step that does not fit.

    Args:
        stage: The stage that trains.
        shape: Shape of its images, (bands, frames) as a rule.
        config: Gives the batch size, device and precision.
        placement: Where the data lie.

    Raises:
        DeviceMemoryError: A step does not fit.
    """
    step = f"{quantity(config.batch_size, 'clip')} of {stage.array} {'×'.join(map(str, shape))}"
    remedies = "train fewer --folds-at-once, use a smaller --arch"
    remedies += " or --reading host" if placement == "device" else ""
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
    """Let go of what the calls that ended in an error still hold."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    if torch.cuda.is_available():
        with GPU_TURN:
            torch.cuda.empty_cache()

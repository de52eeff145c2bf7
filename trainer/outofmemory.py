"""Out of memory on the device: said in one line, with what would fit, found by trying.

Processes that the system kills for want of memory cannot say anything: on a CPU only a limit that
the allocator meets (a container's, `ulimit -v`, or more than there is) ends here.
"""

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from schemas import Reading, RunConfig, Stage
from trainer.data import StageData
from trainer.engine import StageTrainer
from trainer.errors import DeviceMemoryError
from trainer.model import Network
from trainer.order import Window
from trainer.resident import Resident
from trainer.waiting import Waiting

_SIGNS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "bad_alloc",
    "ALLOC_FAILED",
)
"""In messages of torch's allocators for a GPU and a CPU, of C++, and of cuBLAS and cuDNN."""
_LESS = {
    "device": "use --reading host, or stream where that is too small as well",
    "host": "use --reading stream, which holds a few chunks at a time",
    "stream": "nothing needs less: end other programs, or build a store of fewer bytes (dtype)",
}
_SMALLEST = 2
"""Clips of a batch that can be normalised."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had, on a GPU or the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


@contextmanager
def loading(array: str, num_bytes: int, reading: Reading, device: str) -> Iterator[None]:
    """Around the loading of an array: where it does not fit, say which reading needs less.

    Args:
        array: `resolution/variant`.
        num_bytes: Of all its images.
        reading: Where they shall lie.
        device: That trains.

    Raises:
        DeviceMemoryError: They do not fit.
    """
    place = device if reading == "device" else "the host"

    def explain() -> str:
        return (
            f"the images of {array} ({num_bytes / 1e9:.2g} GB, reading: {reading}) do not fit into "
            f"the memory of {place}: {_LESS[reading]}"
        )

    with _told(explain):
        yield


@contextmanager
def stepping(
    model: Network, stage: Stage, shape: tuple[int, int], config: RunConfig, reading: Reading
) -> Iterator[None]:
    """Around a stage's training: where a step does not fit, find a batch size that does.

    Then the network is spoilt: it was trained on nothing, to try.

    Args:
        model: That is trained.
        stage: Trained now.
        shape: (bands, frames) of its images.
        config: Gives the batch size, device and precision.
        reading: Where the data lie.

    Raises:
        DeviceMemoryError: A step does not fit.
    """

    def explain() -> str:
        model.zero_grad(set_to_none=True)
        size = config.batch_size
        found = fitting_batch(model, stage, shape, config)
        step = (
            f"out of memory on {config.device}: a step of {size} clips of {stage.array} "
            f"{shape[0]}×{shape[1]} by {config.arch} in {config.precision}"
        )
        if found is None:
            return f"{step} does not fit, nor does one of {_SMALLEST}; use a smaller --arch"
        room = " (--reading host would leave the data's room, too)" if reading == "device" else ""
        if found == size:
            return (
                f"{step} fits alone, but not beside what was there; train fewer --folds-at-once, "
                f"end other programs, or halve --batch-size{room}"
            )
        return f"{step} does not fit; use --batch-size {found}, which does{room}"

    with _told(explain):
        yield


def fitting_batch(
    model: Network, stage: Stage, shape: tuple[int, int], config: RunConfig
) -> int | None:
    """The first of a batch size and its halves whose steps fit; None where not even two clips do.

    Each is tried: a stage of two steps on empty images. The network is spoilt.
    """
    size = config.batch_size
    while size >= _SMALLEST:
        if _fits(model, stage, shape, config, size):
            return size
        size //= 2
    return None


def _fits(
    model: Network, stage: Stage, shape: tuple[int, int], config: RunConfig, size: int
) -> bool:
    """Whether two steps can be taken: in the second one the optimiser's own memory is there."""
    device = torch.device(config.device)
    tried = config.model_copy(update={"batch_size": size, "acceleration": "eager"})
    try:
        images = torch.zeros(1, 1, *shape, device=device).expand(2 * size, -1, -1, -1)
        labels = torch.zeros(2 * size, dtype=torch.int64, device=device)
        split = Resident(images, labels, 1.0, device)
        trainer = StageTrainer(model, stage, StageData(stage.array, split, split), tried)
        for _ in trainer.steps([Window((), np.arange(2 * size))], 0, Waiting()):
            trainer.take_totals()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        _release(error)
        model.zero_grad(set_to_none=True)
        return False
    return True


@contextmanager
def _told(explain: Callable[[], str]) -> Iterator[None]:
    """What is raised for want of memory becomes an error of ours; `explain` has its memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        _release(error)
        raise DeviceMemoryError(explain()) from None


def _release(error: BaseException) -> None:
    """Let go of what the calls that ended in an error still hold."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

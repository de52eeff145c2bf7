"""Out of memory: seen in whatever was raised, and said in one line.

Processes that the system kills for want of memory cannot say anything: on a CPU only a limit that
the allocator meets (a container's, `ulimit -v`, or more than there is) ends here.
"""

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from schemas import Reading
from trainer.errors import DeviceMemoryError

_SIGNS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "bad_alloc",
    "ALLOC_FAILED",
    "could not create a primitive",
)
"""In messages of torch's allocators for a GPU and a CPU, of C++, of cuBLAS and cuDNN, and of
oneDNN, which has these words for a lack of memory, too."""
_LESS = {
    "device": "use --reading host, or stream where that is too small as well",
    "host": "use --reading stream, which holds a few chunks at a time",
    "stream": "nothing needs less: end other programs, or build a store of fewer bytes (dtype)",
}


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

    with told(explain):
        yield


@contextmanager
def told(explain: Callable[[], str]) -> Iterator[None]:
    """What is raised for want of memory becomes an error of ours; `explain` has its memory.

    Raises:
        DeviceMemoryError: With what `explain` says.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        release(error)
        raise DeviceMemoryError(explain()) from None


def fitting_size(size: int, smallest: int, attempt: Callable[[int], None]) -> int | None:
    """The first of a batch size and its halves with which an attempt has the memory it needs.

    Args:
        size: At least `smallest`.
        smallest: That makes sense.
        attempt: To do it with a batch size.

    Returns:
        None where not even the smallest fits.
    """
    while size >= smallest:
        try:
            attempt(size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            release(error)
            size //= 2
        else:
            return size
    return None


def release(error: BaseException) -> None:
    """Let go of what the calls that ended in an error still hold."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

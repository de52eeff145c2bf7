"""One file to its arrays as a store holds them: a build's work on each clip."""

from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from featurestore.arguments import typed
from featurestore.extraction import audio
from featurestore.extraction.audio import Recording
from featurestore.extraction.extractor import Extractor
from featurestore.extraction.recordings import Span


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """Let NumPy compute in this thread only, as a build does: split sums round differently.

    Threads of every other library that was loaded before the first call are limited, too.
    """
    limit: AbstractContextManager[object] = _blas().limit(limits=1)
    return limit


@typed
def extract_file(
    path: Path, extractor: Extractor, span: Span = audio.WHOLE
) -> tuple[dict[str, NDArray[Any]], Recording]:
    """Return the arrays of a file, equal to the bit to those of its row in a store of the spec.

    That holds within `one_thread`, and with the same libraries on the same kind of processor.

    Args:
        path: Path of a file of any format libsndfile knows.
        extractor: Extractor of the store's spec.
        span: The part of the file.

    Returns:
        Arrays by the keys of `spec.arrays`: images (bands, frames) of the spec's dtype, in [0, 1]
        times `spec.scale`, and features as float32. And the recording they were made of.

    Raises:
        AudioError: The file cannot be used.
        OSError: The machine could not read it, for a reason that is not the file's.
    """
    recording = audio.load(path, extractor.spec, span)
    return extractor.stored(recording.waveform, recording.at_rates), recording

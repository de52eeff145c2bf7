"""From one file to its arrays as stored: a build's work on each clip."""

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
    """Make NumPy use a single thread, as builds do: sums split over threads round differently.

    The threads of all other libraries loaded before the first call are limited, too.
    """
    limit: AbstractContextManager[object] = _blas().limit(limits=1)
    return limit


@typed
def extract_file(
    path: Path, extractor: Extractor, span: Span = audio.WHOLE
) -> tuple[dict[str, NDArray[Any]], Recording]:
    """Return the arrays of a file, bit-identical to those in a store with the same spec.

    They are within `one_thread`, with the same libraries on the same kind of processor.

    Args:
        path: Path of a file in any format that libsndfile reads.
        extractor: Extractor of the store's spec.
        span: Part of the file that is the clip; the whole file by default.

    Returns:
        Arrays by the keys of `spec.arrays`: images (bands, frames) in the spec's dtype, which lie
        in [0, 1] once multiplied by `spec.scale`, and features as float32. And the recording
        from which they were computed.

    Raises:
        AudioError: The file cannot be used.
        OSError: Reading failed for a reason other than the file itself, such as a disk error.
    """
    recording = audio.load(path, extractor.spec, span)
    return extractor.stored(recording.waveform, recording.at_rates), recording

"""Plain WAV files without libsndfile: their samples are a view of the file's bytes.

Most collections are 16-bit PCM, for which opening and copying in libsndfile take a tenth of a
build. Everything else is left to libsndfile, which gives the same samples (tests compare).
"""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_PCM = 1
_RATES = range(1000, 192_001)


class Plain(NamedTuple):
    """A whole WAV file of 16-bit PCM.

    Attributes:
        samples: (N, channels) int16, a view of the file's bytes.
        rate: Sample rate in Hz.
        num_behind: Number of bytes after the samples.
    """

    samples: NDArray[np.int16]
    rate: int
    num_behind: int


def plain_pcm16(data: bytes) -> Plain | None:
    """Return the samples of a complete plain file with one or two channels; None for any other.

    Plain means RIFF, `fmt ` before `data`, and all samples that `data` declares.

    Args:
        data: Content of a whole file.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    position, form = 12, None
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"data":
            return _samples(data, position, size, form) if form else None
        if name == b"fmt " and size >= 16 and position + 16 <= len(data):
            form = struct.unpack_from("<HHIIHH", data, position)
        position += size + size % 2
    return None


def _samples(data: bytes, start: int, size: int, form: tuple[int, ...]) -> Plain | None:
    code, channels, rate, _, align, bits = form
    if code != _PCM or bits != 16 or channels not in (1, 2) or rate not in _RATES:
        return None
    if align != 2 * channels or not 0 < size <= len(data) - start or size % align:
        return None
    samples = np.frombuffer(data, "<i2", size // 2, start).reshape(-1, channels)
    return Plain(samples, rate, len(data) - start - size)

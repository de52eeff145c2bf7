"""From a file to a mono waveform at the spec's rate: the only module that decodes audio.

An unusable file raises AudioError with the status code of the clip. Faults of the machine (no
memory, too many open files, a failing disk) are not the clip's, and are not translated.
"""

import hashlib
import os
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import soxr
from numpy.typing import NDArray

from featurestore.arguments import typed
from featurestore.cliplist import NO_ITEM, address
from featurestore.errors import AudioError
from featurestore.extraction.containers import Source, walk
from featurestore.extraction.decode import MOST_SAMPLES_A_SECOND, decode, frame_limit, mix
from featurestore.extraction.recordings import Span, read_part
from featurestore.extraction.shards import read_item
from featurestore.extraction.sources import file_sha256, open_source
from featurestore.extraction.wav import Plain, plain_pcm16
from schemas import ClipStatus, FeatureSpec

_MOST_BYTES_AT_ONCE = 1 << 22
_MOST_BYTES_A_SAMPLE = 4
_MOST_OTHER_BYTES = 1 << 24
"""Maximum size in bytes of embedded pictures and texts in a file."""
_QUALITY = {"soxr_vhq": "VHQ", "soxr_hq": "HQ", "soxr_mq": "MQ"}
WHOLE = Span()
_LARGEST_SAMPLE = 1e6
"""Maximum sample value of a float file (full scale is 1); its power must not overflow float32."""


@dataclass(frozen=True)
class Recording:
    """A decoded clip.

    Attributes:
        waveform: (N,) float32 mono, the mean of the channels, at the spec's sample rate.
        duration_s: Duration of the clip, in seconds.
        peak: Largest absolute sample before resampling; 0 for digital silence.
        source_sha256: SHA-256 digest of the file, 32 bytes.
        at_rates: The waveform resampled for features with other rates, by rate in Hz.
    """

    waveform: NDArray[np.float32]
    duration_s: float
    peak: float
    source_sha256: bytes
    at_rates: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)


@typed
def load(path: Path, spec: FeatureSpec, span: Span = WHOLE) -> Recording:
    """Read, decode, downmix and resample a file in any format that libsndfile reads.

    Time and memory are bounded whatever the file declares: by max_duration_s at 192 kHz in stereo
    (or the same number of samples in more channels), and by the file size that these can have.

    Args:
        path: Path of the file.
        spec: Its sample_rate, resampler and max_duration_s are used.
        span: Part of the file that is the clip; the whole file by default. Decoding seeks to it.

    Raises:
        AudioError: The file is missing, not a regular file, empty, not audio, damaged, truncated,
            too long or too large, or contains samples that are NaN or infinite.
        OSError: Reading failed for a reason other than the file itself, such as a disk error.
    """
    return _recording(*read_mono(path, spec.max_duration_s, span), spec)


def read_mono(
    path: Path, max_duration_s: float, span: Span = WHOLE
) -> tuple[NDArray[np.float32], int, bytes]:
    """Read, decode and downmix a file at its own rate; see `load`.

    Returns:
        Mono samples (N,) float32, sample rate in Hz, and the SHA-256 digest of the file (32 bytes).
    """
    if not span.is_whole:
        return read_part(path, span, max_duration_s)
    if span.item != NO_ITEM:
        return _read_item(path, span.item, max_duration_s)
    descriptor, size = open_source(path, _most_bytes(max_duration_s))
    try:
        start = os.read(descriptor, min(size, _MOST_BYTES_AT_ONCE))
        digest = file_sha256(descriptor, start)
        source = Source(descriptor, size, start)
        waveform, rate = _decoded(source, start, max_duration_s, str(path))
    finally:
        os.close(descriptor)
    return waveform, rate, digest


def _read_item(
    path: Path, item: int, max_duration_s: float
) -> tuple[NDArray[np.float32], int, bytes]:
    """Read a sound that is in a shard; see `read_mono`."""
    data = read_item(path, item, _most_bytes(max_duration_s))
    digest = hashlib.sha256(data).digest()
    plain = plain_pcm16(data)
    if plain is not None and plain.num_behind <= 1:
        return _mixed(plain, max_duration_s), plain.rate, digest
    # The decoder needs a file, and so does the walk of what is behind a WAV.
    source = Source(_written(data), len(data), data)
    waveform, rate = _decoded(source, data, max_duration_s, address(str(path), item=item))
    return waveform, rate, digest


class _Copy:
    """A file without a name, written again for each sound: fresh pages take longer."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.process = file, os.getpid()

    def __del__(self) -> None:
        self._file.close()

    def written(self, data: bytes) -> int:
        """Return the descriptor of the file, whose content is `data` until the next call."""
        descriptor, position = self._file.fileno(), 0
        while position < len(data):
            position += os.pwrite(descriptor, memoryview(data)[position:], position)
        os.ftruncate(descriptor, len(data))
        return descriptor


class _Copies(threading.local):
    """The file of each thread."""

    copy: _Copy | None = None


_copies = _Copies()


def _written(data: bytes) -> int:
    """Return the descriptor of a file of this thread with these bytes, until the next call."""
    if _copies.copy is None or _copies.copy.process != os.getpid():  # a fork would share it
        _copies.copy = _Copy(_nameless_file())
    return _copies.copy.written(data)


def _nameless_file() -> IO[bytes]:
    """Return a file without a name, in memory where the system has such."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("sound"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _decoded(
    source: Source, start: bytes, max_duration_s: float, name: str
) -> tuple[NDArray[np.float32], int]:
    """Return the mono samples of an open file, of which some bytes are read, and their rate."""
    plain = plain_pcm16(start) if len(start) == source.size else None
    if plain is None:
        return decode(source, max_duration_s, name)
    if plain.num_behind > 1:  # tags, or another file
        walk(source, max_duration_s)
    return _mixed(plain, max_duration_s), plain.rate


def _recording(
    waveform: NDArray[np.float32], rate: int, digest: bytes, spec: FeatureSpec
) -> Recording:
    """Return the recording of decoded samples, resampled.

    Raises:
        AudioError: They are none, or no numbers.
    """
    if not waveform.size:
        raise AudioError(ClipStatus.EMPTY, "0 samples")
    peak = float(max(waveform.max(), -waveform.min()))
    if not peak <= _LARGEST_SAMPLE:
        raise AudioError(ClipStatus.NON_FINITE, f"largest absolute sample is {peak}")
    resampled = resample(waveform, rate, spec)
    if not resampled.size:
        raise AudioError(ClipStatus.EMPTY, f"{waveform.size} samples at {rate} Hz")
    at_rates = {r: resample(waveform, rate, spec, r) for r in spec.waveform_rates}
    return Recording(resampled, waveform.size / rate, peak, digest, at_rates)


def resample(
    waveform: NDArray[np.float32], rate: int, spec: FeatureSpec, new_rate: int | None = None
) -> NDArray[np.float32]:
    """Resample a waveform with the spec's resampler.

    Args:
        waveform: (N,) float32.
        rate: Sample rate of the waveform, in Hz.
        spec: Its resampler and sample_rate are used.
        new_rate: New sample rate in Hz; None for the spec's.

    Returns:
        (N',) float32.
    """
    new_rate = new_rate or spec.sample_rate
    if rate == new_rate:
        return waveform
    quality = _QUALITY[spec.resampler]
    resampled: NDArray[np.float32] = soxr.resample(waveform, rate, new_rate, quality)
    return resampled


def _most_bytes(max_duration_s: float) -> int:
    return int(max_duration_s * MOST_SAMPLES_A_SECOND) * _MOST_BYTES_A_SAMPLE + _MOST_OTHER_BYTES


def _mixed(plain: Plain, max_duration_s: float) -> NDArray[np.float32]:
    frames, channels = plain.samples.shape
    frame_limit(plain.rate, channels, frames, max_duration_s)
    waveform = np.empty(frames, np.float32)
    mix(plain.samples, waveform)
    return waveform

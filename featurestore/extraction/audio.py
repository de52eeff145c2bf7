"""From a file to a mono waveform at the spec's rate: the only module that decodes audio.

A file that cannot be used raises AudioError with the code its row gets. Conditions of the machine
(no memory, too many open files, a failing disk) are no fault of the clip and pass through.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from featurestore.errors import AudioError
from featurestore.extraction.containers import declared_and_present
from featurestore.extraction.sources import open_source
from featurestore.extraction.wav import Plain, plain_pcm16
from schemas import ClipStatus, FeatureSpec

_PIECE = 1 << 20
"""Samples decoded at once, of all channels together."""
_MOST_BYTES_AT_ONCE = 1 << 22
_MOST_SAMPLES_A_SECOND = 384_000
"""192 kHz in stereo, or 48 kHz in eight channels. A file with more of them has fewer seconds."""
_MOST_BYTES_A_SAMPLE = 4
_MOST_OTHER_BYTES = 1 << 24
"""Of pictures and texts in a file."""
_UNKNOWN_FRAMES = 2**63 - 1
"""What libsndfile says where a header does not tell."""
_QUALITY = {"soxr_vhq": "VHQ", "soxr_hq": "HQ", "soxr_mq": "MQ"}
_LARGEST_SAMPLE = 1e6
"""A float file beyond this (full scale is 1) is damaged, and its power would overflow float32."""


@dataclass(frozen=True)
class Recording:
    """A decoded clip.

    Attributes:
        waveform: (N,) float32 mono, the mean of the channels, at the spec's sample rate.
        duration_s: Of the file, in seconds.
        peak: Largest absolute sample before resampling; 0 for digital silence.
        source_sha256: Digest of the file's bytes, 32 bytes.
    """

    waveform: NDArray[np.float32]
    duration_s: float
    peak: float
    source_sha256: bytes


def load(path: Path, spec: FeatureSpec) -> Recording:
    """Read, decode, downmix and resample a file of any format libsndfile knows.

    Work and memory are bounded whatever the file says: by max_duration_s, at 192 kHz in stereo (or
    as many samples in more channels), and by the bytes that these can take.

    Args:
        path: Of the file.
        spec: sample_rate, resampler and max_duration_s are used.

    Raises:
        AudioError: The file is missing, no regular file, empty, no audio, damaged, truncated, too
            long or too big, or holds samples that are no numbers.
        OSError: The machine could not read it, for a reason that is not the file's.
    """
    descriptor, size = open_source(path, _most_bytes(spec.max_duration_s))
    try:
        start = os.read(descriptor, min(size, _MOST_BYTES_AT_ONCE))
        digest = _sha256(start, descriptor)
        plain = plain_pcm16(start) if len(start) == size else None
        waveform, rate = _decode(plain or descriptor, spec.max_duration_s)
        declared, present = declared_and_present(descriptor, size)
    finally:
        os.close(descriptor)
    if present < declared:
        raise AudioError(ClipStatus.TRUNCATED, f"{present} of {declared} bytes of samples")
    if not waveform.size:
        raise AudioError(ClipStatus.EMPTY, "0 samples")
    peak = float(max(waveform.max(), -waveform.min()))
    if not peak <= _LARGEST_SAMPLE:
        raise AudioError(ClipStatus.NON_FINITE, f"largest absolute sample is {peak}")
    resampled = resample(waveform, rate, spec)
    if not resampled.size:
        raise AudioError(ClipStatus.EMPTY, f"{waveform.size} samples at {rate} Hz")
    return Recording(resampled, waveform.size / rate, peak, digest)


def resample(waveform: NDArray[np.float32], rate: int, spec: FeatureSpec) -> NDArray[np.float32]:
    """A waveform (N,) at `rate` Hz, at the spec's rate and with its resampler: (N',) float32."""
    if rate == spec.sample_rate:
        return waveform
    resampled: NDArray[np.float32] = soxr.resample(
        waveform, rate, spec.sample_rate, _QUALITY[spec.resampler]
    )
    return resampled


def _most_bytes(max_duration_s: float) -> int:
    return int(max_duration_s * _MOST_SAMPLES_A_SECOND) * _MOST_BYTES_A_SAMPLE + _MOST_OTHER_BYTES


def _sha256(start: bytes, descriptor: int) -> bytes:
    """Digest of a file of which the start is read already, the rest read piece by piece."""
    digest = hashlib.sha256(start)
    while piece := os.read(descriptor, _MOST_BYTES_AT_ONCE):
        digest.update(piece)
    return digest.digest()


def _decode(source: Plain | int, max_duration_s: float) -> tuple[NDArray[np.float32], int]:
    """Mono samples and their rate in Hz, of plain samples or of an open file.

    libsndfile reads the descriptor itself. Reading through Python callbacks would lose a Ctrl-C
    that arrives in one, and the clip would pass for damaged.
    """
    if isinstance(source, Plain):
        frames, channels = source.samples.shape
        _frame_limit(source.rate, channels, frames, max_duration_s)
        waveform = np.empty(frames, np.float32)
        _mix(source.samples, waveform)
        return waveform, source.rate
    os.lseek(source, 0, os.SEEK_SET)
    try:
        with soundfile.SoundFile(_openable(source), closefd=False) as file:
            return _downmixed(file, max_duration_s), file.samplerate
    except soundfile.LibsndfileError as error:
        raise AudioError(ClipStatus.UNREADABLE, error.error_string) from error


def _openable(descriptor: int) -> int | str:
    """What libsndfile is given: of an MP3 without a tag, which it knows by a path only, a path."""
    sync = os.pread(descriptor, 2, 0)
    return f"/dev/fd/{descriptor}" if sync >= b"\xff\xe0" else descriptor


def _frame_limit(rate: int, channels: int, frames: int, max_duration_s: float) -> int:
    """Frames a file may have.

    Raises:
        AudioError: Its header says that it has more.
    """
    limit = int(max_duration_s * min(rate, _MOST_SAMPLES_A_SECOND // max(2, channels)))
    if limit < frames < _UNKNOWN_FRAMES:
        raise AudioError(
            ClipStatus.TOO_LONG,
            f"{frames} samples in {channels} channels at {rate} Hz; max_duration_s allows {limit}",
        )
    return limit


def _downmixed(file: soundfile.SoundFile, max_duration_s: float) -> NDArray[np.float32]:
    """Mean of the channels, read piece by piece so that a lying header cannot exhaust memory.

    16-bit samples are taken as they are: libsndfile needs longer to make floats of them than to
    read them, and dividing by 2^15 here is as exact.
    """
    limit = _frame_limit(file.samplerate, file.channels, file.frames, max_duration_s)
    # Pages that are never written cost nothing, should the header have promised too much.
    waveform = np.empty(min(file.frames, limit + 1), np.float32)
    integer = file.subtype == "PCM_16"
    size = max(1, _PIECE // file.channels)
    length = 0
    while length < waveform.size:
        piece = file.read(size, dtype="int16" if integer else "float32", always_2d=True)
        mono = waveform[length : length + len(piece)]
        _mix(piece[: mono.size], mono)
        length += mono.size
        if len(piece) < size:
            break
    _frame_limit(file.samplerate, file.channels, length, max_duration_s)
    return waveform[:length]


def _mix(piece: NDArray[Any], mono: NDArray[np.float32]) -> None:
    """Write the mean of the channels of (n, channels) to (n,), integers divided by 2^15."""
    integer = piece.dtype == np.int16
    if piece.shape[1] > 1:
        with np.errstate(over="ignore", invalid="ignore"):  # the peak will tell
            piece.mean(axis=1, dtype=np.float32, out=mono)
        if integer:
            mono *= np.float32(2**-15)
    elif integer:
        np.multiply(piece[:, 0], np.float32(2**-15), out=mono)
    else:
        mono[:] = piece[:, 0]

"""From a file to a mono waveform at the spec's rate: the only module that decodes audio.

A file that cannot be used raises AudioError with the code its row gets. Conditions of the machine
(no memory, too many open files, a failing disk) are no fault of the clip and pass through.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from featurestore.containers import declared_and_present
from featurestore.errors import AudioError
from schemas import ClipStatus, FeatureSpec

_PIECE = 1 << 20
"""Sample frames decoded at once: bounds the memory of a file with many channels."""
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

    Args:
        path: Of the file.
        spec: sample_rate, resampler and max_duration_s are used.

    Raises:
        AudioError: The file is missing, empty, no audio, damaged, truncated, too long, or holds
            samples that are no numbers.
        OSError: The machine could not read it, for a reason that is not the file's.
    """
    with _opened(path) as file:
        data = file.read()
        file.seek(0)
        waveform, sample_rate = _decode(file.fileno(), data, spec.max_duration_s)
    peak = float(max(waveform.max(), -waveform.min()))
    if not peak <= _LARGEST_SAMPLE:
        raise AudioError(ClipStatus.NON_FINITE, f"largest absolute sample is {peak}")
    return Recording(
        resample(waveform, sample_rate, spec),
        waveform.size / sample_rate,
        peak,
        hashlib.sha256(data).digest(),
    )


def resample(waveform: NDArray[np.float32], rate: int, spec: FeatureSpec) -> NDArray[np.float32]:
    """A waveform (N,) at `rate` Hz, at the spec's rate and with its resampler: (N',) float32."""
    if rate == spec.sample_rate:
        return waveform
    resampled: NDArray[np.float32] = soxr.resample(
        waveform, rate, spec.sample_rate, _QUALITY[spec.resampler]
    )
    return resampled


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise AudioError(ClipStatus.MISSING, str(error.strerror)) from error


def _decode(descriptor: int, data: bytes, max_duration_s: float) -> tuple[NDArray[np.float32], int]:
    """Mono samples and their rate in Hz, of an open file that holds `data`.

    libsndfile reads the descriptor itself. Reading `data` through Python callbacks would lose a
    Ctrl-C that arrives in one, and the clip would pass for damaged.
    """
    if not data:
        raise AudioError(ClipStatus.EMPTY, "0 bytes")
    try:
        with soundfile.SoundFile(descriptor, closefd=False) as file:
            waveform, rate = _downmixed(file, max_duration_s), file.samplerate
    except soundfile.LibsndfileError as error:
        raise AudioError(ClipStatus.UNREADABLE, error.error_string) from error
    declared, present = declared_and_present(data)
    if present < declared:
        raise AudioError(ClipStatus.TRUNCATED, f"{present} of {declared} bytes of samples")
    if not waveform.size:
        raise AudioError(ClipStatus.EMPTY, "0 samples")
    return waveform, rate


def _downmixed(file: soundfile.SoundFile, max_duration_s: float) -> NDArray[np.float32]:
    """Mean of the channels, read piece by piece so that a lying header cannot exhaust memory.

    16-bit samples are taken as they are: libsndfile needs longer to make floats of them than to
    read them, and dividing by 2^15 here is as exact.
    """
    limit = int(max_duration_s * file.samplerate)
    integer = file.subtype == "PCM_16"
    pieces: list[NDArray[np.float32]] = []
    length = 0
    while True:
        piece = file.read(_PIECE, dtype="int16" if integer else "float32", always_2d=True)
        if not len(piece):
            break
        length += len(piece)
        if length > limit:
            raise AudioError(ClipStatus.TOO_LONG, f"more than {max_duration_s:g} s")
        mono = piece[:, 0] if piece.shape[1] == 1 else piece.mean(axis=1, dtype=np.float32)
        pieces.append(mono * np.float32(2**-15) if integer else mono)
        if len(piece) < _PIECE:
            break
    if len(pieces) == 1:
        return np.ascontiguousarray(pieces[0])
    return np.concatenate(pieces) if pieces else np.empty(0, np.float32)

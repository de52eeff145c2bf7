"""From a waveform to normalised mel-spectrograms: pure functions of arrays.

Definitions are librosa's (tests compare to 1e-5); only the order of computation differs. Decoding
and resampling are in `audio`, interpolation is in `resize`, and `extractor` combines the steps.

Shape legend: N samples, T frames, K = n_fft // 2 + 1 bins, B bands.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from schemas import FeatureSpec, TrimSpec

Array = NDArray[np.float32]

_WINDOW_COEFFICIENTS = {
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
}
_RMS_AMIN = 1e-5
"""Floor of librosa.amplitude_to_db, below which all frames count as equally loud."""
_FRAMES_PER_FFT = 88
"""Number of frames per FFT call, which reads and writes 0.7 MB: it fits into a core's cache."""
_ROWS_A_SLAB = 16
"""Number of filterbank rows multiplied at once."""


def trim_bounds(waveform: Array, sample_rate: int, trim: TrimSpec) -> tuple[int, int]:
    """Return the range of samples [start, stop) that remains after trimming silence at both ends.

    Args:
        waveform: (N,) float32, at any level.
        sample_rate: Sample rate in Hz.
        trim: Threshold, RMS frame length and padding.

    Returns:
        Bounds with 0 <= start <= stop <= N; the whole clip if it is shorter than the padding.

    Source: fastai_audio's `trim`: first start and last end of librosa.effects.split.
    """
    hop = int(trim.pad_ms / 1000 * sample_rate)
    if waveform.size < max(hop, 1):
        return 0, waveform.size
    rms = np.sqrt(_frame_powers(waveform, trim.frame_length, max(hop, 1)) / trim.frame_length)
    loud = np.maximum(rms, _RMS_AMIN) > max(rms.max(), _RMS_AMIN) * 10 ** (-trim.top_db / 20)
    kept = np.flatnonzero(loud)
    start, stop = kept[0] * hop, (kept[-1] + 1) * hop
    return max(int(start) - hop, 0), min(min(int(stop), waveform.size) + hop, waveform.size)


def _frame_powers(waveform: Array, frame_length: int, hop: int) -> Array:
    """Return the sum of squares of each frame, (1 + N // hop,), centred on samples t · hop.

    What lies outside the waveform counts as zero.
    """
    half = frame_length // 2
    starts = range(-half, waveform.size + 1 - half, hop)
    first = min(-(-half // hop), len(starts))
    stop = max((waveform.size - frame_length + half) // hop + 1, first)
    powers = np.empty(len(starts), np.float32)
    if first < stop:  # frames that lie inside have one length: one call for all of them
        inside = _strided(waveform[starts[first] :], stop - first, frame_length, hop)
        np.vecdot(inside, inside, out=powers[first:stop])
    for t in (*range(first), *range(stop, len(starts))):
        edge = waveform[max(starts[t], 0) : starts[t] + frame_length]
        powers[t] = edge @ edge
    return powers


def window(spec: FeatureSpec) -> Array:
    """Return the periodic window, zero-padded to n_fft on both sides: (n_fft,) in [0, 1]."""
    phase = 2 * np.pi * np.arange(spec.win_length) / spec.win_length
    terms = _WINDOW_COEFFICIENTS[spec.window]
    values = sum(a * (-1) ** k * np.cos(k * phase) for k, a in enumerate(terms))
    left = (spec.n_fft - spec.win_length) // 2
    return np.pad(values, (left, spec.n_fft - spec.win_length - left)).astype(np.float32)


def centred(waveform: Array, spec: FeatureSpec) -> Array:
    """Return the waveform padded so that frame t is centred on sample t · hop_length.

    A clip too short for reflection is zero-padded first. Returns (N' + 2 · (n_fft // 2),), where
    N' = max(N, n_fft // 2 + 1).
    """
    half = spec.n_fft // 2
    if waveform.size <= half:
        waveform = np.pad(waveform, (0, half + 1 - waveform.size))
    if spec.pad_mode != "reflect":
        return np.pad(waveform, half, mode=spec.pad_mode)
    # np.pad would take three times as long.
    return np.concatenate([waveform[half:0:-1], waveform, waveform[-2 : -half - 2 : -1]])


def frames_of(padded: Array, spec: FeatureSpec) -> Array:
    """Return the frames of a waveform padded by `centred`: (T, n_fft), a read-only view."""
    num_frames = 1 + (padded.size - spec.n_fft) // spec.hop_length
    return _strided(padded, num_frames, spec.n_fft, spec.hop_length)


def _strided(samples: Array, num_frames: int, frame_length: int, hop: int) -> Array:
    step = samples.strides[0]
    shape, strides = (num_frames, frame_length), (hop * step, step)
    return as_strided(samples, shape, strides, writeable=False)


def power_spectrum(frames: Array, taper: Array, power: float = 2.0) -> Array:
    """Return |FFT|^power of windowed frames, in one float32 pass.

    Args:
        frames: (T, n_fft).
        taper: (n_fft,) window.
        power: Exponent of the magnitude.

    Returns:
        (T, K), non-negative.
    """
    result = np.empty((len(frames), taper.size // 2 + 1), np.float32)
    for first in range(0, len(frames), _FRAMES_PER_FFT):
        piece = slice(first, first + _FRAMES_PER_FFT)
        magnitude = np.abs(scipy.fft.rfft(frames[piece] * taper, axis=-1), out=result[piece])
        if power == 2:
            np.square(magnitude, out=magnitude)
        else:
            np.power(magnitude, np.float32(power), out=magnitude)
    return result


def hz_to_mel(hz: NDArray[np.float64] | float, scale: str) -> NDArray[np.float64]:
    """Convert Hz to mel: HTK's 2595·log10(1 + f/700), or `slaney`, linear below 1 kHz."""
    hz = np.asarray(hz, dtype=np.float64)
    if scale != "slaney":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    return np.where(hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1e-9) / 1000) * _SLANEY)


def mel_to_hz(mel: NDArray[np.float64], scale: str) -> NDArray[np.float64]:
    """Convert mel to Hz: the inverse of `hz_to_mel`."""
    if scale != "slaney":
        return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) / _SLANEY))


_SLANEY = 27 / np.log(6.4)


def labelled_hz(hz: NDArray[np.float64], spec: FeatureSpec) -> NDArray[np.float64]:
    """Return `hz` as labelled by the filterbank: changed only by `torchaudio-2019`.

    `torchaudio-2019` labels the K bins, which range from 0 Hz to Nyquist, as linspace(fmin, fmax,
    K): with the paper's 22 kHz and the default fmax of 22050 Hz, all frequencies appear 2.005 times
    as high.

    Source: torchaudio's `create_fb_matrix` before pytorch/audio PR 294; PROTOCOL section 1.
    """
    if spec.mel_scale != "torchaudio-2019":
        return hz
    return spec.fmin + hz * (spec.fmax_hz - spec.fmin) / (spec.sample_rate / 2)


def mel_edges(spec: FeatureSpec, n_mels: int) -> NDArray[np.float64]:
    """Return the edges of the triangular filters in labelled Hz, (n_mels + 2,).

    Elements [1:-1] are the centre frequencies.
    """
    low, high = (hz_to_mel(f, spec.mel_scale) for f in (spec.fmin, spec.fmax_hz))
    return mel_to_hz(np.linspace(low, high, n_mels + 2), spec.mel_scale)


def mel_filterbank(spec: FeatureSpec, n_mels: int) -> Array:
    """Return triangular filters (n_mels, K), weights in [0, 1] unless mel_norm is `slaney`.

    A filter so narrow that it contains no bin is all zeros.
    """
    edges = mel_edges(spec, n_mels)
    hz = np.asarray(np.fft.rfftfreq(spec.n_fft, 1 / spec.sample_rate), np.float64)
    bins = labelled_hz(hz, spec)
    ramps = edges[:, None] - bins
    width = np.diff(edges)[:, None]
    rising, falling = -ramps[:-2] / width[:-1], ramps[2:] / width[1:]
    weights = np.maximum(0, np.minimum(rising, falling))
    if spec.mel_norm == "slaney":
        weights *= 2 / (edges[2:] - edges[:-2])[:, None]
    return weights.astype(np.float32)


@dataclass(frozen=True)
class _Slab:
    """Rows of a matrix that use nearly the same columns, and the only columns they use.

    Attributes:
        weights: (columns, rows).
    """

    rows: slice
    columns: slice
    weights: Array


class BandedMatrix:
    """A matrix (R, K) whose rows are zero except in a narrow band of columns, as a linear operator.

    A filterbank is 93 % zeros. Rows that use neighbouring columns, also from different banks, are
    multiplied together: 1/14 of the operations of the dense product, at the speed of BLAS.

    Attributes:
        order: (R,) row of the matrix for each column of a product.
    """

    def __init__(self, matrix: Array) -> None:
        centre = (matrix * np.arange(matrix.shape[1])).sum(axis=1) / (matrix.sum(axis=1) + 1e-30)
        self.order = np.argsort(centre, kind="stable")
        self._slabs = tuple(
            self._slab(matrix[self.order], slice(start, start + _ROWS_A_SLAB))
            for start in range(0, len(matrix), _ROWS_A_SLAB)
        )

    @staticmethod
    def _slab(matrix: Array, rows: slice) -> _Slab:
        used = np.flatnonzero(matrix[rows].any(axis=0))
        # Filters without a bin, as many narrow ones are, still need a column to be multiplied.
        columns = slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 1)
        return _Slab(rows, columns, np.ascontiguousarray(matrix[rows, columns].T))

    def apply(self, spectrum: Array) -> Array:
        """Return `spectrum` (T, K) times the transposed matrix: (T, R), columns in `order`.

        In this orientation BLAS takes half the time of the product with the transposed spectrum.
        """
        result = np.empty((len(spectrum), len(self.order)), np.float32)
        for slab in self._slabs:
            np.matmul(spectrum[:, slab.columns], slab.weights, out=result[:, slab.rows])
        return result


def min_max_level(energy: Array, low: np.float32, high: np.float32, spec: FeatureSpec) -> Array:
    """Return log energies scaled to [0, 1] by the minimum and maximum over the whole clip.

    The logarithm is monotonic, so the extremes are passed as energies, and only these frames are
    converted: with the natural logarithm, as the base cancels in scaling. The floor is `top_db` dB
    below the maximum, for levels (20 / power) · log10(max(energy, amin)); a constant clip becomes
    zeros.

    Args:
        energy: (B, T), non-negative, of the frames to keep.
        low: Minimum energy over all frames of the clip.
        high: Maximum energy over all frames of the clip.
        spec: Its amin, power and top_db are used.

    Returns:
        (B, T) in [0, 1].
    """
    amin, to_log = np.float32(spec.amin), np.float32(spec.power / 20 * np.log(10))
    peak = np.log(max(high, amin))
    floor = max(np.log(max(low, amin)), peak - np.float32(spec.top_db) * to_log)
    scaled = np.log(energy if low >= amin else np.maximum(energy, amin))
    scaled -= floor
    # A clip of one level, such as silence, has no range to be scaled by.
    scaled *= 1 / (peak - floor) if peak > floor else np.float32(0)
    return np.clip(scaled, 0, 1, out=scaled)


def fit_frames(image: Array, num_frames: int, short_clips: str) -> Array:
    """Return the first frames of images (..., B, T), tiled or zero-padded if they are too short."""
    available = image.shape[-1]
    if available >= num_frames:
        return image[..., :num_frames]
    if short_clips == "tile":
        return np.concatenate([image] * -(-num_frames // available), axis=-1)[..., :num_frames]
    return np.pad(image, [(0, 0)] * (image.ndim - 1) + [(0, num_frames - available)])

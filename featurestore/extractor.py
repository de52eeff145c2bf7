"""One waveform to all its stored images, from one STFT. The steps are `features` and `resize`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from featurestore import features
from featurestore.features import Array, BandedMatrix
from featurestore.resize import bilinear_taps, resize
from schemas import FULL, FeatureSpec, Resolution

EXTRACTOR_VERSION = 1
"""Raised whenever the same spec and waveform give other numbers than before."""

_FRAMES_AT_ONCE = 64
"""Bounds the memory of a long clip, and keeps a piece in the processor's cache."""


@dataclass(frozen=True)
class _Energies:
    """What is kept of a clip's mel energies, the filters of all banks together.

    Attributes:
        kept: (filters, T) of the first frames.
        low: (filters,) smallest over every frame of the clip.
        high: (filters,) largest.
    """

    kept: Array
    low: Array
    high: Array


class Extractor:
    """Computes every stored image of a clip.

    Args:
        spec: What to compute. Filterbanks, window and interpolation taps are made once, here.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self._window = features.window(spec)
        direct = spec.resolutions if "mel" in spec.variants else (spec.full,)
        banks = {r.n_mels: features.mel_filterbank(spec, r.n_mels) for r in direct}
        self._frames_kept = max(r.num_frames for r in direct)
        self._rows = _rows(banks)
        self._filters = BandedMatrix(np.concatenate(list(banks.values())))
        self._taps = {
            r.name: (
                bilinear_taps(spec.full.n_mels, r.n_mels),
                bilinear_taps(spec.full.num_frames, r.num_frames),
            )
            for r in spec.resolutions[:-1]
        }

    def __call__(self, waveform: Array) -> dict[str, Array]:
        """All images of one clip.

        Args:
            waveform: (N,) mono float32 at `spec.sample_rate`, finite; N may be 0.

        Returns:
            Images (bands, frames) in [0, 1], float32, by the keys of `spec.arrays`.
        """
        energies = self._energies(self._trimmed(waveform))
        return self._variants({n: self._image(energies, rows) for n, rows in self._rows.items()})

    def _trimmed(self, waveform: Array) -> Array:
        if self.spec.trim is None:
            return waveform
        start, stop = features.trim_bounds(waveform, self.spec.sample_rate, self.spec.trim)
        return waveform[start:stop]

    def _energies(self, waveform: Array) -> _Energies:
        """One STFT, a piece at a time, through the filters of all banks at once."""
        spec = self.spec
        padded = features.centred(waveform, spec)
        frames = sliding_window_view(padded, spec.n_fft)[:: spec.hop_length]
        size = self._filters.shape[0]
        kept = np.empty((size, min(len(frames), self._frames_kept)), np.float32)
        low, high = np.full(size, np.inf, np.float32), np.zeros(size, np.float32)
        for first in range(0, len(frames), _FRAMES_AT_ONCE):
            piece = frames[first : first + _FRAMES_AT_ONCE]
            energy = self._filters.apply(features.power_spectrum(piece, self._window, spec.power))
            np.minimum(low, energy.min(axis=1), out=low)
            np.maximum(high, energy.max(axis=1), out=high)
            if (room := kept.shape[1] - first) > 0:
                kept[:, first : first + _FRAMES_AT_ONCE] = energy[:, :room]
        return _Energies(kept, low, high)

    def _image(self, energies: _Energies, rows: slice) -> Array:
        """(B, T) in [0, 1] of one bank."""
        low = energies.low[rows].min(keepdims=True)[:, None]
        high = energies.high[rows].max(keepdims=True)[:, None]
        return features.min_max_level(energies.kept[rows], low, high, self.spec)

    def _variants(self, images: dict[int, Array]) -> dict[str, Array]:
        full = self._fitted(images, self.spec.full)
        result = {}
        for resolution in self.spec.resolutions[:-1]:
            for variant in self.spec.variants:
                result[f"{resolution.name}/{variant}"] = (
                    self._fitted(images, resolution)
                    if variant == "mel"
                    else resize(full, *self._taps[resolution.name])
                )
        return result | {f"{self.spec.full.name}/{FULL}": full}

    def _fitted(self, images: dict[int, Array], resolution: Resolution) -> Array:
        image = images[resolution.n_mels]
        return features.fit_frames(image, resolution.num_frames, self.spec.short_clips)


def _rows(banks: dict[int, Array]) -> dict[int, slice]:
    """Where each bank's filters stand when the banks are put under one another."""
    stops = np.cumsum(list(banks)).tolist()
    return {n: slice(stop - n, stop) for n, stop in zip(banks, stops, strict=True)}


def quantize(images: Array, dtype: str) -> NDArray[Any]:
    """Images in [0, 1] as they are stored: rounded to the nearest float16, or to k/255 as uint8."""
    if dtype == "float16":
        return _to_float16(images)
    if dtype == "uint8":
        return np.rint(images * np.float32(255)).astype(np.uint8)  # type: ignore[no-any-return]
    return images.astype(np.float32)


_HALF_MIN = np.float32(2**-14)
"""Smallest normal float16."""


def _to_float16(values: Array) -> NDArray[np.float16]:
    """`values.astype(float16)` for values in [0, 1], at four times its speed; equal to the bit.

    A normal value's bits are rounded to even at the 13th and the exponent is rebased by 112. Below
    2^-14, adding 1/2 rounds to multiples of 2^-24, which is what a subnormal float16 counts.
    """
    bits = np.ascontiguousarray(values).view(np.uint32)
    half = bits >> 13
    half &= 1
    half += bits
    half += 0xFFF
    half >>= 13
    half -= 112 << 10
    small = values < _HALF_MIN
    if small.any():
        shifted = values[small] + np.float32(0.5)
        half[small] = shifted.view(np.uint32) - np.float32(0.5).view(np.uint32)
    return half.astype(np.uint16).view(np.float16)

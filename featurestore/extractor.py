"""One waveform to all its stored images, from one STFT. The steps are `features` and `resize`."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from featurestore import features
from featurestore.features import Array, BandedMatrix
from featurestore.resize import bilinear_matrix, resize
from schemas import FULL, FeatureSpec, Resolution

EXTRACTOR_VERSION = 1
"""Raised whenever the same spec and waveform give other numbers than before."""

_FRAMES_AT_ONCE = 64
"""Bounds the memory of a long clip, and keeps a piece in the processor's cache."""


@dataclass
class _Bank:
    """A filterbank with what it has seen of a clip: the first energies, and the extremes of all."""

    matrix: BandedMatrix
    num_frames: int
    kept: list[Array] = field(default_factory=list)
    low: float = np.inf
    high: float = 0.0

    def add(self, spectrum: Array, first: int) -> None:
        """Take in the spectrum (T, K) of frames `first` and following."""
        energy = self.matrix.apply(spectrum)
        self.low = min(self.low, float(energy.min()))
        self.high = max(self.high, float(energy.max()))
        if first < self.num_frames:
            self.kept.append(energy[:, : self.num_frames - first])

    def image(self, spec: FeatureSpec) -> Array:
        """(B, T) in [0, 1], T at most num_frames."""
        energy = self.kept[0] if len(self.kept) == 1 else np.concatenate(self.kept, axis=1)
        low, high = (np.full((1, 1), extreme, np.float32) for extreme in (self.low, self.high))
        return features.min_max_level(energy, low, high, spec)


class Extractor:
    """Computes every stored image of a clip.

    Args:
        spec: What to compute. Filterbanks, window and interpolation matrices are made once, here.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self._window = features.window(spec)
        self._frames_needed = self._plan_banks()
        self._matrices = {
            n_mels: BandedMatrix(features.mel_filterbank(spec, n_mels))
            for n_mels in self._frames_needed
        }
        full = spec.full
        self._resizers = {
            r.name: (
                bilinear_matrix(full.n_mels, r.n_mels),
                bilinear_matrix(full.num_frames, r.num_frames),
            )
            for r in spec.resolutions[:-1]
        }

    def _plan_banks(self) -> dict[int, int]:
        """Frames needed of each number of filters."""
        direct = self.spec.resolutions if "mel" in self.spec.variants else (self.spec.full,)
        return {r.n_mels: r.num_frames for r in sorted(direct, key=lambda r: r.num_frames)}

    def __call__(self, waveform: Array) -> dict[str, Array]:
        """All images of one clip.

        Args:
            waveform: (N,) mono float32 at `spec.sample_rate`, finite; N may be 0.

        Returns:
            Images (bands, frames) in [0, 1], float32, by the keys of `spec.arrays`.
        """
        banks = self._energies(self._trimmed(waveform))
        return self._variants({n: bank.image(self.spec) for n, bank in banks.items()})

    def _trimmed(self, waveform: Array) -> Array:
        if self.spec.trim is None:
            return waveform
        start, stop = features.trim_bounds(waveform, self.spec.sample_rate, self.spec.trim)
        return waveform[start:stop]

    def _energies(self, waveform: Array) -> dict[int, _Bank]:
        spec = self.spec
        banks = {n: _Bank(self._matrices[n], frames) for n, frames in self._frames_needed.items()}
        padded = features.centred(waveform, spec)
        frames = sliding_window_view(padded, spec.n_fft)[:: spec.hop_length]
        for first in range(0, len(frames), _FRAMES_AT_ONCE):
            piece = frames[first : first + _FRAMES_AT_ONCE]
            spectrum = features.power_spectrum(piece, self._window, spec.power)
            for bank in banks.values():
                bank.add(spectrum, first)
        return banks

    def _variants(self, images: dict[int, Array]) -> dict[str, Array]:
        def fitted(resolution: Resolution) -> Array:
            return features.fit_frames(
                images[resolution.n_mels], resolution.num_frames, self.spec.short_clips
            )

        full = fitted(self.spec.full)
        result = {}
        for resolution in self.spec.resolutions[:-1]:
            for variant in self.spec.variants:
                made = (
                    fitted(resolution)
                    if variant == "mel"
                    else resize(full, *self._resizers[resolution.name])
                )
                result[f"{resolution.name}/{variant}"] = made
        return result | {f"{self.spec.full.name}/{FULL}": full}


def quantize(images: Array, dtype: str) -> NDArray[Any]:
    """Images in [0, 1] as they are stored: rounded to the nearest float16, or to k/255 as uint8."""
    scaled: Array = np.rint(images * np.float32(255)) if dtype == "uint8" else images
    return scaled.astype(np.dtype(dtype))

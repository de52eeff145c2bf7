"""From one clip to all its stored arrays: images from one STFT, and features of librosa.

The steps are in `features`, `resize` and `librosa_features`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.arguments import typed_methods
from featurestore.errors import SpecError
from featurestore.extraction import features
from featurestore.extraction.features import Array, BandedMatrix
from featurestore.extraction.resize import RESIZES, resizer
from schemas import FULL, FeatureSpec

if TYPE_CHECKING:
    from featurestore.extraction.librosa_features import FeatureExtractor

_FRAMES_AT_ONCE = 256
"""Number of frames per matrix product: bounds memory for long clips, and is enough for full speed.

With more, BLAS sums in another order, and stored bits would change.
"""


@dataclass(frozen=True)
class _Bank:
    """One filterbank among all: where its filters' energies are, and the frames of its images."""

    filters: NDArray[np.int64]
    num_frames: int


@typed_methods
class Extractor:
    """Computes every stored array of a clip.

    Args:
        spec: Features to compute. Filterbanks, window and resize operators are made once, here.
        librosa: Required version of librosa, if the spec has librosa features.

    Raises:
        SpecError: The spec has librosa features, but another version is installed, or there is no
            writable directory for its compiled code.
    """

    def __init__(self, spec: FeatureSpec, librosa: str | None = None) -> None:
        if spec.features and librosa not in (None, installed := version("librosa")):
            raise SpecError(
                f"expected features of librosa {librosa}, and version {installed} is installed, "
                f"which may compute others: pip install librosa=={librosa}"
            )
        self.spec = spec
        self._window = features.window(spec)
        self._shapes = spec.images
        self._features = _feature_extractor(spec)
        self._full = f"{spec.full.name}/{FULL}"
        full_shape = self._shapes[self._full]
        self._resizers = {
            name: resizer(variant, full_shape, shape)
            for name, shape in self._shapes.items()
            if (variant := name.split("/")[1]) in RESIZES
        }
        frames = _frames(s for name, s in self._shapes.items() if name not in self._resizers)
        # One product for the filters of all banks: those that use the same columns are neighbours.
        self._filters = BandedMatrix(
            np.concatenate([features.mel_filterbank(spec, n_mels) for n_mels in frames])
        )
        places = np.split(np.argsort(self._filters.order), np.cumsum(list(frames))[:-1])
        self._banks = {
            n_mels: _Bank(filters, num_frames)
            for filters, (n_mels, num_frames) in zip(places, frames.items(), strict=True)
        }
        self._num_frames = max(frames.values())

    def __call__(
        self, waveform: Array, at_rates: Mapping[int, Array] | None = None
    ) -> dict[str, Array]:
        """Return all arrays of one clip.

        Args:
            waveform: (N,) mono float32 at `spec.sample_rate`, finite; N may be 0.
            at_rates: The same at the other rates of the spec's waveforms, as `Recording.at_rates`.

        Returns:
            By the keys of `spec.arrays`, float32: images (bands, frames) in [0, 1], and features
            within their bounds.

        Raises:
            AudioError: A feature overflows.
            ValueError: The waveform is missing at a rate.
        """
        start, stop = self.trim_bounds(waveform)
        trimmed = waveform[start:stop]
        arrays = self._variants(self._images(trimmed))
        if self._features is None:
            return arrays

        def at_rate(rate: int) -> Array:
            if rate not in (at_rates or {}):
                raise ValueError(f"at_rates: there is none at {rate} Hz, of which the spec has one")
            # The same silence is cut off at every rate, though it was found at one of them.
            scale = rate / self.spec.sample_rate
            return (at_rates or {})[rate][round(start * scale) : round(stop * scale)]

        return arrays | self._features(trimmed, at_rate)

    def stored(
        self, waveform: Array, at_rates: Mapping[int, Array] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return all arrays of one clip as stored; see `__call__`.

        Returns:
            Arrays by the keys of `spec.arrays`: images in the spec's dtype (`quantize`), and
            features.
        """
        arrays = self(waveform, at_rates)
        # All images at once: on one image alone, a third of the time is what calls cost.
        flat = np.concatenate([arrays[name].ravel() for name in self._shapes])
        values = quantize(flat, self.spec.dtype)
        start, images = 0, {}
        for name, shape in self._shapes.items():
            images[name] = values[start : start + arrays[name].size].reshape(shape)
            start += arrays[name].size
        return arrays | images

    def trim_bounds(self, waveform: Array) -> tuple[int, int]:
        """Return the samples [start, stop) of a waveform (N,) that the arrays cover."""
        if self.spec.trim is None:
            return 0, waveform.size
        return features.trim_bounds(waveform, self.spec.sample_rate, self.spec.trim)

    def _images(self, waveform: Array) -> dict[int, Array]:
        """Return (B, T) in [0, 1] for each bank, from one STFT of the whole clip."""
        # The extremes are those of the whole clip, also of frames that no image shows.
        kept, low, high = self._energies(waveform)
        return {
            n_mels: features.min_max_level(
                kept[: bank.num_frames].T[bank.filters],
                low[bank.filters].min(),
                high[bank.filters].max(),
                self.spec,
            )
            for n_mels, bank in self._banks.items()
        }

    def _energies(self, waveform: Array) -> tuple[Array, Array, Array]:
        """Energies in the filters of every bank, in the order of their product.

        Computed a piece at a time; of frames that no image shows, only the extremes are kept.

        Returns:
            (T, R) of the first frames, and the smallest and the largest (R,) over every frame.
        """
        spec = self.spec
        frames = features.frames_of(features.centred(waveform, spec), spec)
        kept: list[Array] = []
        low, high = np.full((2, len(self._filters.order)), [[np.inf], [0]], np.float32)
        for first in range(0, len(frames), _FRAMES_AT_ONCE):
            piece = frames[first : first + _FRAMES_AT_ONCE]
            energy = self._filters.apply(features.power_spectrum(piece, self._window, spec.power))
            low, high = np.minimum(low, energy.min(axis=0)), np.maximum(high, energy.max(axis=0))
            if first < self._num_frames:
                kept.append(energy[: self._num_frames - first])
        return kept[0] if len(kept) == 1 else np.concatenate(kept), low, high

    def _variants(self, images: dict[int, Array]) -> dict[str, Array]:
        fitted = {
            name: features.fit_frames(images[n_mels], num_frames, self.spec.short_clips)
            for name, (n_mels, num_frames) in self._shapes.items()
            if name not in self._resizers
        }
        full = fitted[self._full]
        resized = {name: resize(full) for name, resize in self._resizers.items()}
        images_of = fitted | resized
        return {name: images_of[name] for name in self._shapes}


def _feature_extractor(spec: FeatureSpec) -> "FeatureExtractor | None":
    """Return what computes the spec's features; librosa is not imported for a spec without any."""
    if not spec.features:
        return None
    from featurestore.extraction.librosa_features import FeatureExtractor

    return FeatureExtractor(spec)


def _frames(shapes: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return the most frames that images of (bands, frames) show, by their number of bands."""
    frames: dict[int, int] = {}
    for n_mels, num_frames in shapes:
        frames[n_mels] = max(num_frames, frames.get(n_mels, 0))
    return frames


def quantize(images: Array, dtype: str) -> NDArray[Any]:
    """Return images in [0, 1] as stored: rounded to the nearest float16, or to k/255 as uint8."""
    if dtype == "float16":
        return _to_float16(images)
    if dtype == "uint8":
        return np.rint(images * np.float32(255)).astype(np.uint8)  # type: ignore[no-any-return]
    return images.astype(np.float32, copy=False)


_HALF_MIN = np.float32(2**-14)
"""Smallest normal float16."""
_REBASED = np.uint32(2**32 - (112 << 23) + 0xFFF)
"""Modulo 2^32: subtracts 112 from a float32's exponent, and adds just under half of bit 13."""


def _to_float16(values: Array) -> NDArray[np.float16]:
    """Return `values.astype(float16)` for values in [0, 1], four times as fast; equal to the bit.

    A normal value's bits are rounded to even at the 13th and the exponent is rebased by 112. Below
    2^-14, adding 1/2 rounds to multiples of 2^-24, which is what a subnormal float16 counts.
    """
    bits = np.ascontiguousarray(values).view(np.uint32)
    half = bits >> 13
    half &= 1
    half += bits
    half += _REBASED
    half >>= 13
    small = np.flatnonzero(values < _HALF_MIN)
    if small.size:
        shifted = values.ravel()[small] + np.float32(0.5)
        half.ravel()[small] = shifted.view(np.uint32) - np.float32(0.5).view(np.uint32)
    return half.astype(np.uint16).view(np.float16)

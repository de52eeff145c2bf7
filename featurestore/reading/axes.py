"""Axes of a drawn image: seconds and mels, repetition, and the detail to magnify. Pure."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from featurestore.extraction.features import hz_to_mel
from featurestore.extraction.resize import RESIZES
from schemas import FULL, FeatureSpec
from schemas.librosa_features import Waveform

_DETAIL = (0.3, 0.35)
"""Fraction of the bands, and of the duration of the shortest image, that is magnified."""


@dataclass(frozen=True)
class Window:
    """Part of an image to be magnified: bounds in seconds and mels."""

    start_s: float
    stop_s: float
    low_mel: float
    high_mel: float


def duration_s(array: str, spec: FeatureSpec) -> float:
    """Return the duration of an array in seconds; that of the full image for a resized one."""
    if feature := spec.feature(array):
        samples = spec.arrays[array][-1]
        if isinstance(feature, Waveform):
            return samples / feature.sample_rate
        return samples * feature.hop_length / spec.sample_rate
    variant = array.split("/")[1]
    frames = spec.full.num_frames if variant in RESIZES else spec.images[array][1]
    return frames * spec.hop_length / spec.sample_rate


def repetition_period(full: NDArray[np.float32], spec: FeatureSpec) -> int | None:
    """Return the period in frames of a clip that was tiled to fill the image, else None.

    Repeated frames are bit-identical, so the image itself shows them. A constant image has no
    visible repetition.
    """
    num_frames = full.shape[1]
    if spec.short_clips != "tile":
        return None
    for period in np.flatnonzero((full == full[:, :1]).all(axis=0))[1:]:
        again = full[:, period:]
        if np.ptp(again) and np.array_equal(again, full[:, : num_frames - period]):
            return int(period)
    return None


def mel_bounds(spec: FeatureSpec) -> tuple[float, float]:
    """Return the frequencies in mel at the lower and the upper edge of an image."""
    return float(hz_to_mel(spec.fmin, spec.mel_scale)), float(
        hz_to_mel(spec.fmax_hz, spec.mel_scale)
    )


def detail_window(full: NDArray[np.float32], spec: FeatureSpec, shared_s: float) -> Window:
    """Return the window with the most texture in the full image, among what all images show.

    Texture means that many neighbours differ, not only those on the two sides of an edge: it is a
    quantile of the differences, with loud parts weighted more than quiet ones.
    """
    total_s = duration_s(f"{spec.full.name}/{FULL}", spec)
    num_frames = max(2, int(full.shape[1] * min(1.0, shared_s / total_s)))
    bands = max(2, int(full.shape[0] * _DETAIL[0]))
    frames = min(num_frames, max(2, int(num_frames * _DETAIL[1])))
    corners = product(
        range(0, max(1, full.shape[0] - bands + 1), max(1, bands // 4)),
        range(0, num_frames - frames + 1, max(1, frames // 4)),
    )

    def texture(corner: tuple[int, int]) -> float:
        part = full[corner[0] : corner[0] + bands, corner[1] : corner[1] + frames]
        steps = [np.abs(np.diff(part, axis=axis)) for axis in (0, 1)]
        return float(sum(np.quantile(s, 0.75) for s in steps if s.size) * part.mean())

    band, frame = max(corners, key=texture)
    low, high = mel_bounds(spec)
    mel, second = (high - low) / full.shape[0], total_s / full.shape[1]
    return Window(
        frame * second, (frame + frames) * second, low + band * mel, low + (band + bands) * mel
    )

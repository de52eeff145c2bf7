"""What the axes of an image mean: its seconds and Hz, and where a clip is repeated. Pure."""

import numpy as np
from numpy.typing import NDArray

from featurestore.extraction.features import hz_to_mel, labelled_hz, mel_to_hz
from featurestore.extraction.resize import RESIZES
from schemas import FeatureSpec


def duration_s(array: str, spec: FeatureSpec) -> float:
    """Return the seconds an image spans: a resized one those of the full one, others their own."""
    variant = array.split("/")[1]
    frames = spec.full.num_frames if variant in RESIZES else spec.arrays[array][1]
    return frames * spec.hop_length / spec.sample_rate


def repetition_period(full: NDArray[np.float32], spec: FeatureSpec) -> int | None:
    """Return the frames after which a clip was repeated to fill the image; None if it was not.

    Repeated frames are equal to the bit, so the image itself shows them. A constant one repeats
    nothing that could be seen.
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
    """Return the mels at the lower and the upper edge of an image."""
    return float(hz_to_mel(spec.fmin, spec.mel_scale)), float(
        hz_to_mel(spec.fmax_hz, spec.mel_scale)
    )


def edges_hz(spec: FeatureSpec, bands: int) -> NDArray[np.float64]:
    """Return the frequencies in Hz (bands + 1,) between which the bands of an image are drawn.

    They are evenly spaced in mel, as in the figures of `plot`, and those of the sound, whatever the
    filterbank takes them for (`labelled_hz`).
    """
    labels = mel_to_hz(np.linspace(*mel_bounds(spec), bands + 1), spec.mel_scale)
    # `labelled_hz` is a straight line, so two of its points undo it.
    low, high = labelled_hz(np.array([0.0, spec.sample_rate / 2]), spec)
    return (labels - low) * (spec.sample_rate / 2) / (high - low)

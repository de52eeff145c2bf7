"""Names and coordinates of the axes of stored arrays, in the terms of xarray and CF.

They follow from the spec, so that they can be derived for stores of any version.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.extraction.features import hz_to_mel, labelled_hz, mel_edges, mel_to_hz
from schemas import FeatureSpec, StoreManifest
from schemas.feature_parts import FEATURES
from schemas.librosa_features import (
    ChromaCqt,
    ChromaStft,
    Cqt,
    Feature,
    LogStft,
    Mfcc,
    Pcen,
    SpectralContrast,
    Waveform,
)

_PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


@dataclass(frozen=True)
class Axis:
    """An axis of an array, other than `clip`.

    Attributes:
        dimension: `band`, `frame` or `sample`.
        coordinate: Name of the coordinate, such as `band_hz`.
        points: (size,) float64, values of the coordinate.
        attributes: CF attributes: units and names.
    """

    dimension: str
    coordinate: str
    points: NDArray[np.float64]
    attributes: dict[str, Any] = field(default_factory=dict)


def axes_of(spec: FeatureSpec, array: str) -> tuple[Axis, ...]:
    """Return the axes of an array, without `clip`."""
    feature = spec.feature(array)
    if feature is None:
        return _image_axes(spec, array)
    if isinstance(feature, Waveform):
        seconds = np.arange(spec.arrays[array][0]) / feature.sample_rate
        return (Axis("sample", "sample_s", seconds, _seconds("sample")),)
    num_frames = spec.arrays[array][-1]
    seconds = np.arange(num_frames) * feature.hop_length / spec.sample_rate
    return _band_axis(feature, spec), Axis("frame", "frame_s", seconds, _seconds("frame"))


def _seconds(what: str) -> dict[str, Any]:
    start = "from the start of the trimmed clip"
    return {"units": "s", "long_name": f"centre of the {what}, {start}"}


def _hz(points: NDArray[np.float64], long_name: str) -> Axis:
    return Axis("band", "band_hz", points, {"units": "Hz", "long_name": long_name})


def _image_axes(spec: FeatureSpec, array: str) -> tuple[Axis, Axis]:
    """Return the axes of an image.

    Bands and frames of a resized image lie between those of the full one, where the interpolation
    takes them from (`extraction.resize`): output i at (i + 1/2) · size / new_size - 1/2.
    """
    variant = array.split("/")[1]
    bands, frames = spec.images[array]
    full = spec.full
    of_bands, of_frames = (full.n_mels, full.num_frames) if "resize" in variant else (bands, frames)
    # `labelled_hz` is a straight line, so two of its points undo it.
    low, high = labelled_hz(np.array([0.0, spec.sample_rate / 2]), spec)
    centres = (mel_edges(spec, of_bands)[1:-1] - low) * (spec.sample_rate / 2) / (high - low)
    hz = np.interp(_positions(of_bands, bands), np.arange(of_bands), centres)
    seconds = _positions(of_frames, frames) * spec.hop_length / spec.sample_rate
    return _hz(hz, "centre of the band"), Axis("frame", "frame_s", seconds, _seconds("frame"))


def _positions(size: int, new_size: int) -> NDArray[np.float64]:
    """Return where `new_size` points lie among `size`, (new_size,); each on its own if equal."""
    at = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    return np.asarray(np.clip(at, 0, size - 1), np.float64)


def _band_axis(feature: Feature, spec: FeatureSpec) -> Axis:
    if isinstance(feature, Pcen):
        scale, fmax = "htk" if feature.htk else "slaney", feature.fmax or spec.sample_rate / 2
        low, high = (hz_to_mel(hz, scale) for hz in (feature.fmin, fmax))
        edges = mel_to_hz(np.linspace(low, high, feature.n_mels + 2), scale)
        return _hz(edges[1:-1], "centre of the band")
    if isinstance(feature, LogStft):
        bins = np.arange(feature.num_bins) * spec.sample_rate / feature.n_fft
        return _hz(bins, "centre of the frequency bin")
    if isinstance(feature, Cqt):
        steps = np.arange(feature.n_bins) + (feature.tuning or 0.0)
        hz = feature.fmin * 2 ** (steps / feature.bins_per_octave)
        return _hz(hz, "centre of the frequency bin")
    if isinstance(feature, SpectralContrast):
        octaves = feature.fmin * 2.0 ** np.arange(feature.n_bands)
        return _hz(np.concatenate([[0.0], octaves]), "lower edge of the octave")
    numbers = np.arange(spec.arrays[feature.key][0], dtype=np.float64)
    if isinstance(feature, Mfcc):
        return Axis("band", "coefficient", numbers, {"long_name": "number of the coefficient"})
    if isinstance(feature, ChromaStft | ChromaCqt):
        return Axis("band", "pitch_class", numbers, _pitch_names(feature))
    raise TypeError(f"{feature.label} has no bands")


def _pitch_names(feature: ChromaStft | ChromaCqt) -> dict[str, Any]:
    words: dict[str, Any] = {"long_name": "pitch class"}
    if feature.n_chroma == len(_PITCHES):
        first = 0 if isinstance(feature, ChromaCqt) or feature.base_c else _PITCHES.index("A")
        words["flag_values"] = list(range(len(_PITCHES)))
        words["flag_meanings"] = " ".join(_PITCHES[first:] + _PITCHES[:first])
    return words


def dimensions(spec: FeatureSpec, array: str) -> tuple[str, ...]:
    """Return the stored names of an array's dimensions after `clip`.

    Each feature has dimensions with its own name, since all features are in one group, which xarray
    opens as one dataset.
    """
    feature = spec.feature(array)
    if feature is None:
        return "band", "frame"
    if isinstance(feature, Waveform):
        return (f"{feature.label}_sample",)
    return f"{feature.label}_band", f"{feature.label}_frame"


def stored_axes(spec: FeatureSpec, array: str) -> dict[str, tuple[str, Axis]]:
    """Return the axes of an array that are stored as coordinates: (dimension, axis) by key.

    Images of one resolution share dimensions but not their coordinates, which are therefore
    auxiliary coordinates, named by each image's attribute `coordinates`. A waveform has none: its
    attribute `sample_rate` suffices.
    """
    names = zip(dimensions(spec, array), axes_of(spec, array), strict=True)
    if spec.feature(array) is None:
        return {f"{array}_{axis.coordinate}": (name, axis) for name, axis in names}
    return {f"{FEATURES}/{name}": (name, a) for name, a in names if a.dimension != "sample"}


def outcome_attributes(manifest: StoreManifest, name: str) -> dict[str, Any]:
    """Return the attributes of an outcome in a dataset with coordinates."""
    if not manifest.coordinates:
        return {}
    if name == "class_id":
        classes = manifest.card.class_names
        return {
            "class_names": list(classes),
            "flag_values": list(range(len(classes))),
            "flag_meanings": " ".join("_".join(c.split()) for c in classes),
        }
    if name == "trimmed_s":
        later = "repeat the clip" if manifest.spec.short_clips == "tile" else "hold nothing"
        comment = f"frames that start later {later}"
        return {"units": "s", "long_name": "length of the trimmed clip", "comment": comment}
    return {"units": "s"} if name == "duration_s" else {}


def attributes(spec: FeatureSpec, array: str, *, coordinates: bool = False) -> dict[str, Any]:
    """Return the attributes of an image or feature array."""
    feature = spec.feature(array)
    if feature is None:
        words: dict[str, Any] = {"scale_factor": spec.scale} if spec.scale != 1 else {}
        names = (key.rpartition("/")[2] for key in stored_axes(spec, array))
        return words | ({"coordinates": " ".join(names)} if coordinates else {})
    words = {"long_name": feature.long_name, "units": feature.units}
    if feature.comment:
        words["comment"] = feature.comment
    if isinstance(feature, Waveform):
        words["sample_rate"] = feature.sample_rate
    return words

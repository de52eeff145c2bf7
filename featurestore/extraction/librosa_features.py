"""Features of a trimmed clip computed by librosa. The only module that imports librosa.

It is imported only if a spec has such features: librosa needs Numba, which takes seconds to import,
and much longer the first time, when it compiles. `warm_cache` does that once, before workers start.
Arguments and shapes are in `schemas.librosa_features`.
"""

import subprocess
import sys
from collections.abc import Callable
from math import ceil, log2
from threading import Lock
from typing import Any
from warnings import catch_warnings, filterwarnings

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import AudioError, SpecError
from featurestore.extraction.compiled import use_cache
from featurestore.extraction.features import Array, fit_frames
from featurestore.safepath import interpreter
from schemas import ClipStatus, FeatureSpec
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

_NORMS = {"max": np.inf, "l1": 1, "l2": 2, "none": None}
_WARNINGS = Lock()
"""Held while a warning is ignored, as warning filters are global to the process."""


class FeatureExtractor:
    """Computes the features of a spec.

    Args:
        spec: What to compute.

    Raises:
        SpecError: There is no writable directory for Numba's cache.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self._spec = spec
        if not all(isinstance(feature, Waveform) for feature in spec.features):
            use_cache()

    def __call__(self, clip: Array, at_rate: Callable[[int], Array]) -> dict[str, Array]:
        """Return every feature of a clip.

        Args:
            clip: (N,) the trimmed clip at the spec's sample rate; N may be 0.
            at_rate: Returns the trimmed clip at another rate in Hz.

        Returns:
            (bands, frames) or (samples,), float32, finite and within the bounds of the feature, by
            the keys of `spec.arrays`.

        Raises:
            AudioError: A value overflows: the clip's samples are that large.
        """
        values: dict[str, Array] = {}
        for feature in self._spec.features:
            if isinstance(feature, Waveform):
                samples = clip
                if feature.sample_rate != self._spec.sample_rate:
                    samples = at_rate(feature.sample_rate)
                array = samples if samples.size else np.zeros(1, np.float32)
            else:
                with np.errstate(
                    over="ignore", invalid="ignore"
                ):  # what overflows is refused below
                    array = compute(feature, clip, self._spec)
            low, high = feature.bounds
            shape = self._spec.arrays[feature.key]
            array = _fitted(array, shape[-1], self._spec.short_clips, low or 0.0)
            if not np.isfinite(array).all():
                raise AudioError(
                    ClipStatus.NON_FINITE, f"{feature.label} overflows: the samples are too large"
                )
            # Rounding may leave a maximum an ulp above its own reference.
            values[feature.key] = np.clip(array, low, high) if low != high else array
        return values


def _fitted(array: Array, length: int, short_clips: str, fill: float) -> Array:
    """Return the first `length` frames; repeat shorter ones, or append the lowest value."""
    if array.shape[-1] < length and short_clips != "tile":
        width = [(0, 0)] * (array.ndim - 1) + [(0, length - array.shape[-1])]
        return np.pad(array, width, constant_values=np.float32(fill))
    return fit_frames(array, length, "tile")


def compute(feature: Feature, clip: Array, spec: FeatureSpec) -> Array:
    """Return a feature of a clip, computed from as many samples as its frames span.

    A clip shorter than librosa's longest window is zero-padded, and frames of the padding are
    dropped.

    Args:
        feature: Any feature except a waveform.
        clip: (N,) float32, at the spec's sample rate; N may be 0.
        spec: Spec of the feature.

    Returns:
        (bands, T) float32, where T is the smaller of `num_frames` and 1 + N // hop_length.
    """
    if isinstance(feature, Waveform):
        raise TypeError("a waveform is not computed")
    num_frames = spec.arrays[feature.key][-1]
    samples = clip[: num_frames * feature.hop_length]
    frames = min(num_frames, 1 + samples.size // feature.hop_length)
    lacking = _least_samples(feature, spec.sample_rate) - samples.size
    if lacking > 0:
        samples = np.pad(samples, (0, lacking))
    values: NDArray[Any] = _FUNCTIONS[type(feature)](feature, samples, spec.sample_rate)
    return values[:, :frames].astype(np.float32)


def _least_samples(feature: Feature, sample_rate: int) -> int:
    """Return the fewest samples of which librosa computes a feature without a warning."""
    if isinstance(feature, Cqt | ChromaCqt):
        scale = feature.filter_scale if isinstance(feature, Cqt) else 1.0
        square = 2 ** (2 / feature.bins_per_octave)
        quality = scale * (square + 1) / (square - 1)
        longest = max(quality * sample_rate / feature.fmin, 2 * feature.hop_length)
        return int(2 ** ceil(log2(longest)))
    return 1 if isinstance(feature, Waveform) else feature.n_fft


def _stft_arguments(feature: Any) -> dict[str, Any]:  # noqa: ANN401  (one of several schemas)
    return {
        "n_fft": feature.n_fft,
        "hop_length": feature.hop_length,
        "win_length": feature.win_length,
        "window": feature.window,
        "center": True,
        "pad_mode": feature.pad_mode,
    }


def _mel(feature: Mfcc | Pcen, samples: Array, sample_rate: int) -> Array:
    import librosa

    energy: Array = librosa.feature.melspectrogram(
        y=samples,
        sr=sample_rate,
        power=feature.mel_power,
        n_mels=feature.n_mels,
        fmin=feature.fmin,
        fmax=feature.fmax,
        htk=feature.htk,
        norm=None if feature.mel_norm == "none" else feature.mel_norm,
        **_stft_arguments(feature),
    )
    return energy


def _decibels(feature: Mfcc | LogStft | Cqt, energy: Array, *, amplitude: bool = False) -> Array:
    import librosa

    convert = librosa.amplitude_to_db if amplitude else librosa.power_to_db
    ref = np.max if feature.ref == "max" else feature.ref
    decibels: Array = convert(energy, ref=ref, amin=feature.amin, top_db=feature.top_db)
    return decibels


def _mfcc(feature: Mfcc, samples: Array, sample_rate: int) -> Array:
    import librosa

    coefficients: Array = librosa.feature.mfcc(
        S=_decibels(feature, _mel(feature, samples, sample_rate)),
        sr=sample_rate,
        n_mfcc=feature.n_mfcc,
        dct_type=feature.dct_type,
        norm=None if feature.norm == "none" else feature.norm,
        lifter=feature.lifter,
    )
    return coefficients


def _pcen(feature: Pcen, samples: Array, sample_rate: int) -> Array:
    import librosa

    energy = _mel(feature, samples * np.float32(feature.scale), sample_rate)
    normalised: Array = librosa.pcen(
        energy,
        sr=sample_rate,
        hop_length=feature.hop_length,
        gain=feature.gain,
        bias=feature.bias,
        power=feature.power,
        time_constant=feature.time_constant,
        eps=feature.eps,
        max_size=feature.max_size,
        max_axis=-2 if feature.max_size > 1 else None,
    )
    return normalised


def _log_stft(feature: LogStft, samples: Array, sample_rate: int) -> Array:
    import librosa

    spectrum = librosa.stft(samples, **_stft_arguments(feature))
    return _decibels(feature, np.abs(spectrum) ** 2)


def _contrast(feature: SpectralContrast, samples: Array, sample_rate: int) -> Array:
    import librosa

    contrast: Array = librosa.feature.spectral_contrast(
        y=samples,
        sr=sample_rate,
        fmin=feature.fmin,
        n_bands=feature.n_bands,
        quantile=feature.quantile,
        linear=feature.linear,
        **_stft_arguments(feature),
    )
    return contrast


def _chroma_stft(feature: ChromaStft, samples: Array, sample_rate: int) -> Array:
    import librosa

    spectrum = np.abs(librosa.stft(samples, **_stft_arguments(feature))) ** 2
    tuning = feature.tuning
    if tuning is None:
        tuning = _tuning(sample_rate, feature.n_chroma, S=spectrum)
    chroma: Array = librosa.feature.chroma_stft(
        S=spectrum,
        sr=sample_rate,
        n_fft=feature.n_fft,
        norm=_NORMS[feature.norm],
        tuning=tuning,
        n_chroma=feature.n_chroma,
        ctroct=feature.ctroct,
        octwidth=feature.octwidth,
        base_c=feature.base_c,
    )
    return chroma


def _cqt(feature: Cqt, samples: Array, sample_rate: int) -> Array:
    import librosa

    tuning = feature.tuning
    if tuning is None:
        tuning = _tuning(sample_rate, feature.bins_per_octave, y=samples)
    magnitude = np.abs(
        librosa.cqt(
            samples,
            sr=sample_rate,
            hop_length=feature.hop_length,
            fmin=feature.fmin,
            n_bins=feature.n_bins,
            bins_per_octave=feature.bins_per_octave,
            tuning=tuning,
            filter_scale=feature.filter_scale,
            norm=_NORMS[feature.norm],
            sparsity=feature.sparsity,
            window=feature.window,
            scale=feature.scale,
            pad_mode=feature.pad_mode,
            res_type=feature.res_type,
        )
    )
    return _decibels(feature, magnitude, amplitude=True) if feature.decibels else magnitude


def _chroma_cqt(feature: ChromaCqt, samples: Array, sample_rate: int) -> Array:
    import librosa

    tuning = feature.tuning
    if tuning is None:
        tuning = _tuning(sample_rate, feature.bins_per_octave, y=samples)
    chroma: Array = librosa.feature.chroma_cqt(
        y=samples,
        sr=sample_rate,
        hop_length=feature.hop_length,
        fmin=feature.fmin,
        norm=_NORMS[feature.norm],
        threshold=feature.threshold,
        tuning=tuning,
        n_chroma=feature.n_chroma,
        n_octaves=feature.n_octaves,
        bins_per_octave=feature.bins_per_octave,
        cqt_mode=feature.cqt_mode,
    )
    return chroma


def _tuning(sample_rate: int, bins_per_octave: int, **of: Any) -> float:  # noqa: ANN401
    """Return the tuning as librosa's features estimate it; 0 of a sound without pitch."""
    import librosa

    with _WARNINGS, catch_warnings():
        filterwarnings("ignore", message="Trying to estimate tuning from empty frequency set")
        return float(librosa.estimate_tuning(sr=sample_rate, bins_per_octave=bins_per_octave, **of))


_FUNCTIONS: dict[type, Callable[[Any, Array, int], Array]] = {
    Mfcc: _mfcc,
    Pcen: _pcen,
    LogStft: _log_stft,
    SpectralContrast: _contrast,
    ChromaStft: _chroma_stft,
    Cqt: _cqt,
    ChromaCqt: _chroma_cqt,
}


def warm_cache(spec: FeatureSpec, *, in_workers: bool = True, quiet: bool = False) -> None:
    """Compute the features of a spec once in a process of its own, to compile all they need.

    Compiling takes 17 seconds and 400 MB; done here, no worker has to.

    Args:
        spec: Spec of the features.
        in_workers: Whether other processes will compute the features.
        quiet: See `use_cache`.

    Raises:
        SpecError: librosa refuses the features, or there is no writable directory for its cache.
    """
    if all(isinstance(feature, Waveform) for feature in spec.features):
        return
    use_cache(quiet=quiet)
    if not in_workers:
        return
    done = subprocess.run(  # noqa: S603
        [*interpreter(__name__)],
        input=spec.model_dump_json(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise SpecError(f"features: librosa cannot compute them: {last[0]}")


def main() -> None:
    """Compute the features of noise for the spec on standard input."""
    spec = FeatureSpec.model_validate_json(sys.stdin.read())
    noise = np.random.default_rng(0).uniform(-1, 1, spec.sample_rate).astype(np.float32)
    FeatureExtractor(spec)(noise, lambda rate: noise)


if __name__ == "__main__":
    main()

"""Features that librosa computes, stored next to the mel images: their arguments and shapes.

`featurestore.extraction.librosa_features` computes them. Every argument of librosa's functions that
affects a value is a field here, with librosa's own default, so that a manifest records all of them.
Each feature is computed from the start of the trimmed clip, from as many samples as its frames
span, which bounds memory whatever the clip's length.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.feature_parts import (
    BaseFeature,
    Bounds,
    Chroma,
    ConstantQ,
    Decibels,
    Hz,
    Mel,
    Norm,
    Stft,
    Window,
)

MAX_SPECTRUM_VALUES = 1 << 23
"""Maximum number of values of an intermediate spectrum: 64 MB as complex numbers."""
MAX_FEATURE_SAMPLES = 1 << 23
"""Maximum number of samples for a feature: over 6 minutes at 22 kHz."""


class Waveform(BaseFeature):
    """Samples of the trimmed clip at a chosen sample rate.

    They are resampled from the file's rate by the spec's resampler. A shorter clip is repeated, or
    followed by zeros, as `short_clips` says.
    """

    kind: Literal["waveform"] = "waveform"
    sample_rate: Annotated[int, Field(ge=1000, le=768_000)] = 16_000
    """Sample rate in Hz."""
    num_samples: Annotated[int, Field(ge=1, le=2_000_000)] | None = None
    """Number of samples; None for the duration of the last resolution's image."""

    long_name: ClassVar[str] = "waveform, mean of the channels"

    def check(self, sample_rate: int) -> None:
        """Accept any values: the fields' own bounds suffice."""

    def shape(self, seconds: float, sample_rate: int) -> tuple[int, ...]:
        """Return (samples,)."""
        return (self.num_samples or max(1, round(seconds * self.sample_rate)),)


class Mfcc(Decibels, Mel):
    """Mel-frequency cepstral coefficients: `librosa.feature.mfcc`."""

    kind: Literal["mfcc"] = "mfcc"
    n_mfcc: Annotated[int, Field(ge=1, le=4096)] = 20
    """Number of coefficients."""
    dct_type: Literal[1, 2, 3] = 2
    """Type of the discrete cosine transform."""
    norm: Literal["ortho", "none"] = "ortho"
    """Normalisation of the transform."""
    lifter: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Liftering coefficient; 0 for none."""
    ref: Literal["max"] | Annotated[float, Field(gt=0, le=1e12)] = 1.0
    """Power that is 0 dB; `max` for the clip's largest."""

    long_name: ClassVar[str] = "mel-frequency cepstral coefficients"
    units: ClassVar[str] = "1"
    bands: ClassVar[str] = "n_mfcc"

    @property
    def bounds(self) -> Bounds:
        """None: coefficients have no bounds."""
        return None, None

    def check(self, sample_rate: int) -> None:
        """See `Stft.check`."""
        super().check(sample_rate)
        self.refuse_if(
            self.n_mfcc > self.n_mels, f"n_mfcc {self.n_mfcc} is more than n_mels {self.n_mels}"
        )
        self.refuse_if(
            self.dct_type == 1 and (self.n_mels < 2 or self.norm == "ortho"),
            "dct_type 1 needs norm none and at least two n_mels",
        )


class Pcen(Mel):
    """Mel-spectrogram of amplitudes with per-channel energy normalisation: `librosa.pcen`."""

    kind: Literal["pcen"] = "pcen"
    mel_power: Annotated[float, Field(ge=0.1, le=4)] = 1.0
    """Exponent of the magnitudes: 1 is amplitude, 2 power."""
    scale: Annotated[float, Field(gt=0, le=1e12)] = 2.0**31
    """Factor of the samples; the default is librosa's advice for samples in [-1, 1]."""
    gain: Annotated[float, Field(ge=0, le=10)] = 0.98
    """Gain factor."""
    bias: Annotated[float, Field(ge=0, le=1e6)] = 2.0
    """Bias point of the compression."""
    power: Annotated[float, Field(ge=0, le=10)] = 0.5
    """Exponent of the compression."""
    time_constant: Annotated[float, Field(gt=0, le=1000)] = 0.4
    """Time constant of the smoothing, in seconds."""
    eps: Annotated[float, Field(ge=1e-12, le=1)] = 1e-6
    """Small constant added to the smoothed energy, so that silence divides by no zero."""
    max_size: Annotated[int, Field(ge=1, le=1000)] = 1
    """Number of bands over which a maximum is taken before smoothing; 1 for none."""

    long_name: ClassVar[str] = "mel-spectrogram, per-channel energy normalised"
    relative_to_clip: ClassVar[str] = "each band is divided by its own smoothed past in the clip"

    @property
    def bounds(self) -> Bounds:
        """Bounds of the stored values."""
        return 0.0, None

    def check(self, sample_rate: int) -> None:
        """See `Stft.check`."""
        super().check(sample_rate)
        self.refuse_if(
            self.max_size > self.n_mels,
            f"max_size {self.max_size} is more than n_mels {self.n_mels}",
        )


class LogStft(Decibels, Stft):
    """Short-time Fourier transform in dB: `librosa.power_to_db(abs(librosa.stft(y)) ** 2)`."""

    kind: Literal["log_stft"] = "log_stft"

    long_name: ClassVar[str] = "short-time Fourier transform, log power"
    bands: ClassVar[str] = "num_bins"


class SpectralContrast(Stft):
    """Difference between peaks and valleys in octave bands: `librosa.feature.spectral_contrast`."""

    kind: Literal["spectral_contrast"] = "spectral_contrast"
    fmin: Hz = 200.0
    """Upper edge of the lowest band in Hz."""
    n_bands: Annotated[int, Field(ge=1, le=32)] = 6
    """Number of octaves above it."""
    quantile: Annotated[float, Field(gt=0, lt=0.5)] = 0.02
    """Fraction of a band's bins that are its peaks, and that are its valleys."""
    linear: bool = False
    """Whether to take the difference of powers instead of decibels."""

    long_name: ClassVar[str] = "spectral contrast"

    @property
    def num_bands(self) -> int:
        """Number of bands."""
        return self.n_bands + 1

    @property
    def comment(self) -> str:
        """Aspect of the values that is relative to the clip, in words; empty if none is."""
        return "" if self.linear else "80 dB under the clip's largest peak, or valley, is cut"

    def check(self, sample_rate: int) -> None:
        """See `Stft.check`."""
        super().check(sample_rate)
        highest = self.fmin * 2 ** (self.n_bands - 1)
        self.refuse_if(
            highest >= sample_rate / 2,
            f"its highest band starts at {highest:g} Hz, not below {sample_rate / 2:g} Hz",
        )
        # librosa takes the peaks and valleys among the bins of a band: each needs one.
        self.refuse_if(
            sample_rate / self.n_fft > self.fmin / 2,
            f"its lowest bands have no bin at n_fft {self.n_fft}",
        )


class ChromaStft(Chroma, Stft):
    """Energy of each pitch class in the STFT: `librosa.feature.chroma_stft`."""

    kind: Literal["chroma_stft"] = "chroma_stft"
    ctroct: Annotated[float, Field(gt=0, le=20)] = 5.0
    """Octave on which the weights are centred."""
    octwidth: Annotated[float, Field(gt=0, le=100)] | None = 2.0
    """Width of the weights in octaves; None for equal weights."""
    base_c: bool = True
    """Whether the first pitch class is C, not A."""

    long_name: ClassVar[str] = "chromagram of the short-time Fourier transform"


class Cqt(Decibels, ConstantQ):
    """Magnitude of the constant-Q transform: `abs(librosa.cqt(y))`, in dB by default."""

    kind: Literal["cqt"] = "cqt"
    n_bins: Annotated[int, Field(ge=1, le=1024)] = 84
    """Number of frequencies."""
    tuning: Annotated[float, Field(ge=-0.5, le=0.5)] | None = 0.0
    """Deviation from A440 in fractions of a bin; None to estimate it from each clip."""
    filter_scale: Annotated[float, Field(ge=0.1, le=2)] = 1.0
    """Factor by which the filters' lengths are multiplied."""
    norm: Norm = "l1"
    """Norm by which each filter is divided."""
    sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Fraction of each filter's energy that may be discarded."""
    window: Window = "hann"
    """Window of the filters."""
    scale: bool = True
    """Whether to divide each frequency's values by the square root of its filter's length."""
    res_type: Literal["soxr_vhq", "soxr_hq", "soxr_mq"] = "soxr_hq"
    """Resampler between octaves."""
    decibels: bool = True
    """Whether to store decibels (`librosa.amplitude_to_db`) instead of magnitudes, for which `ref`,
    `amin` and `top_db` are not used."""
    amin: Annotated[float, Field(ge=1e-30, le=1)] = 1e-5
    """Minimum amplitude; smaller values are raised to it."""

    long_name: ClassVar[str] = "constant-Q transform, magnitude"
    bands: ClassVar[str] = "n_bins"

    @property
    def num_bins(self) -> int:
        """Number of frequencies of the transform."""
        return self.n_bins

    @property
    def bounds(self) -> Bounds:
        """Bounds of the stored values."""
        return super().bounds if self.decibels else (0.0, None)

    @property
    def comment(self) -> str:
        """Aspect of the values that is relative to the clip, in words; empty if none is."""
        words = [super().comment] if self.decibels else []
        if self.tuning is None:
            words.append("the tuning is estimated from the clip")
        return "; ".join(filter(None, words))


class ChromaCqt(Chroma, ConstantQ):
    """Energy of each pitch class in the constant-Q transform: `librosa.feature.chroma_cqt`."""

    kind: Literal["chroma_cqt"] = "chroma_cqt"
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Energies below this are set to 0 before normalisation."""
    n_octaves: Annotated[int, Field(ge=1, le=12)] = 7
    """Number of octaves."""
    bins_per_octave: Annotated[int, Field(ge=1, le=96)] = 36
    """Number of frequencies per octave, a multiple of `n_chroma`."""
    cqt_mode: Literal["full", "hybrid"] = "full"
    """Kind of constant-Q transform."""
    pad_mode: Literal["constant"] = "constant"
    """Padding outside the clip: zeros."""

    long_name: ClassVar[str] = "chromagram of the constant-Q transform"

    @property
    def num_bins(self) -> int:
        """Number of frequencies of the transform."""
        return self.n_octaves * self.bins_per_octave

    def check(self, sample_rate: int) -> None:
        """See `Stft.check`."""
        super().check(sample_rate)
        self.refuse_if(
            self.bins_per_octave % self.n_chroma != 0,
            f"bins_per_octave {self.bins_per_octave} is not a multiple of n_chroma {self.n_chroma}",
        )


Feature = Annotated[
    Waveform | Mfcc | Pcen | LogStft | SpectralContrast | ChromaStft | Cqt | ChromaCqt,
    Field(discriminator="kind"),
]


def check_feature(feature: Feature, seconds: float, sample_rate: int) -> None:
    """Check that a feature is possible, and fits into a worker's memory.

    Args:
        feature: The feature.
        seconds: Time of the last resolution's image.
        sample_rate: Sample rate of the spec, in Hz.

    Raises:
        ValueError: A field contradicts another or the sample rate, or the work would be too large.
    """
    feature.check(sample_rate)
    if isinstance(feature, Waveform):
        return
    frames = feature.frames(seconds, sample_rate)
    bins = feature.num_bins
    if frames * bins > MAX_SPECTRUM_VALUES or frames * feature.hop_length > MAX_FEATURE_SAMPLES:
        raise ValueError(
            f"features: {feature.label}: {frames:,} frames of {bins:,} frequencies, "
            f"{feature.hop_length} samples apart, are more than a worker can hold: choose fewer "
            "num_frames, or a smaller n_fft"
        )

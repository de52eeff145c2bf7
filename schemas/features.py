"""Feature settings: every number that determines a stored value, and the resulting shapes.

How they are computed is `featurestore.extraction.features` and `featurestore.extraction.resize`.
"""

from math import prod
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.base import Schema
from schemas.feature_parts import FEATURES, Bounds
from schemas.librosa_features import Feature, Waveform, check_feature

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Positive = Annotated[int, Field(ge=1)]

EXTRACTOR_VERSION = 2
"""Version of the extractor, increased whenever the same spec and waveform give other values."""

MAX_CLIP_BYTES = 8 << 20
"""Maximum size of a stored clip in bytes: a worker holds blocks of 64 clips, half a gigabyte."""
MAX_FILTER_WEIGHTS = 1 << 24
"""Maximum number of weights of all filterbanks together, including zeros: 128 MB."""

# The highest resolution is computed once and shared by every method, under this variant's name.
FULL = "full"
ITEM_BYTES = {"float16": 2, "float32": 4, "uint8": 1}
"""Bytes of a stored value by its type."""

Variant = Literal[
    "mel",
    "resize",
    "mel-bands",
    "mel-time",
    "resize-area",
    "resize-nearest",
    "resize-bicubic",
    "resize-antialias",
]
"""Method by which a resolution below the last is made.

mel: from its number of filters, its first frames.
mel-bands: from its number of filters, as many frames as the last resolution has.
mel-time: from as many filters as the last resolution has, its first frames.
resize: the last resolution's image, interpolated bilinearly without antialias.
resize-area, -nearest, -bicubic, -antialias: by other operators (`featurestore.extraction.resize`).
"""

ResizeOperator = Literal["bilinear", "area", "nearest", "bicubic", "antialias"]
"""Resize operator: `bilinear` makes the variant `resize`, each other one `resize-OPERATOR`."""


class Resolution(Schema):
    """One image size: `n_mels` bands × `num_frames` frames."""

    name: Name
    """Name of its group in the store: letters, digits, `_` and `-`."""
    n_mels: Annotated[int, Field(ge=1, le=32_769)]
    """Number of mel bands."""
    num_frames: Annotated[int, Field(ge=1, le=1_000_000)]
    """Number of frames."""


class TrimSpec(Schema):
    """Removal of silence from the start and the end of a clip.

    A frame is silent if its RMS is at least `top_db` below the clip's peak RMS. `pad_ms` of the
    silence is kept on each side, and is also the hop of these frames. A clip shorter than `pad_ms`
    is left as it is.
    """

    top_db: Annotated[float, Field(ge=0.1, le=1000)] = 20.0
    """Threshold in dB: a frame at least this far below the clip's peak RMS is silent."""
    frame_length: Annotated[int, Field(ge=1, le=65_536)] = 2048
    """Length of a frame in samples."""
    pad_ms: Annotated[float, Field(ge=1, le=60_000)] = 200.0
    """Silence to keep on each side, in ms; also the hop of the frames."""


class FeatureSpec(Schema):
    """Everything that determines a stored feature value. The defaults are the paper's.

    Source: F. Colangelo, F. Battisti, A. Neri, "Progressive training of convolutional neural
    networks for acoustic events classification", and the libraries of its code.
    """

    sample_rate: Annotated[int, Field(ge=1000, le=768_000)] = 22_000
    """Sample rate in Hz. Not 22050: only 22000 gives 128/214/300 frames in 1.5/2.5/3.5 s."""
    resampler: Literal["soxr_vhq", "soxr_hq", "soxr_mq"] = "soxr_hq"
    """Quality setting of the resampler, soxr."""
    max_duration_s: Annotated[float, Field(ge=0.001, le=3600)] = 600.0
    """Maximum duration in seconds; longer clips fail (`too_long`), which bounds memory."""
    trim: TrimSpec | None = TrimSpec()
    """Removal of silence at both ends; None keeps it."""
    n_fft: Annotated[int, Field(ge=16, le=65_536)] = 1024
    """Length of the FFT in samples."""
    win_length: Annotated[int, Field(ge=1, le=65_536)] = 1024
    """Length of the window in samples; at most `n_fft`, in which it is centred."""
    hop_length: Annotated[int, Field(ge=1, le=65_536)] = 256
    """Samples between the starts of two frames; at most `win_length`."""
    window: Literal["hann", "hamming", "blackman"] = "hann"
    """Window function, periodic."""
    pad_mode: Literal["reflect", "constant"] = "reflect"
    """Padding around the clip, so that the first frame is centred on the first sample."""
    power: Annotated[float, Field(ge=0.1, le=4)] = 2.0
    """Exponent of the magnitudes: 2 is power, 1 amplitude."""
    mel_scale: Literal["htk", "slaney", "torchaudio-2019"] = "htk"
    """`torchaudio-2019` is HTK's with a fault of torchaudio at the time of the paper (pytorch/audio
    issue 292): the STFT's bins, which lie from 0 Hz to Nyquist, are taken to lie from `fmin` to
    `fmax` (22050 Hz by default) whatever the sample rate, so the filters always fill the whole
    spectrum, on a stretched scale. Filters that lie between two bins, the lowest, are zero."""
    mel_norm: Literal["none", "slaney"] = "none"
    """`slaney` divides each filter by its width in Hz."""
    fmin: Annotated[float, Field(ge=0, le=1_000_000)] = 0.0
    """Lower limit of the mel filters in Hz."""
    fmax: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """Upper limit of the mel filters in Hz; None for the Nyquist frequency, or 22050 Hz with
    `torchaudio-2019`."""
    amin: Annotated[float, Field(ge=1e-30, le=1)] = 1e-10
    """Minimum mel energy before the logarithm; smaller values are raised to it."""
    top_db: Annotated[float, Field(ge=1, le=1000)] = 100.0
    """Dynamic range in dB below the clip's maximum; lower values are raised to its floor."""
    short_clips: Literal["tile", "zeros"] = "tile"
    """How to fill missing frames: repeat the spectrogram in time (`tile`), or append zeros."""
    resolutions: Annotated[tuple[Resolution, ...], Field(min_length=1, max_length=16)] = (
        Resolution(name="R1", n_mels=64, num_frames=128),
        Resolution(name="R2", n_mels=96, num_frames=214),
        Resolution(name="R3", n_mels=128, num_frames=300),
    )
    """Resolutions, smallest to largest; the last one is stored once, as variant `full`."""
    variants: tuple[Variant, ...] = ("mel", "resize")
    """Variants of each resolution below the last, each stored as an array."""
    dtype: Literal["float16", "float32", "uint8"] = "float16"
    """Data type of the stored images; uint8 has steps of 1/255."""
    features: Annotated[tuple[Feature, ...], Field(max_length=64)] = ()
    """Features computed by librosa, each stored as float32; from format version 3 on."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        """Refuse settings that contradict one another or cannot be computed, naming the field."""
        nyquist = self.sample_rate / 2
        if self.win_length > self.n_fft:
            raise ValueError(f"win_length {self.win_length} is larger than n_fft {self.n_fft}")
        if self.hop_length > self.win_length:
            raise ValueError(
                f"hop_length {self.hop_length} is larger than win_length {self.win_length}: "
                "samples between the windows would be lost"
            )
        if self.mel_scale == "torchaudio-2019":
            if self.mel_norm != "none":
                raise ValueError(f"mel_norm {self.mel_norm}: torchaudio-2019 has none")
        elif self.fmax is not None and self.fmax > nyquist:
            raise ValueError(f"fmax {self.fmax} Hz is above the Nyquist frequency {nyquist} Hz")
        if self.fmin >= self.fmax_hz:
            raise ValueError(f"fmin {self.fmin} Hz is not below fmax {self.fmax_hz} Hz")
        if self.fmax_hz - self.fmin < 1:
            raise ValueError(f"fmin {self.fmin} Hz is less than 1 Hz below fmax {self.fmax_hz} Hz")
        if len(set(self.variants)) < len(self.variants):
            raise ValueError(f"variants repeat: {', '.join(self.variants)}")
        self._check_resolutions()
        self._check_features()
        self._check_sizes()
        return self

    def _check_resolutions(self) -> None:
        names = [r.name for r in self.resolutions]
        if len(set(names)) < len(names):
            raise ValueError(f"resolutions: names repeat: {', '.join(names)}")
        for small, large in zip(self.resolutions, self.resolutions[1:], strict=False):
            if small.n_mels > large.n_mels or small.num_frames > large.num_frames:
                raise ValueError(
                    f"resolutions: {small.name} is larger than {large.name}; order them from the "
                    "smallest to the largest"
                )
        bins = self.n_fft // 2 + 1
        if self.full.n_mels > bins:
            raise ValueError(
                f"resolutions: n_mels {self.full.n_mels} of {self.full.name} is more than the "
                f"{bins} bins of n_fft {self.n_fft}"
            )

    def _check_features(self) -> None:
        labels = [feature.label for feature in self.features]
        if len(set(labels)) < len(labels):
            raise ValueError(
                f"features: names repeat: {', '.join(labels)}; give a second one of a kind a `name`"
            )
        axes = {f"{label}_{axis}" for label in labels for axis in ("band", "frame", "sample")}
        for name in axes.intersection(labels):
            raise ValueError(f"features: {name} is the name of an axis of another one")
        if labels and FEATURES in {r.name for r in self.resolutions}:
            raise ValueError(f"resolutions: {FEATURES} is the name of the group of other features")
        for feature in self.features:
            check_feature(feature, self.full_s, self.sample_rate)

    def _check_sizes(self) -> None:
        """Refuse clips and filterbanks that do not fit into a worker's memory."""
        if self.clip_bytes > MAX_CLIP_BYTES:
            what = (
                "resolutions: their images and all features"
                if self.features
                else ("resolutions: their images")
            )
            raise ValueError(
                f"{what} have {self.clip_bytes:,} bytes per clip, at most "
                f"{MAX_CLIP_BYTES:,} are possible: choose fewer num_frames, n_mels or variants"
            )
        weights = sum({r.n_mels for r in self.resolutions}) * (self.n_fft // 2 + 1)
        if weights > MAX_FILTER_WEIGHTS:
            raise ValueError(
                f"resolutions: their filters have {weights:,} weights with n_fft {self.n_fft}, at "
                f"most {MAX_FILTER_WEIGHTS:,} are possible: choose fewer n_mels or a smaller n_fft"
            )

    @property
    def full(self) -> Resolution:
        """The largest resolution."""
        return self.resolutions[-1]

    @property
    def fmax_hz(self) -> float:
        """Upper edge of the filterbank in Hz; with `torchaudio-2019` on that scale's own labels."""
        if self.fmax is not None:
            return self.fmax
        return 22_050.0 if self.mel_scale == "torchaudio-2019" else self.sample_rate / 2

    @property
    def full_s(self) -> float:
        """Seconds that the largest resolution's frames span."""
        return self.full.num_frames * self.hop_length / self.sample_rate

    @property
    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Shape of each stored array by its key: `resolution/variant` or `features/NAME`."""
        return self.images | {f.key: f.shape(self.full_s, self.sample_rate) for f in self.features}

    @property
    def images(self) -> dict[str, tuple[int, int]]:
        """Shape (bands, frames) of each mel image by its key `resolution/variant`."""
        shapes = {
            f"{r.name}/{variant}": self._shape(r, variant)
            for r in self.resolutions[:-1]
            for variant in self.variants
        }
        return shapes | {f"{self.full.name}/{FULL}": (self.full.n_mels, self.full.num_frames)}

    def _shape(self, resolution: Resolution, variant: Variant) -> tuple[int, int]:
        n_mels, num_frames = resolution.n_mels, resolution.num_frames
        if variant == "mel-bands":
            return n_mels, self.full.num_frames
        return (self.full.n_mels if variant == "mel-time" else n_mels), num_frames

    @property
    def scale(self) -> float:
        """Factor by which stored images are multiplied to lie in [0, 1]."""
        return 1 / 255 if self.dtype == "uint8" else 1.0

    def feature(self, array: str) -> Feature | None:
        """Return the feature that an array holds; None for an image."""
        return next((f for f in self.features if f.key == array), None)

    def dtype_of(self, array: str) -> str:
        """Return the type of an array's stored values."""
        return self.dtype if self.feature(array) is None else "float32"

    def scale_of(self, array: str) -> float:
        """Return the factor by which an array's stored values are multiplied on reading."""
        return self.scale if self.feature(array) is None else 1.0

    def bounds_of(self, array: str) -> Bounds:
        """Return the lower and upper bound of an array's scaled values; None if unbounded."""
        feature = self.feature(array)
        return (0.0, 1.0) if feature is None else feature.bounds

    @property
    def clip_bytes(self) -> int:
        """Bytes of a clip's stored values, before compression."""
        sizes = (prod(shape) * ITEM_BYTES[self.dtype_of(a)] for a, shape in self.arrays.items())
        return sum(sizes)

    @property
    def waveform_rates(self) -> tuple[int, ...]:
        """Sample rates in Hz, other than the spec's, at which waveforms are stored."""
        rates = {f.sample_rate for f in self.features if isinstance(f, Waveform)}
        return tuple(sorted(rates - {self.sample_rate}))

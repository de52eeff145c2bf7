"""Shared parts of librosa's features: name, frames, and the arguments of one transform.

Each class is a group of arguments that several librosa functions take; `schemas.librosa_features`
combines them.
"""

from math import ceil
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.base import Schema

FEATURES = "features"
"""Group of a fold that holds these arrays; their keys are `features/NAME`."""
C1_HZ = 32.70319566257483
"""Frequency of the note C1, where librosa's constant-Q transforms start by default."""
_NEARLY_NYQUIST = 0.9
"""Fraction of the Nyquist frequency that the filters of a constant-Q transform may reach: their
transition bands lie above."""

Bounds = tuple[float | None, float | None]
"""Lowest and highest value; None if unbounded."""
Frames = Annotated[int, Field(ge=1, le=1_000_000)]
Hz = Annotated[float, Field(ge=10, le=384_000)]
Norm = Literal["max", "l1", "l2", "none"]
Window = Literal["hann", "hamming", "blackman"]


class BaseFeature(Schema):
    """Fields of every feature."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)] | None = None
    """Name of the array in the group `features`; None to name it by its kind."""

    long_name: ClassVar[str]
    """Description for the array's attributes, as CF has it."""
    units: ClassVar[str] = "1"
    """Unit of the values; `1` if they have none."""
    relative_to_clip: ClassVar[str] = ""
    """Aspect of the values that is relative to the clip, in words; empty if none is."""

    @property
    def label(self) -> str:
        """Name of the array."""
        return self.name or str(getattr(self, "kind", ""))

    @property
    def key(self) -> str:
        """Key of the array below its fold."""
        return f"{FEATURES}/{self.label}"

    @property
    def bounds(self) -> Bounds:
        """Bounds of the stored values."""
        return None, None

    @property
    def comment(self) -> str:
        """Aspect of the values that is relative to the clip, in words; empty if none is."""
        return self.relative_to_clip

    def refuse_if(self, wrong: bool, message: str) -> None:
        """Raise ValueError, naming the feature, if something is wrong."""
        if wrong:
            raise ValueError(f"features: {self.label}: {message}")


class Framed(BaseFeature):
    """A feature of shape (bands, frames), at the spec's sample rate."""

    num_frames: Frames | None = None
    """Number of frames; None for as many as span the time of the last resolution's image."""
    hop_length: Annotated[int, Field(ge=16, le=65_536)] = 512
    """Samples between two frames."""
    pad_mode: Literal["constant", "reflect"] = "constant"
    """Padding outside the clip: zeros, or its mirror image."""

    bands: ClassVar[str]
    """Name of the field that is the number of bands."""

    @property
    def num_bands(self) -> int:
        """Number of bands."""
        return int(getattr(self, self.bands))

    def frames(self, seconds: float, sample_rate: int) -> int:
        """Return the number of frames.

        Args:
            seconds: Time of the last resolution's image.
            sample_rate: Sample rate of the spec, in Hz.
        """
        return self.num_frames or max(1, ceil(round(seconds * sample_rate, 3) / self.hop_length))

    def shape(self, seconds: float, sample_rate: int) -> tuple[int, ...]:
        """Return (bands, frames)."""
        return self.num_bands, self.frames(seconds, sample_rate)


class Stft(Framed):
    """A feature of the short-time Fourier transform, with centred frames."""

    n_fft: Annotated[int, Field(ge=16, le=65_536)] = 2048
    """Length of the FFT in samples."""
    win_length: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Length of the window in samples; None for `n_fft`."""
    window: Window = "hann"
    """Window function, periodic."""

    @property
    def num_bins(self) -> int:
        """Number of frequencies of the transform."""
        return self.n_fft // 2 + 1

    def check(self, sample_rate: int) -> None:
        """Refuse arguments that librosa refuses, or that have no meaning.

        Args:
            sample_rate: Sample rate of the spec, in Hz.

        Raises:
            ValueError: A field contradicts another or the sample rate.
        """
        length = self.win_length or self.n_fft
        self.refuse_if(length > self.n_fft, f"win_length {length} is larger than n_fft")


class Mel(Stft):
    """A feature of librosa's mel-spectrogram, `librosa.feature.melspectrogram`."""

    n_mels: Annotated[int, Field(ge=1, le=4096)] = 128
    """Number of mel bands."""
    fmin: Annotated[float, Field(ge=0, le=384_000)] = 0.0
    """Lower limit of the mel filters in Hz."""
    fmax: Annotated[float, Field(gt=0, le=384_000)] | None = None
    """Upper limit of the mel filters in Hz; None for the Nyquist frequency."""
    htk: bool = False
    """Whether to use HTK's mel scale instead of Slaney's."""
    mel_norm: Literal["slaney", "none"] = "slaney"
    """`slaney` divides each filter by its width in Hz."""
    mel_power: Annotated[float, Field(ge=0.1, le=4)] = 2.0
    """Exponent of the magnitudes: 2 is power, 1 amplitude."""

    bands: ClassVar[str] = "n_mels"

    def check(self, sample_rate: int) -> None:
        """See `Stft.check`."""
        super().check(sample_rate)
        nyquist = sample_rate / 2
        fmax = nyquist if self.fmax is None else self.fmax
        self.refuse_if(fmax > nyquist, f"fmax {fmax} Hz is above the Nyquist frequency {nyquist}")
        self.refuse_if(self.fmin >= fmax, f"fmin {self.fmin} Hz is not below fmax {fmax} Hz")
        self.refuse_if(
            self.n_mels > self.num_bins,
            f"n_mels {self.n_mels} is more than the {self.num_bins} bins of n_fft {self.n_fft}",
        )


class Decibels(Framed):
    """A feature in decibels."""

    ref: Literal["max"] | Annotated[float, Field(gt=0, le=1e12)] = "max"
    """Power (for `cqt`, amplitude) that is 0 dB; `max` for the clip's largest."""
    amin: Annotated[float, Field(ge=1e-30, le=1)] = 1e-10
    """Minimum power (for `cqt`, amplitude); smaller values are raised to it."""
    top_db: Annotated[float, Field(ge=1, le=1000)] | None = 80.0
    """Dynamic range in dB below the clip's largest value; None for no limit."""

    units: ClassVar[str] = "dB"

    @property
    def bounds(self) -> Bounds:
        """Bounds of the stored values."""
        if self.ref != "max":
            return None, None
        return (None if self.top_db is None else -self.top_db), 0.0

    @property
    def comment(self) -> str:
        """Aspect of the values that is relative to the clip, in words; empty if none is."""
        words = []
        if self.ref == "max":
            words.append("0 dB is the clip's largest value")
        if self.top_db is not None:
            words.append(f"what lies {self.top_db:g} dB under the clip's largest value is cut")
        return "; ".join(words)


class Chroma(Framed):
    """A feature of pitch classes."""

    norm: Norm = "max"
    """Norm that each frame is divided by; `max` is its largest value."""
    tuning: Annotated[float, Field(ge=-0.5, le=0.5)] | None = None
    """Deviation from A440 in fractions of a bin; None to estimate it from each clip."""
    n_chroma: Annotated[int, Field(ge=1, le=120)] = 12
    """Number of pitch classes."""

    bands: ClassVar[str] = "n_chroma"

    @property
    def bounds(self) -> Bounds:
        """Bounds of the stored values."""
        return 0.0, None if self.norm == "none" else 1.0

    @property
    def comment(self) -> str:
        """Aspect of the values that is relative to the clip, in words; empty if none is."""
        return "the tuning is estimated from the clip" if self.tuning is None else ""


class ConstantQ(Framed):
    """A feature of the constant-Q transform."""

    fmin: Hz = C1_HZ
    """Lowest frequency in Hz; the default is C1."""

    bins_per_octave: Annotated[int, Field(ge=1, le=96)] = 12
    """Number of frequencies per octave."""

    @property
    def num_bins(self) -> int:
        """Number of frequencies of the transform."""
        raise NotImplementedError

    def check(self, sample_rate: int) -> None:
        """See `Stft.check`."""
        highest = self.fmin * 2 ** (self.num_bins / self.bins_per_octave)
        most = sample_rate / 2 * _NEARLY_NYQUIST
        self.refuse_if(
            highest > most, f"its highest frequency is {highest:.0f} Hz, at most {most:g} Hz"
        )
        self.refuse_if(
            self.fmin < sample_rate / 4096,
            f"fmin {self.fmin:g} Hz is below {sample_rate / 4096:g} Hz: filters would be too long",
        )

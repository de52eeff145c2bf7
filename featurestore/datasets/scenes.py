"""One synthetic clip: a sound event amid noise, and the bytes of its file. No I/O.

As in real collections, level, silence, length, sample rate, channels and encoding differ from clip
to clip, independently of the class.
"""

import io
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

from featurestore.datasets.sounds import SOUNDS, Waveform, filtered

SHORT_EVERY = 5
"""One in this many clips is short."""
SHORT_S = (0.4, 1.4)
LONG_S = (1.6, 6.0)
SAMPLE_RATES = (8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000)
ENCODINGS = (
    ("wav", "PCM_U8"),
    ("wav", "PCM_16"),
    ("wav", "PCM_24"),
    ("wav", "PCM_32"),
    ("wav", "FLOAT"),
    ("flac", "PCM_16"),
    ("flac", "PCM_24"),
)
"""Suffix and sample format. Not Ogg: libsndfile puts a random serial number into each file."""


@dataclass(frozen=True)
class Encoding:
    """Sample format of a clip's file."""

    suffix: str
    subtype: str
    sample_rate: int
    num_channels: int


def draw_encoding(rng: np.random.Generator) -> Encoding:
    """Draw any of the encodings, with any rate, mono or stereo."""
    suffix, subtype = ENCODINGS[rng.integers(len(ENCODINGS))]
    sample_rate = SAMPLE_RATES[rng.integers(len(SAMPLE_RATES))]
    return Encoding(suffix, subtype, sample_rate, int(rng.integers(1, 3)))


def draw_duration(rng: np.random.Generator, index: int) -> float:
    """Draw a duration from 0.4 to 6 s: short for one `index` in `SHORT_EVERY`, starting at 0."""
    low, high = SHORT_S if index % SHORT_EVERY == 0 else LONG_S
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def render(
    rng: np.random.Generator, class_name: str, duration_s: float, encoding: Encoding
) -> NDArray[np.float32]:
    """Synthesise one clip.

    Returns:
        Samples (num_samples, num_channels), peak between 0.1 and 0.9.
    """
    rate = encoding.sample_rate
    num_samples = int(duration_s * rate)
    scene = SOUNDS[class_name](rng, num_samples, rate)
    scene = scene + _distraction(rng, class_name, num_samples, rate)
    scene = scene + _noise(rng, num_samples) * _rms(scene) * 10 ** (-rng.uniform(3, 30) / 20)
    scene = _with_silence(rng, scene, rate)
    samples = np.stack([scene, *_other_channels(rng, scene, encoding.num_channels)], axis=1)
    peak = 10 ** rng.uniform(-1, np.log10(0.9))
    return np.asarray(samples * (peak / np.abs(samples).max()), dtype=np.float32)


def encode(samples: NDArray[np.float32], encoding: Encoding) -> bytes:
    """Return the bytes of the clip's file, equal for equal samples.

    Args:
        samples: (num_samples, num_channels), in [-1, 1].
        encoding: Encoding of the file.
    """
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, encoding.sample_rate, encoding.subtype, format=encoding.suffix)
    data = buffer.getvalue()
    return _without_clock(data) if encoding.subtype == "FLOAT" else data


def _without_clock(wav: bytes) -> bytes:
    """Return a float WAV with 0 for the time of day, which libsndfile puts into the PEAK chunk.

    Source: a chunk is its name, its size and its content, here the version, then the time.
    """
    time = wav.index(b"PEAK") + 12
    return wav[:time] + bytes(4) + wav[time + 4 :]


def _rms(waveform: Waveform) -> float:
    return float(np.sqrt(np.mean(waveform**2)))


def _noise(rng: np.random.Generator, num_samples: int) -> Waveform:
    """Return background noise of unit RMS, from white to strongly low-passed."""
    pole = rng.uniform(0, 0.98)

    def slope(frequency: Waveform) -> Waveform:
        return np.asarray(1 / np.abs(1 - pole * np.exp(-2j * np.pi * frequency)))

    noise = filtered(rng.standard_normal(num_samples), slope)
    return noise / _rms(noise)


def _distraction(
    rng: np.random.Generator, class_name: str, num_samples: int, sample_rate: int
) -> Waveform | float:
    """Return, for one clip of three, a quieter event of another class."""
    other_names = [name for name in SOUNDS if name != class_name]
    other = SOUNDS[other_names[rng.integers(len(other_names))]]
    if rng.random() >= 1 / 3:
        return 0.0
    return other(rng, num_samples, sample_rate) * 10 ** (-rng.uniform(8, 20) / 20)


def _with_silence(rng: np.random.Generator, scene: Waveform, sample_rate: int) -> Waveform:
    """Add, to two clips of five, silence before or after what lasts at least 0.4 s."""
    spare = len(scene) - int(0.4 * sample_rate)
    if rng.random() >= 2 / 5 or spare <= 0:
        return scene
    lead, tail = (rng.uniform(0, 0.5, size=2) * spare).astype(int)
    gate = np.zeros(len(scene))
    gate[lead : len(scene) - tail] = 1
    return scene * gate


def _other_channels(rng: np.random.Generator, scene: Waveform, count: int) -> list[Waveform]:
    """Return the second channel, where there is one: the first, later and at another level."""
    return [
        rng.uniform(0.3, 1) * np.roll(scene, int(rng.integers(0, 20))) for _ in range(count - 1)
    ]

"""Six kinds of sound event, synthesised. Pure functions of a generator; see `synthetic`.

Every function takes `(rng, num_samples, sample_rate)` and returns a waveform (num_samples,),
float64, with a peak of about 1. Pitch, tempo and timbre are drawn from the generator; frequencies
stay below 3800 Hz, so that a class sounds the same at every sample rate from 8000 Hz up.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float64]
Sound = Callable[[np.random.Generator, int, int], Waveform]
TOP_HZ = 3800.0


def bird(rng: np.random.Generator, num_samples: int, sample_rate: int) -> Waveform:
    """Return short chirps that rise fast, several per second."""
    low = rng.uniform(1300, 2300)
    high = low * rng.uniform(1.25, 1.6)

    def chirp() -> Waveform:
        time = _time(rng.uniform(0.05, 0.14), sample_rate)
        start, stop = low * rng.uniform(0.95, 1.05), min(high * rng.uniform(0.95, 1.05), TOP_HZ)
        tone = np.sin(_phase(np.linspace(start, stop, len(time)), sample_rate))
        return tone * np.hanning(len(time))

    return _repeat(rng, num_samples, sample_rate, rng.uniform(2.5, 7), chirp)


def dog_bark(rng: np.random.Generator, num_samples: int, sample_rate: int) -> Waveform:
    """Return harmonic bursts with falling pitch and some noise that decay within 0.2 s."""
    pitch = rng.uniform(250, 600)
    breath = rng.uniform(0.1, 0.5)

    def bark() -> Waveform:
        time = _time(rng.uniform(0.15, 0.3), sample_rate)
        phase = _phase(pitch * rng.uniform(0.9, 1.1) * (1 - 0.8 * time), sample_rate)
        voice = sum(np.sin(k * phase) / k for k in range(1, int(TOP_HZ / pitch) + 1))
        envelope = np.minimum(time / 0.01, 1) * np.exp(-time / rng.uniform(0.04, 0.1))
        return np.asarray(envelope * (voice + breath * rng.standard_normal(len(time))))

    return _repeat(rng, num_samples, sample_rate, rng.uniform(1, 3.5), bark)


def engine(rng: np.random.Generator, num_samples: int, sample_rate: int) -> Waveform:
    """Return a low stack of harmonics that throbs at a fraction of its pitch."""
    time = np.arange(num_samples) / sample_rate
    pitch = rng.uniform(35, 110)
    wobble = 1 + 0.03 * np.sin(2 * np.pi * rng.uniform(0.2, 1.5) * time + rng.uniform(0, 6))
    phase = _phase(pitch * wobble, sample_rate)
    slope = rng.uniform(0.5, 1.2)
    # Of one period, so that as many harmonics cost no more than one.
    angle = np.linspace(0, 2 * np.pi, 2048)
    harmonics = sum(
        rng.uniform(0.3, 1) * k**-slope * np.sin(k * angle + rng.uniform(0, 6))
        for k in range(1, 25)
    )
    hum = np.interp(phase % (2 * np.pi), angle, harmonics)
    throb = 1 + rng.uniform(0.2, 0.8) * np.sin(phase / rng.choice([2, 4]))
    return _normalised(np.asarray(hum * throb))


def hammer(rng: np.random.Generator, num_samples: int, sample_rate: int) -> Waveform:
    """Return evenly spaced knocks that ring briefly."""
    rings = rng.uniform(500, TOP_HZ, size=3)
    decays = rng.uniform(0.008, 0.04, size=3)

    def knock() -> Waveform:
        time = _time(0.15, sample_rate)
        click = np.exp(-time / 0.002) * rng.standard_normal(len(time))
        ring = sum(
            np.exp(-time / decay) * np.sin(2 * np.pi * pitch * time)
            for pitch, decay in zip(rings, decays, strict=True)
        )
        return np.asarray(click + rng.uniform(0.3, 0.8) * ring)

    return _repeat(rng, num_samples, sample_rate, rng.uniform(2, 8), knock, jitter=0.02)


def rain(rng: np.random.Generator, num_samples: int, sample_rate: int) -> Waveform:
    """Return broadband noise with drops in it."""
    drops = rng.standard_normal(num_samples) * (rng.random(num_samples) < 60 / sample_rate)
    noise = rng.standard_normal(num_samples) + rng.uniform(5, 30) * drops
    low, high = rng.uniform(500, 1500) / sample_rate, rng.uniform(2500, TOP_HZ) / sample_rate

    def band(frequency: Waveform) -> Waveform:
        rise = (low / np.maximum(frequency, 1e-6)) ** 4
        return 1 / np.sqrt((1 + rise) * (1 + (frequency / high) ** 4))

    return _normalised(filtered(noise, band))


def siren(rng: np.random.Generator, num_samples: int, sample_rate: int) -> Waveform:
    """Return a tone that sweeps up and down over about an octave, with a few harmonics."""
    time = np.arange(num_samples) / sample_rate
    low, span = rng.uniform(400, 800), rng.uniform(0.4, 1.1)
    sweep = np.sin(2 * np.pi * rng.uniform(0.3, 2.5) * time + rng.uniform(0, 6))
    phase = _phase(low * (1 + span * (1 + sweep) / 2), sample_rate)
    overtone = rng.uniform(0, 0.5)
    return _normalised(np.sin(phase) + overtone * np.sin(2 * phase))


SOUNDS: dict[str, Sound] = {
    sound.__name__: sound for sound in (bird, dog_bark, engine, hammer, rain, siren)
}
"""Sounds by class name, in sorted order."""


def filtered(waveform: Waveform, gain: Callable[[Waveform], Waveform]) -> Waveform:
    """Return the waveform (N,) with each frequency multiplied by a gain.

    Args:
        waveform: (N,).
        gain: Function from frequencies in cycles per sample, 0 to 0.5, to factors.
    """
    # An FFT of an awkward length, such as a prime, takes ten times as long.
    size = 1 << len(waveform).bit_length()
    frequency = np.asarray(np.fft.rfftfreq(size), dtype=np.float64)
    spectrum = np.fft.rfft(waveform, size) * gain(frequency)
    return np.fft.irfft(spectrum, size)[: len(waveform)]


def _time(duration_s: float, sample_rate: int) -> Waveform:
    return np.arange(int(duration_s * sample_rate)) / sample_rate


def _phase(frequency: Waveform, sample_rate: int) -> Waveform:
    """Return radians, from Hz at each sample."""
    return 2 * np.pi * np.cumsum(frequency) / sample_rate


def _normalised(waveform: Waveform) -> Waveform:
    return np.asarray(waveform / max(np.abs(waveform).max(), 1e-9))


def _repeat(
    rng: np.random.Generator,
    num_samples: int,
    sample_rate: int,
    per_second: float,
    event: Callable[[], Waveform],
    jitter: float = 0.2,
) -> Waveform:
    """Lay events one after another, the first one early enough to be in any clip."""
    waveform = np.zeros(num_samples)
    period = sample_rate / per_second
    start = int(rng.uniform(0, min(period, num_samples / 4)))
    while start < num_samples:
        sound = rng.uniform(0.6, 1) * event()[: num_samples - start]
        waveform[start : start + len(sound)] += sound
        start += max(1, int(period * rng.uniform(1 - jitter, 1 + jitter)))
    return _normalised(waveform)

"""Writes images.npz: what the extractor gave for fixed sounds when it was checked against librosa.

Run it only together with a raised EXTRACTOR_VERSION: `python -m tests.golden.make`.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore.extraction.extractor import Extractor
from schemas import FeatureSpec

FILE = Path(__file__).parent / "images.npz"


def waveforms() -> dict[str, NDArray[np.float32]]:
    """A chirp with silent ends, a short click train, and noise: made of arithmetic only."""
    time = np.arange(44_000) / 22_000
    chirp = np.sin(2 * np.pi * (200 + 1500 * time) * time) * np.hanning(time.size)
    silence = np.zeros(13_000)
    clicks = np.zeros(5000)
    clicks[::700] = 1
    state, noise = 1, np.empty(90_000)
    for index in range(noise.size):
        state = (1_103_515_245 * state + 12_345) % 2**31
        noise[index] = state / 2**30 - 1
    sounds = {
        "chirp": np.concatenate([silence, chirp, silence]),
        "clicks": clicks,
        "noise": noise,
    }
    return {name: sound.astype(np.float32) for name, sound in sounds.items()}


def images() -> dict[str, NDArray[np.float32]]:
    """Every fourth band and frame of each image, by `sound/resolution/variant`."""
    extractor = Extractor(FeatureSpec())
    return {
        f"{name}/{array}": image[::4, ::4]
        for name, waveform in waveforms().items()
        for array, image in extractor(waveform).items()
    }


if __name__ == "__main__":
    np.savez_compressed(FILE, **{k.replace("/", "|"): v for k, v in images().items()})  # type: ignore[arg-type]

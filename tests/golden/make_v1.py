"""Wrote `v1/`: two small collections and a store of format version 1 that holds both.

Kept for the record. Run it only with the version of this package that made format version 1
(0.1.0): the store's whole point is that today's code did not write it.
"""

from pathlib import Path

import numpy as np
import soundfile

from featurestore.building.build import build
from featurestore.datasets import load_dataset
from featurestore.store import plan
from schemas import FeatureSpec, Resolution

PLACE = Path(__file__).parent / "v1"
STORE = PLACE / "store.zarr"


def write_folder(root: Path) -> None:
    """Two folds, two classes, two clips each: steady tones; and one file that holds no samples."""
    time = np.arange(4000) / 8000
    for fold in (1, 2):
        for class_name, hertz in (("high", 2000), ("low", 250)):
            place = root / f"fold{fold}" / class_name
            place.mkdir(parents=True)
            for number in (1, 2):
                tone = 0.2 * number * np.sin(2 * np.pi * (hertz + 125 * fold) * time)
                soundfile.write(place / f"{class_name}{number}.wav", tone, 8000, "PCM_16")
    soundfile.write(root / "fold2" / "low" / "nothing.wav", np.empty(0), 8000, "PCM_16")


def write_esc50(root: Path) -> None:
    """Six rows in the layout of ESC-50, of noise that is the same on every machine."""
    (root / "meta").mkdir(parents=True)
    (root / "audio").mkdir()
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    state = 1
    for fold in (1, 2):
        for number, target, name in ((1, 0, "dog"), (2, 1, "rooster"), (3, 2, "pig")):
            noise = np.empty(4000)
            for index in range(noise.size):
                state = (1_103_515_245 * state + 12_345) % 2**31
                noise[index] = (state / 2**30 - 1) / (2 * number)
            file = f"{fold}-{number}-A-{target}.wav"
            soundfile.write(root / "audio" / file, noise, 8000, "PCM_16")
            rows.append(f"{file},{fold},{target},{name},{target < 2},{100 * fold + number},A")
    (root / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")


SMALL = FeatureSpec(
    sample_rate=8000,
    n_fft=256,
    win_length=256,
    hop_length=64,
    mel_scale="slaney",
    mel_norm="slaney",
    trim=None,
    dtype="uint8",
    short_clips="zeros",
    resolutions=(
        Resolution(name="S", n_mels=16, num_frames=24),
        Resolution(name="L", n_mels=32, num_frames=48),
    ),
    variants=("mel", "resize", "mel-bands", "resize-antialias"),
)

if __name__ == "__main__":
    write_folder(PLACE / "sounds")
    write_esc50(PLACE / "esc50")
    build(load_dataset("folder", PLACE / "sounds"), STORE)
    plan.chunk_clips = lambda fold_sizes: 2  # two chunks a shard, as only large stores have
    plan.block_clips = lambda spec, num_clips, chunk_clips: 4  # type: ignore[misc]
    build(load_dataset("esc50", PLACE / "esc50"), STORE, SMALL)

"""The numbers of the paper's protocol that are defaults, wherever a default is written down."""

from dataclasses import fields

import numpy as np
import pytest
import typer

from featurestore.datasets.kinds import DATASETS
from featurestore.extraction.features import min_max_level
from schemas import FeatureSpec, RunConfig, TrimSpec
from trainer.cli import app
from trainer.commands.sweep import SweepOptions
from trainer.config import TrainingOptions
from trainer.training.lr_find import NUM_STEPS, SMOOTHING, STOP_RATIO
from trainer.training.schedule import Sweep
from trainer.weights import imagenet_file

# PROTOCOL section 2; augmentation is not the paper's.
TRAINING: dict[str, object] = {
    "arch": "resnet34",
    "batch_size": 64,
    "selection": "heldout",
    "epochs_scale": 1.0,
    "mixup": 0.0,
    "freq_mask": 0.0,
    "time_mask": 0.0,
    "label_smoothing": 0.0,
    "seed": 0,
}
# PROTOCOL section 1.
FEATURES: dict[str, object] = {
    "sample_rate": 22_000,
    "resampler": "soxr_hq",
    "trim": TrimSpec(top_db=20.0, frame_length=2048, pad_ms=200.0),
    "n_fft": 1024,
    "win_length": 1024,
    "hop_length": 256,
    "window": "hann",
    "pad_mode": "reflect",
    "power": 2.0,
    "mel_scale": "htk",
    "mel_norm": "none",
    "fmin": 0.0,
    "fmax": None,
    "amin": 1e-10,
    "top_db": 100.0,
    "short_clips": "tile",
    "variants": ("mel", "resize"),
}
SIZES = {"R1": (64, 128), "R2": (96, 214), "R3": (128, 300)}


@pytest.mark.parametrize("name", TRAINING)
def test_the_defaults_of_training_are_the_protocols_in_config_options_and_command(
    name: str,
) -> None:
    assert RunConfig.model_fields[name].default == TRAINING[name]
    assert {field.name: field.default for field in fields(TrainingOptions)}[name] == TRAINING[name]
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    assert {p.name: p.default for p in command.params}[name] == TRAINING[name]


def test_decay_and_recipe_are_the_protocols() -> None:
    assert RunConfig.model_fields["weight_decay"].default == 0.1
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    assert {p.name: p.default for p in command.params}["recipe"] == "paper"
    assert TrainingOptions().recipe == "paper"


def test_reproduce_trains_the_papers_methods_and_the_control_in_float32() -> None:
    runs = SweepOptions("s.zarr").reproduction(num_seeds=2).runs()
    found = [(run.options.method, run.options.seed, run.options.precision) for run in runs]
    methods = ("baseline", "mel", "resize", "control")
    assert sorted(found) == sorted((name, seed, "float32") for name in methods for seed in (0, 1))


def test_imagenets_weights_are_those_of_2015_which_fastai_used() -> None:
    assert imagenet_file("resnet34")[0].endswith("/resnet34-b627a593.pth")


@pytest.mark.parametrize("name", FEATURES)
def test_the_default_features_are_the_protocols(name: str) -> None:
    spec = FeatureSpec()
    assert getattr(spec, name) == FEATURES[name]
    assert TrimSpec() == spec.trim


def test_the_images_have_the_papers_sizes_and_last_as_long_as_it_says() -> None:
    spec = FeatureSpec()
    assert {r.name: (r.n_mels, r.num_frames) for r in spec.resolutions} == SIZES
    assert spec.fmax_hz == 11_000
    for (_, frames), seconds in zip(SIZES.values(), (1.5, 2.5, 3.5), strict=True):
        assert int(spec.sample_rate * seconds / spec.hop_length) == frames
    assert FeatureSpec(mel_scale="torchaudio-2019").fmax_hz == 22_050


def test_the_datasets_have_the_papers_clips() -> None:
    counts = {name: kind.num_clips for name, kind in DATASETS.items()}
    assert (counts["urbansound8k"], counts["esc50"], counts["esc10"]) == (8732, 2000, 400)


def test_the_range_test_is_the_protocols() -> None:
    assert (NUM_STEPS, SMOOTHING, STOP_RATIO) == (100, 0.98, 4)
    assert Sweep() == Sweep(num_steps=100, start=1e-7, end=10.0)


def test_levels_are_of_ten_to_the_minus_ten_at_least_and_a_constant_clip_is_zeros() -> None:
    spec = FeatureSpec()
    energy = np.array([[1e-14, 1e-10, 1e-8, 1e-6]], np.float32)
    levels = min_max_level(energy, energy.min(), energy.max(), spec)
    assert levels[0] == pytest.approx([0, 0, 0.5, 1], abs=1e-5)
    same = np.full((2, 3), 0.25, np.float32)
    assert not min_max_level(same, same.min(), same.max(), spec).any()

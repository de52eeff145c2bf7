"""What a spec file may say, and how its mistakes are told."""

import json
from pathlib import Path

import pytest

from featurestore.errors import SpecError
from featurestore.spec import load_spec
from schemas import FeatureSpec


def test_the_defaults_are_the_papers() -> None:
    spec = FeatureSpec()
    assert (spec.sample_rate, spec.n_fft, spec.win_length, spec.hop_length) == (
        22_000,
        1024,
        1024,
        256,
    )
    assert (spec.mel_scale, spec.mel_norm, spec.fmin, spec.fmax_hz) == ("htk", "none", 0, 11_000)
    assert (spec.power, spec.amin, spec.top_db, spec.short_clips) == (2, 1e-10, 100, "tile")
    assert spec.trim is not None
    assert (spec.trim.top_db, spec.trim.frame_length, spec.trim.pad_ms) == (20, 2048, 200)
    assert spec.arrays == {
        "R1/mel": (64, 128),
        "R1/resize": (64, 128),
        "R2/mel": (96, 214),
        "R2/resize": (96, 214),
        "R3/full": (128, 300),
    }


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_file_changes_any_field_and_leaves_the_rest(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"spec{suffix}"
    values = {
        "dtype": "uint8",
        "trim": None,
        "resolutions": [{"name": "A", "n_mels": 32, "num_frames": 40}],
    }
    text = (
        json.dumps(values)
        if suffix == ".json"
        else ("dtype: uint8\ntrim: null\nresolutions:\n- {name: A, n_mels: 32, num_frames: 40}\n")
    )
    file.write_text(text)
    spec = load_spec(file)
    assert spec.arrays == {"A/full": (32, 40)}
    assert spec.trim is None
    assert spec.scale == 1 / 255
    assert spec.n_fft == 1024


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("hop_lenght: 128", "did you mean hop_length"),
        ("n_fft: many", "n_fft"),
        ('n_fft: "1024x"', "n_fft"),
        ("sample_rate: 0", "sample_rate"),
        ("hop_length: 0", "hop_length"),
        ("win_length: 4096", "win_length 4096 is larger than n_fft"),
        ("hop_length: 2000", "hop_length 2000 is larger than win_length"),
        ("fmax: 12000", "fmax 12000.0 Hz is above the Nyquist"),
        ("fmin: 11000", "fmin 11000.0 Hz is not below"),
        ("dtype: float8", "dtype"),
        ("variants: [mel, mel]", "variants repeat"),
        ("variants: [cubic]", "variants"),
        ("resolutions: []", "resolutions"),
        ("resolutions: [{name: a/b, n_mels: 1, num_frames: 1}]", "resolutions.0.name"),
        ("resolutions: [{name: A, n_mels: 0, num_frames: 1}]", "resolutions.0.n_mels"),
        ("resolutions: [{name: A, n_mels: 600, num_frames: 1}]", "600 n_mels of the 513 bins"),
        (
            "resolutions: [{name: A, n_mels: 9, num_frames: 9}, {name: B, n_mels: 8, num_frames: 9}]",  # noqa: E501
            "A is larger than B",
        ),
        ("trim: {top_db: -1}", "trim.top_db"),
        ("power: .nan", "power"),
        ("- 1", "no mapping"),
        ("a: [", "cannot read"),
        ("", "no mapping"),
    ],
)
def test_a_mistake_is_told_with_the_name_of_the_field(
    tmp_path: Path, text: str, named: str
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(text)
    with pytest.raises(SpecError) as caught:
        load_spec(file)
    assert named in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value) or "cannot read" in str(caught.value)


def test_a_spec_file_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot read"):
        load_spec(tmp_path / "absent.yaml")

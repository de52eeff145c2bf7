"""What a spec file may say, and how its mistakes are told."""

import json
from pathlib import Path

import pytest

from featurestore.errors import SpecError
from featurestore.extraction.spec import load_spec, with_variants
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


def test_a_variant_determines_its_shape() -> None:
    spec = FeatureSpec(variants=("mel-bands", "mel-time", "resize-area"))
    assert spec.arrays == {
        "R1/mel-bands": (64, 300),
        "R1/mel-time": (128, 128),
        "R1/resize-area": (64, 128),
        "R2/mel-bands": (96, 300),
        "R2/mel-time": (128, 214),
        "R2/resize-area": (96, 214),
        "R3/full": (128, 300),
    }


def test_variants_that_are_added_follow_the_specs_own_in_one_order_however_given() -> None:
    added = with_variants(FeatureSpec(), ["resize-area", "mel", "mel-bands", "resize-area"])
    assert added.variants == ("mel", "resize", "mel-bands", "resize-area")
    assert with_variants(FeatureSpec(), ["mel-bands", "resize-area"]) == added
    assert with_variants(FeatureSpec(), []) == FeatureSpec()
    own = FeatureSpec(variants=("resize",), dtype="uint8")
    assert with_variants(own, ["mel"]) == FeatureSpec(variants=("resize", "mel"), dtype="uint8")


def test_the_filterbank_of_2019_reaches_22050_hz_whatever_the_sample_rate() -> None:
    assert FeatureSpec(mel_scale="torchaudio-2019").fmax_hz == 22_050
    assert FeatureSpec(mel_scale="torchaudio-2019", fmax=30_000).fmax_hz == 30_000


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
        ("fmax: .inf", "fmax"),
        ("mel_scale: torchaudio", "mel_scale"),
        ("{mel_scale: torchaudio-2019, mel_norm: slaney}", "mel_norm slaney"),
        ("{mel_scale: torchaudio-2019, fmin: 22050}", "fmin 22050.0 Hz is not below fmax 22050.0"),
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

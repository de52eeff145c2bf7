"""Contents of a spec file, and messages about its mistakes."""

import json
import os
from pathlib import Path

import pytest

from featurestore.errors import SpecError
from featurestore.extraction.spec import load_spec, with_variants
from schemas import FeatureSpec, Resolution, TrimSpec


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
        ("hop_lenght: 128", "did you mean 'hop_length'"),
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
        ("resolutions: [{name: A, n_mels: 600, num_frames: 1}]", "is more than the 513 bins"),
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
    assert "\n" not in str(caught.value)


def test_a_spec_file_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot read"):
        load_spec(tmp_path / "absent.yaml")


def _numeric_fields() -> list[tuple[str, str]]:
    """Every number of a spec: its name, and a spec file with `VALUE` in its place."""
    places = {
        FeatureSpec: "{name}: VALUE\n",
        TrimSpec: "trim: {{{name}: VALUE}}\n",
        Resolution: "resolutions: [{{name: A, n_mels: 8, num_frames: 8, {name}: VALUE}}]\n",
    }
    found = []
    for schema, text in places.items():
        for name, field in schema.model_fields.items():
            if field.annotation in (int, float, float | None) or "fmax" in name:
                line = text.format(name=name)
                if schema is Resolution:
                    line = line.replace(f"{name}: 8, ", "")
                found.append((name, line))
    return found


def test_every_number_of_a_spec_is_looked_at_below() -> None:
    names = [name for name, _ in _numeric_fields()]
    assert len(names) == 15
    assert names.count("top_db") == 2


@pytest.mark.parametrize(
    "value",
    [
        ".inf", "-.inf", ".nan", "1e300", "1.7976931348623157e308", "1e11", "99999999999999999999",
        "-1", "-1e-300", "1e-300", "5e-324", "9" * 6000, "1e999", "true", '"100"', "'1e-5'",
        "text", "[1]", "{a: 1}", "2020-01-01", "1:30", "0x", "yes",
    ],
    ids=lambda value: value[:12],
)  # fmt: skip
@pytest.mark.parametrize(("name", "text"), _numeric_fields(), ids=lambda text: text[:25].strip())
def test_no_number_of_a_spec_may_be_what_no_signal_or_machine_could_have(
    tmp_path: Path, name: str, text: str, value: str
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(text.replace("VALUE", value))
    if name == "fmin" and value in ("1e-300", "5e-324"):
        assert load_spec(file).fmin < 1e-299, "as good as 0"
        return
    if name == "fmax" and value in ("1e-300", "5e-324"):
        name = "fmin"  # is less than 1 Hz below
    with pytest.raises(SpecError) as error:
        load_spec(file)
    message = str(error.value)
    assert str(file) in message
    assert name in message or "line 1" in message
    assert message.isprintable()
    assert len(message) < 400 + len(str(file))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("resolutions: [{name: A, n_mels: 513, num_frames: 9000}]", "bytes per clip, at most"),
        ("{n_fft: 65536, resolutions: [{name: A, n_mels: 600, num_frames: 9}]}", "weights"),
        ("{fmin: 10999.5}", "less than 1 Hz below"),
        (
            "resolutions: ["
            + ", ".join(f"{{name: A{i}, n_mels: 8, num_frames: 8}}" for i in range(17))
            + "]",
            "resolutions",
        ),
    ],
)
def test_no_images_are_asked_for_that_a_worker_could_not_hold(
    tmp_path: Path, text: str, told: str
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(text)
    with pytest.raises(SpecError, match=told):
        load_spec(file)


def test_variants_that_make_a_clip_too_large_are_refused() -> None:
    large = (
        Resolution(name="A", n_mels=256, num_frames=3000),
        Resolution(name="B", n_mels=256, num_frames=4000),
    )
    spec = FeatureSpec(resolutions=large)
    with pytest.raises(SpecError, match="bytes per clip"):
        with_variants(spec, ["mel-bands", "mel-time", "resize-area"])


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_spec_that_was_written_by_a_program_can_be_given(tmp_path: Path, suffix: str) -> None:
    for spec in (FeatureSpec(), FeatureSpec(trim=None, amin=1e-30, top_db=1000, dtype="float32")):
        file = tmp_path / f"spec{suffix}"
        file.write_text(spec.model_dump_json(indent=2))
        assert load_spec(file) == spec


def test_a_spec_file_that_is_no_plain_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "endless").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    for name in ("endless", "pipe", "."):
        with pytest.raises(SpecError, match="not a plain file"):
            load_spec(tmp_path / name)

"""Features that librosa computes: equal to librosa's own call, finite for any clip, or refused."""

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from featurestore.errors import AudioError, SpecError
from featurestore.extraction import compiled
from featurestore.extraction.extractor import Extractor
from featurestore.extraction.librosa_features import FeatureExtractor, warm_cache
from featurestore.store.fingerprint import fingerprint, meaning
from schemas import FeatureSpec
from schemas.librosa_features import Feature
from tests.pairs import each_in_turn

Array = NDArray[np.float32]
RATE = 22_000
UNION = get_args(Feature)[0]
KINDS = tuple(str(model.model_fields["kind"].default) for model in get_args(UNION))
LIBROSA: dict[str, Callable[[Array], NDArray[Any]]] = {
    "waveform": lambda y: y,
    "mfcc": lambda y: librosa.feature.mfcc(y=y, sr=RATE),
    "pcen": lambda y: librosa.pcen(
        librosa.feature.melspectrogram(y=y * np.float32(2**31), sr=RATE, power=1), sr=RATE
    ),
    "log_stft": lambda y: librosa.power_to_db(np.abs(librosa.stft(y)) ** 2, ref=np.max),
    "spectral_contrast": lambda y: librosa.feature.spectral_contrast(y=y, sr=RATE),
    "chroma_stft": lambda y: librosa.feature.chroma_stft(y=y, sr=RATE),
    "cqt": lambda y: librosa.amplitude_to_db(np.abs(librosa.cqt(y, sr=RATE)), ref=np.max),
    "chroma_cqt": lambda y: librosa.feature.chroma_cqt(y=y, sr=RATE),
}
"""librosa's own call with its own defaults."""


def spec(*features: dict[str, Any], **fields: Any) -> FeatureSpec:
    return FeatureSpec.model_validate({"trim": None, "features": features, **fields})


def clip(num_samples: int) -> Array:
    """A gliding tone in noise, of which pitch, bands and silence all show something."""
    time = np.arange(num_samples) / RATE
    noise = np.random.default_rng(1).normal(size=num_samples)
    return (0.4 * np.sin(2 * np.pi * (300 + 200 * time) * time) + 0.02 * noise).astype(np.float32)


def extracted(asked: FeatureSpec, waveform: Array) -> dict[str, Array]:
    """The features of a spec whose waveforms are at its own rate."""
    return FeatureExtractor(asked)(waveform, lambda rate: waveform)


@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_is_equal_to_librosas_own_call(kind: str) -> None:
    rate = {"sample_rate": RATE, "num_samples": 76_800} if kind == "waveform" else {}
    asked = spec({"kind": kind, **rate})
    length = 76_800  # 150 frames of hop 512: what the full image's 300 of 256 span
    found = extracted(asked, clip(100_000))[f"features/{kind}"]
    expected = LIBROSA[kind](clip(100_000)[:length])[..., : found.shape[-1]]
    assert found.shape == asked.arrays[f"features/{kind}"] == expected.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


OTHERWISE: dict[str, tuple[dict[str, Any], Callable[[Array], NDArray[Any]]]] = {
    "mfcc": (
        {"n_mfcc": 13, "n_mels": 40, "htk": True, "mel_norm": "none", "lifter": 22, "ref": "max"},
        lambda y: librosa.feature.mfcc(
            S=librosa.power_to_db(
                librosa.feature.melspectrogram(y=y, sr=RATE, n_mels=40, htk=True, norm=None),
                ref=np.max,
            ),
            n_mfcc=13,
            lifter=22,
        ),
    ),
    "cqt": (
        {"decibels": False, "n_bins": 60, "norm": "l2", "tuning": None, "hop_length": 256},
        lambda y: np.abs(librosa.cqt(y, sr=RATE, n_bins=60, norm=2, tuning=None, hop_length=256)),
    ),
    "chroma_stft": (
        {"n_fft": 4096, "norm": "l1", "tuning": 0.1, "octwidth": None, "pad_mode": "reflect"},
        lambda y: librosa.feature.chroma_stft(
            y=y, sr=RATE, n_fft=4096, norm=1, tuning=0.1, octwidth=None, pad_mode="reflect"
        ),
    ),
    "spectral_contrast": (
        {"n_bands": 4, "fmin": 100, "quantile": 0.1, "linear": True},
        lambda y: librosa.feature.spectral_contrast(
            y=y, sr=RATE, n_bands=4, fmin=100, quantile=0.1, linear=True
        ),
    ),
    "log_stft": (
        {"n_fft": 512, "win_length": 400, "window": "hamming", "ref": 1.0, "top_db": None},
        lambda y: librosa.power_to_db(
            np.abs(librosa.stft(y, n_fft=512, hop_length=512, win_length=400, window="hamming"))
            ** 2,
            top_db=None,
        ),
    ),
}


@pytest.mark.parametrize("kind", OTHERWISE)
def test_arguments_reach_librosa(kind: str) -> None:
    arguments, expected = OTHERWISE[kind]
    asked = spec({"kind": kind, "num_frames": 100, **arguments})
    hop = arguments.get("hop_length", 512)
    found = extracted(asked, clip(90_000))[f"features/{kind}"]
    np.testing.assert_allclose(
        found, expected(clip(90_000)[: 100 * hop])[:, :100], rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize(
    ("num_samples", "sound"), each_in_turn([0, 1, 700, 40_000], ["tone", "silence", "click"])
)
def test_silence_and_the_shortest_clip_have_every_feature(sound: str, num_samples: int) -> None:
    waveform = clip(num_samples) if sound == "tone" else np.zeros(num_samples, np.float32)
    if sound == "click" and num_samples:
        waveform[0] = 1
    asked = spec(*({"kind": kind} for kind in KINDS))
    for key, values in extracted(asked, waveform).items():
        assert values.shape == asked.arrays[key], key
        assert np.isfinite(values).all(), key
        low, high = asked.bounds_of(key)
        assert low is None or values.min() >= low, key
        assert high is None or values.max() <= high, key


def test_a_short_clip_is_repeated_or_followed_by_the_lowest_value() -> None:
    short = clip(10_000)
    kinds = [{"kind": kind} for kind in ("log_stft", "mfcc", "waveform")]
    tiled = extracted(spec(*kinds, short_clips="tile"), short)
    padded = extracted(spec(*kinds, short_clips="zeros"), short)
    frames = 1 + 10_000 // 512
    for key, fill in (("log_stft", -80), ("mfcc", 0)):
        values = tiled[f"features/{key}"]
        np.testing.assert_array_equal(values[:, frames : 2 * frames], values[:, :frames])
        np.testing.assert_array_equal(padded[f"features/{key}"][:, :frames], values[:, :frames])
        assert (padded[f"features/{key}"][:, frames:] == fill).all()
    np.testing.assert_array_equal(tiled["features/waveform"][10_000:20_000], short)
    assert not padded["features/waveform"][10_000:].any()


def test_features_are_of_the_trimmed_clip_and_waveforms_of_the_same_part_of_it() -> None:
    silence = np.zeros(22_000, np.float32)
    sound = np.concatenate([silence, clip(22_000), silence])
    double = np.repeat(sound, 2)  # stands for the file at 44 kHz
    features = [{"kind": "mfcc"}, {"kind": "waveform", "sample_rate": 44_000}]
    trimmed = Extractor(spec(*features, trim={}))
    start, stop = trimmed.trim_bounds(sound)
    assert 0 < start < 22_000 < 44_000 < stop < 66_000
    arrays = trimmed(sound, {44_000: double})
    np.testing.assert_array_equal(
        arrays["features/mfcc"], extracted(spec(features[0]), sound[start:stop])["features/mfcc"]
    )
    np.testing.assert_array_equal(
        arrays["features/waveform"][: 2 * (stop - start)], double[2 * start : 2 * stop]
    )
    with pytest.raises(ValueError, match="none at 44000 Hz"):
        trimmed(sound)


def test_images_are_the_same_with_and_without_features() -> None:
    more = Extractor(spec({"kind": "mfcc"}))(clip(40_000))
    for key, image in Extractor(spec())(clip(40_000)).items():
        np.testing.assert_array_equal(more[key], image)


def test_a_clip_whose_features_overflow_fails_rather_than_storing_infinity() -> None:
    huge = clip(9000) * np.float32(1e30)
    with pytest.raises(AudioError, match="mfcc overflows"):
        extracted(spec({"kind": "mfcc"}), huge)


REFUSED = [
    ([{"kind": "mfcc", "n_mfcc": 50, "n_mels": 40}], "n_mfcc 50 is more than n_mels 40"),
    ([{"kind": "mfcc"}, {"kind": "mfcc"}], "names repeat: mfcc, mfcc"),
    ([{"kind": "mfcc", "fmax": 12_000}], "fmax 12000.0 Hz is above the Nyquist"),
    ([{"kind": "pcen", "n_fft": 128}], "n_mels 128 is more than the 65 bins"),
    ([{"kind": "log_stft", "win_length": 4096}], "win_length 4096 is larger than n_fft"),
    ([{"kind": "cqt", "n_bins": 110}], "highest frequency is"),
    ([{"kind": "chroma_cqt", "bins_per_octave": 30}], "not a multiple of n_chroma 12"),
    ([{"kind": "spectral_contrast", "n_bands": 9}], "highest band starts at 51200 Hz"),
    ([{"kind": "log_stft", "n_fft": 65_536, "num_frames": 300}], "more than a worker can hold"),
    ([{"kind": "waveform", "num_samples": 2_000_000}, {"kind": "log_stft"}], "bytes per clip"),
]


@pytest.mark.parametrize(("features", "words"), REFUSED)
def test_what_librosa_cannot_compute_is_refused_with_the_feature_and_the_field(
    features: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        spec(*features)


def test_the_fingerprint_covers_every_argument_and_librosas_version() -> None:
    asked, librosa_now = spec({"kind": "mfcc"}), {"librosa": "0.11.0"}
    (written,) = meaning(asked)["features"]
    assert written.keys() == type(asked.features[0]).model_fields.keys()
    base = fingerprint(asked, "x", libraries=librosa_now)
    others = {
        fingerprint(asked, "x", libraries={"librosa": "1.0.0"}),
        fingerprint(spec({"kind": "mfcc", "pad_mode": "reflect"}), "x", libraries=librosa_now),
        fingerprint(spec({"kind": "mfcc", "top_db": 60}), "x", libraries=librosa_now),
        fingerprint(spec(), "x", libraries=librosa_now),
    }
    assert len({base, *others}) == 5
    assert fingerprint(spec(), "x") == fingerprint(spec(), "x", libraries=librosa_now)
    assert "features" not in meaning(spec())


@pytest.mark.parametrize("model", get_args(UNION))
def test_a_manifest_spells_every_argument_of_a_feature_out(model: type) -> None:
    (written,) = meaning(spec({"kind": model.model_fields["kind"].default}))["features"]  # type: ignore[attr-defined]
    assert written.keys() == model.model_fields.keys()  # type: ignore[attr-defined]


def test_features_of_another_version_of_librosa_are_refused() -> None:
    featured = spec({"kind": "waveform", "num_samples": 10, "sample_rate": 8000})
    Extractor(featured, importlib.metadata.version("librosa"))
    with pytest.raises(SpecError, match=r"pip install librosa==0\.1\.0"):
        Extractor(featured, "0.1.0")
    Extractor(FeatureSpec(), "0.1.0")  # whose images are ours


def test_it_is_said_that_librosa_is_compiled_unless_nobody_wants_to_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiled, "_fill", lambda place: None)
    monkeypatch.delitem(sys.modules, "librosa", raising=False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    compiled.use_cache(quiet=True)
    assert capsys.readouterr().err == ""
    compiled.use_cache()
    assert "compiling librosa, once" in capsys.readouterr().err


def test_numba_reads_no_settings_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".numba_config.yaml").write_text("disable_jit: 1")
    with pytest.raises(SpecError, match=r"\.numba_config\.yaml in this directory"):
        Extractor(spec({"kind": "mfcc"}))
    Extractor(FeatureSpec())  # which needs no librosa


def test_librosa_is_not_imported_where_no_feature_asks_for_it(tmp_path: Path) -> None:
    code = """
import sys
from featurestore.cli import main
for command in (["--help"], ["build", "esc10", "--dry-run"]):
    try:
        main(command)
    except SystemExit:
        pass
import featurestore
from featurestore.extraction.extractor import Extractor
Extractor(featurestore.FeatureSpec())
assert not {"librosa", "numba", "featurestore.extraction.librosa_features"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)


def test_compiled_code_goes_to_a_directory_of_ones_own_that_nobody_else_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")  # where not even root can write
    monkeypatch.setattr(compiled.tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(compiled, "_fill", lambda place: None)
    monkeypatch.delitem(sys.modules, "librosa")
    (tmp_path / "tmp").mkdir()

    def used(chosen: str = "") -> Path:
        monkeypatch.setenv("NUMBA_CACHE_DIR", chosen)
        compiled.use_cache()
        return Path(os.environ["NUMBA_CACHE_DIR"])

    chosen = used(str(tmp_path / "chosen"))
    assert chosen.parent == tmp_path / "chosen"
    assert used(str(chosen)) == chosen
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(chosen))
    with monkeypatch.context() as full:
        full.setattr(compiled, "_fill", lambda place: (place / "none" / "ready").touch())
        with pytest.raises(SpecError, match="cannot be written"):
            compiled.use_cache()
    place = used()
    assert place.is_relative_to(tmp_path / "tmp")
    assert used() == place
    assert place.stat().st_mode & 0o777 == 0o700
    place.chmod(0o777)  # another user's code could lie in it
    assert used() != place
    place.chmod(0o700)
    place.rename(tmp_path / "moved")
    place.symlink_to(tmp_path / "moved")
    assert used() != place


def test_each_copy_of_librosa_and_each_processor_has_its_own_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache that is ready for others only would be filled by many processes at once."""

    def name() -> str:
        compiled._name.cache_clear()
        return compiled._name()

    for place in ("one", "two"):
        (tmp_path / place / "librosa").mkdir(parents=True)
        (tmp_path / place / "librosa/__init__.py").touch()
    with monkeypatch.context() as patch:
        names = [name(), name()]
        patch.delitem(sys.modules, "librosa", raising=False)
        patch.syspath_prepend(tmp_path / "one")
        names.append(name())
        patch.syspath_prepend(tmp_path / "two")
        names.append(name())
        os.utime(tmp_path / "two/librosa/__init__.py", (0, 0))
        names.append(name())
        patch.setenv("NUMBA_CPU_NAME", "generic")
        names.append(name())
        patch.setattr(compiled, "_processor", lambda: ["flags: none"])
        names.append(name())
        patch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
        names.append(name())
    compiled._name.cache_clear()
    assert names[0] == names[1]
    assert names[-2] == names[-1]
    assert len(set(names)) == len(names) - 2


@pytest.mark.slow
def test_processes_that_compile_librosa_at_the_same_time_do_not_break_each_other(
    tmp_path: Path,
) -> None:
    code = """
import numpy
from featurestore.extraction.librosa_features import FeatureExtractor
from schemas import FeatureSpec
spec = FeatureSpec(features=[{"kind": "chroma_stft"}])
noise = numpy.random.default_rng(0).uniform(-1, 1, 40_000).astype("f4")
[values] = FeatureExtractor(spec)(noise, lambda rate: noise).values()
print(float(values.sum()))
"""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    at_once = [subprocess.Popen(command, env=environment, stdout=-1, text=True) for _ in range(3)]
    answers = [process.communicate()[0] for process in at_once]
    afterwards = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    )
    assert set(answers) == {afterwards.stdout}
    assert [path.name for path in tmp_path.iterdir()] == [compiled._name()]


@pytest.mark.slow
def test_a_process_warms_the_cache_and_says_what_librosa_refuses() -> None:
    warm_cache(spec({"kind": "waveform"}))  # which needs none
    warm_cache(spec({"kind": "mfcc", "num_frames": 10}))
    broken = spec({"kind": "mfcc"}).model_copy(
        update={"features": (spec({"kind": "mfcc"}).features[0].model_copy(update={"n_fft": 0}),)}
    )
    with pytest.raises(SpecError, match="librosa cannot compute them"):
        warm_cache(broken)

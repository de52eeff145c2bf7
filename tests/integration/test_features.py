"""Stores of every feature that librosa computes: built, repaired, drawn, read and trained on."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr

import featurestore
from featurestore import cli
from featurestore.building.build import build
from featurestore.building.executors.processes import ProcessExecutor
from featurestore.building.fitness import check_versions
from featurestore.checking.repair import repair
from featurestore.checking.verify import verify
from featurestore.datasets import load_dataset
from featurestore.errors import CorruptError, FingerprintError, UnfitWorkerError
from featurestore.store.axes import axes_of
from schemas import FeatureSpec
from tests.conftest import contents, four_clips_a_block, write_folder
from tests.integration.conftest import told
from tests.integration.test_damage import delete, flip_bit
from tests.integration.trainer_store import TINY

pytest.importorskip("torch")

KINDS: dict[str, dict[str, Any]] = {
    "mfcc": {"n_mels": 40},
    "pcen": {"n_mels": 40},
    "log_stft": {"n_fft": 256, "hop_length": 256},
    "spectral_contrast": {},
    "chroma_stft": {},
    "cqt": {},
    "chroma_cqt": {},
    "waveform": {"sample_rate": 8000},
}
SPEC = FeatureSpec.model_validate(
    {
        "resolutions": [
            {"name": "small", "n_mels": 16, "num_frames": 20},
            {"name": "large", "n_mels": 24, "num_frames": 60},
        ],
        "variants": ["resize"],
        "features": [{"kind": kind, **arguments} for kind, arguments in KINDS.items()],
    }
)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips in two folds: these features take long. Not to be changed."""
    return write_folder(tmp_path_factory.mktemp("few") / "sounds", clips_a_class=3)


@pytest.fixture(scope="module")
def featured(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The twelve clips with every feature, in blocks of four; not to be changed."""
    path = tmp_path_factory.mktemp("features") / "s.zarr"
    with pytest.MonkeyPatch.context() as patch:
        four_clips_a_block(patch)
        build(load_dataset("folder", few), path, SPEC)
    return path


@pytest.fixture
def copy(featured: Path, tmp_path: Path) -> Path:
    return shutil.copytree(featured, tmp_path / "s.zarr")


def first_chunk(store: Path, kind: str) -> Path:
    chunks = (store / f"folder/fold1/features/{kind}/c").rglob("*")
    return next(path for path in sorted(chunks) if path.is_file())


def problems(store: Path, root: Path | None = None) -> list[str]:
    return [problem for found in verify(store, root=root) for problem in found]


def test_a_store_with_features_is_of_version_3_and_verifies_against_its_files(
    featured: Path, few: Path
) -> None:
    store = featurestore.open_store(featured)
    assert store.manifest.format_version == 3
    assert {"librosa", "numba"} <= store.manifest.libraries.keys()
    assert store.arrays == tuple(SPEC.arrays)
    assert problems(featured, few) == []
    for array in store.arrays:
        values, labels = store.read(array)
        assert values.shape == (12, *SPEC.arrays[array])
        assert values.dtype == np.float32
        assert store.load(array)[0].dtype == store.dtype_of(array) == SPEC.dtype_of(array)
        assert len(labels) == 12


def test_what_is_stored_is_what_extract_file_gives(featured: Path, few: Path) -> None:
    store = featurestore.open_store(featured)
    extractor = featurestore.Extractor(SPEC)
    clips = store.clips()
    with featurestore.one_thread():
        arrays, _ = featurestore.extract_file(few / clips.path[3], extractor)
    for array, values in arrays.items():
        np.testing.assert_array_equal(store.load(array)[0][3], values, err_msg=array)


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
def test_worker_processes_write_the_same_bytes(featured: Path, few: Path, tmp_path: Path) -> None:
    with ProcessExecutor(workers=2) as executor:
        build(load_dataset("folder", few), tmp_path / "s.zarr", SPEC, executor)
    assert contents(tmp_path / "s.zarr") == contents(featured)


_KILLED = """
import os, signal, sys
from pathlib import Path
from featurestore.store import plan
from featurestore.building.build import build
from featurestore.datasets import load_dataset
from schemas import FeatureSpec

plan.chunk_clips = lambda fold_sizes: 4
plan.block_clips = lambda spec, num_clips, chunk: 4
left = [int(sys.argv[3])]

def die_at_rename(event, arguments):
    if event == "os.rename" and "features/cqt/c" in str(arguments[1]):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

dataset = load_dataset("folder", Path(sys.argv[1]))
spec = FeatureSpec.model_validate_json(sys.argv[4])
sys.addaudithook(die_at_rename)
build(dataset, Path(sys.argv[2]), spec)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
def test_a_build_killed_while_it_writes_a_feature_resumes_to_the_same_bytes(
    featured: Path, few: Path, tmp_path: Path
) -> None:
    arguments = [str(few), str(tmp_path / "s.zarr"), "2", SPEC.model_dump_json()]
    killed = subprocess.run([sys.executable, "-c", _KILLED, *arguments], check=False)
    assert killed.returncode == -signal.SIGKILL
    build(load_dataset("folder", few), tmp_path / "s.zarr", SPEC)
    assert contents(tmp_path / "s.zarr") == contents(featured)


@pytest.mark.parametrize(
    "damages",
    [(flip_bit, delete), pytest.param((delete, flip_bit), marks=pytest.mark.slow)],
    ids=["flips and gaps", "gaps and flips"],
)
def test_damage_in_any_feature_is_found_and_repaired_to_the_same_bytes(
    copy: Path, few: Path, damages: tuple[Callable[[Path], None], ...]
) -> None:
    before = contents(copy)
    for kind, damage in zip(KINDS, itertools.cycle(damages)):
        damage(first_chunk(copy, kind))
    found = "\n".join(problems(copy))
    assert all(f"fold1/features/{kind}, rows" in found for kind in KINDS), found
    list(repair(load_dataset("folder", few), copy))
    assert contents(copy) == before


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("mfcc", np.nan, "not finite"),
        ("waveform", np.inf, "not finite"),
        ("cqt", 1.0, "outside -80.0 to 0.0"),
        ("chroma_stft", -0.1, "outside 0.0 to 1.0"),
        ("pcen", -1.0, "outside 0.0 to None"),
    ],
)
def test_impossible_values_are_refused_though_their_checksum_is_right(
    copy: Path, kind: str, value: float, words: str
) -> None:
    key = f"folder/fold1/features/{kind}"
    array = zarr.open_group(copy, mode="r+", use_consolidated=False)[key]
    rows = array[:4]
    rows[2] = value
    array[:4] = rows
    stored = featurestore.store.arrays.open_arrays(copy, "folder").unsealed()  # type: ignore[attr-defined]
    with pytest.raises(CorruptError, match=words):
        stored.read(1, f"features/{kind}", slice(0, 4))


def test_another_version_of_librosa_neither_continues_nor_repairs_a_store(
    copy: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata

    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "9.9.9" if name == "librosa" else real(name)
    )
    with pytest.raises(FingerprintError, match=r"librosa's version is .*, here 9\.9\.9"):
        build(load_dataset("folder", few), copy, SPEC)
    delete(first_chunk(copy, "mfcc"))
    with pytest.raises(FingerprintError, match=r"here 9\.9\.9"):
        list(repair(load_dataset("folder", few), copy))
    with pytest.raises(UnfitWorkerError, match=r"has librosa 9\.9\.9"):
        check_versions(featurestore.open_store(copy).manifest)


def test_info_says_what_each_feature_is(featured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(featured)]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for key, shape in SPEC.arrays.items():
        assert f"{key} {'×'.join(map(str, shape))}" in said
    assert "features/mfcc: mel-frequency cepstral coefficients, n_mels 40, float32" in said
    assert "features/cqt: constant-Q transform, magnitude, float32 (0 dB is the clip's" in said
    assert cli.main(["info", str(featured), "--json"]) == 0
    (dataset,) = json.loads(capsys.readouterr().out)["datasets"].values()
    assert [f["kind"] for f in dataset["spec"]["features"]] == list(KINDS)


def test_plot_draws_every_feature(featured: Path, tmp_path: Path) -> None:
    out = tmp_path / "clip.png"
    command = ["plot", str(featured), "--clip", "fold1/high/high0", "--out", str(out)]
    assert cli.main(command) == 0
    from featurestore.reading.clipfigure import clip_figure

    images = featurestore.open_store(featured).read_clip("fold1/high/high0.wav")
    figure = clip_figure(images, SPEC, "title")
    titles = " ".join(axes.get_title() for axes in figure.axes)
    assert all(f"features/{kind}, " in titles for kind in KINDS)


def test_xarray_opens_the_features_of_a_fold_as_one_dataset(featured: Path) -> None:
    group = xarray.open_zarr(featured, group="folder/fold1/features", consolidated=False)
    assert set(KINDS) <= set(group.data_vars)
    assert group.cqt.attrs["units"] == "dB"
    assert "largest value" in group.cqt.attrs["comment"]
    store = featurestore.open_store(featured)
    np.testing.assert_array_equal(group.mfcc.values, store.read("features/mfcc", [1])[0])
    tree = store.to_xarray()
    for kind in KINDS:
        features = tree[f"features/{kind}"].features
        np.testing.assert_array_equal(features.values, store.read(f"features/{kind}")[0])
    stft = tree["features/log_stft"]
    assert stft.band_hz.values[-1] == 11_000
    assert stft.frame_s.values[1] == pytest.approx(256 / 22_000)
    assert tree["features/cqt"].band_hz.values[12] == pytest.approx(2 * 32.703, rel=1e-4)
    assert tree["features/chroma_stft"].pitch_class.attrs["flag_meanings"].startswith("C C# D")


@pytest.mark.parametrize("array", SPEC.arrays)
def test_axes_have_a_point_for_each_value(array: str) -> None:
    axes = axes_of(SPEC, array)
    assert tuple(axis.points.size for axis in axes) == SPEC.arrays[array]
    assert all((np.diff(axis.points) > 0).all() for axis in axes)


@pytest.mark.parametrize("array", SPEC.arrays)
def test_the_pytorch_dataset_reads_any_array(featured: Path, array: str) -> None:
    from trainer import ZarrDataset

    dataset = ZarrDataset(featured, array, folds=[2])
    values, labels = dataset[:]
    expected, classes = featurestore.open_store(featured).read(array, [2])
    np.testing.assert_array_equal(values[:, 0].numpy(), expected)
    np.testing.assert_array_equal(labels.numpy(), classes)


METHOD = """
two:
- {array: features/mfcc, epochs: 1, max_lr: 1e-3}
- {array: features/log_stft, epochs: 1, max_lr: 1e-3}
- {array: features/spectral_contrast, epochs: 1, max_lr: 1e-3}
sound:
- {array: features/waveform, epochs: 1, max_lr: 1e-3}
other:
- {array: features/tonnetz, epochs: 1, max_lr: 1e-3}
"""


@pytest.mark.parametrize("reading", [pytest.param("host", marks=pytest.mark.slow), "stream"])
def test_stages_train_on_features(
    featured: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: str
) -> None:
    from trainer.cli import main

    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(METHOD)
    options = f"--fold 1 --init random --arch {TINY} --batch-size 4 --threads 1 --device cpu"
    command = f"run --store {featured} --method two --methods-file own.yaml --out run"
    assert main([*command.split(), *options.split(), "--placement", reading]) == 0
    result = json.loads(Path("run/result.json").read_text())
    assert [stage["array"] for stage in result["config"]["stages"]] == [
        "features/mfcc",
        "features/log_stft",
        "features/spectral_contrast",
    ]
    if reading == "host":  # and its network hears files
        file = few / "fold1/high/high0.wav"
        assert main(["predict", "--run", "run", str(file), "--device", "cpu"]) == 0


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("sound", "features/waveform, which is 5585 samples per clip: networks take arrays of"),
        ("other", "that has tonnetz under `features:`"),
    ],
)
def test_a_method_over_what_no_network_takes_is_refused_in_a_line(
    featured: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
    words: str,
) -> None:
    from trainer.cli import main

    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(METHOD)
    command = f"run --store {featured} --method {method} --methods-file own.yaml --device cpu"
    assert main([*command.split(), "--init", "random"]) == 1
    assert words in capsys.readouterr().err


def test_a_spec_file_asks_for_features_and_a_mistake_in_one_is_named(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "spec.yaml"
    command = ["build", "--root", str(sounds), "--store", str(tmp_path / "s.zarr")]
    command += ["--spec", str(spec), "--dry-run"]
    spec.write_text("features: [{kind: mfcc, num_frames: 40}, {kind: waveform}]")
    assert cli.main(command) == 0
    assert "features/mfcc 20×40, features/waveform 55855" in capsys.readouterr().out
    for text, words in {
        "features: [{kind: mfccs}]": "mfccs",
        "features: [{kind: mfcc, n_mfc: 3}]": "n_mfc",
        "features: [{kind: cqt, n_bins: 100, fmin: 100}]": "highest frequency",
    }.items():
        spec.write_text(text)
        assert words in told(capsys, *command)
    assert not os.path.lexists(tmp_path / "s.zarr")


def test_plain_zarr_readers_find_coordinates_class_names_and_trimmed_lengths(
    featured: Path,
) -> None:
    group = xarray.open_zarr(featured, group="folder/fold1/features", consolidated=False)
    assert group.cqt_band.attrs["units"] == "Hz"
    assert group.cqt.sel(cqt_band=440, method="nearest").cqt_band == pytest.approx(440, rel=0.03)
    assert group.mfcc.sel(mfcc_frame=slice(0, 0.1)).sizes["mfcc_frame"] == 5
    assert group.chroma_cqt_band.attrs["flag_meanings"].split()[9] == "A"
    assert group.waveform.attrs["sample_rate"] == 8000
    images = xarray.open_zarr(featured, group="folder/fold1/small", consolidated=False)
    assert {"resize_band_hz", "resize_frame_s"} == set(images.coords)
    assert images.resize_frame_s.dims == ("frame",)
    store = featurestore.open_store(featured)
    derived = store.to_xarray()["small/resize"]
    np.testing.assert_array_equal(images.resize_band_hz, derived.band_hz)
    np.testing.assert_array_equal(images.resize_frame_s, derived.frame_s)
    table = xarray.open_zarr(featured, group="folder/fold1", consolidated=False)
    assert table.class_id.attrs["class_names"] == ["high", "low"]
    assert table.class_id.attrs["flag_meanings"] == "high low"
    assert table.trimmed_s.attrs["units"] == "s"
    np.testing.assert_array_equal(table.trimmed_s, store.clips([1]).trimmed_s)


def test_the_trimmed_length_tells_sound_from_repetition(featured: Path, few: Path) -> None:
    store = featurestore.open_store(featured)
    clips, stft = store.clips(), store.read("features/log_stft")[0]
    hop_s, short = 256 / 22_000, 0
    for row, trimmed_s in enumerate(clips.trimmed_s):
        assert 0 < trimmed_s <= clips.duration_s[row] + 1e-4
        frames = 1 + int(round(trimmed_s * 22_000) // 256)
        if frames < stft.shape[2]:
            repeated = min(frames, stft.shape[2] - frames)
            np.testing.assert_array_equal(
                stft[row][:, frames : frames + repeated], stft[row][:, :repeated]
            )
            assert frames * hop_s > trimmed_s
            short += 1
    assert short


@pytest.mark.parametrize("key", ["features/cqt_band/c/0", "small/resize_frame_s/c/0"])
def test_a_damaged_coordinate_is_found_and_repaired(copy: Path, few: Path, key: str) -> None:
    before = contents(copy)
    flip_bit(copy / "folder/fold1" / key)
    assert any(key in problem for problem in problems(copy))
    list(repair(load_dataset("folder", few), copy))
    assert contents(copy) == before


@pytest.mark.usefixtures("small_blocks")
def test_coordinates_are_added_to_a_plain_spec_on_request_and_change_no_value(
    pristine: Path, sounds: Path, tmp_path: Path
) -> None:
    command = ["build", "folder", "--root", str(sounds), "--store", str(tmp_path / "s.zarr")]
    assert cli.main([*command, "--coordinates", "--workers", "0"]) == 0
    plain, store = (featurestore.open_store(p) for p in (pristine, tmp_path / "s.zarr"))
    assert (plain.manifest.format_version, store.manifest.format_version) == (2, 3)
    assert store.fingerprint == plain.fingerprint
    assert np.isnan(plain.clips().trimmed_s).all()
    np.testing.assert_array_equal(store.load("R1/mel")[0], plain.load("R1/mel")[0])
    group = xarray.open_zarr(tmp_path / "s.zarr", group="folder/fold1/R1", consolidated=False)
    assert {"mel_band_hz", "mel_frame_s", "resize_band_hz", "resize_frame_s"} == set(group.coords)
    assert problems(tmp_path / "s.zarr", sounds) == []
    assert not any("_hz" in key or "trimmed_s" in key for key in contents(pristine))

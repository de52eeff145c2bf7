"""The collection that is made on the spot."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from featurestore.datasets import Dataset, find_root, load_dataset, make_synthetic
from featurestore.datasets.scenes import ENCODINGS, SAMPLE_RATES, Encoding, encode, render
from featurestore.datasets.sounds import SOUNDS
from featurestore.errors import DatasetError
from tests.once import synthetic_data


@pytest.fixture(scope="module")
def collection() -> Dataset:
    """The default one, made in a usual place that was empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATURESTORE_DATA", str(synthetic_data()))
        return load_dataset("synthetic")


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def small(root: Path, seed: int = 0, num_folds: int = 2, clips_per_class: int = 1) -> Dataset:
    return make_synthetic(root, seed, num_folds, clips_per_class)


def test_it_has_every_class_in_every_fold_equally_often(collection: Dataset) -> None:
    assert len(collection.clips) == 3 * 8 * 6
    places = [(clip.fold, clip.class_id) for clip in collection.clips]
    assert {places.count((fold, k)) for fold in (1, 2, 3) for k in range(6)} == {8}
    assert collection.card.name == "synthetic"
    assert collection.card.class_names == tuple(sorted(SOUNDS))


def test_each_clip_is_its_own_source(collection: Dataset) -> None:
    assert len({clip.source for clip in collection.clips}) == len(collection.clips)


def test_two_generations_are_equal_to_the_byte(tmp_path: Path) -> None:
    first = small(tmp_path / "first", clips_per_class=2)
    # libsndfile's clock counts in seconds.
    time.sleep(1.1)
    second = small(tmp_path / "second", clips_per_class=2)
    assert contents(first.root) == contents(second.root)
    infos = [soundfile.info(first.root / clip.path) for clip in first.clips]
    assert {("WAV", "FLOAT"), ("FLAC", "PCM_24")} <= {(info.format, info.subtype) for info in infos}


def test_another_seed_gives_other_clips_under_other_names(tmp_path: Path) -> None:
    zero, one = small(tmp_path / "0"), small(tmp_path / "1", seed=1)
    assert not {clip.path for clip in zero.clips} & {clip.path for clip in one.clips}
    audio = [set(contents(d.root / "audio").values()) for d in (zero, one)]
    assert not audio[0] & audio[1]


def test_a_larger_collection_contains_the_smaller_one(tmp_path: Path) -> None:
    less = contents(small(tmp_path / "less", num_folds=1, clips_per_class=1).root / "audio")
    more = contents(small(tmp_path / "more").root / "audio")
    assert less.items() <= more.items()


def test_its_files_vary_as_those_of_real_collections_do(collection: Dataset) -> None:
    infos = [soundfile.info(collection.root / clip.path) for clip in collection.clips]
    assert {info.samplerate for info in infos} == set(SAMPLE_RATES)
    assert {info.channels for info in infos} == {1, 2}
    assert {(info.format.lower(), info.subtype) for info in infos} == set(ENCODINGS)
    durations = np.array([info.duration for info in infos])
    assert durations.min() >= 0.39
    assert durations.max() <= 6
    assert 0.15 <= np.mean(durations < 1.5) <= 0.5


def test_every_clip_is_sound_that_does_not_clip(collection: Dataset) -> None:
    for clip in collection.clips:
        samples, _ = soundfile.read(collection.root / clip.path, always_2d=True)
        assert np.isfinite(samples).all()
        assert 0.05 < np.abs(samples).max() < 0.95
    levels = [np.abs(soundfile.read(collection.root / c.path)[0]).max() for c in collection.clips]
    assert max(levels) > 3 * min(levels)


def test_some_clips_begin_or_end_in_silence(collection: Dataset) -> None:
    silent = 0
    for clip in collection.clips:
        samples, rate = soundfile.read(collection.root / clip.path, always_2d=True)
        edge = int(0.05 * rate)
        # Half a step of 8-bit samples is the coarsest zero there is.
        silent += min(np.abs(samples[:edge]).max(), np.abs(samples[-edge:]).max()) < 1 / 200
    assert 0.1 * len(collection.clips) < silent < 0.6 * len(collection.clips)


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize("sample_rate", [8000, 96000])
def test_a_sound_fills_its_clip_at_every_rate(name: str, sample_rate: int) -> None:
    num_samples = int(0.4 * sample_rate)
    for seed in range(5):
        waveform = SOUNDS[name](np.random.default_rng(seed), num_samples, sample_rate)
        assert waveform.shape == (num_samples,)
        assert np.isclose(np.abs(waveform).max(), 1)


def test_classes_differ_in_where_their_energy_lies() -> None:
    def centroid(name: str) -> float:
        waveforms = [SOUNDS[name](np.random.default_rng(k), 32000, 16000) for k in range(10)]
        power = sum(np.abs(np.fft.rfft(waveform)) ** 2 for waveform in waveforms)
        return float(np.average(np.fft.rfftfreq(32000, 1 / 16000), weights=power))

    assert centroid("engine") < centroid("dog_bark") < centroid("bird")
    assert centroid("siren") < centroid("rain")


@pytest.mark.parametrize(("suffix", "subtype"), ENCODINGS)
def test_an_encoding_keeps_the_samples(tmp_path: Path, suffix: str, subtype: str) -> None:
    encoding = Encoding(suffix, subtype, 16000, 2)
    samples = render(np.random.default_rng(0), "siren", 0.5, encoding)
    path = tmp_path / f"clip.{suffix}"
    path.write_bytes(encode(samples, encoding))
    back, rate = soundfile.read(path, dtype="float32")
    assert rate == 16000
    assert soundfile.info(path).subtype == subtype
    np.testing.assert_allclose(back, samples, atol=1 / 100 if subtype == "PCM_U8" else 1e-4)


def test_one_that_is_complete_is_used_as_it_is(tmp_path: Path) -> None:
    made = small(tmp_path / "made")
    times = {path: path.stat().st_mtime_ns for path in made.root.rglob("*")}
    assert small(tmp_path / "made") == made
    assert load_dataset("synthetic", made.root) == made
    assert {path: path.stat().st_mtime_ns for path in made.root.rglob("*")} == times


def test_one_made_by_other_numbers_is_not_mixed_up(tmp_path: Path) -> None:
    small(tmp_path, seed=0)
    with pytest.raises(DatasetError, match=r"made with seed 0, .* asked for seed 1, "):
        small(tmp_path, seed=1)


def test_one_made_in_a_usual_place_is_found_there(collection: Dataset) -> None:
    environ = {"FEATURESTORE_DATA": str(collection.root.parent)}
    assert find_root("synthetic", environ=environ) == collection.root
    assert "seed 0" in collection.card.title


@pytest.mark.parametrize("kept", ["mine.wav", ".mine"])
def test_a_directory_of_the_users_is_refused_and_left_alone(tmp_path: Path, kept: str) -> None:
    (tmp_path / kept).write_text("precious")
    with pytest.raises(DatasetError, match="is not empty and holds no synthetic collection"):
        small(tmp_path)
    with pytest.raises(DatasetError, match="is not empty"):
        load_dataset("synthetic", tmp_path)
    assert contents(tmp_path) == {kept: b"precious"}


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"seed": -1}, "seed is -1, expected a whole number from 0"),
        ({"num_folds": 0}, "num_folds is 0"),
        ({"clips_per_class": 0}, "clips_per_class is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(
    tmp_path: Path, numbers: dict[str, int], said: str
) -> None:
    with pytest.raises(DatasetError, match=said):
        make_synthetic(tmp_path / "made", **numbers)
    assert not (tmp_path / "made").exists()


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="is a file"):
        small(tmp_path / "file")
    with pytest.raises(DatasetError, match="cannot write"):
        small(tmp_path / "file" / "below")


def test_a_marker_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    for text in ("", "[1]", '{"colour": 1}', "{"):
        (tmp_path / "synthetic.json").write_text(text)
        with pytest.raises(DatasetError, match="expected the numbers of a synthetic collection"):
            load_dataset("synthetic", tmp_path)


@pytest.mark.parametrize("text", ["", '{"seed": 7, "num'])
def test_a_generation_killed_at_its_first_byte_is_done_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "synthetic.partial").write_text(text)
    assert len(small(tmp_path).clips) == 12
    assert not (tmp_path / "synthetic.partial").exists()


def test_an_interrupted_generation_goes_on_by_its_own_numbers(tmp_path: Path) -> None:
    whole = small(tmp_path / "whole", seed=7)
    cut = tmp_path / "cut"
    (cut / "audio" / "fold1").mkdir(parents=True)
    numbers = json.loads((whole.root / "synthetic.json").read_text())
    (cut / "synthetic.partial").write_text(json.dumps(numbers | {"version": 0}))
    (cut / whole.clips[0].path).write_bytes(b"half a")
    assert load_dataset("synthetic", cut).clips == whole.clips
    assert contents(cut) == contents(whole.root)


@pytest.mark.slow
def test_a_killed_generation_is_noticed_and_done_again(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from featurestore.datasets import make_synthetic; "
        "make_synthetic(Path(sys.argv[1]), clips_per_class=500)"
    )
    root = tmp_path / "made"
    process = subprocess.Popen([sys.executable, "-c", program, str(root)])
    while not list(root.glob("audio/*/*")):
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (root / "synthetic.json").exists()
    small(root, num_folds=1)
    expected = contents(small(tmp_path / "other", num_folds=1).root)
    assert expected.items() <= contents(root).items()

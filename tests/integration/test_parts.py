"""A build from parts of recordings: the features of the same clips as files."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import featurestore
from featurestore.building.build import build
from featurestore.building.executors import Executor
from featurestore.checking.repair import repair
from featurestore.checking.verify import verify
from featurestore.datasets import Dataset
from featurestore.datasets.collection import load_collection
from featurestore.errors import DatasetError
from schemas import ClipStatus, Collection, FeatureSpec
from schemas.features import Resolution
from tests.conftest import contents, dask_among_the_slow, sound

SPEC = FeatureSpec(resolutions=(Resolution(name="R1", n_mels=8, num_frames=8),), variants=())
RATE = 22_050


def write_recordings(root: Path, parts: int = 6) -> Path:
    """Two recordings with a table of their parts, and the same parts as files in `files`."""
    rows, whole = ["path,start,end,label"], ["path,label"]
    (root / "files").mkdir(parents=True)
    for tape in range(2):
        data = (sound(tape, parts / 2, RATE) * 2**15).astype(np.int16)
        soundfile.write(root / f"tape{tape}.wav", data, RATE)
        for part in range(parts):
            start, end = part / 2, (part + 1) / 2
            rows.append(f"tape{tape}.wav,{start},{end},{'ab'[part % 2]}")
            name = f"tape{tape}.wav-{part}.wav"
            piece = data[round(start * RATE) : round(end * RATE)]
            soundfile.write(root / "files" / name, piece, RATE)
            whole.append(f"{name},{'ab'[part % 2]}")
    (root / "clips.csv").write_text("\n".join(rows))
    (root / "files" / "clips.csv").write_text("\n".join(whole))
    return root


@pytest.fixture
def parts(tmp_path: Path) -> Dataset:
    return load_collection(write_recordings(tmp_path / "tapes"))


@dask_among_the_slow
def test_parts_have_the_features_of_the_same_clips_as_files(
    parts: Dataset, tmp_path: Path, executor: Executor, small_blocks: None
) -> None:
    build(parts, tmp_path / "p.zarr", SPEC, executor)
    files = load_collection(parts.root / "files")
    build(files, tmp_path / "f.zarr", SPEC)
    one, other = (featurestore.open_store(tmp_path / name) for name in ("p.zarr", "f.zarr"))
    assert np.array_equal(one.read("R1/full")[0], other.read("R1/full")[0])
    assert one.clips().path.tolist() != other.clips().path.tolist()
    assert np.array_equal(one.clips().duration_s, other.clips().duration_s)


def test_rows_know_their_part_and_the_leak_guard_the_recording(
    parts: Dataset, tmp_path: Path
) -> None:
    build(parts, tmp_path / "s.zarr", SPEC)
    store = featurestore.open_store(tmp_path / "s.zarr")
    clips = store.clips()
    assert store.manifest.format_version == 3
    assert "tape1.wav#t=0.5,1.0" in clips.clip_id
    assert set(zip(clips.start_s, clips.end_s, strict=True)) == {
        (part / 2, (part + 1) / 2) for part in range(6)
    }
    assert set(clips.source) == set(clips.path) == {"tape0.wav", "tape1.wav"}
    assert len(set(store.source_digests())) == 2


def test_parts_of_one_file_are_never_in_two_folds(tmp_path: Path) -> None:
    root = write_recordings(tmp_path / "tapes")
    how = Collection(folds=2)
    dataset = load_collection(root, how=how)
    assert len(set(zip(dataset.clips.path, dataset.clips.fold, strict=True))) == 2
    lines = (root / "clips.csv").read_text().splitlines()
    sites = [f"{line},{'site' if i == 0 else i % 3}" for i, line in enumerate(lines)]
    (root / "clips.csv").write_text("\n".join(sites))
    with pytest.raises(DatasetError, match="there are 1"):
        load_collection(root, how=how.model_copy(update={"group_by": "site"}))


def test_a_store_of_parts_is_verified_and_repaired(
    parts: Dataset, tmp_path: Path, small_blocks: None
) -> None:
    store = tmp_path / "s.zarr"
    build(parts, store, SPEC)
    before = contents(store)
    assert [p for part in verify(store, root=parts.root) for p in part] == []
    for key in ("start_s/c/0", "R1/full/c/1/0/0"):
        (store / "tapes" / "fold1" / key).unlink()
    assert [p for part in verify(store) for p in part]
    list(repair(parts, store))
    assert contents(store) == before
    data, _ = soundfile.read(parts.root / "tape0.wav")
    soundfile.write(parts.root / "tape0.wav", data[::-1], RATE)
    problems = [p for part in verify(store, root=parts.root) for p in part]
    assert any("tape0.wav: the file is not the one" in problem for problem in problems)


def test_a_part_beyond_its_recording_fails_alone(tmp_path: Path) -> None:
    root = write_recordings(tmp_path / "tapes")
    with (root / "clips.csv").open("a") as table:
        table.write("\ntape0.wav,2.8,3.5,a\nabsent.wav,0,1,b\n")
    report = build(load_collection(root), tmp_path / "s.zarr", SPEC)
    failed = {failure.clip_id: failure.status for failure in report.failures}
    assert failed == {
        "tape0.wav#t=2.8,3.5": ClipStatus.TRUNCATED,
        "absent.wav#t=0.0,1.0": ClipStatus.MISSING,
    }


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("tape0.wav,1,0.5,a", "line 14: end is '0.5', which is not after the start"),
        ("tape0.wav,x,2,a", "line 14: start is 'x', expected seconds"),
        ("tape0.wav,-1,2,a", "line 14: start is '-1', expected seconds"),
        ("tape0.wav,nan,2,a", "line 14: start is 'nan', expected seconds"),
        ("tape0.wav,0.0,0.50,a", "line 14: path 'tape0.wav' is on line 2 too"),
    ],
)
def test_a_part_that_cannot_be_is_refused_with_its_line(
    tmp_path: Path, row: str, said: str
) -> None:
    root = write_recordings(tmp_path / "tapes")
    with (root / "clips.csv").open("a") as table:
        table.write(f"\n{row}\n")
    with pytest.raises(DatasetError) as caught:
        load_collection(root)
    assert said in str(caught.value)


def test_columns_named_start_and_end_can_be_disowned(tmp_path: Path) -> None:
    root = write_recordings(tmp_path / "tapes", parts=1)
    dataset = load_collection(root, how=Collection(columns={"start": "", "end": ""}))
    assert dataset.clips.start_s is None
    assert dataset.clips.clip_id.tolist() == ["tape0.wav", "tape1.wav"]

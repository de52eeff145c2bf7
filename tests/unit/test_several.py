"""FSD50K and BirdSet in miniature, as their publishers distribute them."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from featurestore.datasets import Dataset, load_dataset
from featurestore.errors import DatasetError
from tests.unit.test_dataset_folder import touch


def rows(dataset: Dataset) -> dict[str, tuple[str, str | None, list[str], str]]:
    """Split, primary class, labels and source of each clip by its id."""
    names = dataset.card.class_names
    return {
        clip.clip_id: (
            dataset.fold_names[clip.fold],
            None if clip.class_id < 0 else names[clip.class_id],
            [names[number] for number in clip.labels or ()],
            clip.source,
        )
        for clip in dataset.clips
    }


def fsd50k(root: Path) -> Path:
    touch(root, "FSD50K.dev_audio/64760.wav", "FSD50K.dev_audio/9.wav", "FSD50K.eval_audio/1.wav")
    truth, metadata = root / "FSD50K.ground_truth", root / "FSD50K.metadata"
    truth.mkdir()
    metadata.mkdir()
    (truth / "vocabulary.csv").write_text(
        "0,Electric_guitar,/m/02sgy\n1,Guitar,/m/0342h\n2,Music,/m/04rlf\n3,Rain,/m/06mb1\n"
    )
    (truth / "dev.csv").write_text(
        "fname,labels,mids,split\n"
        '64760,"Electric_guitar,Guitar,Music","/m/02sgy,/m/0342h,/m/04rlf",train\n'
        "9,Rain,/m/06mb1,val\n"
    )
    (truth / "eval.csv").write_text('fname,labels,mids\n1,"Guitar,Music","/m/0342h,/m/04rlf"\n')
    for part, clips in {"dev": {"64760": "ann", "9": "bob"}, "eval": {"1": "eve"}}.items():
        of = {name: {"title": "t", "uploader": who} for name, who in clips.items()}
        (metadata / f"{part}_clips_info_FSD50K.json").write_text(json.dumps(of))
    return root


def birdset(root: Path) -> Path:
    touch(root, "HSN_train_shard_0001/XC1.ogg", "HSN_train_shard_0001/XC2.ogg", "HSN_test/S1.ogg")
    train = {
        "filepath": ["XC1.ogg", "XC2.ogg"],
        "ebird_code": ["gcrfin", "amepip"],
        "ebird_code_multilabel": [["gcrfin"], ["amepip", "gcrfin"]],
        "recordist": ["Ann", None],
        "start_time": [None, None],
    }
    test = {
        "filepath": ["S1.ogg", "S1.ogg"],
        "start_time": [0, 5],
        "end_time": [5, 10],
        "ebird_code": ["gcrfin", None],
        "ebird_code_multilabel": [["gcrfin", "whcspa"], []],
    }
    for name, table in {"train": train, "test_5s": test}.items():
        parquet.write_table(pa.table(table), root / f"HSN_metadata_{name}.parquet")
    return root


def test_fsd50k_has_its_splits_vocabulary_and_uploaders(tmp_path: Path) -> None:
    dataset = load_dataset("fsd50k", fsd50k(tmp_path))
    assert rows(dataset) == {
        "FSD50K.dev_audio/64760.wav": ("train", None, ["Electric_guitar", "Guitar", "Music"],
                                       "ann"),
        "FSD50K.dev_audio/9.wav": ("valid", "Rain", ["Rain"], "bob"),
        "FSD50K.eval_audio/1.wav": ("test", None, ["Guitar", "Music"], "eve"),
    }  # fmt: skip
    assert dataset.card.class_names == ("Electric_guitar", "Guitar", "Music", "Rain")
    assert (dataset.warnings, "TASLP" in dataset.card.citation) == ((), True)


def test_fsd50k_without_metadata_says_that_uploaders_are_not_known(tmp_path: Path) -> None:
    for file in (fsd50k(tmp_path) / "FSD50K.metadata").iterdir():
        file.unlink()
    assert "3 clips without an uploader" in load_dataset("fsd50k", tmp_path).warnings[0]


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("dev.csv", ",val", ",other", "expected the splits train and val, got 'other'"),
        ("eval.csv", "Guitar,", "Gitar,", "'Gitar' is no class"),
        ("vocabulary.csv", ",/m/0342h", "", "vocabulary.csv, line 2: expected index, label"),
    ],
)
def test_a_table_of_fsd50k_that_is_wrong_is_named(
    tmp_path: Path, file: str, old: str, new: str, said: str
) -> None:
    path = fsd50k(tmp_path) / "FSD50K.ground_truth" / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DatasetError) as caught:
        load_dataset("fsd50k", tmp_path)
    assert said in str(caught.value)


def test_birdset_has_recordings_to_train_on_and_segments_of_soundscapes_as_test(
    tmp_path: Path,
) -> None:
    dataset = load_dataset("birdset", birdset(tmp_path))
    found = rows(dataset)
    assert {(split, first, *labels, source) for split, first, labels, source in found.values()} == {
        ("train", "gcrfin", "gcrfin", "recordist Ann"),
        ("train", "amepip", "amepip", "gcrfin", "file XC2.ogg"),
        ("test", None, "gcrfin", "whcspa", "file S1.ogg"),
        ("test", None, "file S1.ogg"),
    }
    assert "HSN_test/S1.ogg#t=5.0,10.0" in found
    assert dataset.card.title == "BirdSet HSN"


def test_birdsets_segments_are_files_and_its_largest_subsets_have_one_table(tmp_path: Path) -> None:
    place, name = tmp_path / "test5s", "HSN_001_20150708_061805"
    touch(tmp_path, "XC1.ogg", *(f"test5s/{name}_{of}.ogg" for of in ("000_005", "095_100")))
    one = pa.table({"filepath": ["XC1.ogg"], "ebird_code": ["gcrfin"]})
    segments = pa.table(
        {
            "filepath": [f"{name}_000_005.ogg", f"{name}_095_100.ogg"],
            "start_time": [0.0, 95.0],
            "end_time": [5.0, 100.0],
            "ebird_code_multilabel": [["gcrfin"], ["whcspa", "amepip"]],
        }
    )
    parquet.write_table(one, tmp_path / "HSN_metadata_train.parquet")
    parquet.write_table(segments, tmp_path / "HSN_metadata_test_5s.parquet")
    assert rows(load_dataset("birdset", tmp_path)) == {
        "XC1.ogg": ("train", "gcrfin", ["gcrfin"], "file XC1.ogg"),
        f"test5s/{name}_000_005.ogg": ("test", None, ["gcrfin"], f"file {name}.ogg"),
        f"test5s/{name}_095_100.ogg": ("test", None, ["amepip", "whcspa"], f"file {name}.ogg"),
    }
    for table in tmp_path.glob("*.parquet"):
        table.unlink()
    shutil.rmtree(place)
    parquet.write_table(one, tmp_path / "XCM_metadata.parquet")
    dataset = load_dataset("birdset", tmp_path)
    assert dataset.card.title == "BirdSet XCM"
    assert list(rows(dataset)) == ["XC1.ogg"]


def test_two_subsets_of_birdset_in_one_root_are_refused(tmp_path: Path) -> None:
    birdset(tmp_path)
    (tmp_path / "POW_metadata_train.parquet").write_bytes(b"")
    with pytest.raises(DatasetError, match="expected one subset of BirdSet"):
        load_dataset("birdset", tmp_path)

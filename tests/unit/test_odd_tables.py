"""Tables and shards as people really have them: what is understood, and what is said otherwise."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featurestore.datasets import Dataset, load_collection, read_frame
from featurestore.datasets.directories import is_store
from featurestore.datasets.leftout import count_unlisted
from featurestore.errors import DatasetError
from schemas import Collection
from tests.unit.test_dataset_folder import touch


def read(root: Path, text: str, name: str = "clips.csv", *files: str) -> Dataset:
    touch(root, "a.wav", "b.wav", *files)
    (root / name).write_text(text, encoding="utf-8")
    return load_collection(root)


def refusal(root: Path, text: str, name: str = "clips.csv") -> str:
    with pytest.raises(DatasetError) as caught:
        read(root, text, name)
    return str(caught.value)


@pytest.mark.parametrize(
    ("cells", "folds"),
    [(("1.0", "2.0"), [1, 2]), (("fold1", "fold_2"), [1, 2]), (("03", "4"), [3, 4])],
)
def test_folds_are_numbers_also_where_pandas_has_made_floats_of_them(
    cells: tuple[str, str], folds: list[int], tmp_path: Path
) -> None:
    dataset = read(tmp_path, f"path,class,fold\na.wav,x,{cells[0]}\nb.wav,y,{cells[1]}\n")
    assert (dataset.clips.fold.tolist(), dataset.fold_names) == (folds, {})


@pytest.mark.parametrize("cells", [("-1", "1"), ("1.5", "2"), ("1", "test")])
def test_what_is_no_number_of_a_fold_is_none(cells: tuple[str, str], tmp_path: Path) -> None:
    text = f"path,class,fold\na.wav,x,{cells[0]}\nb.wav,y,{cells[1]}\n"
    assert "expected a whole number from 0" in refusal(tmp_path, text)


def test_splits_that_differ_in_case_only_are_refused_and_others_keep_their_names(
    tmp_path: Path,
) -> None:
    text = "path,class,split\na.wav,x,TRAIN\nb.wav,y,{}\n"
    assert "split is 'train', and also 'TRAIN'" in refusal(tmp_path, text.format("train"))
    assert read(tmp_path, text.format("Test")).fold_names == {1: "TRAIN", 2: "Test"}


def test_a_list_as_numpy_writes_it_is_not_joined_to_one_label(tmp_path: Path) -> None:
    dataset = read(tmp_path, "path,labels\na.wav,\"['a' 'b'\n 'c']\"\nb.wav,\"['a']\"\n")
    assert dataset.card.class_names == ("a", "b", "c")
    assert dataset.clips.labels is not None
    assert dataset.clips.labels.tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize("column", ["class", "labels", "speaker"])
def test_a_missing_value_that_was_written_as_text_is_pointed_out(
    column: str, tmp_path: Path
) -> None:
    header, rows = ("path,class", "a.wav,x") if column == "speaker" else ("path", "a.wav")
    other = "b.wav,y" if column == "speaker" else "b.wav"
    dataset = read(tmp_path, f"{header},{column}\n{rows},nan\n{other},z\n")
    assert f"1 of 2 cells of {column!r} are 'nan', which is taken for" in dataset.warnings[0]
    assert read(tmp_path, "path,class\na.wav,x\nb.wav,y\n").warnings == ()


def test_parts_without_an_end_are_said_to_go_to_the_end_of_their_files(tmp_path: Path) -> None:
    dataset = read(tmp_path, "path,onset,duration,class\na.wav,0.5,1,x\nb.wav,0,1,y\n")
    assert "start from 'onset' (clips end where their files do)" in dataset.understood[0]


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("gone.csv")])
@pytest.mark.parametrize(
    "name", ["clips.csv", "metadata.jsonl", "metadata.parquet", "other.csv", "train/metadata.csv"]
)
def test_a_table_that_cannot_be_read_is_not_taken_for_none(
    name: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    touch(tmp_path, "train/x/a.wav", "train/y/b.wav")
    make(tmp_path / name)
    with pytest.raises(DatasetError, match=str(tmp_path / name)):
        load_collection(tmp_path)


def test_a_dead_link_next_to_a_table_is_not_in_its_way(tmp_path: Path) -> None:
    (tmp_path / "other.csv").symlink_to("gone.csv")
    assert read(tmp_path, "path,class\na.wav,x\n", "mine.csv").card.class_names == ("x",)


def test_sounds_that_a_table_does_not_list_are_counted(tmp_path: Path) -> None:
    others = ("more/c.wav", "more/d.FLAC", ".hidden/e.wav", "more/.f.wav", "more/notes.txt")
    touch(tmp_path, "s.zarr/x.wav")
    (tmp_path / "s.zarr/zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    dataset = read(tmp_path, "path,class\na.wav,x\nb.wav,y\n", "clips.csv", *others)
    assert dataset.left_out == ("2 sounds that the table does not list",)
    (tmp_path / "clips.csv").write_text(
        "path,class\na.wav,x\nb.wav,y\nmore/c.wav,x\nmore/d.FLAC,x\n"
    )
    assert load_collection(tmp_path).left_out == ()


def test_a_root_of_everything_is_not_searched_for_what_a_table_does_not_list(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "a.wav", "b/c.wav", "b/d.wav")
    for most_names, number in ((4, 2), (3, 0), (1, 0)):
        assert count_unlisted(tmp_path, {"a.wav"}, is_store, most_names) == number


def cut(source: str) -> dict[str, Any]:
    recording = {"id": "r", "sampling_rate": 8000, "num_samples": 800, "duration": 0.1}
    recording |= {"sources": [{"type": "file", "channels": [0], "source": source}]}
    supervision = {"id": "s", "recording_id": "r", "start": 0, "duration": 0.1}
    return {
        "id": "c",
        "type": "MonoCut",
        "start": 0,
        "duration": 0.1,
        "channel": 0,
        "recording": recording,
        "supervisions": [supervision | {"custom": {"label": "x"}}],
    }


def test_recordings_of_cuts_by_absolute_paths_are_read_below_the_root_alone(
    tmp_path: Path,
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    for root in (real, tmp_path / "link"):
        for place in (root, root.resolve()):
            dataset = read(root, json.dumps(cut(f"{place}/a.wav")), "cuts.jsonl")
            assert dataset.clips.path.tolist() == ["a.wav"]
    text = refusal(real, json.dumps(cut("/data/elsewhere/a.wav")), "cuts.jsonl")
    assert f"line 1: the recording is '/data/elsewhere/a.wav', expected one below {real}" in text


def test_cells_with_neither_bytes_nor_a_path_are_counted(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    audio = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": None, "path": None}, {"bytes": None, "path": "a.wav"}], audio)
    parquet.write_table(pa.table({"audio": cells, "label": ["x", "y"]}), tmp_path / "x.parquet")
    with pytest.raises(DatasetError, match="1 of 2 cells of 'audio' have neither bytes nor a path"):
        load_collection(tmp_path)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ({"path": "ab", "class": "xy"}, "cells of the column 'path', one per row, got \"'ab'\""),
        ({"path": None, "class": ["x"]}, "cells of the column 'path', one per row, got 'None'"),
        ({"path": ["a.wav"], "class": 5}, "cells of the column 'class', one per row, got '5'"),
        ({"path": ["a.wav"], "labels": [[["x"]]]}, "row 1: labels is \"[['x']]\", expected a text"),
        ({"path": ["a.wav"], "class": [{"x"}]}, "row 1: class is \"{'x'}\", expected a text"),
        ({1: ["a.wav"], "class": ["x"]}, "no column says where the sounds are"),
        ([{"path": "a.wav"}], "expected a pandas data frame, an Arrow table or a mapping"),
    ],
)
def test_what_is_no_column_of_a_frame_is_refused(frame: object, words: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    with pytest.raises(DatasetError) as caught:
        read_frame(frame, tmp_path)
    assert words in str(caught.value)


def test_columns_that_have_numbers_for_names_are_read(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    touch(tmp_path, "a.wav")
    frame = pandas.DataFrame([["a.wav", "x"]])
    how = Collection(columns={"path": "0", "class": "1"})
    assert read_frame(frame, tmp_path, how=how).card.class_names == ("x",)

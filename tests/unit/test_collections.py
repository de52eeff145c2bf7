"""Custom collections: tables in any format, all layouts, and what is reported about them."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from featurestore.datasets import Dataset
from featurestore.datasets.collection import Naming, load_collection, read_frame
from featurestore.datasets.formats import DELIMITERS
from featurestore.datasets.own import OwnOptions, load_own
from featurestore.errors import DatasetError
from schemas import Collection
from tests.shard_files import needs, quiet
from tests.unit.test_dataset_folder import facts, touch

ROWS = [
    ("001.wav", "dog", "1", "tapeA"),
    ("1e3.wav", "cat, wild", "2", "tapeB"),
    ("sub/2.wav", "dog", "2", "tapeB"),
]
HEADER = ("Filename", "Label", "fold", "Recording")
FACTS = [("001.wav", 1, "dog"), ("1e3.wav", 2, "cat, wild"), ("sub/2.wav", 2, "dog")]


def records() -> list[dict[str, str]]:
    return [dict(zip(HEADER, row, strict=True)) for row in ROWS]


def write_csv(root: Path, delimiter: str = ",", name: str = "clips.csv", bom: str = "") -> None:
    lines = [delimiter.join(f'"{cell}"' for cell in row) for row in (HEADER, *ROWS)]
    (root / name).write_text(bom + "\n".join(lines) + "\n")


def write_json_lines(root: Path, name: str = "clips.jsonl") -> None:
    (root / name).write_text("".join(json.dumps(row) + "\n" for row in records()))


def write_parquet(root: Path, name: str = "clips.parquet") -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pa.Table.from_pylist(records()), root / name)


WRITERS: dict[str, Any] = {
    **{words: lambda root, d=d: write_csv(root, d) for d, words in DELIMITERS.items()},
    "tsv": lambda root: write_csv(root, "\t", "clips.tsv"),
    "byte order mark": lambda root: write_csv(root, ";", bom="\ufeff"),
    "json lines": write_json_lines,
    "parquet": write_parquet,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return touch(tmp_path / "My birds!", *(row[0] for row in ROWS))


def refusal(root: Path, how: Collection | None = None) -> str:
    with pytest.raises(DatasetError) as caught:
        load_collection(root, how=how)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", WRITERS)
def test_a_table_of_every_kind_gives_the_same_clips(root: Path, kind: str) -> None:
    WRITERS[kind](root)
    dataset = load_collection(root)
    assert facts(dataset) == FACTS
    assert dataset.clips.source.tolist() == ["tapeA", "tapeB", "tapeB"]
    assert dataset.card.name == "My-birds"
    assert dataset.understood[1:] == ("2 classes", "2 folds")


def test_a_data_frame_an_arrow_table_and_a_dict_give_the_same_clips(root: Path) -> None:
    frames = [pd.DataFrame(records()), {k: [r[k] for r in records()] for k in HEADER}]
    if pa := pytest.importorskip("pyarrow"):
        frames.append(pa.Table.from_pylist(records()))
    for frame in frames:
        assert facts(read_frame(frame, root)) == FACTS


def test_whole_numbers_that_pandas_made_floats_are_folds_and_gaps_are_empty(root: Path) -> None:
    frame = pd.DataFrame({"path": ["001.wav", "1e3.wav"], "label": ["a", "b"], "fold": [1.0, 2.0]})
    assert read_frame(frame, root).clips.fold.tolist() == [1, 2]
    frame["label"] = ["a", None]
    with pytest.raises(DatasetError, match="row 2: label is empty"):
        read_frame(frame, root)


def test_named_columns_go_before_obvious_ones(root: Path) -> None:
    text = "name,label,bird,part\n001.wav,x,owl,1\n1e3.wav,y,tit,2\n"
    (root / "t.csv").write_text(text)
    columns = {"path": "name", "class": "bird", "fold": "part"}
    dataset = load_collection(root, how=Collection(columns=columns))
    assert facts(dataset) == [("001.wav", 1, "owl"), ("1e3.wav", 2, "tit")]
    assert dataset.collection.columns == columns
    assert "no column says where the sounds are" in refusal(root)
    assert "no column 'bord'" in refusal(root, Collection(columns={"class": "bord"}))


def test_other_columns_that_could_have_been_meant_are_said(root: Path) -> None:
    (root / "t.csv").write_text("path,label,target\n001.wav,owl,0\n")
    assert "class from 'label' (and not 'target')" in load_collection(root).understood[0]


@pytest.mark.parametrize("cell", ["['owl']", '["owl"]', "owl"])
@pytest.mark.parametrize("column", ["label", "labels"])
def test_a_list_of_one_label_is_that_label(root: Path, cell: str, column: str) -> None:
    quoted = cell.replace('"', '""')
    (root / "t.csv").write_text(f'path,{column}\n001.wav,"{quoted}"\n')
    assert load_collection(root).card.class_names == ("owl",)


def test_a_table_of_another_root_is_refused_with_a_path_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\nelsewhere/a.wav,owl\n")
    message = refusal(tmp_path)
    assert "'elsewhere/a.wav', from the column 'path'" in message
    assert "--root" in message


def test_folds_that_are_named_are_numbered_in_the_order_of_training(root: Path) -> None:
    text = "path,label,split\n001.wav,x,test\n1e3.wav,y,train\nsub/2.wav,y,validation\n"
    (root / "t.csv").write_text(text)
    dataset = load_collection(root)
    assert dataset.fold_names == {1: "train", 2: "validation", 3: "test"}
    assert dataset.clips.fold.tolist() == [3, 1, 2]
    assert dataset.understood[-1] == "folds train, validation, test"


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (("1", "two"), "line 3: fold is 'two', expected a whole number from 0"),
        (("train", ""), "line 3: fold is empty"),
        (("1", ""), "line 3: fold is ''"),
    ],
)
def test_folds_that_are_half_numbers_or_empty_are_refused(
    root: Path, cells: tuple[str, str], said: str
) -> None:
    rows = zip(("001.wav", "1e3.wav"), cells, strict=True)
    lines = [f"{path},x,{fold}" for path, fold in rows]
    (root / "t.csv").write_text("\n".join(["path,label,fold", *lines]))
    assert said in refusal(root)


LAYOUTS = {
    "class/file": (["dog/a.wav", "cat/b.wav"], {}, [1, 1]),
    "fold/class/file": (["fold1/cat/a.wav", "fold2/dog/b.wav"], {}, [1, 2]),
    "split/class/file": (["test/dog/b.wav", "train/cat/a.wav"], {1: "train", 2: "test"}, [1, 2]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_recognised_by_its_directories(tmp_path: Path, layout: str) -> None:
    paths, names, folds = LAYOUTS[layout]
    dataset = load_collection(touch(tmp_path / "birds", *paths))
    assert dataset.understood[:2] == (layout, "2 classes")
    assert dataset.card.class_names == ("cat", "dog")
    assert (dataset.fold_names, dataset.clips.fold.tolist()) == (names, folds)
    assert dataset.card.name == "birds"


def test_a_class_called_train_stays_a_class(tmp_path: Path) -> None:
    """Hugging Face's loader takes the first of these three files only."""
    touch(tmp_path, "train/a.wav", "airplane/b.wav", "dog/c.wav")
    dataset = load_collection(tmp_path)
    assert dataset.card.class_names == ("airplane", "dog", "train")
    assert len(dataset.clips) == 3


@pytest.mark.parametrize("file", ["train.wav", "fold1.wav", "1.wav"])
def test_names_of_files_decide_nothing(tmp_path: Path, file: str) -> None:
    touch(tmp_path, f"cat/{file}", f"dog/{file}")
    assert load_collection(tmp_path).card.class_names == ("cat", "dog")


def test_directories_named_by_digits_are_classes_if_they_hold_the_sounds(tmp_path: Path) -> None:
    touch(tmp_path, "0/a.wav", "1/b.wav")
    assert load_collection(tmp_path).card.class_names == ("0", "1")


def test_splits_that_hold_no_classes_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.wav", "test/b.wav")
    assert "hold sounds and no directories of classes" in refusal(tmp_path)


def test_a_collection_one_directory_too_deep_is_pointed_to(tmp_path: Path) -> None:
    touch(tmp_path, "audio/cat/a.wav")
    assert f"or give --root {tmp_path / 'audio'}" in refusal(tmp_path)


@pytest.mark.parametrize("place", ["s.zarr", "cat/s.zarr", "zarr store"])
def test_a_store_inside_the_root_is_no_part_of_the_collection(tmp_path: Path, place: str) -> None:
    touch(tmp_path, "cat/a.wav", "dog/b.wav")
    before = load_collection(tmp_path)
    touch(tmp_path / place, "zarr.json", "birds/fold1/x.wav")
    dataset = load_collection(tmp_path)
    assert dataset.clips == before.clips
    assert dataset.left_out == ("1 Zarr stores",)


AUDIOFOLDER = {"metadata.csv": "csv", "metadata.jsonl": "jsonl", "metadata.parquet": "parquet"}


@pytest.mark.parametrize("name", AUDIOFOLDER)
@pytest.mark.parametrize("with_label", [True, False])
def test_audiofolder_is_read_with_classes_of_its_table_or_its_directories(
    tmp_path: Path, name: str, with_label: bool
) -> None:
    paths = ["train/cat/a.wav", "test/dog/b.wav"]
    touch(tmp_path, *paths)
    frame = pd.DataFrame({"file_name": paths, "remark": ["x", "y"]})
    if with_label:
        frame["label"], frame["split"] = ["owl", "tit"], ["train", "test"]
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
        frame.to_parquet(tmp_path / name)
    elif name.endswith("jsonl"):
        frame.to_json(tmp_path / name, orient="records", lines=True)
    else:
        frame.to_csv(tmp_path / name, index=False)
    dataset = load_collection(tmp_path)
    classes = ("owl", "tit") if with_label else ("cat", "dog")
    assert dataset.card.class_names == classes
    assert dataset.fold_names == {1: "train", 2: "test"}


def test_audiofolder_may_have_a_table_in_each_split(tmp_path: Path) -> None:
    for split, label in (("train", "owl"), ("test", "tit")):
        touch(tmp_path, f"{split}/a.wav", f"{split}/deep/b.wav")
        text = f"file_name,label,fold\na.wav,{label},9\ndeep/b.wav,owl,9\n"
        (tmp_path / split / "metadata.csv").write_text(text)
    dataset = load_collection(tmp_path)
    assert facts(dataset) == [
        ("test/a.wav", 2, "tit"),
        ("test/deep/b.wav", 2, "owl"),
        ("train/a.wav", 1, "owl"),
        ("train/deep/b.wav", 1, "owl"),
    ]
    assert dataset.fold_names == {1: "train", 2: "test"}
    assert dataset.understood[0].startswith("2 tables, test/metadata.csv … (path from 'file_name'")
    (tmp_path / "test" / "metadata.csv").write_text("file_name,label,fold\na.wav,,9\n")
    assert "test/metadata.csv, line 2: label is empty" in refusal(tmp_path)
    (tmp_path / "test" / "metadata.csv").unlink()
    assert "test: expected a table like the other splits'" in refusal(tmp_path)


def test_a_table_in_each_split_may_leave_the_classes_to_directories(tmp_path: Path) -> None:
    for split in ("train", "test"):
        touch(tmp_path, f"{split}/owl/a.wav", f"{split}/tit/b.wav")
        (tmp_path / split / "metadata.jsonl").write_text(
            '{"file_name": "owl/a.wav", "note": 1}\n{"file_name": "tit/b.wav", "note": 2}\n'
        )
    dataset = load_collection(tmp_path)
    assert dataset.card.class_names == ("owl", "tit")
    assert dataset.clips.fold.tolist() == [2, 2, 1, 1]
    for split in ("train", "test"):
        touch(tmp_path, f"{split}/c.wav")
        (tmp_path / split / "metadata.jsonl").write_text('{"file_name": "c.wav", "note": 1}\n')
    assert "Name it: --columns class=COLUMN" in refusal(tmp_path)


LOADED = {
    "class/file, one of which is called train": ["train/a.wav", "airplane/b.wav", "dog/c.wav"],
    "class/file": ["cat/a.wav", "airplane/b.wav", "dog/c.wav"],
    "split/class/file": ["train/cat/a.wav", "train/dog/b.wav", "test/cat/c.wav"],
}


@pytest.mark.parametrize("layout", LOADED)
def test_no_file_is_lost_that_hugging_faces_own_loader_takes_or_loses(
    layout: str, tmp_path: Path
) -> None:
    needs("datasets")
    with quiet():
        from datasets.data_files import DataFilesDict, get_data_patterns

        root = touch(tmp_path / "root", *LOADED[layout])
        patterns = get_data_patterns(str(root))
        theirs = DataFilesDict.from_patterns(patterns, base_path=str(root))
    dataset = load_collection(root)
    ours: dict[str, set[str]] = {}
    for path, fold in zip(dataset.clips.path.tolist(), dataset.clips.fold.tolist(), strict=True):
        ours.setdefault(dataset.fold_names.get(fold, "train"), set()).add(path)
    split = {
        name: {Path(file).relative_to(root).as_posix() for file in files}
        for name, files in theirs.items()
    }
    if "train" in dataset.card.class_names:
        assert split == {"train": {"train/a.wav"}}  # one of three, without a word
        assert ours == {"train": set(LOADED[layout])}
    else:
        assert ours == split


def own(root: Path, **options: Any) -> Dataset:
    return load_own(root, OwnOptions(**options))


def test_names_and_folds_are_taken_from_the_options_and_recorded(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}/{i}.wav" for name in ("cat", "dog") for i in range(10)))
    dataset = own(tmp_path, name="birds", title="T", licence="CC0", folds=5, fold_seed=3)
    assert (dataset.card.name, dataset.card.title, dataset.card.licence) == ("birds", "T", "CC0")
    assert dataset.collection == Collection(folds=5, fold_seed=3)
    assert sorted(dataset.clips.fold.tolist()) == [f for f in range(1, 6) for _ in range(4)]
    assert dataset.understood[-1] == "5 folds made by class (seed 3, each clip on its own)"
    again = load_collection(tmp_path, Naming("birds"), dataset.collection)
    assert again.clips == dataset.clips


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "esc50"}, "its own reader"),
        ({"name": "a/b"}, "--name: expected letters, digits, _ and -, .* got 'a/b'"),
        ({"folds": "x"}, "--folds: expected a whole number"),
        ({"fold_seed": -1}, "--fold-seed: expected at least 0"),
        ({"columns": ("path",)}, "expected ROLE=COLUMN"),
        ({"columns": ("colour=red",)}, "expected ROLE=COLUMN"),
        ({"columns": ("class=label",)}, "there is no table"),
        ({"group_by": "tape"}, "there is no table"),
        ({"folds": 1}, "at least 2"),
        ({"folds": 9}, "9 folds need as many groups"),
        ({"table": Path("absent.csv")}, "cannot read the table"),
        ({"table": Path("notes.doc")}, "expected a table ending in"),
    ],
)
def test_options_that_cannot_be_are_refused(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    touch(tmp_path, "cat/a.wav", "dog/b.wav")
    with pytest.raises(DatasetError, match=said):
        own(tmp_path, **options)


def test_folds_of_its_own_are_not_replaced_unless_the_column_is_disowned(root: Path) -> None:
    write_csv(root)
    with pytest.raises(DatasetError, match="the collection has 2 folds of its own"):
        own(root, folds=2)
    dataset = own(root, folds=2, columns=("fold=",))
    tapes = dict(zip(dataset.clips.source.tolist(), dataset.clips.fold.tolist(), strict=True))
    assert set(tapes.values()) == {1, 2}
    assert dataset.clips.fold.tolist() == [tapes[tape] for _, _, _, tape in ROWS]


def test_a_known_dataset_is_pointed_to(tmp_path: Path) -> None:
    touch(tmp_path, "meta/esc50.csv", "audio/a.wav")
    with pytest.raises(DatasetError, match="add --dataset esc50; or --name NAME"):
        own(tmp_path)
    with pytest.raises(DatasetError, match="expected --root DIR"):
        load_own(None, OwnOptions())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]\n", "line 1: expected a JSON object, got"),
        ('{"path": \n', "line 1: expected one JSON object per line"),
        ('{"path": "001.wav", "label": {"a": 1}}\n', "line 1: label is"),
        ("", "the table is empty"),
    ],
)
def test_json_lines_that_are_none_are_refused_with_the_line(
    root: Path, text: str, said: str
) -> None:
    (root / "t.jsonl").write_text(text)
    assert said in refusal(root)


def test_a_parquet_file_that_is_none_is_refused(root: Path) -> None:
    pytest.importorskip("pyarrow")
    (root / "t.parquet").write_bytes(b"PAR1 but nothing else")
    assert "cannot read the table" in refusal(root)

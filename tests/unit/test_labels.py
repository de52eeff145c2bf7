"""Several labels per clip, or none: from any table to multi-hot labels, and to folds."""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from featurestore.cliplist import ClipList, class_ids, multi_hot
from featurestore.datasets import Dataset
from featurestore.datasets.collection import load_collection, read_frame
from featurestore.datasets.folds import make_multilabel_folds
from featurestore.datasets.labels import split_cells
from featurestore.errors import DatasetError
from schemas import Clip, Collection


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.wav").touch()
    return tmp_path


def names_of(dataset: Dataset) -> list[tuple[str | None, list[str]]]:
    """The primary class and all labels of each clip."""
    names = dataset.card.class_names
    return [
        (None if c.class_id < 0 else names[c.class_id], [names[i] for i in c.labels or ()])
        for c in dataset.clips
    ]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["a,b", "", "c", "a"], [["a", "b"], [], ["c"], ["a"]]),
        (["a;b", "c"], [["a", "b"], ["c"]]),
        (["Accelerating, revving, vroom;Engine", "Ice, cracking"],
         [["Accelerating, revving, vroom", "Engine"], ["Ice, cracking"]]),
        (['"Accelerating, revving, vroom",Engine'], [["Accelerating, revving, vroom", "Engine"]]),
        (["['a', 'b, c']", '["a; d"]', "a,b"], [["a", "b, c"], ["a; d"], ["a", "b"]]),
        (["[]", "['']", "a, a"], [[], [], ["a"]]),
    ],
)  # fmt: skip
def test_a_list_is_split_where_its_writer_separated_it(
    cells: list[str], expected: list[list[str]]
) -> None:
    assert split_cells(cells, several=True) == expected


def test_a_comma_in_a_column_of_one_class_is_part_of_the_name(root: Path) -> None:
    (root / "t.csv").write_text('path,label\na.wav,"Ice, cracking"\nb.wav,"[""x"", ""y""]"\n')
    dataset = load_collection(root)
    assert names_of(dataset) == [("Ice, cracking", ["Ice, cracking"]), (None, ["x", "y"])]


def test_lists_of_any_kind_of_table_become_the_same_labels(root: Path) -> None:
    expected = [(None, ["owl", "tit"]), ("owl", ["owl"]), (None, [])]
    lists = [["tit", "owl"], ["owl"], []]
    paths = ["a.wav", "b.wav", "c.wav"]
    (root / "t.csv").write_text("path,labels\na.wav,tit;owl\nb.wav,owl\nc.wav,\n")
    dataset = load_collection(root)
    assert names_of(dataset) == expected
    assert "2 classes; clips: 1 with one label, 1 with several, 1 with none" in dataset.understood
    for frame in (
        {"path": paths, "labels": lists},
        pa.table({"path": paths, "labels": lists}),
        {"path": paths, "labels": np.array(["['tit', 'owl']", "owl", "[]"], object)},
    ):
        assert names_of(read_frame(frame, root)) == expected


def test_a_primary_label_leads_and_the_others_join_it(root: Path) -> None:
    text = "filename,primary_label,secondary_labels\n"
    text += "a.wav,owl,\"['tit', 'jay']\"\nb.wav,tit,[]\nc.wav,jay,['']\n"
    (root / "t.csv").write_text(text)
    dataset = load_collection(root)
    assert names_of(dataset) == [
        ("owl", ["jay", "owl", "tit"]),
        ("tit", ["tit"]),
        ("jay", ["jay"]),
    ]
    one = load_collection(root, how=Collection(columns={"class": "primary_label"}))
    assert one.clips.labels is None


def test_a_part_without_any_label_is_a_clip_and_a_file_without_is_refused(root: Path) -> None:
    (root / "t.csv").write_text("path,start,end,label\na.wav,0,1,owl\na.wav,1,2,\n")
    assert names_of(load_collection(root)) == [("owl", ["owl"]), (None, [])]
    (root / "t.csv").write_text("path,label\na.wav,owl\nb.wav,\n")
    with pytest.raises(DatasetError, match=r"line 3: label is empty; write \[\]"):
        load_collection(root)


def test_lists_of_one_label_each_are_a_dataset_of_one_label(root: Path) -> None:
    (root / "t.csv").write_text("path,labels\na.wav,owl\nb.wav,['tit']\n")
    clips = load_collection(root).clips
    (root / "t.csv").write_text("path,label\na.wav,owl\nb.wav,tit\n")
    assert clips == load_collection(root).clips
    assert clips.labels is None


def test_splitting_at_commas_that_may_be_part_of_a_name_is_said(root: Path) -> None:
    (root / "t.csv").write_text('path,labels\na.wav,"Ice, cracking"\nb.wav,owl\n')
    (warning,) = load_collection(root).warnings
    assert "'labels' split at commas: a name with a comma" in warning


def test_labels_that_look_alike_or_hold_control_characters_are_refused(root: Path) -> None:
    (root / "t.csv").write_text('path,labels\na.wav,owl;Owl\nb.wav,"[""x\\u0007""]"\n')
    with pytest.raises(DatasetError) as caught:
        load_collection(root)
    assert "line 3: the label 'x\\x07' has a control character" in str(caught.value)
    assert "line 2: the labels" in str(caught.value)


def test_a_clip_says_its_labels_and_a_list_of_clips_keeps_them() -> None:
    clips = [
        Clip(clip_id="1", path="1", fold=1, class_id=-1, labels=(0, 2)),
        Clip(clip_id="2", path="2", fold=1, class_id=1, labels=(1,)),
        Clip(clip_id="3", path="3", fold=1, class_id=-1, labels=()),
    ]
    columns = ClipList.of(clips)
    assert columns.labels is not None
    assert columns.labels.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert list(columns) == clips
    for wrong in ({"class_id": 1, "labels": (0,)}, {"class_id": -1}):
        with pytest.raises(ValueError, match="class_id"):
            Clip(**{"clip_id": "1", "path": "1", "fold": 1} | wrong)


Rows = list[tuple[set[int], int]]


@given(
    st.lists(st.tuples(st.sets(st.integers(0, 5)), st.integers(0, 15)), min_size=1, max_size=40),
    st.integers(2, 5),
    st.integers(0, 3),
)
def test_no_group_of_several_labels_is_in_two_folds_and_no_fold_is_empty(
    rows: Rows, num_folds: int, seed: int
) -> None:
    labels = multi_hot([sorted(ids) for ids, _ in rows], 6)
    assert class_ids(labels) == [tuple(sorted(ids)) for ids, _ in rows]
    _, groups = np.unique([group for _, group in rows], return_inverse=True)
    if groups.max() + 1 < num_folds:
        with pytest.raises(DatasetError, match=f"there are {groups.max() + 1}"):
            make_multilabel_folds(labels, groups, num_folds, seed)
        return
    made = make_multilabel_folds(labels, groups, num_folds, seed)
    assert len(set(zip(groups.tolist(), made.folds.tolist(), strict=True))) == groups.max() + 1
    assert set(made.folds.tolist()) == set(range(1, num_folds + 1))
    again = make_multilabel_folds(labels, groups, num_folds, seed)
    assert np.array_equal(made.folds, again.folds)


def draw(seed: int, num_clips: int, num_classes: int = 20) -> NDArray[np.uint8]:
    """Labels of classes whose frequencies differ by two orders, some clips without any."""
    rng = np.random.default_rng(seed)
    chance = np.geomspace(0.3, 0.005, num_classes)
    return (rng.random((num_clips, num_classes)) < chance).astype(np.uint8)


def unevenness(labels: NDArray[np.uint8], folds: NDArray[np.int64], num_folds: int) -> float:
    """Mean distance of a class's share in a fold from an even one."""
    counts = np.array([labels[folds == f].sum(axis=0) for f in range(1, num_folds + 1)])
    return float(np.abs(counts / counts.sum(axis=0) - 1 / num_folds).mean())


@pytest.mark.parametrize("clips_per_group", [1, 4])
def test_labels_are_spread_far_more_evenly_than_at_random(clips_per_group: int) -> None:
    labels = draw(0, 2000)
    groups = np.arange(2000) // clips_per_group
    made = make_multilabel_folds(labels, groups, 5)
    chance = np.random.default_rng(0).integers(1, 6, groups.max() + 1)[groups]
    assert unevenness(labels, made.folds, 5) < 0.3 * unevenness(labels, chance, 5)
    assert np.ptp(np.bincount(made.folds)[1:]) <= 0.1 * len(labels) / 5


def test_another_seed_makes_other_folds_and_rare_labels_are_named() -> None:
    labels, groups = draw(1, 300), np.arange(300)
    labels[:, 0] = 0
    labels[7, 0] = labels[8, 0] = 1
    one, two = (make_multilabel_folds(labels, groups, 5, seed, "abcdefghijklmnopqrst")
                for seed in (0, 1))  # fmt: skip
    assert not np.array_equal(one.folds, two.folds)
    assert any("in fewer than 5 groups" in text and "a (2)" in text for text in one.warnings)


@pytest.mark.slow
def test_folds_of_a_million_clips_of_several_labels_take_less_than_a_minute() -> None:
    labels, groups = draw(0, 1_000_000, 100), np.arange(1_000_000) // 3
    started = time.perf_counter()
    made = make_multilabel_folds(labels, groups, 5)
    assert time.perf_counter() - started < 60
    assert unevenness(labels, made.folds, 5) < 1e-3

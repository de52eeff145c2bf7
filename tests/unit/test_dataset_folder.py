"""A user's own directory: fold/class/file, or a table."""

import os
from pathlib import Path

import pytest

from featurestore.datasets import Dataset, load_dataset
from featurestore.errors import DatasetError
from tests.permissions import permissions_hold


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def facts(dataset: Dataset) -> list[tuple[str, int, str]]:
    names = dataset.card.class_names
    return [(clip.path, clip.fold, names[clip.class_id]) for clip in dataset.clips]


@pytest.mark.parametrize(("one", "ten"), [("1", "10"), ("fold1", "Fold10"), ("fold_1", "fold-10")])
def test_directories_give_folds_in_order_and_classes_by_name(
    tmp_path: Path, one: str, ten: str
) -> None:
    touch(tmp_path, f"{ten}/owl/b.flac", f"{one}/owl/a.WAV", f"{one}/cat/c d.mp3")
    dataset = load_dataset("folder", tmp_path)
    assert facts(dataset) == [
        (f"{one}/cat/c d.mp3", 1, "cat"),
        (f"{one}/owl/a.WAV", 1, "owl"),
        (f"{ten}/owl/b.flac", 10, "owl"),
    ]
    assert dataset.card.name == "folder"
    assert dataset.card.class_names == ("cat", "owl")
    assert all(clip.clip_id == clip.path and clip.source == "" for clip in dataset.clips)


def test_what_is_not_audio_or_not_at_that_depth_is_left_out(tmp_path: Path) -> None:
    good = "fold1/cat/a.wav"
    touch(tmp_path, good, "README.md", "a.wav", "fold1/b.wav", "fold1/cat/notes.txt")
    touch(tmp_path, "fold1/cat/deeper/c.wav", "fold1/cat/x.M4A", ".git/x/y.wav")
    touch(tmp_path, "fold1/cat/._a.wav", "fold1/.trash/b.wav", "fold1/cat/dir.wav/x")
    (tmp_path / "fold1" / "cat" / "gone.wav").symlink_to("nowhere")
    (tmp_path / "fold1" / "cat" / "all").symlink_to("/")
    os.mkfifo(tmp_path / "fold1" / "cat" / "pipe.wav")
    dataset = load_dataset("folder", tmp_path)
    assert facts(dataset) == [(good, 1, "cat")]
    assert set(dataset.left_out) == {
        "3 sounds at another depth than fold/class/file",
        "3 hidden",
        "1 with suffix .md",
        "1 with suffix .txt",
        "1 with suffix .m4a",
        "1 without a suffix",
        "1 dead links",
        "1 links to directories",
        "1 special files or directories",
    }


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        ("fold2/cat/a.m4a", r"fold 2 \(1 with suffix .m4a\)"),
        ("fold2/cat/deep/a.wav", r"fold 2 \(1 sounds at another depth"),
        ("fold1/cow/a.m4a", r"class 'cow' \(1 with suffix .m4a\)"),
        ("fold1/cow/.a.wav", r"class 'cow' \(1 hidden\)"),
    ],
)
def test_a_fold_or_a_class_that_yields_nothing_is_refused_and_named(
    tmp_path: Path, left_out: str, said: str
) -> None:
    touch(tmp_path, "fold1/cat/a.wav", left_out)
    with pytest.raises(DatasetError, match=said):
        load_dataset("folder", tmp_path)


def test_a_fold_without_any_file_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "fold1/cat/a.wav")
    (tmp_path / "fold2").mkdir()
    with pytest.raises(DatasetError, match=r"fold 2 \(empty\)"):
        load_dataset("folder", tmp_path)


ALIKE = [
    ("caf\u00e9", "cafe\u0301", "Unicode form"),
    ("dog", "Dog", "case or spaces"),
    ("sea waves", "sea  waves", "case or spaces"),
    ("dog", "dog ", "case or spaces"),
    ("stra\u00dfe", "STRASSE", "case or spaces"),
    ("dog", "d\u200bog", "the eye"),
    ("sea waves", "sea\u00a0waves", "case or spaces"),
    ("\uff44og", "dog", "the eye"),
]


@pytest.mark.parametrize(("one", "other", "what"), ALIKE)
def test_classes_that_look_alike_are_refused_and_both_named(
    tmp_path: Path, one: str, other: str, what: str
) -> None:
    touch(tmp_path, f"fold1/{one}/a.wav", f"fold2/{other}/b.wav")
    with pytest.raises(DatasetError, match=f"differ .*{what}") as caught:
        load_dataset("folder", tmp_path)
    named = str(caught.value)
    assert named.count(one) + named.count(ascii(one).strip("'")) >= 1
    assert named.count(other) + named.count(ascii(other).strip("'")) >= 1


@pytest.mark.parametrize(("one", "other", "what"), [c for c in ALIKE if c[1] != "dog "])
def test_classes_of_a_table_that_look_alike_are_refused(
    tmp_path: Path, one: str, other: str, what: str
) -> None:
    table = f"path,fold,class\na.wav,1,{one}\nb.wav,2,{other}\n"
    (tmp_path / "clips.csv").write_text(table)
    with pytest.raises(DatasetError, match=f"line 3: class has .*{what}"):
        load_dataset("folder", tmp_path)


def test_where_nothing_is_usable_the_message_says_what_was_found(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "fold1/b.wav", "fold1/cat/c.txt", ".hidden")
    with pytest.raises(DatasetError, match="expected audio files at fold/class/file") as caught:
        load_dataset("folder", tmp_path)
    assert "'a.wav', 'fold1/b.wav', 'fold1/cat/c.txt'" in str(caught.value)
    assert ".hidden" not in str(caught.value)


@pytest.mark.parametrize("name", ["train", "foldA", "fold1b", "xfold1"])
def test_a_folds_directory_needs_a_number(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "fold1/cat/a.wav", f"{name}/cat/a.wav")
    with pytest.raises(DatasetError, match=f"{name}: expected a fold's directory named by its"):
        load_dataset("folder", tmp_path)


def test_one_fold_has_one_directory(tmp_path: Path) -> None:
    touch(tmp_path, "1/cat/a.wav", "fold_01/cat/a.wav")
    with pytest.raises(DatasetError, match="both '1' and 'fold_01' are fold 1"):
        load_dataset("folder", tmp_path)


@pytest.mark.parametrize("name", [b"\xff.wav", b"a\nb.wav"])
def test_a_file_name_no_store_can_hold_is_refused(tmp_path: Path, name: bytes) -> None:
    directory = tmp_path / "1" / "cat"
    directory.mkdir(parents=True)
    (directory / os.fsdecode(name)).touch()
    with pytest.raises(DatasetError, match="not UTF-8 or has control characters"):
        load_dataset("folder", tmp_path)


@pytest.mark.parametrize("name", ["clips.csv", "Anything.CSV"])
def test_a_table_goes_before_directories(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "train/cat/a.wav")
    (tmp_path / name).write_text("path,fold,class\ntrain/cat/a.wav,3,owl\nb.wav,0,7\n")
    dataset = load_dataset("folder", tmp_path)
    assert facts(dataset) == [("train/cat/a.wav", 3, "owl"), ("b.wav", 0, "7")]
    assert dataset.clips[0].clip_id == "train/cat/a.wav"


def test_a_table_may_name_clips_and_their_sources(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text(
        "source,class,clip_id,path,fold,remark\ntape1,cat,one,a.wav,1,\n,cat,two,b.wav,1,x\n"
    )
    clips = load_dataset("folder", tmp_path).clips
    assert [(clip.clip_id, clip.source) for clip in clips] == [("one", "tape1"), ("two", "")]


def test_clips_csv_goes_before_other_tables(tmp_path: Path) -> None:
    touch(tmp_path, "other.csv", "more.csv")
    (tmp_path / "clips.csv").write_text("path,fold,class\na.wav,1,cat\n")
    assert facts(load_dataset("folder", tmp_path)) == [("a.wav", 1, "cat")]


def test_several_other_tables_are_not_guessed_between(tmp_path: Path) -> None:
    touch(tmp_path, "other.csv", "more.csv", "fold1/cat/a.wav")
    assert facts(load_dataset("folder", tmp_path)) == [("fold1/cat/a.wav", 1, "cat")]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a.wav,1,cat", "line 3: path 'a.wav' is on line 2 too"),
        ("../b.wav,1,cat", "line 3: path is '../b.wav', which leaves"),
        ("b.wav,x,cat", "line 3: fold is 'x'"),
        ("b.wav,1,", "line 3: class is empty"),
    ],
)
def test_a_users_table_is_checked_like_any_other(tmp_path: Path, row: str, said: str) -> None:
    (tmp_path / "clips.csv").write_text(f"path,fold,class\na.wav,1,cat\n{row}\n")
    with pytest.raises(DatasetError, match=said):
        load_dataset("folder", tmp_path)


@pytest.mark.parametrize("denied", ["2", "1/dog"])
def test_a_directory_that_cannot_be_listed_is_our_error(denied: str, tmp_path: Path) -> None:
    touch(tmp_path, "1/cat/a.wav")
    touch(tmp_path, "2/cat/b.wav")
    (tmp_path / denied).mkdir(exist_ok=True)
    (tmp_path / denied).chmod(0)
    with (
        permissions_hold(),
        pytest.raises(DatasetError, match=f"{denied}: cannot list the directory"),
    ):
        load_dataset("folder", tmp_path)
    (tmp_path / denied).chmod(0o700)

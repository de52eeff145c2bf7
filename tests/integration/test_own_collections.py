"""Custom collections, through the commands."""

import shutil
from pathlib import Path

import pytest

import featurestore
from featurestore import cli
from featurestore.datasets import collection
from featurestore.store.root import dataset_names
from tests.conftest import contents

SPEC = "resolutions:\n- {name: R1, n_mels: 8, num_frames: 8}\nvariants: []\n"


@pytest.fixture
def birds(tmp_path: Path, sounds: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of five sounds, in a directory that is the working one."""
    shutil.copytree(sounds / "fold1", tmp_path / "birds")
    monkeypatch.chdir(tmp_path / "birds")
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path / "birds"


def run(*arguments: str) -> int:
    return cli.main(["build", "--workers", "0", "--spec", "../spec.yaml", *arguments])


def test_a_second_build_in_the_collections_own_directory_is_a_no_op(
    birds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--root", ".") == 0
    before = contents(birds / "birds.zarr")
    shown = capsys.readouterr().err
    assert "understood as class/file; 2 classes; no folds" in shown
    assert run("--root", ".") == 0
    assert "left out: 1 Zarr stores" in capsys.readouterr().err
    assert contents(birds / "birds.zarr") == before
    assert featurestore.open_store("birds.zarr").name == "birds"


def test_two_collections_share_a_store_and_each_is_repaired_by_how_it_was_read(
    birds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{p.relative_to(birds)},{p.parent.name},{p.stem[-1]}" for p in birds.glob("*/*")]
    Path("list.tsv").write_text("\n".join(["f,c,tape", *rows]).replace(",", "\t"))
    columns = ["--columns", "path=f,class=c", "--folds", "2", "--group-by", "tape"]
    assert run("--root", ".", "--name", "one", "--store", "s.zarr", *columns) == 0
    Path("list.tsv").rename("other")
    assert run("--root", ".", "--name", "two", "--store", "s.zarr") == 0
    assert dataset_names("s.zarr") == ("one", "two")
    Path("other").rename("list.tsv")
    store = featurestore.open_store("s.zarr", "one")
    clips = store.clips()
    assert len(set(zip(clips.fold, clips.source, strict=True))) == len(set(clips.source)) == 5
    assert store.manifest.collection.group_by == "tape"
    before = contents(birds / "s.zarr")
    for key in ("one/fold1/path/c/0", "one/fold2/R1/full/c/0/0/0"):
        (birds / "s.zarr" / key).unlink()
    assert cli.main(["repair", "s.zarr", "--dataset", "one"]) == 1
    assert "give the directory of its audio with --root" in capsys.readouterr().err
    assert cli.main(["repair", "s.zarr", "--dataset", "one", "--root", "."]) == 0
    assert contents(birds / "s.zarr") == before


def test_named_splits_are_folds_of_version_3_and_folder_stays_as_it_was(
    birds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "test"):
        shutil.copytree(birds / "high", birds.parent / "birds2" / split / "high")
    root = str(birds.parent / "birds2")
    assert run("--root", root) == 0
    assert "folds train, test" in capsys.readouterr().err
    store = featurestore.open_store("birds2.zarr")
    assert store.manifest.format_version == 3
    assert store.fold_names == {1: "train", 2: "test"}
    assert run("--dataset", "folder", "--root", str(birds), "--store", "f.zarr") == 0
    manifest = featurestore.open_store("f.zarr").manifest
    assert (manifest.card.name, manifest.format_version) == ("folder", 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dataset", "esc50", "--folds", "5"), "--folds is for collections of your own"),
        (("--root", "nowhere"), "nowhere: expected the directory of a collection"),
        (("--root", ".", "--fold-seed", "1", "--folds", "9"), "as many groups"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    birds: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    shutil.rmtree(birds / "high")
    assert run(*arguments) == 1
    assert said in capsys.readouterr().err


def test_an_interrupt_while_sounds_of_ones_own_are_listed_speaks_of_no_download(
    birds: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "load_collection", interrupted)
    assert run("--root", ".") == 130
    shown = capsys.readouterr().err
    assert shown.count("stopped.") == 1
    assert "download" not in shown


def interrupted(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_the_trainer_is_suggested_only_for_a_store_that_its_method_can_train_on(
    birds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--root", ".") == 0
    assert "next: featurestore info birds.zarr" in capsys.readouterr().err
    assert cli.main(["info", "birds.zarr"]) == 0
    shown = capsys.readouterr().out
    assert "the paper's but for resolutions [{" in shown
    assert "variants []" in shown
    assert run("--root", ".", "--name", "second", "--store", "birds.zarr") == 0
    assert cli.main(["export", "birds.zarr", "--format", "npz", "--out", "a.npz"]) == 1
    assert "holds several datasets (birds, second): name one" in capsys.readouterr().err

"""Collections in shards, as other libraries write them, built as the same clips are as files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import featurestore
from featurestore import cli
from featurestore.building.build import build
from featurestore.datasets import Dataset
from featurestore.datasets.collection import load_collection
from schemas import FeatureSpec
from schemas.features import Resolution
from tests.conftest import contents, dask_among_the_slow
from tests.shard_files import CLASSES, NUM_CLIPS, SHARDS, write_files
from trainer.data.split import check_duplicates
from trainer.errors import DataError

SPEC = FeatureSpec(resolutions=(Resolution(name="R1", n_mels=8, num_frames=8),), variants=())
EMBEDDED = ("parquet", "save_to_disk", "webdataset")
"""Kinds that hold the very bytes of the files, with folds."""


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Collections of each kind that was asked for; not to be changed."""
    place = tmp_path_factory.mktemp("shards")
    return {"files": write_files(place / "files"), "": place}


def only(usual: str) -> pytest.MarkDecorator:
    """One of these kinds by default, a different one in each test; slow: all of them."""
    return pytest.mark.parametrize(
        "kind", [pytest.param(k, marks=() if k == usual else pytest.mark.slow) for k in EMBEDDED]
    )


def pristine(roots: dict[str, Path], kind: str) -> Path:
    if kind not in roots:
        roots[kind] = SHARDS[kind](roots[""] / kind.replace(" ", "-"))
    return roots[kind]


def images(store: Path) -> dict[bytes, NDArray[np.float16]]:
    """The first image of each clip by the digest of its bytes."""
    opened = featurestore.open_store(store)
    return dict(zip(opened.source_digests(), opened.read("R1/full")[0], strict=True))


@pytest.fixture(scope="module")
def expected(
    roots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[bytes, NDArray[np.float16]]:
    """The images of the same clips as files."""
    store = tmp_path_factory.mktemp("stores") / "files.zarr"
    build(load_collection(roots["files"]), store, SPEC)
    return images(store)


@pytest.mark.parametrize("kind", SHARDS)
def test_a_kind_of_shard_gives_the_clips_classes_folds_and_features_of_the_files(
    roots: dict[str, Path], expected: dict[bytes, NDArray[np.float16]], kind: str, tmp_path: Path
) -> None:
    dataset = load_collection(pristine(roots, kind))
    files = load_collection(roots["files"])
    names = dataset.card.class_names
    labels = [names[number] for number in dataset.clips.class_id]
    assert labels == [files.card.class_names[number] for number in files.clips.class_id]
    assert dataset.clips.fold.tolist() == files.clips.fold.tolist()
    assert len(set(dataset.clips.clip_id)) == NUM_CLIPS
    build(dataset, tmp_path / "s.zarr", SPEC)
    found = images(tmp_path / "s.zarr")
    if kind == "shar":  # which encodes the sounds again, losing nothing

        def ordered(many: dict[bytes, NDArray[np.float16]]) -> NDArray[np.float16]:
            return np.array(sorted(image.tolist() for image in many.values()))

        assert np.array_equal(ordered(found), ordered(expected))
    else:
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[digest], expected[digest]) for digest in expected)
    manifest = featurestore.open_store(tmp_path / "s.zarr").manifest
    assert manifest.format_version == (3 if manifest.shards else 2)
    assert manifest.shards == (kind not in ("parquet with paths", "cuts"))


def test_what_was_understood_of_each_kind_is_said(roots: dict[str, Path]) -> None:
    first = {kind: load_collection(pristine(roots, kind)).understood[0] for kind in SHARDS}
    folds = "class from 'label', fold from 'fold'"
    assert first == {
        "parquet": f"Parquet, 2 files, data/train-00000-of-00002.parquet … ({folds})",
        "parquet with paths": f"Parquet, list.parquet ({folds})",
        "save_to_disk": f"Arrow, 2 files, data-00000-of-00002.arrow … ({folds})",
        "save_to_disk with splits": "Arrow, 2 files, train/data-00000-of-00001.arrow … "
        "(fold from 'split', class from 'label')",
        "webdataset": f"WebDataset, 2 files, shard-0.tar … ({folds})",
        "cuts": f"lhotse cuts, cuts.jsonl.gz ({folds}, group from 'recording')",
        "shar": f"lhotse cuts, 2 files, cuts.000000.jsonl.gz … ({folds}, group from 'recording')",
    }


def test_class_labels_keep_the_schemas_names_and_numbers(roots: dict[str, Path]) -> None:
    for kind in ("parquet", "save_to_disk with splits"):
        dataset = load_collection(pristine(roots, kind))
        assert dataset.card.class_names == CLASSES
        assert set(dataset.clips.class_id) == {0, 1}


def test_splits_are_the_files_or_directories_names(roots: dict[str, Path], tmp_path: Path) -> None:
    saved = load_collection(pristine(roots, "save_to_disk with splits"))
    assert saved.fold_names == {1: "train", 2: "test"}
    source = pristine(roots, "parquet") / "data"
    for names in (("data/train-0.parquet", "data/test-0.parquet"), ("train/0.pq", "test/0.pq")):
        root = tmp_path / names[0].replace("/", "-")
        for part, name in enumerate(names):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / f"train-0000{part}-of-00002.parquet", root / name)
        dataset = load_collection(root)
        assert dataset.fold_names == {1: "train", 2: "test"}
        assert dataset.clips.fold.tolist() == [2] * 6 + [1] * 6  # test is before train
        assert "fold from 'split' (and not 'fold')" in dataset.understood[0]


def test_a_clip_is_its_place_and_neither_a_cells_path_nor_a_cuts_id(
    roots: dict[str, Path],
) -> None:
    ids = {kind: load_collection(pristine(roots, kind)).clips.clip_id.tolist() for kind in SHARDS}
    assert ids["parquet"][7] == "data/train-00001-of-00002.parquet#1"
    assert ids["save_to_disk"][7] == "data-00001-of-00002.arrow#1"
    assert ids["webdataset"][7] == "shard-1.tar#deep/clip1.wav"
    assert ids["webdataset"][1] == "shard-0.tar#deep/clip1.wav"
    assert ids["shar"][7] == "recording.000001.tar#0"
    assert ids["cuts"][7] == "7/clip1.wav"
    assert not any(f"c{index}" in ids["shar"] for index in range(NUM_CLIPS))


@only("webdataset")
def test_a_build_that_was_interrupted_ends_as_one_that_was_not(
    roots: dict[str, Path], kind: str, tmp_path: Path, small_blocks: None
) -> None:
    dataset = load_collection(pristine(roots, kind))
    build(dataset, tmp_path / "whole.zarr", SPEC)

    class StoppedError(Exception):
        pass

    class StopAfterOne:
        def started(self, *_: object) -> None:
            pass

        def committed(self, _: object) -> None:
            raise StoppedError

    with pytest.raises(StoppedError):
        build(dataset, tmp_path / "s.zarr", SPEC, observer=StopAfterOne())
    report = build(load_collection(dataset.root), tmp_path / "s.zarr", SPEC)
    assert 0 < report.num_built < NUM_CLIPS
    assert contents(tmp_path / "s.zarr") == contents(tmp_path / "whole.zarr")


@dask_among_the_slow
def test_every_executor_writes_the_same_bytes(
    roots: dict[str, Path], executor: object, tmp_path: Path, small_blocks: None
) -> None:
    dataset = load_collection(pristine(roots, "parquet"))
    build(dataset, tmp_path / "s.zarr", SPEC, executor)  # type: ignore[arg-type]
    if "straight" not in roots:
        build(dataset, roots[""] / "straight.zarr", SPEC)
        roots["straight"] = roots[""] / "straight.zarr"
    assert contents(tmp_path / "s.zarr") == contents(roots["straight"])


def copied(roots: dict[str, Path], kind: str, tmp_path: Path) -> Dataset:
    """A collection for a test to change."""
    return load_collection(shutil.copytree(pristine(roots, kind), tmp_path / "copy"))


@only("save_to_disk")
def test_a_broken_store_is_repaired_from_shards_and_a_changed_sound_is_named(
    roots: dict[str, Path], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = copied(roots, kind, tmp_path)
    store = tmp_path / "s.zarr"
    build(dataset, store, SPEC)
    before = contents(store)
    root = ["--root", str(dataset.root)]
    for key in ("copy/fold1/path/c/0", "copy/fold2/R1/full/c/0/0/0", "copy/fold1/item/c/0"):
        (store / key).unlink()
    assert cli.main(["repair", str(store), *root]) == 0
    assert contents(store) == before
    assert cli.main(["verify", str(store), *root]) == 0
    clip = dataset.clips[4]
    shard = dataset.root / clip.path
    data = shard.read_bytes()
    sound = (roots["files"] / "4/clip4.wav").read_bytes()
    assert data.count(sound) == 1
    place = data.index(sound) + len(sound) - 9
    shard.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    capsys.readouterr()
    assert cli.main(["verify", str(store), *root]) == 1
    printed = capsys.readouterr().out
    assert "1 problem in" in printed
    assert f"the features were made from: {clip.path}#item={clip.item}" in printed


@only("parquet")
def test_a_sound_in_a_shard_is_plotted_with_its_waveform(
    roots: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    dataset = load_collection(pristine(roots, kind))
    store, picture = tmp_path / "s.zarr", tmp_path / "p.png"
    build(dataset, store, SPEC)
    clip = str(dataset.clips.clip_id[3])
    options = ["--clip", clip, "--root", str(dataset.root), "--out", str(picture)]
    assert cli.main(["plot", str(store), *options]) == 0
    assert picture.stat().st_size > 10_000


def test_a_shard_is_given_as_a_file_and_repaired_and_verified_by_it(
    roots: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(
        "resolutions:\n- {name: R1, n_mels: 8, num_frames: 8}\nvariants: []\n"
    )
    for file in ("data/train-00001-of-00002.parquet", "shard-1.tar"):
        kind = "parquet" if "parquet" in file else "webdataset"
        root = ["--root", str(pristine(roots, kind) / file)]
        name = Path(file).name.partition(".")[0]
        assert cli.main(["build", *root, "--workers", "0", "--spec", "spec.yaml"]) == 0
        before = contents(tmp_path / f"{name}.zarr")
        (tmp_path / f"{name}.zarr/{name}/fold2/source_sha256/c/0/0").unlink()
        assert cli.main(["repair", f"{name}.zarr", *root]) == 0
        assert contents(tmp_path / f"{name}.zarr") == before
        assert cli.main(["verify", f"{name}.zarr", *root]) == 0


def test_the_same_bytes_in_two_folds_are_found_in_shards_and_named_by_their_places(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    root = tmp_path / "twice"
    shutil.copytree(pristine(roots, "parquet"), root)
    first = root / "data/train-00000-of-00002.parquet"
    first.rename(root / "data/train-0.parquet")
    shutil.copy(root / "data/train-0.parquet", root / "data/test-0.parquet")
    (root / "data/train-00001-of-00002.parquet").unlink()
    build(load_collection(root), tmp_path / "s.zarr", SPEC)
    store = featurestore.open_store(tmp_path / "s.zarr")
    with pytest.raises(DataError, match="same bytes as a clip in another fold: 6, such as") as e:
        check_duplicates(store, store.clips(), allowed=False)
    assert "train-0.parquet#item=" in str(e.value)
    assert "test-0.parquet#item=" in str(e.value)

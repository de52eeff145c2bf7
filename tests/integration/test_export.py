"""`featurestore export`, read by the libraries it is for: NumPy, WebDataset, datasets."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import featurestore
from featurestore.cli import app, main
from tests.conftest import contents, write_folder
from tests.shard_files import write_webdataset

SPEC = {
    "resolutions": [
        {"name": "R1", "n_mels": 16, "num_frames": 16},
        {"name": "R2", "n_mels": 24, "num_frames": 20},
    ],
    "dtype": "uint8",
}
HOSTILE = "a.b\u202e..wav"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Official splits of ten sounds each, one without features, and a store; not to be changed."""
    place = tmp_path_factory.mktemp("export")
    root = write_folder(place / "sounds")
    for number, split in enumerate(("train", "test"), start=1):
        (root / f"fold{number}").rename(root / split)
    (root / "train/high/high0.wav").rename(root / "train/high" / HOSTILE)
    (root / "train/low/low0.wav").write_text("no sound")
    featurestore.build(root, place / "s.zarr", spec=SPEC, workers=0, progress=False)
    return place


@pytest.fixture
def here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with copies of both, to be changed."""
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(here: Path) -> featurestore.StoredDataset:
    return featurestore.open_store("s.zarr")


def told(capsys: pytest.CaptureFixture[str], line: str, code: int = 0) -> Any:
    assert main([*shlex.split(f"export s.zarr {line}"), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_numpy_reads_what_the_store_holds(
    store: featurestore.StoredDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, "--format npz --out all.npz")
    assert (found["num_clips"], found["num_left_out"]) == (19, 1)
    with np.load("all.npz", allow_pickle=False) as file:
        for array in store.arrays:
            images, labels = store.read(array)
            np.testing.assert_array_equal(file[array], images)
            np.testing.assert_array_equal(file["class_id"], labels)
        assert list(file["clip_id"]) == list(store.clips().clip_id)
        assert list(file["class_names"]) == ["high", "low"]
        assert str(file["fingerprint"]) == store.fingerprint
    assert told(capsys, "--format npz --out a.npz --fold test --array R1/mel")["folds"] == [2]
    with np.load("a.npz") as file:
        np.testing.assert_array_equal(file["R1/mel"], store.read("R1/mel", [2])[0])
        assert "R2/full" not in file


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it closes no tar
def test_webdataset_reads_the_samples_with_their_sounds(
    store: featurestore.StoredDataset, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    webdataset = pytest.importorskip("webdataset")
    found = told(capsys, "--format webdataset --out tars --root sounds --array R1/mel")
    assert found["files"] == ["index.json", "test-000000.tar", "train-000000.tar"]
    table = store.clips()
    rows = {clip: row for row, clip in enumerate(table.clip_id)}
    images, labels = store.read("R1/mel")
    seen = set()
    for name in ("train", "test"):
        tar = f"tars/{name}-000000.tar"
        for sample in webdataset.WebDataset(tar, shardshuffle=False).decode():
            facts = sample["json"]
            row = rows[facts["clip_id"]]
            seen.add(row)
            assert "." not in sample["__key__"]
            assert "/" not in sample["__key__"]
            np.testing.assert_array_equal(sample["r1-mel.npy"], images[row])
            assert sample["cls"] == labels[row]
            assert facts["class"] == store.class_names[labels[row]]
            assert facts["path"].startswith(name)
            suffix = "flac" if facts["path"].endswith("flac") else "wav"
            assert sample[suffix] == (here / "sounds" / facts["path"]).read_bytes()
    assert seen == set(range(19))
    assert any(HOSTILE in clip for clip in rows)
    assert json.loads(Path("tars/index.json").read_text())["shards"]["train-000000.tar"] == 9


def test_an_export_is_the_same_bytes_again(here: Path) -> None:
    for out in ("one", "two"):
        line = f"export s.zarr --format webdataset --out {out} --root sounds --array R1/mel"
        assert main(shlex.split(line)) == 0
    assert contents(here / "one") == contents(here / "two")


def test_a_new_tar_is_begun_when_one_is_large(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("featurestore.reading.export._TAR_CLIPS", 4)
    files = told(capsys, "--format webdataset --out tars --array R1/mel --fold train")["files"]
    assert files == ["index.json", *(f"train-00000{n}.tar" for n in range(3))]
    counts = []
    for file in files[1:]:
        with tarfile.open(here / "tars" / file) as tar:
            counts.append(len(tar.getnames()) // 3)
    assert counts == [4, 4, 1]


def load(path: str, here: Path) -> Any:
    datasets = pytest.importorskip("datasets")
    return datasets.load_dataset(path, cache_dir=str(here / "cache"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_huggingface_reads_the_sounds_with_their_labels(
    store: featurestore.StoredDataset, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    datasets = pytest.importorskip("datasets")
    told(capsys, "--format parquet --out hub --root sounds")
    found = load("hub", here)
    assert set(found) == {"train", "test"}
    assert found["train"].features["audio"] == datasets.Audio()
    assert found["train"].features["label"] == datasets.ClassLabel(names=["high", "low"])
    for split, fold in (("train", 1), ("test", 2)):
        table = store.clips([fold])
        rows = found[split].cast_column("audio", datasets.Audio(decode=False))
        assert list(rows["clip_id"]) == list(table.clip_id)
        assert list(rows["label"]) == list(table.class_id)
        for row, path in zip(rows, table.path, strict=True):
            assert row["audio"]["bytes"] == (here / "sounds" / path).read_bytes()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_huggingface_reads_the_features(
    store: featurestore.StoredDataset, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    datasets = pytest.importorskip("datasets")
    told(capsys, "--format parquet --out hub --fold 2")
    rows = load("hub", here)["test"].with_format("numpy")
    assert rows.features["R1/mel"] == datasets.Array2D(shape=(16, 16), dtype="float32")
    for array in store.arrays:
        np.testing.assert_array_equal(np.stack(rows[array][:]), store.read(array, [2])[0])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--format npz --out x.npz --fold valid", "no fold 'valid' in the store"),
        ("--format npz --out x.npz --fold 9", "no fold '9' in the store"),
        ("--format npz --out x.npz --array R9/mel", "no array 'R9/mel'"),
        ("--format npz --out x.npz --root sounds", "holds no sounds"),
        ("--format npz --out sounds/train/low/low1.wav", "whose name ends in .npz"),
        ("--format npz --out none/x.npz", "none does not exist"),
        ("--format parquet --out sounds", "sounds: exists"),
        ("--format parquet --out no/where", "does not exist"),
        ("--format webdataset --out x --root nowhere", "nowhere"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_line_and_leaves_nothing(
    line: str, expected: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(here)
    assert main(shlex.split(f"export s.zarr {line} -q")) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert expected in error
    assert contents(here) == before


@pytest.mark.parametrize("kind", ["npz", "webdataset", "parquet"])
@pytest.mark.parametrize("fault", ["damaged", "unfinished"])
def test_a_store_that_is_damaged_or_unfinished_is_refused_in_a_line(
    fault: str, kind: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if fault == "damaged":
        next(here.glob("s.zarr/sounds/fold2/R2/full/c/0/0/0")).write_bytes(b"x")
    else:
        shutil.rmtree("s.zarr")

        class Stop:
            def started(self, manifest: object, num_done: int) -> None:
                raise KeyboardInterrupt

            def committed(self, outcome: object) -> None:
                raise AssertionError("nothing is built")

        from featurestore.building.build import build

        with pytest.raises(KeyboardInterrupt):
            build(featurestore.datasets.load_collection(here / "sounds"), "s.zarr", observer=Stop())
    before = contents(here)
    assert main(["export", "s.zarr", "--format", kind, "--out", "x", "-q"]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert contents(here) == before


def test_a_sound_that_was_changed_is_not_passed_off_as_the_one(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy("sounds/test/low/low0.wav", "sounds/test/low/low2.wav")
    before = contents(here)
    line = "export s.zarr --format parquet --out x --root sounds -q"
    assert main(shlex.split(line)) == 1
    assert "test/low/low2.wav is not the file that the features" in capsys.readouterr().err
    assert contents(here) == before


def test_parts_of_recordings_are_written_as_features_and_not_as_sounds(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        "path,class,start,end",
        *(f"test/low/low0.wav,{c},0.{i},0.{i + 1}" for i, c in enumerate("abab")),
    ]
    Path("parts.csv").write_text("\n".join(lines) + "\n")
    with pytest.warns(featurestore.FeatureStoreWarning, match="19 sounds that the table does not"):
        featurestore.build(
            "parts.csv", "p.zarr", root="sounds", spec=SPEC, workers=0, progress=False
        )
    assert main(shlex.split("export p.zarr --format webdataset --out a -q")) == 0
    assert main(shlex.split("export p.zarr --format webdataset --out b --root sounds -q")) == 1
    assert "parts of their recordings" in capsys.readouterr().err
    assert not Path("b").exists()


def test_the_command_that_is_suggested_reads_the_export(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split("export s.zarr --format npz --out 'my fold.npz' --fold 1")) == 0
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("next: ")]
    python, interactive, option, code = shlex.split(line.removeprefix("next: "))
    assert (python, interactive, option) == ("python", "-i", "-c")
    assert '"\'"' not in line
    code += "; print(*file)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "R1/mel" in done.stdout


@pytest.mark.slow
def test_a_stopped_export_leaves_nothing(here: Path) -> None:
    before = contents(here)
    code = (
        "import os, signal, sys, featurestore.reading.export as e\n"
        "from featurestore.cli import main\n"
        "add = e._Tars.add\n"
        "def stop(*a):\n    add(*a)\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "e._Tars.add = stop\n"
        "sys.exit(main(['export', 's.zarr', '--format', 'webdataset', '--out', 'x']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert "Nothing was written" in done.stderr
    assert contents(here) == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_waveforms_and_several_labels_are_written_as_what_they_are(here: Path) -> None:
    datasets = pytest.importorskip("datasets")
    files = sorted(str(f.relative_to("sounds")) for f in Path("sounds/test").rglob("*.*"))
    table = {"path": files, "labels": [("a;b", "a", "b", "")[n % 4] for n in range(len(files))]}
    spec = SPEC | {"features": [{"kind": "waveform", "sample_rate": 4000, "num_samples": 300}]}
    with pytest.warns(featurestore.FeatureStoreWarning, match="10 sounds that the table does not"):
        store = featurestore.build(
            table, "m.zarr", root="sounds", name="m", spec=spec, workers=0, progress=False
        ).store
    waveforms, labels = store.read("features/waveform")
    assert labels.shape == (10, 2)
    option = "--array features/waveform"
    assert main(shlex.split(f"export m.zarr --format parquet --out hub {option} -q")) == 0
    rows = load("hub", here)["fold1"]
    assert rows.features["labels"].feature == datasets.ClassLabel(names=["a", "b"])
    assert [list(row) for row in rows["labels"]] == [list(np.flatnonzero(row)) for row in labels]
    found = np.stack(rows.with_format("numpy")["features/waveform"][:])
    np.testing.assert_array_equal(found, waveforms)
    assert main(shlex.split(f"export m.zarr --format npz --out m.npz {option} -q")) == 0
    with np.load("m.npz") as file:
        np.testing.assert_array_equal(file["labels"], labels)
        np.testing.assert_array_equal(file["features/waveform"], waveforms)
    assert main(shlex.split(f"export m.zarr --format webdataset --out tars {option} -q")) == 0
    with tarfile.open("tars/fold1-000000.tar") as tar:
        texts = [tar.extractfile(m) for m in tar if m.name.endswith(".json")]
        found = [json.load(text)["labels"] for text in texts if text]
    assert found == [[store.class_names[i] for i in np.flatnonzero(row)] for row in labels]


def test_a_shard_names_the_root_in_every_command_as_it_did_in_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (write_webdataset(tmp_path / "tars") / "shard-0.tar").rename("toads.tar")
    Path("spec.json").write_text(json.dumps(SPEC))
    assert main(shlex.split("build --root toads.tar --spec spec.json --workers 0 -q")) == 0
    clip = featurestore.open_store("toads.zarr").clips().clip_id[0]
    (chunk,) = Path("toads.zarr/toads").glob("fold1/R2/full/c/0/0/0")
    whole = chunk.read_bytes()
    chunk.unlink()
    for line in (
        "repair toads.zarr",
        "verify toads.zarr",
        f"plot toads.zarr --clip {clip} --out a.png",
        "export toads.zarr --format webdataset --out a",
        "browse toads.zarr --export page",
    ):
        assert main([*shlex.split(line), "--root", "toads.tar"]) == 0, capsys.readouterr().err
    assert chunk.read_bytes() == whole


def test_every_command_that_reads_sounds_of_a_store_takes_a_shard_as_their_root() -> None:
    roots = {
        name: parameter.callback
        for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
        for parameter in command.params
        if parameter.name == "root"
    }
    without = {name for name, callback in roots.items() if callback is None}
    assert without == {"build", "download"}, "these keep the file, or make the directory"

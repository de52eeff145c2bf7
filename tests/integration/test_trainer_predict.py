import csv
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from featurestore import Extractor, extract_file, one_thread, open_store
from schemas import Predictions, RunRecord
from tests.integration.trainer_runs import as_older, finished_run
from tests.integration.trainer_store import sounds, tiny_store
from trainer.cli import main
from trainer.inference.predict import (
    audio_files,
    load_network,
    mean_probabilities,
    open_run,
    predict,
)
from trainer.records.checkpoint import load_checkpoint

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_images_of_a_file_are_those_of_its_row_to_the_bit(dtype: str) -> None:
    store = open_store(tiny_store(dtype))
    clips, extractor = store.clips(), Extractor(store.manifest.spec)
    stored = {array: store.load(array)[0] for array in store.arrays}
    for index in range(0, len(clips), 7):
        with one_thread():
            images, _ = extract_file(sounds() / clips.path[index], extractor)
        for array in store.arrays:
            assert images[array].dtype == store.dtype
            np.testing.assert_array_equal(images[array], stored[array][index])


def test_prediction_from_the_file_is_that_from_the_store_row() -> None:
    run = open_run(finished_run())
    store = open_store(tiny_store())
    networks = [load_network(run, fold, "last", CPU) for fold in run.folds]
    clips = store.clips([1])
    files = [sounds() / path for path in clips.path]
    stored = {array: store.load(array, [1])[0] for array in store.arrays}
    for row, said in enumerate(predict(run.record, networks, files)):
        images = {array: part[row] for array, part in stored.items()}
        shares = mean_probabilities(networks, images, store.manifest.spec)
        assert said.path == str(files[row])
        assert list(said.probabilities.values()) == shares.tolist()  # type: ignore[union-attr]


def asked(*arguments: object) -> int:
    return main(["predict", "--run", str(finished_run()), *map(str, arguments)])


def json_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> Predictions:
    assert asked("--format", "json", *arguments) == 0
    return Predictions.model_validate_json(capsys.readouterr().out)


def epoch(path: Path) -> int:
    return load_checkpoint(path).epoch


def some_files(number: int = 3) -> list[Path]:
    return [sounds() / path for path in open_store(tiny_store()).clips().path[:number]]


def test_by_default_all_networks_of_the_run_are_averaged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = some_files()
    together = json_of(capsys, *files)
    alone = [json_of(capsys, *files, "--fold", fold) for fold in (1, 2)]
    assert together.folds == (1, 2)
    for index, row in enumerate(together.predictions):
        shares = np.array([list(one.predictions[index].probabilities.values()) for one in alone])
        assert list(row.probabilities.values()) == shares.mean(axis=0).tolist()
        assert sum(row.probabilities.values()) == pytest.approx(1)
        assert row.probability == max(row.probabilities.values())
        assert row.probabilities[row.class_name] == row.probability
    assert not np.allclose(*(list(one.predictions[0].probabilities.values()) for one in alone))


@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_the_checkpoint_asked_for_is_the_one_that_speaks(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = some_files()
    found = json_of(capsys, *files, "--fold", 2, "--checkpoint", checkpoint)
    run = open_run(finished_run())
    network = load_network(run, 2, found.checkpoint, CPU)
    assert network.checkpoint.epoch == epoch(run.path / "fold2" / f"{checkpoint}.pt")
    assert found.predictions == tuple(predict(run.record, [network], files))


def test_what_is_said_of_a_file_does_not_depend_on_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = some_files()
    together = json_of(capsys, *files).predictions
    assert together == tuple(json_of(capsys, file).predictions[0] for file in files)


def test_table_csv_and_json_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    files = some_files()
    said = json_of(capsys, *files).predictions
    assert asked(*files, "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert asked(*files, "--top", 2) == 0
    table = capsys.readouterr().out
    for row, one in zip(rows, said, strict=True):
        assert (row["path"], row["class_name"]) == (one.path, one.class_name)
        shares = {name: float(row[name]) for name in one.probabilities}
        assert shares == one.probabilities
        assert f"{one.class_name} {100 * one.probability:.1f} %" in table
    assert "┃ 2." in table
    assert "┃ 3." not in table


@pytest.mark.parametrize(("name", "start"), [("x.csv", "path,"), ("x.json", "{"), ("x.txt", " ")])
def test_a_file_is_written_in_the_format_of_its_suffix(
    name: str, start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(*some_files(1), "--out", name) == 0
    assert capsys.readouterr().out == ""
    assert Path(name).read_text().startswith(start)


def test_a_bad_file_is_one_line_and_does_not_stop_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("notes.wav").write_text("no audio")
    Path("empty.flac").touch()
    good = some_files(2)
    code = asked(good[0], "notes.wav", "absent.ogg", "empty.flac", good[1], "--format", "csv")
    shown = capsys.readouterr()
    assert code == 1
    lines = shown.err.splitlines()
    assert [line.split(": ")[:2] for line in lines[:-1]] == [
        ["warning", name] for name in ("notes.wav", "absent.ogg", "empty.flac")
    ]
    assert lines[-1] == "error: 3 of 5 files could not be used"
    assert [row["path"] for row in csv.DictReader(io.StringIO(shown.out))] == list(map(str, good))
    assert asked("notes.wav", "--out", "x.json") == 1
    found = Predictions.model_validate_json(Path("x.json").read_text())
    assert [one.path for one in found.unused] == ["notes.wav"]


def test_a_directory_gives_its_sounds_at_any_depth_each_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 8000)
    for name in ("in/b.wav", "in/deep/er/a.FLAC", "in/.hidden/c.wav", "in/._b.wav"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(name, noise, 22_000, format=Path(name).suffix[1:])
    Path("in/notes.txt").write_text("not audio")
    found = json_of(capsys, "in", "in/b.wav")
    assert [row.path for row in found.predictions] == ["in/b.wav", "in/deep/er/a.FLAC"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--run absent x.wav", 1, "absent: no such directory"),
        ("--run RUN empty", 1, "empty: no audio in it"),
        ("--run RUN x.wav --fold 3", 1, "no network held out fold 3; there are those of: 1, 2"),
        ("--run RUN x.wav --device cuda:99", 1, "--device"),
        ("--run empty x.wav", 1, "empty: is not a run, it has neither run.json nor result.json"),
        ("--run RUN x.wav --out absent/x.csv", 1, "absent: no such directory"),
        ("--run RUN", 2, "AUDIO"),
        ("--run RUN x.wav --checkpoint first", 2, "checkpoint"),
        ("--run RUN x.wav --format xml", 2, "format"),
        ("--run RUN x.wav --top 0", 2, "top"),
        ("--run RUN x.wav --top 2 --format csv", 2, "--top: is for tables: csv has all classes"),
        ("--run RUN x.wav --top 2 --out x.json", 2, "--top: is for tables: json has all classes"),
        ("--run RUN x.wav --threshold 0.5", 1, "have one class each, and the likeliest one is"),
    ],
)
def test_bad_arguments_are_one_clear_error(
    arguments: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    assert main(["predict", *arguments.replace("RUN", str(finished_run())).split()]) == code
    error = capsys.readouterr().err
    assert message in error
    if code == 1:
        assert error.startswith("error: ")
        assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["predict", "evaluate", "export"])
def test_help_is_given(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The finished run, to be spoiled."""
    return shutil.copytree(finished_run(), tmp_path / "copy")


def complaint(run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["predict", "--run", str(run), "x.wav"]) == 1
    *warnings, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert all(warning.startswith("warning: ") for warning in warnings)
    return error


def test_a_run_that_cannot_be_used_is_one_clear_error(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_older(copy)
    (copy / "fold1" / "best.pt").rename(copy / "fold1" / "hidden")
    assert "best.pt: is missing" in complaint(copy, capsys)
    shutil.copy(copy / "fold2" / "best.pt", copy / "fold1" / "best.pt")
    assert "not of this run, it differs in: fold" in complaint(copy, capsys)
    (copy / "fold1" / "best.pt").write_bytes(b"PK")
    assert "no checkpoint of this program" in complaint(copy, capsys)
    record = RunRecord.model_validate_json((copy / "run.json").read_bytes())
    newer = record.model_copy(update={"extractor_version": 99})
    (copy / "run.json").write_text(newer.model_dump_json())
    assert "extractor version 99" in complaint(copy, capsys)
    older = record.model_dump_json(exclude={"features"})
    (copy / "run.json").write_text(older)
    assert "features: is missing" in complaint(copy, capsys)
    (copy / "result.json").unlink()
    assert "the run is unfinished" in complaint(copy, capsys)


def test_what_is_left_out_of_a_directory_is_counted_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "mixed"
    (place / "deep").mkdir(parents=True)
    shutil.copy(some_files(1)[0], place / "deep" / "a.wav")
    for name in ("b.m4a", "c.m4a", ".hidden.wav"):
        (place / name).touch()
    (place / "gone.wav").symlink_to("nowhere")
    assert asked("--format", "csv", place) == 0
    captured = capsys.readouterr()
    assert f"{place}: left out: 2 with suffix .m4a, 1 dead links, 1 hidden" in captured.err
    assert len(captured.out.splitlines()) == 2


def test_a_file_name_that_is_not_utf8_does_not_stop_the_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "odd"
    place.mkdir()
    shutil.copy(some_files(1)[0], os.fsencode(place) + b"/\xff.wav")
    (place / os.fsdecode(b"\xfe.m4a")).touch()
    assert [os.fsencode(path.name) for path in audio_files([place])] == [b"\xff.wav"]

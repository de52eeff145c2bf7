"""`featurestore ls` and `diff`: which stores there are, and in what they differ."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from featurestore.building.build import build
from featurestore.cli import main
from featurestore.datasets import load_dataset
from featurestore.extraction.spec import spec_of
from tests.conftest import contents, part, sound, write_folder

SPEC = {
    "resolutions": [
        {"name": "R1", "n_mels": 16, "num_frames": 16},
        {"name": "R2", "n_mels": 24, "num_frames": 24},
    ]
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty sounds and their store; not to be changed."""
    place = tmp_path_factory.mktemp("diff")
    write_folder(place / "sounds")
    build(load_dataset("folder", place / "sounds"), place / "a.zarr", spec_of(SPEC))
    return place


@pytest.fixture
def here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with copies of both, to be changed."""
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def again(store: str = "b.zarr", **changes: Any) -> None:
    build(load_dataset("folder", "sounds"), store, spec_of(SPEC | changes))


def told(capsys: pytest.CaptureFixture[str], line: str, code: int) -> Any:
    assert main([*shlex.split(line), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def printed(capsys: pytest.CaptureFixture[str], line: str, code: int) -> str:
    assert main(shlex.split(line)) == code
    return capsys.readouterr().out


def test_a_copy_is_equal(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("a.zarr", "b.zarr")
    before = contents(here)
    found = told(capsys, "diff a.zarr b.zarr", 0)
    assert found["equal"] is True
    assert found["datasets"]["folder"]["arrays"]["R1/mel"] == {
        "compared": 20,
        "different": 0,
        "largest": 0.0,
        "only": None,
    }
    assert "a.zarr and b.zarr are equal." in printed(capsys, "diff a.zarr b.zarr", 0)
    assert contents(here) == before
    assert printed(capsys, "diff a.zarr b.zarr --quiet", 0) == ""


def test_settings_and_the_arrays_that_follow_from_them_differ(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again(hop_length=128, variants=["mel", "resize-area"])
    found = told(capsys, "diff a.zarr b.zarr", 1)["datasets"]["folder"]
    assert found["spec"]["hop_length"] == [256, 128]
    assert found["arrays"]["R1/mel"]["different"] == 20
    assert 0 < found["arrays"]["R1/mel"]["largest"] <= 1
    assert found["arrays"]["R1/resize"]["only"] == "first"
    assert found["arrays"]["R1/resize-area"]["only"] == "second"
    assert found["clips"] == {"only_first": [], "only_second": [], "changed": {}}
    text = printed(capsys, "diff a.zarr b.zarr", 1)
    assert "hop_length: 256 → 128" in text
    assert "R1/mel: 20 of 20 clips differ, by at most 0." in text
    assert "R1/resize: only in a.zarr" in text


def test_clips_that_were_added_removed_moved_or_relabelled_are_named(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sounds = here / "sounds"
    (sounds / "fold1/high/high0.wav").unlink()
    soundfile.write(sounds / "fold1/low/new.wav", sound(99), 22_050)
    soundfile.write(sounds / "fold2/low/low0.wav", sound(98), 22_050)
    (sounds / "fold2/high/high2.wav").write_text("no sound")
    again()
    found = told(capsys, "diff a.zarr b.zarr", 1)["datasets"]["folder"]
    assert found["spec"] == {}
    assert found["clips"]["only_first"] == ["fold1/high/high0.wav"]
    assert found["clips"]["only_second"] == ["fold1/low/new.wav"]
    assert found["outcomes"] == {"fold2/high/high2.wav": ["ok", "unreadable"]}
    assert found["audio"] == ["fold2/low/low0.wav"]
    assert found["arrays"]["R1/mel"] == {
        "compared": 18,
        "different": 1,
        "largest": None,
        "only": None,
    }
    text = printed(capsys, "diff a.zarr b.zarr", 1)
    assert "1 clip only in a.zarr: fold1/high/high0.wav" in text
    assert "fold2/high/high2.wav (ok → unreadable)" in text
    assert "R1/mel: 1 of 18 clips differ" in text


def test_columns_of_a_clip_that_differ_are_named(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["path,fold,class,group"]
    for file in sorted((here / "sounds").rglob("*.*")):
        path = file.relative_to(here / "sounds").as_posix()
        fold, label, name = path.split("/")
        fold = "2" if name == "low1.flac" else fold
        rows.append(f"{path},{fold},{'low' if name == 'high1.flac' else label},")
    Path("sounds/clips.csv").write_text("\n".join(rows) + "\n")
    again()
    changed = told(capsys, "diff a.zarr b.zarr", 1)["datasets"]["folder"]["clips"]["changed"]
    assert changed == {
        "fold1/high/high1.flac": ["class"],
        "fold1/low/low1.flac": ["fold"],
        "fold2/high/high1.flac": ["class"],
    }


def test_datasets_are_paired_by_name_and_single_ones_in_any_case(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again()
    build(part(load_dataset("folder", "sounds"), "few"), "b.zarr", spec_of(SPEC))
    found = told(capsys, "diff a.zarr b.zarr", 1)
    assert (found["only_first"], found["only_second"]) == ([], ["few"])
    assert told(capsys, "diff a.zarr b.zarr --dataset folder", 0)["equal"] is True
    build(part(load_dataset("folder", "sounds"), "few"), "c.zarr", spec_of(SPEC))
    found = told(capsys, "diff a.zarr c.zarr", 1)["datasets"]["folder"]
    assert found["card"] == {"name": ["folder", "few"]}
    assert len(found["clips"]["only_first"]) == 14
    assert found["arrays"]["R1/mel"]["different"] == 0


@pytest.mark.parametrize("fault", ["absent", "damaged", "unfinished", "no such dataset"])
def test_what_cannot_be_compared_ends_with_a_line_and_2(
    fault: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("a.zarr", "b.zarr")
    if fault == "absent":
        shutil.rmtree("b.zarr")
    if fault == "damaged":
        next(here.glob("b.zarr/folder/fold2/R2/full/c/0/0/0")).write_bytes(b"x")
    if fault == "unfinished":
        shutil.rmtree("b.zarr")

        class Stop:
            def started(self, manifest: object, num_done: int) -> None:
                raise KeyboardInterrupt

            def committed(self, outcome: object) -> None:
                raise AssertionError("nothing is built")

        with pytest.raises(KeyboardInterrupt):
            build(load_dataset("folder", "sounds"), "b.zarr", spec_of(SPEC), observer=Stop())
    option = "--dataset few" if fault == "no such dataset" else ""
    assert main(shlex.split(f"diff a.zarr b.zarr -q {option}")) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert captured.out == ""


def test_ls_lists_the_stores_of_a_directory_and_how_far_each_is(
    here: Path, capsys: pytest.CaptureFixture[str], small_blocks: None
) -> None:
    class Stop:
        blocks = 0

        def started(self, manifest: object, num_done: int) -> None:
            pass

        def committed(self, outcome: object) -> None:
            self.blocks += 1
            if self.blocks == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(load_dataset("folder", "sounds"), "half", spec_of(SPEC), observer=Stop())
    build(part(load_dataset("folder", "sounds"), "few"), "a.zarr", spec_of(SPEC))
    shutil.copytree("a.zarr", "broken.zarr")
    Path("broken.zarr/zarr.json").write_text('{"featurestore": ')
    Path("empty").mkdir()
    rows = {(row["store"], row["dataset"]): row for row in told(capsys, "ls", 0)}
    assert set(rows) == {
        ("a.zarr", "few"),
        ("a.zarr", "folder"),
        ("half", "folder"),
        ("broken.zarr", None),
    }
    whole = rows["a.zarr", "folder"]
    assert (whole["state"], whole["num_clips"], whole["counts"]) == ("complete", 20, {"ok": 20})
    assert whole["arrays"] == ["R1/mel", "R1/resize", "R2/full"]
    size = sum(f.stat().st_size for f in here.glob("a.zarr/folder/**/*") if f.is_file())
    assert whole["bytes"] == size
    assert rows["half", "folder"]["counts"] == {"ok": 8, "pending": 12}
    assert rows["broken.zarr", None]["state"] == "damaged"
    assert "broken.zarr" in rows["broken.zarr", None]["problem"]
    assert main(["ls", "."]) == 0
    captured = capsys.readouterr()
    assert "built 8" in " ".join(captured.out.split())  # the column may wrap
    assert "R1/mel|resize, R2/full" in captured.out
    assert "next: featurestore info a.zarr" in captured.err
    assert [row["dataset"] for row in told(capsys, "ls a.zarr", 0)] == ["few", "folder"]


def test_ls_in_a_narrow_terminal_leaves_out_columns_and_cuts_no_name(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["ls"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert max(map(len, [head, *lines])) <= 60
    assert "classes" not in lines[0]
    assert "…" not in str(lines)
    assert any("complete" in line and "a.zarr" in line for line in lines)


def test_ls_of_what_is_no_store_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert main(["ls", "empty"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "no store in empty\n")
    assert told(capsys, "ls empty", 0) == []
    assert main(["ls", "nowhere"]) == 1
    assert capsys.readouterr().err.startswith("error: no store at nowhere")
    Path("empty/x.zarr").mkdir()
    Path("empty/x.zarr/zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    assert main(["ls", "empty"]) == 0, "Zarr of somebody else's is none of ours"
    assert capsys.readouterr().err == "no store in empty\n"
    assert main(["ls", "empty/x.zarr"]) == 1
    assert "feature store" in capsys.readouterr().err


def test_names_that_act_on_a_terminal_are_shown_as_text(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.zarr").rename("\x1b[31mred.zarr")
    assert main(["ls"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    shutil.copytree("\x1b[31mred.zarr", "b.zarr")
    assert main(["diff", "\x1b[31mred.zarr", "b.zarr"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_values_that_differ_in_one_clip_are_found_whatever_the_chunks(
    here: Path, small_blocks: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clips in chunks of another size are matched by their ids."""
    again()
    found = told(capsys, "diff a.zarr b.zarr", 0)["datasets"]["folder"]
    assert found["notes"]["chunk_clips"][1] == 4
    assert found["arrays"]["R1/mel"]["compared"] == 20
    assert np.all([a["different"] == 0 for a in found["arrays"].values()])

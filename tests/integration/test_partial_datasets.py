"""A part of a published dataset says so, from the build to every table that shows its results."""

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import soundfile

import featurestore
from featurestore import cli
from featurestore.datasets import load_dataset, roots
from featurestore.datasets.kinds import DATASETS
from schemas import NOT_COMPARABLE
from tests.conftest import sound
from tests.integration.trainer_store import RESOLUTIONS, TINY, place
from trainer.cli import main

LINE = f"8 of 400 clips: {NOT_COMPARABLE}"
OPTIONS = f"--epochs-scale 0.01 --arch {TINY} --batch-size 4 --init random --threads 1"
SMALL = OPTIONS.split()
HEADER = "filename,fold,target,category,esc10,src_file,take"


def write_part(root: Path, num_clips: int = 8, num_files: int = 8) -> Path:
    """ESC-50 with a few rows of ESC-10, and the files of fewer."""
    (root / "meta").mkdir(parents=True)
    (root / "audio").mkdir()
    rows = []
    for i in range(num_clips):
        target, name = ((0, "dog"), (1, "rooster"))[i % 2]
        file = f"{i % 4 // 2 + 1}-{i}-A-{target}.wav"
        rows.append(f"{file},{i % 4 // 2 + 1},{target},{name},True,{i},A")
        if i < num_files:
            soundfile.write(root / "audio" / file, sound(i), 22_050)
    (root / "meta" / "esc50.csv").write_text("\n".join([HEADER, *rows]))
    return root


def build(root: Path, store: Path, *more: str) -> int:
    spec = store.parent / "spec.yaml"
    lines = [f"- {r.model_dump_json()}" for r in RESOLUTIONS]
    spec.write_text("\n".join(["resolutions:", *lines]))
    options = ["--root", str(root), "--store", str(store), "--workers", "0", "--spec", str(spec)]
    return cli.main(["build", "--dataset", "esc10", *options, *more])


@cache
def part_store() -> Path:
    store = place() / "part.zarr"
    assert build(write_part(place() / "part"), store, "--partial") == 0
    return store


@cache
def trained(seed: int) -> Path:
    out = place() / f"part-run{seed}"
    options = ["--store", str(part_store()), "--method", "mel", "--out", str(out)]
    assert main(["run", *options, "--seed", str(seed), "--fold", "1", *SMALL]) == 0
    return out


def test_a_part_is_refused_without_a_word_of_consent_and_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(write_part(tmp_path / "part"), tmp_path / "s.zarr") == 1
    shown = capsys.readouterr().err
    assert LINE in shown
    assert "--partial" in shown
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("", 1)])
def test_a_user_at_a_terminal_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    terminal = io.StringIO(answer)
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    assert build(write_part(tmp_path / "part", 4, 4), tmp_path / "s.zarr") == code


def test_the_number_is_that_of_the_files_and_the_store_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_part(tmp_path / "part", num_files=5)
    assert load_dataset("esc10", root).num_present == 5
    assert build(root, tmp_path / "s.zarr", "--partial") == 0
    assert f"5 of 400 clips: {NOT_COMPARABLE}" in capsys.readouterr().err
    store = featurestore.open_store(tmp_path / "s.zarr")
    assert store.partial == f"5 of 400 clips: {NOT_COMPARABLE}"
    assert store.manifest.official_clips == 400
    assert cli.main(["info", str(tmp_path / "s.zarr")]) == 0
    assert "of 400 clips of the published dataset" in " ".join(capsys.readouterr().out.split())


def test_files_that_are_added_are_counted_when_they_are_built(tmp_path: Path) -> None:
    root = write_part(tmp_path / "part", num_files=5)
    away = tmp_path / "away"
    shutil.copytree(write_part(tmp_path / "whole") / "audio", away)
    assert build(root, tmp_path / "s.zarr", "--partial") == 0
    shutil.copytree(away, root / "audio", dirs_exist_ok=True)
    assert build(root, tmp_path / "s.zarr", "--partial", "--retry-failed") == 0
    assert featurestore.open_store(tmp_path / "s.zarr").partial == LINE


def test_a_whole_dataset_and_a_collection_of_ones_own_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_part(tmp_path / "part")
    shutil.copytree(root / "audio", tmp_path / "own" / "dog")
    assert load_dataset("folder", tmp_path / "own").partial is None
    eight = replace(DATASETS["esc10"], num_clips=8)
    monkeypatch.setattr(roots, "find_kind", lambda name: eight)
    assert load_dataset("esc10", root).partial is None


COMMANDS: dict[str, Callable[[], list[str]]] = {
    "lr-find": lambda: ["lr-find", "--store", str(part_store()), "--method", "mel", *SMALL[2:]],
    "evaluate": lambda: ["evaluate", "--run", str(trained(0))],
    "report": lambda: ["report", str(trained(0)), "--out", "report"],
    "ensemble": lambda: ["ensemble", str(trained(0)), str(trained(1)), "--out", "ensemble"],
    "run --resume": lambda: ["run", "--resume", str(trained(0))],
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n == "report" else ()) for n in COMMANDS]
)
def test_every_command_that_shows_results_says_so(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = COMMANDS[name]()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("trainer.training.lr_find.NUM_STEPS", 5)
    capsys.readouterr()
    assert main(command) == 0
    shown = capsys.readouterr()
    assert LINE in " ".join((shown.out + shown.err).split())


def test_a_run_says_so_before_it_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--store", str(part_store()), "--method", "mel", "--out", str(tmp_path / "run")]
    assert main(["run", *options, "--fold", "2", *SMALL]) == 0
    shown = capsys.readouterr()
    assert LINE in " ".join((shown.out + shown.err).split())


def test_reproduce_says_it_before_it_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.commands import sweep

    monkeypatch.setattr(sweep._Training, "here", lambda _: {})  # hours of training
    main(["reproduce", "--store", str(part_store()), "--out", str(tmp_path / "r")])
    shown = capsys.readouterr()
    assert f"esc10 has {LINE}" in " ".join((shown.out + shown.err).split())

"""Every command that is given a path: what is no regular file there is one line and exit code 1."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import featurestore.cli
import trainer.cli
from tests.conftest import small_file_system
from tests.integration.conftest import the_error
from tests.integration.trainer_runs import finished_run
from tests.integration.trainer_store import sounds as made_sounds
from tests.integration.trainer_store import tiny_store
from tests.pairs import by_name, each_in_turn
from tests.unit.test_files import PLANTED, VICTIM, Plant
from trainer.errors import RunDirectoryError
from trainer.training.curves import Curves

each_planted = pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__[1:])


def _sparse(path: Path, victim: Path) -> None:
    with path.open("wb") as file:
        file.truncate(50 << 30)


@pytest.fixture
def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that must stay as it is, and a limit of time."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "victim"
    path.write_bytes(VICTIM)
    yield path
    assert path.read_bytes() == VICTIM
    assert not (tmp_path / "absent").exists()


def _refused(
    main: Callable[[Sequence[str]], int], capsys: pytest.CaptureFixture[str], *command: str
) -> str:
    started = time.monotonic()
    assert main(command) == 1
    assert time.monotonic() - started < 30
    return the_error(capsys)


@pytest.mark.parametrize("plant", [*PLANTED, _sparse], ids=lambda plant: plant.__name__[1:])
def test_no_document_of_a_user_is_anything_but_a_regular_file(
    tmp_path: Path, victim: Path, capsys: pytest.CaptureFixture[str], plant: Plant
) -> None:
    plant(tmp_path / "doc.yaml", victim)
    store = str(tiny_store())
    trainer_commands = [
        ["run", "--store", store, "--method", "mel", "--methods-file", "doc.yaml", "--out", "r"],
        ["sweep", "--store", store, "--file", "doc.yaml", "--out", "s"],
        ["run", "--store", store, "--method", "mel", "--init", "doc.yaml", "--out", "r"],
    ]
    for command in trainer_commands:
        if "--init" in command and plant is _sparse:
            continue  # a network may be of any size, and torch reads no more than its index
        assert "doc.yaml" in _refused(trainer.cli.main, capsys, *command)
    building = ["build", "--dataset", "folder", "--root", ".", "--spec", "doc.yaml"]
    assert "doc.yaml" in _refused(featurestore.cli.main, capsys, *building, "--store", "s.zarr")


KEYS = ("zarr.json", "folder/zarr.json")


@pytest.mark.parametrize(("plant", "key"), each_in_turn((*PLANTED, _sparse), KEYS, by_name))
def test_no_document_of_a_store_is_anything_but_a_regular_file(
    store: Path,
    victim: Path,
    capsys: pytest.CaptureFixture[str],
    plant: Plant,
    key: str,
) -> None:
    (store / key).unlink()
    plant(store / key, victim)
    _refused(featurestore.cli.main, capsys, "info", str(store))
    assert featurestore.cli.main(["verify", str(store)]) == 1
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out


@pytest.mark.parametrize(
    "plant",
    [
        # Every kind with the writing itself: test_files.py.
        pytest.param(plant, id=plant.__name__[1:], marks=pytest.mark.slow if number else ())
        for number, plant in enumerate(PLANTED)
    ],
)
def test_a_picture_replaces_no_special_file(
    store: Path, victim: Path, capsys: pytest.CaptureFixture[str], plant: Plant
) -> None:
    out = victim.with_name("picture.png")
    plant(out, victim)
    before = out.lstat()
    command = ["plot", str(store), "--clip", "fold1/high/high0.wav", "--out", str(out)]
    assert "not a plain file" in _refused(featurestore.cli.main, capsys, *command)
    assert os.path.samestat(before, out.lstat())


@pytest.mark.slow
@each_planted
def test_no_result_of_the_trainer_replaces_a_special_file(
    tmp_path: Path, victim: Path, capsys: pytest.CaptureFixture[str], plant: Plant
) -> None:
    run, clip = str(finished_run()), str(next(made_sounds().rglob("*.wav")))
    shutil.copytree(run, tmp_path / "other")
    outputs = {
        "answers.csv": ["predict", "--run", run, clip, "--out", "answers.csv"],
        "n.pt2": [
            "export",
            "--run",
            run,
            "--fold",
            "1",
            "--format",
            "torch-export",
            "--out",
            "n.pt2",
        ],
        "e/evaluation.json": ["evaluate", "--run", run, "--out", "e"],
        "e/confusion.png": ["evaluate", "--run", run, "--out", "e"],
        "r/report.md": ["report", run, "--out", "r"],
        "r/recall.png": ["report", run, "--out", "r"],
    }
    for name, command in outputs.items():
        path = tmp_path / name
        shutil.rmtree(path.parent, ignore_errors=True) if path.parent != tmp_path else None
        path.parent.mkdir(exist_ok=True)
        plant(path, victim)
        before = path.lstat()
        line = _refused(trainer.cli.main, capsys, *command)
        assert Path(name).name in line
        assert "not a plain file" in line
        assert os.path.samestat(before, path.lstat())


def test_a_full_disk_keeps_the_older_picture(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_file_system(tmp_path / "disk", "64k") as disk:
        out = disk / "picture.png"
        out.write_bytes(b"the older picture")
        command = ["plot", str(store), "--clip", "fold1/high/high0.wav", "--out", str(out)]
        assert "no space left" in _refused(featurestore.cli.main, capsys, *command)
        assert out.read_bytes() == b"the older picture"
        assert [path.name for path in disk.iterdir()] == ["picture.png"]


@pytest.mark.parametrize("place", ["runs", "report", "runs/baseline-seed0-init=random"])
def test_no_directory_of_a_sweep_is_a_link_to_elsewhere(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere, path = tmp_path / "elsewhere", tmp_path / "sweep" / place
    elsewhere.mkdir()
    path.parent.mkdir(parents=True)
    path.symlink_to(elsewhere)
    command = ["sweep", "--store", str(tiny_store()), "--method", "baseline"]
    command += ["--set", "init=random", "--out", str(tmp_path / "sweep")]
    assert "is a link" in _refused(trainer.cli.main, capsys, *command)
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("place", ["tensorboard", "tensorboard/fold1"])
def test_no_directory_of_a_run_is_a_link_to_elsewhere(place: str, tmp_path: Path) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).symlink_to(tmp_path)
    with pytest.raises(RunDirectoryError, match="is a link"):
        Curves(tmp_path)


def test_more_images_than_one_picture_can_show_are_refused(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plot", str(store), "--classes", "1000000", "--out", str(tmp_path / "c.png")]
    assert "one picture can show" in _refused(featurestore.cli.main, capsys, *command)

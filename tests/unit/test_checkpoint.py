import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from schemas import RunConfig, Stage
from trainer.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from trainer.errors import CheckpointError, RunDirectoryError
from trainer.files import replace_file
from trainer.keeper import Keeper

CONFIG = RunConfig(
    dataset="esc10",
    method="mel",
    stages=(Stage(array="R1/mel", epochs=3, max_lr=1e-3),),
    folds=(1,),
)


def checkpoint(epoch: int, accuracy: float) -> Checkpoint:
    return Checkpoint(
        model={"weight": torch.full((2,), float(epoch)), "steps": torch.tensor(epoch)},
        fold=1,
        stage=1,
        epoch=epoch,
        accuracy=accuracy,
        config=CONFIG,
        fingerprint="abc",
        class_names=("dog", "rain"),
    )


def test_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = checkpoint(2, 0.5)
    save_checkpoint(tmp_path / "x.pt", saved)
    loaded = load_checkpoint(tmp_path / "x.pt")
    assert vars(loaded) | {"model": None} == vars(saved) | {"model": None}
    assert all(torch.equal(loaded.model[name], saved.model[name]) for name in saved.model)


def test_damaged_or_foreign_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(CheckpointError, match=r"x\.pt.*cannot be read"):
        load_checkpoint(path)
    for content in ({"a": torch.zeros(1)}, [1], {"config": "{}"}):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=r"x\.pt.*no checkpoint"):
            load_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"x\.pt"):
        load_checkpoint(path)


def epochs_on_disk(folder: Path) -> tuple[int, int]:
    return load_checkpoint(folder / "best.pt").epoch, load_checkpoint(folder / "last.pt").epoch


def test_keeper_has_the_first_of_the_best_and_the_last(tmp_path: Path) -> None:
    with Keeper(tmp_path) as keeper:
        for epoch, accuracy in enumerate((0.2, 0.6, 0.6, 0.4), start=1):
            keeper.keep(checkpoint(epoch, accuracy))
    assert epochs_on_disk(tmp_path) == (2, 4)


def test_keeper_writes_however_it_is_left(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Keeper(tmp_path) as keeper:
            keeper.keep(checkpoint(1, 0.3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert epochs_on_disk(tmp_path) == (1, 1)


def test_keeper_writes_while_it_runs(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, save_every_s=0)
    keeper.keep(checkpoint(1, 0.3))
    assert epochs_on_disk(tmp_path) == (1, 1)


@pytest.fixture
def small_files() -> Iterator[None]:
    """A limit of 4 kB a file, which a write meets as it would a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("small_files")
def test_a_file_that_does_not_fit_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x"
    replace_file(path, b"old")
    with pytest.raises(RunDirectoryError, match=r"x: cannot be written.*--out"):
        replace_file(path, bytes(100_000))
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["x"]

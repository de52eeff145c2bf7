"""Two builds of one store at once, and readers during a build: refused in a line, never torn."""

import os
from pathlib import Path

import numpy as np
import pytest

import featurestore
from featurestore.building.build import BuildOptions, build
from featurestore.datasets import Dataset, load_dataset
from featurestore.errors import BusyError, StorageError, StoreError, UnfinishedError
from featurestore.storage import LocalStorage
from featurestore.store.lock import locked
from schemas import ClipStatus
from tests.conftest import contents, write_folder
from tests.integration.test_build import StopsAfter
from tests.integration.test_kill import start_build
from tests.unit.test_files import PLANTED, VICTIM, Plant


@pytest.mark.slow
def test_of_two_builds_started_together_one_is_refused_and_the_store_is_right(
    tmp_path: Path,
) -> None:
    root = write_folder(tmp_path / "sounds", clips_a_class=80)
    store = tmp_path / "s.zarr"
    with start_build(store, root, 0) as one, start_build(store, root, 0) as two:
        told = {p.pid: p.communicate(timeout=120)[1] for p in (one, two)}
        codes = {p.pid: p.returncode for p in (one, two)}
    assert sorted(codes.values()) == [0, 1], told
    (winner,) = [pid for pid, code in codes.items() if code == 0]
    (refused,) = [told[pid].splitlines()[-1] for pid, code in codes.items() if code == 1]
    assert refused.startswith("error: ")
    assert f"is being written by process {winner} on" in refused
    assert "rerun the same command" in refused
    build(load_dataset("folder", root), tmp_path / "alone.zarr")
    assert contents(store) == contents(tmp_path / "alone.zarr")


@pytest.mark.usefixtures("small_blocks")
def test_a_build_under_way_is_not_disturbed_by_a_refused_one(
    folder: Dataset, tmp_path: Path
) -> None:
    store = tmp_path / "s.zarr"
    with pytest.raises(RuntimeError):
        build(folder, store, executor=StopsAfter(2))
    before = contents(store)
    with locked(LocalStorage(store)):
        with pytest.raises(BusyError, match=f"process {os.getpid()} on"):
            build(folder, store)
        held = contents(store)
        assert held.pop("build.lock")
        assert held == before
    assert contents(store) == before, "the lock left a trace"


def test_the_lock_of_a_build_killed_when_all_was_done_is_removed_by_the_next(
    folder: Dataset, store: Path, straight: dict[str, bytes]
) -> None:
    (store / "build.lock").write_text("process 1 on nowhere")
    assert build(folder, store).num_built == 0
    assert contents(store) == straight


def test_a_finished_store_needs_no_lock_and_a_retry_does(folder: Dataset, store: Path) -> None:
    with locked(LocalStorage(store)):
        assert build(folder, store).num_built == 0
        with pytest.raises(BusyError):
            build(folder, store, options=BuildOptions(retry_failed=True))


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__[1:])
def test_what_lies_in_the_place_of_the_lock_is_neither_written_to_nor_removed(
    folder: Dataset,
    store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    plant: Plant,
) -> None:
    victim, lock = tmp_path / "victim", store / "build.lock"
    victim.write_bytes(VICTIM)
    plant(lock, victim)
    before = lock.lstat()
    assert build(folder, store).num_built == 0, "a complete store needs no lock"
    with pytest.raises(StorageError, match=r"build\.lock: it is a .*, not a plain file"):
        build(folder, store, options=BuildOptions(retry_failed=True))
    from featurestore.cli import main

    assert main(["repair", str(store), "--root", str(folder.root)]) == 1
    assert "build.lock: it is a" in capsys.readouterr().err
    assert os.path.samestat(before, lock.lstat())
    assert victim.read_bytes() == VICTIM
    assert not (tmp_path / "absent").exists()


def test_the_lock_of_a_dead_process_is_taken_over(folder: Dataset, store: Path) -> None:
    (store / "build.lock").write_text("process 1 on a machine that is gone")
    with locked(LocalStorage(store)):
        assert f"process {os.getpid()}" in (store / "build.lock").read_text()
    assert not (store / "build.lock").exists()


@pytest.mark.usefixtures("small_blocks")
def test_a_training_run_beside_a_build_is_refused_in_a_line(
    folder: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from trainer.cli import main

    with pytest.raises(RuntimeError):
        build(folder, tmp_path / "s.zarr", executor=StopsAfter(2))
    assert main(["run", "--store", str(tmp_path / "s.zarr"), "--method", "mel"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the build of folder in")
    assert "is not finished" in line


@pytest.mark.usefixtures("small_blocks")
def test_a_reader_beside_a_build_is_refused_or_gets_committed_rows_only(
    folder: Dataset, pristine: Path, tmp_path: Path
) -> None:
    store = tmp_path / "s.zarr"
    with pytest.raises(RuntimeError):
        build(folder, store, executor=StopsAfter(2))
    with pytest.raises(UnfinishedError, match="committed_only"):
        featurestore.open_store(store)
    part, whole = (
        featurestore.open_store(store, committed_only=True),
        featurestore.open_store(pristine),
    )
    images, labels = part.load("R1/mel")
    expected, wanted = whole.load("R1/mel", folds=[1])
    np.testing.assert_array_equal(images, expected[:8])
    np.testing.assert_array_equal(labels, wanted[:8])
    assert part.clips().clip_id.tolist() == whole.clips([1]).clip_id[:8].tolist()
    assert len(part.failures()) == 0
    assert (part.all_clips().status == ClipStatus.PENDING).sum() == 12
    assert sum(len(block) for block, _ in part.iter_blocks("R3/full")) == 8
    with pytest.raises(StoreError, match="not built yet"):
        part.read_clip(whole.clips([2]).clip_id[0])

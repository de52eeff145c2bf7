"""A worker that outlives its build: what it still extracts never lands in another store."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from featurestore.building import block as blocks
from featurestore.building.block import BlockTask, build_once
from featurestore.building.build import build
from featurestore.checking.rebuild import rebuild_block
from featurestore.datasets import Dataset
from featurestore.errors import BuildError, FingerprintError, UnfitWorkerError
from featurestore.storage import LocalStorage
from featurestore.store.arrays import open_arrays
from featurestore.store.plan import Block
from schemas import FeatureSpec
from tests.conftest import contents
from tests.integration.test_build import StopsAfter

pytestmark = pytest.mark.usefixtures("small_blocks")

OTHER = FeatureSpec(top_db=60)
FIRST = Block(1, 0, 4)
T = TypeVar("T")
R = TypeVar("R")


def begun(folder: Dataset, store: Path, block: Block = FIRST) -> BlockTask:
    """The task of a build that was stopped before anything was committed."""
    with pytest.raises(RuntimeError):
        build(folder, store, executor=StopsAfter(0))
    key = open_arrays(store, "folder").manifest.fingerprint
    return BlockTask(store, "folder", key, folder.root, block, witness=folder.clips[0].path)


def during(moment: int, event: Callable[[], object]) -> Callable[[int], None]:
    """Something that happens as the file of a row is opened."""

    def starting(row: int) -> None:
        if row == moment:
            event()

    return starting


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(0, id="first", marks=pytest.mark.slow),
        pytest.param(2, id="within", marks=pytest.mark.slow),
        pytest.param(4, id="extracted"),
    ],
)
@pytest.mark.parametrize(
    "emptied",
    [
        pytest.param(False, id="deleted"),
        pytest.param(True, id="emptied", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("work", [build_once, rebuild_block])
def test_a_block_of_a_store_that_was_replaced_is_dropped(
    folder: Dataset, tmp_path: Path, moment: int, emptied: bool, work: Callable[..., object]
) -> None:
    store = tmp_path / "s.zarr"
    task = begun(folder, store)

    def replaced() -> None:
        for path in store.iterdir() if emptied else [store]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        build(folder, store, OTHER)

    with pytest.raises(FingerprintError, match="was replaced while folder was being built"):
        work(task, during(moment, replaced))
    build(folder, tmp_path / "other.zarr", OTHER)
    assert contents(store) == contents(tmp_path / "other.zarr")


@pytest.mark.parametrize("work", [build_once, rebuild_block])
def test_a_store_that_was_deleted_is_not_made_again(
    folder: Dataset, tmp_path: Path, work: Callable[..., object]
) -> None:
    store = tmp_path / "s.zarr"
    task = begun(folder, store)
    with pytest.raises(BuildError, match="is gone"):
        work(task, during(4, lambda: shutil.rmtree(store)))
    assert not store.exists()


def test_a_store_that_is_replaced_in_the_middle_of_a_commit_keeps_its_own_bytes(
    folder: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the last moment: the manifest was compared, and the first chunk is about to be written."""
    store = tmp_path / "s.zarr"
    task = begun(folder, store)
    flush, left = os.fsync, [1]

    def replaced(descriptor: int) -> None:
        flush(descriptor)
        if left.pop() if left else 0:
            while store.exists():  # the block's other threads write into it meanwhile
                shutil.rmtree(store, ignore_errors=True)
            build(folder, store, OTHER)

    monkeypatch.setattr(os, "fsync", replaced)
    with pytest.raises(BuildError, match="is gone"):
        build_once(task)
    monkeypatch.undo()
    assert open_arrays(store, "folder").manifest.spec == OTHER
    assert not list(store.rglob("*.partial"))


def test_a_build_whose_store_is_replaced_does_not_declare_it_complete(
    folder: Dataset, tmp_path: Path
) -> None:
    store = tmp_path / "s.zarr"

    class Replaces(StopsAfter):
        def run(
            self,
            function: Callable[[T], R],
            tasks: Iterable[T],
            rescue: Callable[[T], R] | None = None,
        ) -> Iterator[R]:
            yield from super().run(function, tasks, rescue)
            shutil.rmtree(store)
            build(folder, store, OTHER)

    with pytest.raises(FingerprintError, match="was replaced"):
        build(folder, store, executor=Replaces(100))
    build(folder, tmp_path / "other.zarr", OTHER)
    assert contents(store) == contents(tmp_path / "other.zarr")


def test_a_block_that_another_build_has_committed_meanwhile_is_left_alone(
    folder: Dataset, tmp_path: Path
) -> None:
    """The late worker read a file before it was put right."""
    store, victim = tmp_path / "s.zarr", folder.root / folder.clips[0].path
    paths = (p for p in open_paths(folder, store))
    where = next(block for block, names in paths if folder.clips[0].path in names)
    good = victim.read_bytes()
    victim.write_bytes(b"")
    task = begun(folder, store, where)

    def put_right() -> None:
        victim.write_bytes(good)
        build(folder, store)

    build_once(task, during(len(where), put_right))
    build(folder, tmp_path / "straight.zarr")
    assert contents(store) == contents(tmp_path / "straight.zarr")


def open_paths(folder: Dataset, store: Path) -> list[tuple[Block, list[str]]]:
    begun(folder, store)
    arrays = open_arrays(store, "folder")
    found = [Block(fold, n, min(n + 4, 10)) for fold in (1, 2) for n in (0, 4, 8)]
    return [(block, arrays.read(block.fold, "path", block.rows).tolist()) for block in found]


@pytest.mark.parametrize("empty", [False, True], ids=["absent", "an empty mount point"])
def test_a_whole_root_that_is_missing_is_no_fault_of_the_clips(
    folder: Dataset, tmp_path: Path, empty: bool
) -> None:
    store = tmp_path / "s.zarr"
    task = begun(folder, store)

    def vanishes() -> None:
        folder.root.rename(tmp_path / "elsewhere")
        if empty:
            folder.root.mkdir()

    with pytest.raises(UnfitWorkerError, match="does not see the sounds at"):
        build_once(task, during(1, vanishes))
    (tmp_path / "elsewhere").rename(folder.root) if not empty else None
    assert not list(store.glob("folder/fold*/status/c/*"))


def test_what_travels_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = BlockTask(Path("s.zarr"), "folder", "ab", Path("sounds"), Block(1, 0, 4))  # type: ignore[arg-type]
    assert str(task.store) == str(tmp_path / "s.zarr")
    assert task.root == tmp_path / "sounds"
    assert blocks.locate(task.store) == task.store


def test_a_task_that_does_not_say_which_features_it_is_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fingerprint is empty"):
        BlockTask(LocalStorage(tmp_path), "folder", "", tmp_path, Block(1, 0, 4))

"""Changes to an unfinished build are found, and never sealed as they lie."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

import featurestore
from featurestore.building.block import BlockTask, build_block, build_once
from featurestore.building.build import BuildOptions, build
from featurestore.building.executors import SerialExecutor
from featurestore.checking.repair import repair
from featurestore.checking.verify import verify
from featurestore.datasets import Dataset, load_dataset
from featurestore.errors import CorruptError
from featurestore.storage import LocalStorage
from featurestore.store.files import OUTCOMES
from featurestore.store.metadata import TABLE
from featurestore.store.plan import Block
from schemas import FeatureSpec
from tests.conftest import contents, four_clips_a_block
from tests.integration.test_build import StopsAfter
from tests.integration.test_damage import delete, flip_bit
from tests.pairs import by_name, each_in_turn

pytestmark = pytest.mark.usefixtures("small_blocks")

T = TypeVar("T")
R = TypeVar("R")
WRITTEN = (*OUTCOMES, *FeatureSpec().arrays)
USUAL = ("status", "source_sha256", "R1/mel", "R3/full")
"""Arrays of each kind: what a commit is, what it says of a clip, and images."""


def chunk_file(store: Path, array: str, number: int, fold: int = 1) -> Path:
    """The file of a chunk: `c/0`, or `c/0/0/0` where rows have more dimensions."""
    place = store / f"folder/fold{fold}" / array / "c" / str(number)
    return place if place.is_file() else next(p for p in place.rglob("*") if p.is_file())


def exchange(one: Path, other: Path) -> None:
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


def other_end(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 0x10]))


@pytest.fixture(scope="module")
def stopped_store(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of which the first fold and a part of the second are committed."""
    place = tmp_path_factory.mktemp("stopped") / "s.zarr"
    with pytest.MonkeyPatch.context() as patch:
        four_clips_a_block(patch)
        with pytest.raises(RuntimeError, match="power cut"):
            build(load_dataset("folder", sounds), place, executor=StopsAfter(4))
    return place


@pytest.fixture
def stopped(stopped_store: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stopped_store, tmp_path / "s.zarr")


def problems(store: Path) -> list[str]:
    return [problem for found in verify(store) for problem in found]


@pytest.mark.parametrize(
    "array", [pytest.param(a, marks=() if a in USUAL else pytest.mark.slow) for a in WRITTEN]
)
def test_chunks_exchanged_while_a_build_rests_are_built_again(
    folder: Dataset, stopped: Path, straight: dict[str, bytes], array: str
) -> None:
    exchange(chunk_file(stopped, array, 0), chunk_file(stopped, array, 1))
    if array not in ("status",):  # all clips of both are well, so these are the same bytes
        assert any(f"fold1/{array}, rows 0 to 4" in found for found in problems(stopped))
        assert any("built again: " in text for text in build(folder, stopped).warnings)
    build(folder, stopped)
    assert contents(stopped) == straight


@pytest.mark.parametrize(
    ("array", "damage"), each_in_turn((*WRITTEN, "checksums"), (other_end, delete), by_name)
)
def test_a_committed_chunk_or_record_damaged_while_a_build_rests_is_built_again(
    folder: Dataset,
    stopped: Path,
    straight: dict[str, bytes],
    array: str,
    damage: Callable[[Path], None],
) -> None:
    """A flip within a chunk is for whoever reads it: a build looks at checksums only."""
    record = stopped / "folder/checksums/fold1/block0"
    damage(record if array == "checksums" else chunk_file(stopped, array, 0))
    build(folder, stopped)
    assert contents(stopped) == straight


@pytest.mark.parametrize(
    ("column", "damage"), each_in_turn(TABLE, (flip_bit, delete, None), by_name)
)
def test_a_clip_table_changed_while_a_build_rests_is_written_again(
    folder: Dataset,
    stopped: Path,
    straight: dict[str, bytes],
    column: str,
    damage: Callable[[Path], None] | None,
) -> None:
    chunk, other = (chunk_file(stopped, column, 0, fold) for fold in (1, 2))
    damage(chunk) if damage else exchange(chunk, other)
    build(folder, stopped)
    assert contents(stopped) == straight


class Meanwhile(SerialExecutor):
    """Does something to the store after the first block was committed."""

    def __init__(self, change: Callable[[], None]) -> None:
        self._change = change

    def run(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        rescue: Callable[[T], R] | None = None,
    ) -> Iterator[R]:
        for number, outcome in enumerate(super().run(function, tasks, rescue)):
            yield outcome
            if number == 1:
                self._change()


@pytest.mark.parametrize("array", ["R1/mel", "peak", "path"])
def test_what_changes_while_a_build_runs_is_not_sealed(
    folder: Dataset, tmp_path: Path, straight: dict[str, bytes], array: str
) -> None:
    store = tmp_path / "s.zarr"

    def change() -> None:
        fold = 2 if array == "path" else 1
        number = 0 if array == "path" else 1
        exchange(chunk_file(store, array, 0), chunk_file(store, array, number, fold))

    with pytest.raises(CorruptError, match="does something else write to it"):
        build(folder, store, executor=Meanwhile(change))
    build(folder, store)
    assert contents(store) == straight


def test_the_committed_part_of_a_build_is_read_only_if_it_is_what_was_committed(
    stopped: Path,
) -> None:
    dataset = featurestore.open_store(stopped, committed_only=True)
    assert len(dataset.load("R1/mel", folds=[1])[0]) > 0
    exchange(chunk_file(stopped, "R1/mel", 0), chunk_file(stopped, "R1/mel", 1))
    with pytest.raises(CorruptError, match="another one lies in its place"):
        dataset.load("R1/mel", folds=[1])


def test_repair_mends_the_committed_part_of_a_build_to_what_a_build_resumes_from(
    folder: Dataset, stopped: Path, straight: dict[str, bytes]
) -> None:
    before = contents(stopped)
    exchange(chunk_file(stopped, "R2/mel", 0), chunk_file(stopped, "R2/mel", 1))
    assert list(repair(folder, stopped))
    assert contents(stopped) == before
    assert build(folder, stopped).warnings == ()
    assert contents(stopped) == straight


def test_blocks_that_are_not_tried_again_keep_what_was_promised_of_them(
    folder: Dataset, store: Path, straight: dict[str, bytes]
) -> None:
    """With --retry-failed a complete store is an unfinished build for a while."""
    file = folder.root / folder.clips[0].path
    sound = file.read_bytes()
    file.write_bytes(b"no sound")
    shutil.rmtree(store)
    build(folder, store)
    file.write_bytes(sound)
    with pytest.raises(RuntimeError, match="power cut"):
        build(folder, store, executor=StopsAfter(0), options=BuildOptions(retry_failed=True))
    chunks = [chunk_file(store, "R1/mel", number, 2) for number in (0, 1)]
    exchange(*chunks)
    assert any("built again: " in text for text in build(folder, store).warnings)
    assert contents(store) == straight


def test_records_that_a_killed_build_leaves_are_removed_by_the_next(
    folder: Dataset, stopped: Path, straight: dict[str, bytes]
) -> None:
    record = stopped / "folder/checksums/fold1/block0"
    data = record.read_bytes()
    build(folder, stopped)
    assert not record.exists()
    record.write_bytes(data)
    assert problems(stopped) == []
    build(folder, stopped)
    assert contents(stopped) == straight


def test_a_block_that_is_done_again_behind_a_complete_build_leaves_no_record(
    folder: Dataset, store: Path, straight: dict[str, bytes]
) -> None:
    key = featurestore.open_store(store).fingerprint
    task = BlockTask(LocalStorage(store), "folder", key, folder.root, Block(1, 0, 4))
    build_block(task)
    build_once(task)
    assert contents(store) == straight

"""A chunk that lies where another belongs is never read, wherever the two come from."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import featurestore
from featurestore import StoredDataset
from featurestore.checking.repair import repair
from featurestore.checking.verify import verify
from featurestore.datasets import Dataset
from featurestore.errors import CorruptError, FeatureStoreError
from featurestore.store.arrays import open_arrays
from featurestore.store.files import OUTCOMES
from featurestore.store.metadata import TABLE
from schemas import FeatureSpec
from tests.conftest import contents
from tests.integration.filled_store import fill_store
from tests.remote_servers import file_server

pytestmark = pytest.mark.usefixtures("small_blocks")

IMAGES = tuple(FeatureSpec().arrays)


def problems(place: Path | str) -> list[str]:
    return [problem for found in verify(place) for problem in found]


def read_all(place: Path | str, fold: int | None = None) -> None:
    dataset = featurestore.open_store(place)
    folds = dataset.folds if fold is None else (fold,)
    for array in dataset.arrays:
        dataset.load(array, folds)
    dataset.source_digests(folds)


def chunks_of(store: Path, fold: int, array: str) -> list[Path]:
    place = store / f"folder/fold{fold}" / array / "c"
    return sorted(path for path in place.rglob("*") if path.is_file())


ALIKE = {"R1/mel": "R1/resize", "duration_s": "peak", "clip_id": "source"}
"""Arrays whose chunks have the same shape."""


def within_a_fold(store: Path) -> dict[str, tuple[Path, Path]]:
    return {a: (chunks_of(store, 1, a)[0], chunks_of(store, 1, a)[1]) for a in (*OUTCOMES, *IMAGES)}


def between_folds(store: Path) -> dict[str, tuple[Path, Path]]:
    return {
        array: (chunks_of(store, 1, array)[0], chunks_of(store, 2, array)[0])
        for array in (*TABLE, *OUTCOMES, *IMAGES)
    }


def between_arrays(store: Path) -> dict[str, tuple[Path, Path]]:
    return {
        one: (chunks_of(store, 1, one)[0], chunks_of(store, 1, other)[0])
        for one, other in ALIKE.items()
    }


def misplace(one: Path, other: Path, *, swap: bool) -> bool:
    """Copy a chunk over another, or swap them; whether that changes anything."""
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    if swap:
        other.write_bytes(first)
    return first != second


@pytest.mark.parametrize("swap", [False, True], ids=["copied", "swapped"])
@pytest.mark.parametrize("pairs", [within_a_fold, between_folds, between_arrays])
def test_a_misplaced_chunk_of_any_array_is_found_by_verify_and_never_read(
    store: Path, pairs: Callable[[Path], dict[str, tuple[Path, Path]]], swap: bool
) -> None:
    misplaced = {name for name, two in pairs(store).items() if misplace(*two, swap=swap)}
    assert len(misplaced) >= 2
    told = " / ".join(problems(store))
    with file_server(store.parent) as address:
        for place in (store, f"{address}/{store.name}"):
            arrays = open_arrays(place, "folder", copies=place != store)
            for name in misplaced:
                assert f"fold1/{name}, rows 0 to" in told
                with pytest.raises(CorruptError, match="another one lies in its place"):
                    arrays.read(1, name)
            with pytest.raises(CorruptError, match="another one lies in its place"):
                read_all(place)


def test_misplaced_chunks_are_mended(
    folder: Dataset, store: Path, straight: dict[str, bytes]
) -> None:
    for one, other in [*within_a_fold(store).values()][::3]:
        misplace(one, other, swap=True)
    misplace(*between_folds(store)["path"], swap=True)
    list(repair(folder, store))
    assert contents(store) == straight


def test_a_misplaced_chunk_within_shards_is_never_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.integration.filled_store.BLOCK_CHUNKS", 2)
    store = tmp_path / "n.zarr"
    fill_store(store, (2, 8), {1: 20, 2: 12}, chunk=2)
    shards = sorted((store / "noise/fold1/R3/full/c").rglob("0/0"))
    misplace(shards[1], shards[2], swap=True)
    with pytest.raises(CorruptError, match="another one lies in its place"):
        featurestore.open_store(store).load("R3/full")
    assert problems(store)


def test_the_checksums_are_part_of_the_dataset_they_lie_in(
    folder: Dataset, store: Path, straight: dict[str, bytes]
) -> None:
    lists = [store / f"folder/checksums/fold{fold}/c/0" for fold in (1, 2)]
    for damage in (lambda: misplace(*lists, swap=True), lists[0].unlink, lists[1].unlink):
        damage()
        assert problems(store)
        with pytest.raises(CorruptError, match=r"checksums"):
            read_all(store)
        assert list(repair(folder, store)), "nothing was repaired"
        assert contents(store) == straight


def test_chunks_and_their_checksums_that_are_lost_together_are_mended_from_the_sources(
    folder: Dataset, store: Path, straight: dict[str, bytes]
) -> None:
    misplace(*chunks_of(store, 1, "R3/full")[:2], swap=True)
    (store / "folder/checksums/fold1/c/0").unlink()
    list(repair(folder, store))
    assert contents(store) == straight


def test_a_dataset_that_lies_in_the_place_of_another_is_damage(store: Path) -> None:
    shutil.move(store / "folder", store / "other")
    root = store / "zarr.json"
    root.write_text(root.read_text().replace('"folder', '"other'))
    with pytest.raises(FeatureStoreError, match=r"card\.name|digest"):
        featurestore.open_store(store)


def test_plain_zarr_reads_the_checksums_in_their_documented_order(pristine: Path) -> None:
    import zarr

    values = zarr.open_array(pristine, path="folder/checksums/fold1", mode="r")[:]
    names = (*TABLE, *OUTCOMES, *IMAGES)
    ends = [chunk.read_bytes()[-4:] for name in names for chunk in chunks_of(pristine, 1, name)]
    assert values.tolist() == [int.from_bytes(end, "little") for end in ends]


def test_a_reader_asks_for_the_checksums_once_a_fold(pristine: Path) -> None:
    dataset: StoredDataset = featurestore.open_store(pristine)
    dataset.load("R1/mel", [1])
    assert set(dataset._stored.checksums._read) == {1, 2}, "the outcomes of both folds were counted"

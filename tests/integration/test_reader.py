"""The public reader of a store."""

from pathlib import Path

import numpy as np
import pytest
import xarray

import featurestore
from featurestore.building.build import build
from featurestore.datasets import Dataset
from featurestore.errors import StoreError, UnfinishedError, UnknownNameError
from featurestore.store.reader import StoredDataset
from schemas import FeatureSpec

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.fixture
def store(pristine: Path) -> StoredDataset:
    return featurestore.open_store(pristine)


def test_a_store_says_what_is_in_it(store: StoredDataset) -> None:
    assert store.name == "folder"
    assert store.folds == (1, 2)
    assert store.class_names == ("high", "low")
    assert store.resolutions == ("R1", "R2", "R3")
    assert store.variants("R1") == ("mel", "resize")
    assert store.variants("R3") == ("full",)
    assert store.shape("R2/mel") == (96, 214)
    assert store.dtype == np.float16
    assert len(store.fingerprint) == 64


@pytest.mark.parametrize("array", FeatureSpec().arrays)
def test_blocks_in_their_order_are_the_whole(store: StoredDataset, array: str) -> None:
    images, labels = store.load(array)
    blocks = list(store.iter_blocks(array))
    assert len(blocks) == 6
    np.testing.assert_array_equal(images, np.concatenate([x for x, _ in blocks]))
    np.testing.assert_array_equal(labels, np.concatenate([y for _, y in blocks]))
    np.testing.assert_array_equal(labels, store.clips().class_id)
    assert images.shape == (20, *store.shape(array))


def test_a_fold_is_read_alone(store: StoredDataset) -> None:
    both, second = store.load("R1/mel")[0], store.load("R1/mel", [2])[0]
    np.testing.assert_array_equal(both[10:], second)
    assert set(store.clips([2]).fold) == {2}


def test_read_gives_features_in_0_to_1_as_float32(store: StoredDataset) -> None:
    features, labels = store.read("R1/resize")
    assert features.dtype == np.float32
    assert features.min() >= 0
    assert 0.9 < features.max() <= 1
    assert labels.dtype == np.int64


def test_rows_are_mixed_but_every_column_belongs_to_its_clip(
    store: StoredDataset, folder: Dataset
) -> None:
    table = store.clips()
    known = {clip.clip_id: clip for clip in folder.clips}
    for clip_id, class_id, fold, path in zip(
        table.clip_id, table.class_id, table.fold, table.path, strict=True
    ):
        clip = known[clip_id]
        assert (clip.class_id, clip.fold, clip.path) == (class_id, fold, path)
    assert table.clip_id.tolist() != [clip.clip_id for clip in folder.clips]


def test_a_uint8_store_is_scaled_back(
    folder: Dataset, tmp_path: Path, store: StoredDataset
) -> None:
    build(folder, tmp_path / "u8.zarr", FeatureSpec(dtype="uint8"))
    small = featurestore.open_store(tmp_path / "u8.zarr")
    assert small.dtype == np.uint8
    np.testing.assert_allclose(small.read("R1/mel")[0], store.read("R1/mel")[0], atol=2.5e-3)


def test_what_the_store_does_not_have_is_told_with_what_it_has(store: StoredDataset) -> None:
    with pytest.raises(UnknownNameError, match=r"no array 'R1/cubic'.*R1/mel.*--spec"):
        store.load("R1/cubic")
    with pytest.raises(UnknownNameError, match=r"no fold 9.*1, 2"):
        store.load("R1/mel", [9])
    with pytest.raises(UnknownNameError, match="no resolution 'R9'"):
        store.variants("R9")
    with pytest.raises(UnknownNameError, match=r"no clip 'fold1/high/hihg0.wav'.*high0.wav"):
        store.read_clip("fold1/high/hihg0.wav")
    with pytest.raises(UnknownNameError, match=r"no dataset 'esc50'.*folder"):
        featurestore.open_store(store.path, "esc50")


def test_no_store_and_an_unfinished_one_are_told_with_what_to_do(
    folder: Dataset, tmp_path: Path
) -> None:
    from tests.integration.test_build import StopsAfter

    with pytest.raises(StoreError, match="featurestore build"):
        featurestore.open_store(tmp_path / "absent.zarr")
    with pytest.raises(RuntimeError):
        build(folder, tmp_path / "half.zarr", executor=StopsAfter(2))
    with pytest.raises(UnfinishedError, match="featurestore build --dataset folder --store"):
        featurestore.open_store(tmp_path / "half.zarr")


def test_xarray_opens_a_fold_group_and_its_resolutions(store: StoredDataset) -> None:
    clips = xarray.open_zarr(store.path, group="folder/fold1", consolidated=False)
    assert dict(clips.sizes) == {"clip": 10, "byte": 32}
    assert (clips["status"] == 1).all()
    images = xarray.open_zarr(store.path, group="folder/fold1/R1", consolidated=False)
    assert images["mel"].dims == ("clip", "band", "frame")
    np.testing.assert_array_equal(images["mel"].values, store.load("R1/mel", [1])[0])


def test_plain_zarr_reads_the_consolidated_metadata(store: StoredDataset) -> None:
    import zarr

    root = zarr.open_group(store.path, mode="r", use_consolidated=True)
    assert root["folder/fold2/R3/full"].shape == (10, 128, 300)
    assert root["folder"].attrs["state"] == "complete"
    assert root["folder"].attrs["fingerprint"] == store.fingerprint


def test_a_store_in_shards_reads_as_one_without(
    folder: Dataset, tmp_path: Path, store: StoredDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurestore.store.plan.block_clips", lambda spec, num_clips, chunk: 8)
    build(folder, tmp_path / "shards.zarr")
    sharded = featurestore.open_store(tmp_path / "shards.zarr")
    assert sharded.manifest.block_clips == 2 * sharded.manifest.chunk_clips
    assert sharded.blocks() == store.blocks()
    for array in store.arrays:
        np.testing.assert_array_equal(sharded.load(array)[0], store.load(array)[0])
    assert sharded.clips().clip_id.tolist() == store.clips().clip_id.tolist()

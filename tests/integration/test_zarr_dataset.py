import operator
import pickle
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import BatchSampler, DataLoader

from featurestore import Block, StoredDataset, open_store
from featurestore.errors import UnknownNameError
from tests.integration.trainer_store import CHUNK, NUM_CLIPS, tiny_store
from trainer import BlockSampler, ZarrDataset
from trainer.data.order import EpochOrder
from trainer.errors import DataError


class Seven:
    """A whole number that is neither Python's nor NumPy's."""

    def __index__(self) -> int:
        return 7

    def __str__(self) -> str:
        return "Seven"

    __repr__ = __str__


@pytest.fixture
def data() -> ZarrDataset:
    return ZarrDataset(tiny_store(), "R1/mel", folds=(2, 3))


def test_items_are_what_the_reader_loads_as_float32_images(data: ZarrDataset) -> None:
    images, labels = open_store(tiny_store()).load("R1/mel", (2, 3))
    assert len(data) == len(labels) == 96
    for index in (0, 17, 95, -1):
        image, label = data[index]
        assert image.shape == (1, 16, 16)
        assert image.dtype == torch.float32
        assert np.array_equal(image[0].numpy(), images[index].astype(np.float32))
        assert label == labels[index]


def test_a_failed_clip_is_no_item() -> None:
    data = ZarrDataset(tiny_store(), "R1/mel")
    assert len(data) == NUM_CLIPS
    assert min(data.sizes) == CHUNK - 1


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_images_lie_between_zero_and_one_whatever_is_stored(dtype: str) -> None:
    data = ZarrDataset(tiny_store(dtype), "R3/full")
    images = torch.stack([image for image, _ in data.__getitems__(range(20))])
    assert images.amin() == 0
    assert images.amax() == 1


@pytest.mark.parametrize("index", [96, -97])
def test_an_item_out_of_range_is_an_index_error(data: ZarrDataset, index: int) -> None:
    with pytest.raises(IndexError, match="of 96"):
        data[index]


def test_what_the_store_lacks_is_told_at_once() -> None:
    with pytest.raises(UnknownNameError, match="R9/mel"):
        ZarrDataset(tiny_store(), "R9/mel")
    with pytest.raises(UnknownNameError, match="fold 9"):
        ZarrDataset(tiny_store(), "R1/mel", folds=(9,))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_loader_gives_the_samplers_order(data: ZarrDataset, workers: int) -> None:
    loader = DataLoader(
        data, batch_size=20, sampler=BlockSampler(data, seed=5), num_workers=workers
    )
    images, labels = zip(*loader, strict=True)
    order = EpochOrder(5, data.fingerprint, (2, 3), data.sizes).rows(1)
    assert torch.cat(labels).tolist() == data.labels[order].tolist()
    expected = torch.stack([data[index][0] for index in order.tolist()])
    assert torch.equal(torch.cat(images), expected)


@pytest.mark.parametrize("start", [None, "fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_whole_batches_come_in_the_samplers_order_in_this_process_and_in_workers(
    data: ZarrDataset, start: str | None
) -> None:
    data[[0, 50]]  # a store that is open and chunks that are kept do not hinder workers
    loader = DataLoader(
        data,
        sampler=BatchSampler(BlockSampler(data, seed=5), batch_size=20, drop_last=False),
        batch_size=None,
        num_workers=2 if start else 0,
        multiprocessing_context=start,
    )
    images, labels = zip(*loader, strict=True)
    order = EpochOrder(5, data.fingerprint, (2, 3), data.sizes).rows(1).tolist()
    assert [len(part) for part in labels] == [20, 20, 20, 20, 16]
    assert torch.cat(labels).tolist() == data.labels[order].tolist()
    assert torch.equal(torch.cat(images), torch.stack([data[index][0] for index in order]))


def test_a_batch_is_its_items_also_of_more_chunks_than_are_kept(data: ZarrDataset) -> None:
    small = ZarrDataset(tiny_store(), "R1/mel", folds=(2, 3), cache_blocks=2)
    wanted = [95, 0, -1, 40, 17, 0, 60]
    images, labels = small[wanted]
    assert torch.equal(images, torch.stack([data[index][0] for index in wanted]))
    assert labels.tolist() == [data[index][1] for index in wanted]
    assert small[[]][0].shape == (0, 1, 16, 16)


def test_workers_may_be_fresh_processes(data: ZarrDataset) -> None:
    data[0]
    copy = pickle.loads(pickle.dumps(data))  # noqa: S301 - our own bytes
    assert torch.equal(copy[40][0], data[40][0])
    assert len(pickle.dumps(data)) < 20_000


def test_each_pass_is_the_next_epoch_and_can_be_chosen(data: ZarrDataset) -> None:
    sampler = BlockSampler(data)
    first, second = list(sampler), list(sampler)
    assert len(sampler) == len(first) == 96
    assert first != second
    sampler.set_epoch(1)
    assert list(sampler) == first


def test_each_chunk_is_decoded_once_an_epoch_with_no_more_than_a_window_kept(
    data: ZarrDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[Block] = Counter()
    read_block = StoredDataset.read_block

    def counting(
        self: StoredDataset, block: Block, array: str, out: NDArray[Any] | None = None
    ) -> object:
        reads[block] += 1
        return read_block(self, block, array, out)

    monkeypatch.setattr(StoredDataset, "read_block", counting)
    small = ZarrDataset(tiny_store(), "R1/mel", folds=(2, 3), cache_blocks=2)
    for _ in DataLoader(small, batch_size=7, sampler=BlockSampler(small, window=2)):
        pass
    assert len(reads) == len(small.sizes) == 6
    assert set(reads.values()) == {1}


def test_threads_that_share_a_small_cache_get_what_they_asked_for(data: ZarrDataset) -> None:
    small = ZarrDataset(tiny_store(), "R1/mel", folds=(2, 3), cache_blocks=2)
    expected = torch.stack([data[index][0] for index in range(96)])

    def ask(seed: int) -> bool:
        chance = np.random.default_rng(seed)
        for _ in range(25):
            wanted = chance.integers(96, size=8).tolist()
            images, labels = small[wanted]
            if not torch.equal(images, expected[wanted]):
                return False
            if labels.tolist() != data.labels[wanted].tolist():
                return False
        return True

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(ask, range(12)))
    assert len(small._cache) <= 2


def test_a_pickled_dataset_finds_its_store_from_another_directory_and_no_other_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_store(), tmp_path / "s.zarr")
    monkeypatch.chdir(tmp_path)
    data = ZarrDataset("s.zarr", "R1/mel")
    image, pickled = data[0][0], pickle.dumps(data)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shutil.copytree(tiny_store("uint8"), "s.zarr")
    assert torch.equal(pickle.loads(pickled)[0][0], image)  # noqa: S301 - our own bytes
    shutil.rmtree(tmp_path / "s.zarr")
    shutil.move("s.zarr", tmp_path / "s.zarr")
    with pytest.raises(DataError, match="is another store than the one"):
        pickle.loads(pickled)[0]  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    "index",
    [
        slice(3, 40, 7),
        slice(None, None, -20),
        [3, -1, 40],
        (3, -1, 40),
        range(5, 9),
        [np.uint64(3), -1, torch.tensor(40)],
        (np.int64(3), Seven()),
        torch.tensor([3, 40]).to(torch.uint64),
        np.array([3, -1, 40]),
        np.array([3, 40], np.uint8),
        torch.tensor([3, -1, 40]),
        np.arange(96) % 10 == 0,
        torch.arange(96) % 10 == 0,
        [],
        np.array([], np.int64),
    ],
    ids=str,
)
def test_several_items_are_asked_for_as_numpys_are(data: ZarrDataset, index: Any) -> None:
    several = isinstance(index, tuple | list | range)
    own = [int(operator.index(item)) for item in index] if several else index
    if isinstance(index, torch.Tensor) and index.dtype == torch.uint64:
        own = index.long()
    expected = np.arange(96)[np.array(own, np.int64) if several else own]
    images, labels = data[index]
    assert labels.tolist() == data.labels[expected.astype(np.int64)].tolist()
    assert images.shape == (len(expected), 1, 16, 16)
    for image, item in zip(images, expected, strict=True):
        assert torch.equal(image, data[int(item)][0])


SEVENS = [np.int64(7), np.uint8(7), torch.tensor(7), np.array(7), Seven(), torch.tensor(7).short()]


@pytest.mark.parametrize("index", SEVENS, ids=str)
def test_one_item_is_asked_for_by_any_whole_number(data: ZarrDataset, index: Any) -> None:
    image, label = data[index]
    assert torch.equal(image, data[7][0])
    assert label == data[7][1]


@pytest.mark.parametrize(
    "index",
    [
        *(0.5, "7", [0.5], [1.0], ["a"], [True, False], np.zeros((2, 2), int), None),
        *(torch.ones(3), torch.ones(3).bfloat16(), np.array([1.5], object), [[1, 2], [3, 4]]),
        *(np.empty(0, bool), torch.empty(0, dtype=torch.bool), torch.tensor(data=True)),
    ],
    ids=str,
)
def test_what_is_no_whole_number_is_an_index_error(data: ZarrDataset, index: Any) -> None:
    with pytest.raises(IndexError, match=r"expected whole numbers.* 96 items"):
        data[index]


@pytest.mark.parametrize("item", [2**64 - 1, 2**64 + 5, 2**63, -(2**63) - 1, 96, -97])
@pytest.mark.parametrize("several", [False, True])
def test_no_large_number_wraps_around_to_an_item(
    data: ZarrDataset, item: int, several: bool
) -> None:
    with pytest.raises(IndexError, match=f"item {item} of 96"):
        data[[item] if several else item]


@pytest.mark.parametrize(
    "kind", [np.uint8, np.int64, torch.tensor], ids=["uint8", "int64", "tensor"]
)
def test_window_epoch_and_cache_are_taken_as_any_whole_number(
    data: ZarrDataset, kind: Callable[[int], Any]
) -> None:
    small = ZarrDataset(tiny_store(), "R1/mel", folds=(2, 3), cache_blocks=kind(2))
    assert small[0][1] == data[0][1]
    sampler, expected = BlockSampler(data, window=kind(2)), BlockSampler(data, window=2)
    epoch = kind(255)
    sampler.set_epoch(epoch)
    expected.set_epoch(255)
    assert [list(sampler), list(sampler)] == [list(expected), list(expected)]
    assert epoch == 255, "the caller's own is left as it is"


def test_a_seed_and_folds_of_numpy_give_the_same_order(data: ZarrDataset) -> None:
    same = ZarrDataset(tiny_store(), "R1/mel", folds=np.array([2, 3]))
    assert list(BlockSampler(same, seed=np.int64(5))) == list(BlockSampler(data, seed=5))
    for window in (0, -1):
        with pytest.raises(ValueError, match=f"window: expected 1 or more, got {window}"):
            BlockSampler(data, window=window)
    with pytest.raises(TypeError, match="expected a whole number, got 0"):
        BlockSampler(data, seed=0.5)  # type: ignore[arg-type]


def test_a_fold_that_is_named_twice_counts_once(data: ZarrDataset) -> None:
    twice = ZarrDataset(tiny_store(), "R1/mel", folds=[2, np.int64(3), 2])
    assert twice.folds == data.folds
    assert len(twice) == len(data)

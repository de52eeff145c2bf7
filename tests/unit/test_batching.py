from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from trainer.data.batching import Batching, Format, Group, Recycled

CPU = torch.device("cpu")
SMALL = Format((1, 1), np.dtype("float16"), 1.0)


def group(*arrays: NDArray[Any]) -> Group:
    """Images, rows and classes in host memory."""
    images, rows, classes = map(torch.from_numpy, arrays)
    return images, rows, classes


def groups_of(sizes: list[int]) -> Iterator[Group]:
    """Images of the value of their class, counted over the groups; each group in reverse order."""
    start = 0
    for size in sizes:
        classes = np.arange(start, start + size)
        images = classes[::-1].astype(np.float16).reshape(-1, 1, 1)
        yield group(images, np.arange(size)[::-1].copy(), classes)
        images[:] = -1  # whoever looks at a group later sees this
        start += size


@pytest.mark.parametrize("held", ["cpu", "cpu:0"], ids=["on the host", "as on a device"])
@given(sizes=st.lists(st.integers(0, 9), max_size=8), size=st.integers(1, 7))
def test_batches_are_whole_whatever_the_groups(held: str, sizes: list[int], size: int) -> None:
    place = torch.device(held)
    batches = list(Batching(SMALL, place, place).batches(groups_of(sizes), size))
    classes = [value for _, part in batches for value in part.tolist()]
    assert classes == list(range(sum(sizes)))
    assert all(len(part) == size for _, part in batches[:-1])
    assert all(images.flatten().tolist() == part.tolist() for images, part in batches)


@pytest.mark.parametrize("rows", [[0, 3], [-1, 0]])
def test_a_row_that_is_not_there_is_an_error(rows: list[int]) -> None:
    bad = group(np.zeros((3, 1, 1), np.float16), np.array(rows), np.zeros(2, np.int64))
    with pytest.raises(IndexError, match="out of range"):
        next(Batching(SMALL, CPU, CPU).batches([bad], 2))


def test_batches_are_float32_in_0_to_1_whatever_is_stored() -> None:
    stored = Format((2, 3), np.dtype("uint8"), 1 / 255)
    images = np.arange(24, dtype=np.uint8).reshape(4, 2, 3) * 11
    ((batch, _),) = Batching(stored, CPU, CPU).batches(
        [group(images, np.arange(4), np.arange(4))], 4
    )
    assert batch.shape == (4, 1, 2, 3)
    expected = images.astype(np.float32) * np.float32(1 / 255)
    np.testing.assert_array_equal(batch[:, 0].numpy(), expected)


def test_memory_is_used_again_once_nothing_of_a_batch_is_held() -> None:
    memory = Recycled()
    first = memory.take((8, 4, 4), np.dtype("float32"))
    place, part = first.data_ptr(), first[3:5].unsqueeze(1)
    del first
    assert memory.take((8, 4, 4), np.dtype("float32")).data_ptr() != place
    array = part.numpy()
    del part
    assert memory.take((8, 4, 4), np.dtype("float32")).data_ptr() != place
    del array
    assert memory.take((8, 4, 4), np.dtype("float32")).data_ptr() == place


def test_an_epoch_of_batches_lies_in_the_same_memory_and_a_kept_one_is_not_touched() -> None:
    images = np.random.default_rng(0).random((64, 8, 8)).astype(np.float16)
    batches = Batching(SMALL_8, CPU, CPU).batches(
        [group(images, np.arange(64), np.zeros(64, int))], 8
    )
    kept, _ = next(batches)
    copy = kept.clone()
    places = {part.data_ptr() for part, _ in islice(batches, 7)}
    assert len(places) <= 2
    assert torch.equal(kept, copy)


SMALL_8 = Format((8, 8), np.dtype("float16"), 1.0)


def test_gathering_leaves_torchs_threads_as_they_were() -> None:
    before = torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]
    images = np.zeros((64, 128, 300), np.float16)
    stored = Format((128, 300), images.dtype, 1.0)
    list(Batching(stored, CPU, CPU).batches([group(images, np.arange(64), np.zeros(64, int))], 64))
    assert before == (torch.get_num_threads(), [p["num_threads"] for p in threadpool_info()])


def test_threads_may_share_it() -> None:
    images = np.arange(512, dtype=np.float16).repeat(64).reshape(512, 8, 8)
    batching = Batching(SMALL_8, CPU, CPU)

    def right(seed: int) -> bool:
        rows = np.random.default_rng(seed).permutation(512)
        return all(
            (part == labels.view(-1, 1, 1, 1)).all()
            for part, labels in batching.batches([group(images, rows, rows)], 7)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(right, range(40)))

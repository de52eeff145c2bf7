from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from trainer.data.buffers import BufferPool
from trainer.data.order import Window
from trainer.data.source import DeviceSource, HostSource, Source, as_float32
from trainer.threads import one_torch_thread

CPU = torch.device("cpu")


def numbered(num: int, shape: tuple[int, int] = (2, 3)) -> HostSource:
    """Images of the value of their class, which is their row."""
    values = np.arange(num, dtype=np.float16).reshape(-1, 1, 1)
    images = np.ascontiguousarray(np.broadcast_to(values, (num, *shape)))
    return HostSource(images, np.arange(num), 1.0, CPU)


def resident(num: int) -> DeviceSource:
    images = torch.arange(num, dtype=torch.float16).view(-1, 1, 1, 1).expand(-1, 1, 2, 3)
    return DeviceSource(images, torch.arange(num), 1.0, CPU)


def window(*rows: int) -> Window:
    return Window((), np.array(rows, np.int64))


@pytest.mark.parametrize("make", [numbered, resident], ids=["on the host", "as on a device"])
@given(sizes=st.lists(st.integers(0, 9), max_size=8), size=st.integers(1, 7))
def test_batches_are_whole_whatever_the_windows(
    make: Callable[[int], Source], sizes: list[int], size: int
) -> None:
    stops = np.cumsum([0, *sizes])
    parts = [np.arange(start, stop)[::-1] for start, stop in pairwise(stops)]
    batches = list(make(40 * 9).batches([window(*part) for part in parts], size))
    classes = [value for _, part in batches for value in part.tolist()]
    assert classes == [row for part in parts for row in part]
    assert all(len(part) == size for _, part in batches[:-1])
    assert all(images[:, 0, 0, 0].tolist() == part.tolist() for images, part in batches)


@pytest.mark.parametrize("rows", [[0, 3], [-1, 0]])
def test_a_row_that_is_not_there_is_an_error(rows: list[int]) -> None:
    with pytest.raises(IndexError, match="of 3 images"):
        next(numbered(3).batches([window(*rows)], 2))


@pytest.mark.parametrize(
    ("dtype", "scale"), [("uint8", 1 / 255), ("float16", 1.0), ("float32", 1.0)]
)
def test_a_step_sees_float32_in_0_to_1_whatever_is_stored(dtype: str, scale: float) -> None:
    stored = (np.random.default_rng(0).random((4, 1, 2, 3)) / scale).astype(dtype)
    kept = stored.copy()
    expected = stored.astype(np.float32) * np.float32(scale)
    for images in (
        as_float32(torch.from_numpy(stored), scale),
        as_float32(torch.from_numpy(stored), scale, BufferPool(1)),
    ):
        assert images.dtype == torch.float32
        np.testing.assert_array_equal(images.numpy(), expected)
    np.testing.assert_array_equal(stored, kept)


def test_memory_is_used_again_once_nothing_of_a_batch_is_held() -> None:
    memory = BufferPool(8)
    first = memory.get((8, 4, 4), np.dtype("float32"))
    place, part = first.data_ptr(), first[3:5].unsqueeze(1)
    del first
    assert memory.get((8, 4, 4), np.dtype("float32")).data_ptr() != place
    array = part.numpy()
    del part
    assert memory.get((8, 4, 4), np.dtype("float32")).data_ptr() != place
    del array
    assert memory.get((8, 4, 4), np.dtype("float32")).data_ptr() == place


def test_a_longer_piece_serves_and_no_more_are_kept_than_asked_for() -> None:
    memory = BufferPool(2)
    held = memory.get((4, 3), np.dtype("float32"))
    place = memory.get((8, 3), np.dtype("float32")).data_ptr()
    shorter = memory.get((5, 3), np.dtype("float32"))
    assert (shorter.shape, shorter.data_ptr()) == ((5, 3), place)
    del shorter
    memory.get((9, 3), np.dtype("float32"))
    assert [len(piece) for piece, _ in memory._lent] == [4, 9]
    memory.get((9, 3), np.dtype("uint8"))
    assert [len(piece) for piece, _ in memory._lent] == [4, 9]
    assert held.shape == (4, 3)


def test_an_epoch_of_batches_lies_in_the_same_memory_and_a_kept_one_is_not_touched() -> None:
    batches = numbered(64).batches([window(*range(64))], 8)
    kept, _ = next(batches)
    copy = kept.clone()
    places = {part.data_ptr() for part, _ in islice(batches, 7)}
    assert len(places) <= 2
    assert torch.equal(kept, copy)


def test_what_one_thread_does_alone_leaves_torchs_threads_as_they_were() -> None:
    before = torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]
    with one_torch_thread():
        assert torch.get_num_threads() == 1
    assert before == (torch.get_num_threads(), [p["num_threads"] for p in threadpool_info()])


def test_threads_may_share_it() -> None:
    split = numbered(512, (8, 8))

    def right(seed: int) -> bool:
        rows = np.random.default_rng(seed).permutation(512)
        return all(
            (part == labels.view(-1, 1, 1, 1)).all()
            for part, labels in split.batches([window(*rows)], 7)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(right, range(40)))

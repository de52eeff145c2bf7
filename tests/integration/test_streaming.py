"""However a stage is read, training sees the same bits; a stream holds three windows of them."""

import os
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featurestore import StoredDataset, open_store
from featurestore.errors import CorruptError, UnknownNameError
from schemas import Placement
from tests.integration.filled_store import ARRAY, fill_store
from tests.pairs import each_in_turn
from trainer.data.arrays import array_bytes, choose_placements, open_source
from trainer.data.buffers import torch_dtype
from trainer.data.order import EpochOrder, store_order
from trainer.data.source import Batch, Source
from trainer.data.streamed import StreamedSource

CPU = torch.device("cpu")
PLACEMENTS: tuple[Placement, ...] = ("device", "host", "stream")
TRAIN, TEST = (1, 3), (2,)


@pytest.fixture(scope="module", params=["float16", "uint8", "float32"])
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folds of 41, 30 and 9 clips in chunks of 8; clips failed, in one chunk all of them."""
    path = tmp_path_factory.mktemp("stores") / "small.zarr"
    failed = {1: {0, 7, 40}, 2: {29}, 3: set(range(8))}
    fill_store(path, (5, 6), {1: 41, 2: 30, 3: 9}, chunk=8, dtype=request.param, failed=failed)
    return path


def order_of(dataset: StoredDataset, folds: tuple[int, ...], window: int) -> EpochOrder:
    sizes = tuple(len(dataset.labels(block)) for block in dataset.blocks(folds))
    return EpochOrder(0, dataset.fingerprint, folds, sizes, window)


def whole(batches: list[Batch]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images).squeeze(1).cpu().numpy(), torch.cat(labels).cpu().numpy()


# What holds and gathers on the device `cpu:0` does so; it is not the host by its name.
WAYS = [(placement, device) for device in ("cpu", "cpu:0", "cuda") for placement in PLACEMENTS]
WINDOWS = [(1, 3), (2, 7), (3, 64), (32, 8)]


@pytest.mark.parametrize(
    ("way", "windows"), each_in_turn(WAYS, WINDOWS, lambda pair: "-".join(map(str, pair)))
)
def test_every_way_of_reading_gives_the_rows_of_the_order_bit_for_bit(
    small: Path, way: tuple[Placement, str], windows: tuple[int, int]
) -> None:
    (placement, device), (window, size) = way, windows
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    dataset = open_store(small)
    split = open_source(dataset, ARRAY, TRAIN, torch.device(device), placement)
    order = order_of(dataset, TRAIN, window)
    stored, classes = dataset.load(ARRAY, TRAIN)
    assert len(split) == len(classes) == 41 - 3 + 1
    for epoch in (1, 2):
        batches = list(split.batches(order.windows(epoch), size))
        assert all(len(labels) == size for _, labels in batches[:-1])
        images, labels = whole(batches)
        assert images.dtype == stored.dtype
        np.testing.assert_array_equal(images, stored[order.rows(epoch)])
        np.testing.assert_array_equal(labels, classes[order.rows(epoch)])


@pytest.mark.parametrize("placement", ["device", "stream"])
def test_a_device_other_than_the_host_is_handed_whole_batches(
    small: Path, placement: Placement
) -> None:
    """Torch's `meta` has shapes and types, and no data."""
    dataset = open_store(small)
    split = open_source(dataset, ARRAY, TRAIN, torch.device("meta"), placement)
    batches = list(split.batches(order_of(dataset, TRAIN, 2).windows(1), 7))
    assert [images.shape for images, _ in batches] == [*[(7, 1, 5, 6)] * 5, (4, 1, 5, 6)]
    assert [labels.shape for _, labels in batches] == [*[(7,)] * 5, (4,)]
    assert {images.dtype for images, _ in batches} == {torch_dtype(dataset.dtype)}


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_validation_is_in_the_order_of_the_store(small: Path, placement: Placement) -> None:
    dataset = open_store(small)
    images, labels = whole(list(open_source(dataset, ARRAY, TEST, CPU, placement).in_order(4)))
    stored, classes = dataset.load(ARRAY, TEST)
    np.testing.assert_array_equal(images, stored)
    np.testing.assert_array_equal(labels, classes)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_part_of_the_rows_is_read_as_it_is_asked_for(small: Path, placement: Placement) -> None:
    """As where clips are set apart for validation; a block of which none is wanted is in vain."""
    dataset = open_store(small)
    sizes = tuple(len(dataset.labels(block)) for block in dataset.blocks(TRAIN))
    chosen = np.arange(sum(sizes)) % 3 == 0
    chosen[: sizes[0]] = False
    windows = [*store_order(sizes, chosen, 2), *store_order(sizes, chosen, 3)]
    split = open_source(dataset, ARRAY, TRAIN, CPU, placement)
    images, labels = whole(list(split.batches(windows, 4)))
    stored, classes = dataset.load(ARRAY, TRAIN)
    rows = np.tile(np.flatnonzero(chosen), 2)
    np.testing.assert_array_equal(images, stored[rows])
    np.testing.assert_array_equal(labels, classes[rows])


@pytest.mark.parametrize("size", [3, 8, 16])
def test_a_stream_fills_the_same_memory_again_and_leaves_a_batch_that_is_held(
    tmp_path: Path, size: int
) -> None:
    dataset = fill_store(tmp_path / "s.zarr", (5, 6), {1: 93}, chunk=8)
    split = StreamedSource(dataset, ARRAY, (1,), CPU, window=2)

    order = order_of(dataset, (1,), 2)

    def memory() -> set[int]:
        return {memory.ctypes.data for memory, _ in split._pool._lent}

    seen: set[int] = set()
    for epoch in (1, 2):
        for _batch in split.batches(order.windows(epoch), size):
            seen |= memory()
    # Of twelve windows. A thread that has just decoded may hold one for a moment longer.
    assert len(seen) <= 5
    kept = list(split.batches(order.windows(3), size))
    images, _ = whole(kept)
    np.testing.assert_array_equal(images, dataset.load(ARRAY)[0][order.rows(3)])


def test_the_size_of_an_array_is_what_reading_it_takes(small: Path) -> None:
    dataset = open_store(small)
    assert array_bytes(dataset, ARRAY) == dataset.load(ARRAY)[0].nbytes
    assert choose_placements(dataset, [ARRAY, ARRAY], CPU, "auto") == {ARRAY: "host"}
    assert choose_placements(dataset, [ARRAY], CPU, "stream") == {ARRAY: "stream"}


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_an_array_that_is_not_there_is_refused_before_training(
    small: Path, placement: Placement
) -> None:
    with pytest.raises(UnknownNameError, match="R9/mel"):
        open_source(open_store(small), "R9/mel", TRAIN, CPU, placement)


def streaming_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("stream")]


def test_a_stream_left_early_leaves_no_thread_behind(small: Path) -> None:
    dataset = open_store(small)
    split = open_source(dataset, ARRAY, TRAIN, CPU, "stream")
    with closing(split.batches(order_of(dataset, TRAIN, 1).windows(1), 2)) as batches:
        next(batches)
        assert streaming_threads()
    assert not streaming_threads()


def test_damage_met_by_a_stream_is_told_and_ends_it(tmp_path: Path) -> None:
    dataset = fill_store(tmp_path / "s.zarr", (5, 6), {1: 40}, chunk=8)
    (tmp_path / "s.zarr/noise/fold1/R3/full/c/3/0/0").unlink()
    split = StreamedSource(dataset, ARRAY, (1,), CPU, window=1)
    batches = split.in_order(8)
    assert [len(labels) for _, labels in islice(batches, 3)] == [8, 8, 8]
    with pytest.raises(CorruptError, match="rows 24 to 32"):
        next(batches)
    assert not streaming_threads()


def test_what_is_left_of_a_window_is_not_read_once_damage_was_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = fill_store(tmp_path / "s.zarr", (5, 6), {1: 320}, chunk=8)
    (tmp_path / "s.zarr/noise/fold1/R3/full/c/0/0/0").unlink()
    read: list[object] = []
    read_block = StoredDataset.read_block

    def slowly(self: StoredDataset, *arguments: Any, **options: Any) -> Any:
        read.append(arguments)
        time.sleep(0.02)
        return read_block(self, *arguments, **options)

    monkeypatch.setattr(StoredDataset, "read_block", slowly)
    with pytest.raises(CorruptError):
        next(StreamedSource(dataset, ARRAY, (1,), CPU, window=40).in_order(8))
    assert len(read) < 30


CHUNK, WINDOW, NUM_CHUNKS = 64, 4, 80
CHUNK_BYTES = CHUNK * 128 * 256 * 2


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """336 MB in memory, in eighty chunks of 4 MB; far less on disk."""
    path = tmp_path_factory.mktemp("stores") / "large.zarr"
    fill_store(path, (128, 256), {1: CHUNK * NUM_CHUNKS}, chunk=CHUNK)
    return path


@pytest.mark.slow
def test_a_stream_holds_three_windows_and_a_few_blocks(large: Path) -> None:
    dataset = open_store(large)
    split: Source = StreamedSource(dataset, ARRAY, (1,), CPU)
    windows = order_of(dataset, (1,), WINDOW).windows(1)
    tracemalloc.start()
    try:
        seen = sum(len(labels) for _, labels in split.batches(windows, 48))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    threads = min(8, os.cpu_count() or 1)
    assert seen == CHUNK * NUM_CHUNKS
    assert peak > 1.5 * WINDOW * CHUNK_BYTES
    assert peak < (3 * WINDOW + 2 * threads + 1) * CHUNK_BYTES


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from featurestore import open_store
from trainer.data.order import EpochOrder, store_order
from trainer.data.arrays import open_source
from trainer.data.streamed import StreamedSource
from trainer.errors import DeviceMemoryError

dataset = open_store(sys.argv[1])
allowed, window = int(sys.argv[2]), int(sys.argv[3])
cpu = torch.device("cpu")
split = StreamedSource(dataset, "R3/full", (1,), cpu, window)
order = EpochOrder(0, "noise", (1,), tuple(len(b) for b in dataset.blocks((1,))), window)
next(split.in_order(48))  # loads what is loaded once
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + allowed, taken + allowed))
for passed in (split.batches(order.windows(1), 48), split.in_order(48)):
    print(sum(len(labels) for _, labels in passed))
try:
    open_source(dataset, "R3/full", (1,), cpu, "host")
except DeviceMemoryError:
    print("the whole does not fit")
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_a_store_larger_than_the_memory_allowed_is_streamed(large: Path) -> None:
    # Three windows are 3 tenths of that, and malloc has its holes.
    allowed = NUM_CHUNKS // 2 * CHUNK_BYTES
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(large), str(allowed), str(WINDOW)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"},
    )
    assert ended.stdout.splitlines() == ["5120", "5120", "the whole does not fit"], ended.stderr

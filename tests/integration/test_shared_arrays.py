"""Arrays that folds share: each loaded once, given as if alone, and let go of."""

import gc
import platform
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray

from featurestore import StoredDataset
from schemas import Placement
from tests.integration.trainer_store import tiny_plan
from trainer.data.arrays import SharedArrays, open_source
from trainer.data.order import EpochOrder, Window
from trainer.data.source import Source
from trainer.data.split import training_folds
from trainer.training.device import computing_on

CPU = torch.device("cpu")
ARRAY, OTHER = "R1/resize", "R2/resize"


def shared(placement: Placement = "host") -> SharedArrays:
    dataset, plan = tiny_plan(folds=(1, 2, 3))
    return SharedArrays(dataset, plan.config, {ARRAY: placement, OTHER: placement})


def same(one: Source, other: Source, windows: list[Window]) -> bool:
    pairs = [
        *zip(one.batches(windows, 16), other.batches(windows, 16), strict=True),
        *zip(one.in_order(16), other.in_order(16), strict=True),
    ]
    return len(one) == len(other) and all(
        torch.equal(a, b) for left, right in pairs for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("placement", ["host", "stream"])
def test_each_fold_gets_the_batches_it_would_get_alone_also_from_three_threads(
    placement: Placement,
) -> None:
    dataset, _ = tiny_plan()
    held = shared(placement).hold(ARRAY)

    def is_as_alone(fold: int) -> bool:
        train = training_folds(dataset, fold)
        sizes = tuple(len(dataset.labels(block)) for block in dataset.blocks(train))
        windows = list(EpochOrder(0, dataset.fingerprint, train, sizes).windows(1))
        stage = held[fold]
        alone = [open_source(dataset, ARRAY, folds, CPU, "host") for folds in (train, (fold,))]
        return all(
            same(stage.train, alone[0], windows)
            and same(stage.valid, alone[1], [])  # only ever read in order
            for _ in range(5)
        )

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(is_as_alone, (1, 2, 3))) == [True] * 3


def test_an_array_is_loaded_once_and_let_go_of_when_another_is_wanted() -> None:
    arrays = shared()
    first = arrays.hold(ARRAY)
    assert arrays.hold(ARRAY) is first
    watched = weakref.ref(first)
    del first
    gc.collect()
    assert watched() is not None, "the latest is kept for the next fold"
    arrays.hold(OTHER)
    gc.collect()
    assert watched() is None


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is asked")
def test_the_memory_of_an_array_is_free_before_the_next_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also while a training on a CPU keeps freed memory, here with something else behind it."""
    process, mib = psutil.Process(), 2**20
    dataset, _ = tiny_plan()
    sizes = {ARRAY: 96 * mib, OTHER: 128 * mib}

    def load(array: str, folds: object) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        labels = dataset.all_labels(dataset.folds)
        images = np.ones((len(labels), 1, sizes[array] // len(labels)), np.uint8)
        return images, labels

    arrays = shared()
    monkeypatch.setattr(StoredDataset, "load", staticmethod(load))
    with computing_on(CPU):
        before = process.memory_info().rss
        arrays.hold(ARRAY)
        behind = torch.ones(8 * mib)
        arrays.hold(OTHER)
        assert process.memory_info().rss - before < 192 * mib
        del behind


def test_the_held_out_fold_of_an_array_in_memory_is_not_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrays = shared()
    dataset, _ = tiny_plan()
    arrays.hold(ARRAY)
    alone = open_source(dataset, ARRAY, (2,), CPU, "host")
    monkeypatch.setattr("trainer.data.arrays.load_to_host", pytest.fail)
    assert same(arrays.held_out(ARRAY, 2), alone, [])
    monkeypatch.undo()
    other = open_source(dataset, OTHER, (2,), CPU, "host")
    assert same(arrays.held_out(OTHER, 2), other, [])


def test_an_array_that_somebody_still_uses_is_not_loaded_again() -> None:
    arrays = shared()
    first = arrays.hold(ARRAY)
    arrays.hold(OTHER)
    assert arrays.hold(ARRAY) is first

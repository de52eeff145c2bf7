"""Folds that are made: groups stay whole, classes are spread as well as scikit-learn does."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from featurestore.datasets.folds import make_folds
from featurestore.errors import DatasetError

Ints = NDArray[np.int64]


def unevenness(class_ids: Ints, folds: Ints, num_folds: int) -> float:
    """Mean distance of a class's share in a fold from an even one."""
    table = np.zeros((class_ids.max() + 1, num_folds))
    np.add.at(table, (class_ids, folds), 1)
    shares = table / table.sum(axis=1, keepdims=True)
    return float(np.abs(shares - 1 / num_folds).mean())


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20)), min_size=1, max_size=60),
    st.integers(2, 5),
    st.integers(0, 9),
)
def test_no_group_is_in_two_folds_and_no_fold_is_empty(
    rows: list[tuple[int, int]], num_folds: int, seed: int
) -> None:
    class_ids = np.array([class_id for class_id, _ in rows])
    _, groups = np.unique([group for _, group in rows], return_inverse=True)
    if groups.max() + 1 < num_folds:
        with pytest.raises(DatasetError, match=f"there are {groups.max() + 1}"):
            make_folds(class_ids, groups, num_folds, seed)
        return
    made = make_folds(class_ids, groups, num_folds, seed)
    assert len(set(zip(groups.tolist(), made.folds.tolist(), strict=True))) == groups.max() + 1
    assert set(made.folds.tolist()) == set(range(1, num_folds + 1))
    assert np.array_equal(made.folds, make_folds(class_ids, groups, num_folds, seed).folds)


def draw(seed: int, num_clips: int, num_groups: int, num_classes: int, mixed: bool) -> list[Ints]:
    rng = np.random.default_rng(seed)
    _, groups = np.unique(rng.integers(0, num_groups, num_clips), return_inverse=True)
    class_ids = rng.integers(0, num_classes, groups.max() + 1)[groups]
    if mixed:
        other = rng.integers(0, num_classes, num_clips)
        class_ids = np.where(rng.random(num_clips) < 0.4, other, class_ids)
    return [class_ids, groups]


@pytest.mark.parametrize("sizes", [(1000, 200, 10), (1000, 1000, 50), (800, 60, 5)])
@pytest.mark.parametrize("mixed", [False, True])
def test_classes_are_spread_about_as_evenly_as_by_scikit_learn(
    sizes: tuple[int, int, int], mixed: bool
) -> None:
    ours, theirs = [], []
    for seed in range(3):
        class_ids, groups = draw(seed, *sizes, mixed)
        ours.append(unevenness(class_ids, make_folds(class_ids, groups, 5, seed).folds - 1, 5))
        folds = np.zeros(len(groups), int)
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        for fold, (_, rows) in enumerate(splitter.split(class_ids, class_ids, groups)):
            folds[rows] = fold
        theirs.append(unevenness(class_ids, folds, 5))
    assert np.mean(ours) <= 1.5 * np.mean(theirs) + 1e-9


def test_single_clips_are_spread_as_evenly_as_can_be() -> None:
    class_ids = np.repeat(np.arange(7), [3, 10, 11, 12, 13, 14, 1])
    folds = make_folds(class_ids, np.arange(len(class_ids)), 5).folds
    for class_id in range(7):
        counts = np.bincount(folds[class_ids == class_id], minlength=6)[1:]
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(folds)[1:]
    assert sizes.max() - sizes.min() <= 1


def test_a_seed_gives_other_folds() -> None:
    class_ids, groups = draw(0, 200, 80, 4, mixed=False)
    first, second = (make_folds(class_ids, groups, 5, seed).folds for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_classes_with_fewer_groups_than_folds_are_named() -> None:
    class_ids = np.array([0, 0, 0, 0, 0, 1, 1, 2])
    groups = np.array([0, 1, 2, 3, 4, 5, 5, 6])
    (warning,) = make_folds(class_ids, groups, 5, class_names=("cat", "owl", "tit")).warnings
    assert warning.startswith("2 classes are in fewer than 5 groups")
    assert warning.endswith("owl (1), tit (1)")


@pytest.mark.slow
def test_folds_of_a_million_clips_take_less_than_a_minute() -> None:
    rng = np.random.default_rng(0)
    class_ids, groups = rng.integers(0, 50, 1_000_000), np.arange(1_000_000) // 4
    started = time.perf_counter()
    made = make_folds(class_ids, groups, 5)
    assert time.perf_counter() - started < 60
    assert unevenness(class_ids, made.folds - 1, 5) < 1e-3

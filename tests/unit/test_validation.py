import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.order import EpochOrder, store_order
from trainer.data.split import validation_clips


def recordings_of(sizes: list[int]) -> list[str]:
    return [f"r{number}" for number, size in enumerate(sizes) for _ in range(size)]


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=60),
    share=st.floats(0.05, 0.5),
    seed=st.integers(0, 99),
)
def test_recordings_are_chosen_whole_and_every_class_keeps_a_clip(
    sizes: list[int], share: float, seed: int
) -> None:
    groups = recordings_of(sizes)
    classes = np.array([int(group[1:]) % 3 for group in groups])
    chosen = validation_clips(groups, classes, share, seed)
    inside, outside = (
        {g for g, c in zip(groups, chosen, strict=True) if c is np.bool_(value)}
        for value in (True, False)
    )
    assert not inside & outside
    assert set(classes[~chosen]) == set(classes)
    for one in set(classes):
        largest = max(size for number, size in enumerate(sizes) if number % 3 == one)
        number = (classes == one).sum()
        assert chosen[classes == one].sum() <= share * number + largest / 2


def test_every_class_gives_its_share_where_recordings_are_single_clips() -> None:
    classes = np.repeat([0, 1, 2], [100, 40, 10])
    chosen = validation_clips([str(i) for i in range(150)], classes, 0.1, seed=1)
    assert np.bincount(classes[chosen]).tolist() == [10, 4, 1]


def test_another_seed_chooses_others_and_the_same_one_the_same() -> None:
    groups, classes = [str(i) for i in range(100)], np.zeros(100, np.int64)
    first, again, other = (validation_clips(groups, classes, 0.2, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_one_recording_of_everything_gives_none() -> None:
    assert not validation_clips(["a"] * 10, np.zeros(10, np.int64), 0.2, seed=0).any()


@pytest.mark.parametrize("window", [1, 2, 32])
def test_epochs_and_validation_share_the_clips_out_between_them(window: int) -> None:
    sizes = (5, 0, 7, 3, 4)
    apart = np.random.default_rng(0).random(19) < 0.3
    order = EpochOrder(0, "abc", (1, 2), sizes, window, kept=~apart)
    chosen = store_order(sizes, apart, window)
    rows = np.concatenate([w.rows for w in chosen])
    assert rows.tolist() == np.flatnonzero(apart).tolist()
    assert all(len(w.blocks) <= window and len(w.rows) for w in chosen)
    for epoch in (1, 2):
        assert sorted(order.rows(epoch)) == np.flatnonzero(~apart).tolist()
    assert order.rows(1).tolist() != order.rows(2).tolist()

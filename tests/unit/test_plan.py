import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featurestore.store import plan
from schemas import FeatureSpec


@given(st.integers(1, 3000), st.integers(1, 200))
def test_blocks_cover_every_row_exactly_once_and_start_on_a_chunk(
    num_clips: int, size: int
) -> None:
    blocks = plan.fold_blocks(1, num_clips, size)
    rows = np.concatenate([np.arange(block.start, block.stop) for block in blocks])
    assert rows.tolist() == list(range(num_clips))
    assert all(block.start % size == 0 and 0 < len(block) <= size for block in blocks)


@given(st.integers(1, 10**8))
def test_blocks_are_whole_chunks_and_keep_the_number_of_files_in_bounds(num_clips: int) -> None:
    spec = FeatureSpec()
    size = plan.block_clips(spec, num_clips)
    assert size % plan.CHUNK_CLIPS == 0
    assert num_clips / size * (len(spec.arrays) + plan.OUTCOME_ARRAYS) <= plan.MAX_FILES


def test_the_papers_datasets_need_no_shards() -> None:
    assert plan.block_clips(FeatureSpec(), 8732) == plan.CHUNK_CLIPS


@given(st.integers(1, 500), st.integers(0, 20))
def test_the_row_order_is_a_permutation_that_depends_on_seed_and_fold_only(
    size: int, fold: int
) -> None:
    order = plan.row_order(size, fold)
    assert sorted(order) == list(range(size))
    assert (order == plan.row_order(size, fold)).all()


def test_folds_are_permuted_differently() -> None:
    assert (plan.row_order(100, 1) != plan.row_order(100, 2)).any()
    assert (plan.row_order(100, 1) != np.arange(100)).any()

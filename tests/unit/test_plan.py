import numpy as np
import pytest
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


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=10))
def test_chunks_of_few_megabytes_are_chosen_so_that_few_rows_are_decoded_in_vain(
    fold_sizes: list[int],
) -> None:
    def decoded(size: int) -> int:
        return sum(-(-num_clips // size) * size for num_clips in fold_sizes)

    size = plan.chunk_clips(fold_sizes)
    assert 32 <= size <= 64
    assert decoded(size) <= decoded(64)


@pytest.mark.parametrize(
    ("fold_sizes", "size"),
    [([80] * 5, 40), ([400] * 5, 50), ([100_000] * 10, 64), ([3], 32), ([64, 128], 64)],
)
def test_folds_end_where_a_chunk_does_or_nearly(fold_sizes: list[int], size: int) -> None:
    assert plan.chunk_clips(fold_sizes) == size


@given(st.integers(1, 10**8), st.integers(32, 64))
def test_blocks_are_whole_chunks_and_keep_the_number_of_files_in_bounds(
    num_clips: int, chunk: int
) -> None:
    spec = FeatureSpec()
    size = plan.block_clips(spec, num_clips, chunk)
    assert size % chunk == 0
    files = num_clips / size * (len(spec.arrays) + plan.OUTCOME_ARRAYS)
    assert files <= plan.MAX_FILES or 2 * size * spec.clip_bytes >= plan.MOST_BLOCK_BYTES


def test_no_number_and_size_of_clips_makes_a_block_too_large_for_a_worker() -> None:
    log_stft = {"features": [{"kind": "log_stft", "num_frames": 400}]}
    waveform = {"kind": "waveform", "sample_rate": 44_100, "num_samples": 30 * 44_100}
    for fields in ({}, log_stft, {"features": [waveform]}):
        spec = FeatureSpec.model_validate(fields)
        for num_clips in (10, 10**4, 10**6, 10**7, 10**8, 10**10):
            chunk = min(plan.chunk_clips([num_clips]), plan.most_clips(spec))
            size = plan.block_clips(spec, num_clips, chunk)
            assert size % chunk == 0
            assert size * spec.clip_bytes <= plan.MOST_BLOCK_BYTES


def test_the_papers_datasets_need_no_shards() -> None:
    assert plan.block_clips(FeatureSpec(), 8732, 32) == 32


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

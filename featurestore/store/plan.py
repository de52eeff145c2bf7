"""The order of a fold's clips, and their chunks and blocks. Arithmetic only.

A block is the unit of work and of commit: whole chunks (or one shard) of every array of a fold,
so that no two blocks ever write to the same stored object.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas import FeatureSpec

_CHUNK_CLIPS = range(64, 31, -1)
"""Clips per chunk: above 1 MB at the larger resolutions, small enough to hold a few in memory."""
_COST_OF_A_CHUNK = 2
"""Cost in clips of the largest images (50 µs each): opening a file and bookkeeping, 0.1 ms."""
MAX_FILES = 100_000
"""Above about this many files, chunks are gathered in shards."""
MOST_BLOCK_BYTES = 1 << 27
"""Size of a block's images and features at most: a worker holds two blocks, as one is written while
the next is extracted, and one of them encoded."""
OUTCOME_ARRAYS = 4
"""Number of arrays of one value per clip that a block writes next to the images."""
ORDER_SEED = 0


@dataclass(frozen=True, order=True)
class Block:
    """Rows [start, stop) of a fold; `start` is a multiple of the store's block_clips."""

    fold: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def rows(self) -> slice:
        """The block's rows in its fold's arrays."""
        return slice(self.start, self.stop)


def fold_blocks(fold: int, num_clips: int, block_clips: int) -> tuple[Block, ...]:
    """Return blocks that cover every row of a fold exactly once, in order."""
    return tuple(
        Block(fold, start, min(start + block_clips, num_clips))
        for start in range(0, num_clips, block_clips)
    )


def chunk_clips(fold_sizes: Collection[int]) -> int:
    """Return the clips per chunk with which the folds are read fastest.

    A chunk is decoded as a whole, also where a fold ends in it: of folds of 80 clips, chunks of 64
    would have 128 decoded.

    Args:
        fold_sizes: Clips of each fold.
    """

    def cost(size: int) -> int:
        return sum(-(-num_clips // size) * (size + _COST_OF_A_CHUNK) for num_clips in fold_sizes)

    return min(_CHUNK_CLIPS, key=cost)


def most_clips(spec: FeatureSpec) -> int:
    """Return how many clips fit into a block; of waveforms of 30 s, fewer than a chunk has."""
    return max(1, MOST_BLOCK_BYTES // spec.clip_bytes)


def block_clips(
    spec: FeatureSpec, num_clips: int, chunk_clips: int, max_files: int = MAX_FILES
) -> int:
    """Return the clips per block: one chunk, or as many as keep the store's files in bounds.

    Memory comes first: a store of tens of millions of clips has more files than that.

    Args:
        spec: Says how many arrays there are.
        num_clips: Clips of the whole dataset.
        chunk_clips: Clips a chunk.
        max_files: The number of files aimed at; doubling the shard until it is met, or too large.
    """
    arrays = len(spec.arrays) + OUTCOME_ARRAYS
    block = chunk_clips
    while arrays * num_clips / block > max_files and 2 * block * spec.clip_bytes < MOST_BLOCK_BYTES:
        block *= 2
    return block


def row_order(num_clips: int, fold: int, seed: int = ORDER_SEED) -> NDArray[np.int64]:
    """Return the permutation (num_clips,) that puts a fold's clips, in table order, into rows.

    Neighbouring rows then share neither class nor recording more than chance has it, and reading
    a few chunks at a time already shuffles.
    """
    return np.random.default_rng([seed, fold]).permutation(num_clips)


def run_order(
    num_clips: int, fold: int, run_clips: int, seed: int = ORDER_SEED
) -> NDArray[np.int64]:
    """Return the permutation (num_clips,) that keeps runs of neighbours in a fold together.

    For clips in shards that are read in groups of rows: with runs as long as a block, a block reads
    each group that it has a clip of once. The runs are in random order, and so are the clips within
    each; the last run, which may be short, stays last so that no block has clips of two others.
    """
    rng = np.random.default_rng([seed, fold])
    whole = num_clips // run_clips
    runs = rng.permutation(whole)[:, None] * run_clips + np.arange(run_clips)
    rest = rng.permutation(np.arange(whole * run_clips, num_clips))
    return np.concatenate([rng.permuted(runs, axis=1).ravel(), rest])

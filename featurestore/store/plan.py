"""Order of a fold's clips, and their chunks and blocks. Arithmetic only.

A block is the unit of work and of commit: whole chunks (or one shard) of every array of a fold,
so that no two blocks ever write to the same stored object.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas import FeatureSpec

_CHUNK_CLIPS = range(64, 31, -1)
"""Candidates for clips per chunk: over 1 MB at larger resolutions, yet a few fit into memory."""
_COST_OF_A_CHUNK = 2
"""Overhead per chunk (0.1 ms to open a file), in clips of the largest image (50 µs each)."""
MAX_FILES = 100_000
"""Approximate number of files above which chunks are combined into shards."""
MOST_BLOCK_BYTES = 1 << 27
"""Maximum size in bytes of a block's images and features. A worker holds two blocks, as one is
written while the next is extracted, plus the encoded form of one."""
OUTCOME_ARRAYS = 4
"""Number of per-clip arrays that a block writes in addition to the images."""
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
    """Return the number of clips per chunk with which the folds are read fastest.

    Chunks are decoded as a whole, even if a fold ends within one: with chunks of 64, a fold of 80
    clips would cost 128.

    Args:
        fold_sizes: Number of clips of each fold.
    """

    def cost(size: int) -> int:
        return sum(-(-num_clips // size) * (size + _COST_OF_A_CHUNK) for num_clips in fold_sizes)

    return min(_CHUNK_CLIPS, key=cost)


def most_clips(spec: FeatureSpec) -> int:
    """Return the number of clips that fit into a block; for 30 s waveforms, less than a chunk."""
    return max(1, MOST_BLOCK_BYTES // spec.clip_bytes)


def block_clips(
    spec: FeatureSpec, num_clips: int, chunk_clips: int, max_files: int = MAX_FILES
) -> int:
    """Return the number of clips per block: one chunk, or a shard to limit the number of files.

    Memory takes precedence: a store of tens of millions of clips exceeds the limit.

    Args:
        spec: Spec, which determines the number of arrays.
        num_clips: Number of clips in the whole dataset.
        chunk_clips: Number of clips per chunk.
        max_files: Target number of files; shards are doubled until it is met or they are too large.
    """
    arrays = len(spec.arrays) + OUTCOME_ARRAYS
    block = chunk_clips
    while arrays * num_clips / block > max_files and 2 * block * spec.clip_bytes < MOST_BLOCK_BYTES:
        block *= 2
    return block


def row_order(num_clips: int, fold: int, seed: int = ORDER_SEED) -> NDArray[np.int64]:
    """Return the permutation (num_clips,) from table order to the rows of a fold.

    Neighbouring rows then share class or recording only by chance, so that reading a few chunks at
    a time already shuffles.
    """
    return np.random.default_rng([seed, fold]).permutation(num_clips)


def run_order(
    num_clips: int, fold: int, run_clips: int, seed: int = ORDER_SEED
) -> NDArray[np.int64]:
    """Return the permutation (num_clips,) that keeps runs of neighbours in a fold together.

    For clips in shards that are read in groups of rows: with runs as long as a block, each block
    reads its groups once. The runs are in random order, and so are the clips within each; the last
    run, which may be short, stays last so that no block contains clips of two runs.
    """
    rng = np.random.default_rng([seed, fold])
    whole = num_clips // run_clips
    runs = rng.permutation(whole)[:, None] * run_clips + np.arange(run_clips)
    rest = rng.permutation(np.arange(whole * run_clips, num_clips))
    return np.concatenate([rng.permuted(runs, axis=1).ravel(), rest])

"""The order of the training rows in an epoch: a pure function of seed, epoch and store.

Also the seeds: every random stream of a run has its own, derived from its purpose. None depends on
how much another has drawn, so a run can start at any fold and epoch.

Rows are shuffled within windows of a few blocks, so that a reader that holds one window in memory,
and reads each block once, gives the same order as one that holds everything.
"""

import hashlib
import json
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray


def derive_seed(*parts: SupportsIndex | str) -> int:
    """Return a seed in [0, 2**63) derived from all parts; different parts give unrelated seeds.

    Args:
        parts: Strings and integers; NumPy integers are equivalent to Python's.
    """
    plain = [part if isinstance(part, str) else int(operator.index(part)) for part in parts]
    digest = hashlib.blake2b(json.dumps(plain).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


WINDOW = 32
"""Number of blocks per window: with 32 to 64 clips per chunk, 1000 to 2000 clips."""


@dataclass(frozen=True)
class Window:
    """Blocks to hold in memory at once, and the order of their rows.

    Args:
        blocks: Positions of the blocks among all blocks of the training folds.
        rows: (n,) int64, rows of these blocks, each at most once, numbered over all blocks of the
            training folds: indices into the result of the reader's `load`.
    """

    blocks: tuple[int, ...]
    rows: NDArray[np.int64]


def store_order(
    sizes: Sequence[int], chosen: NDArray[np.bool_] | None = None, window: int = WINDOW
) -> tuple[Window, ...]:
    """Return windows over rows in the store's order, without blocks that have none.

    Args:
        sizes: Rows of each block; may be 0.
        chosen: (n,) bool, one for each row of these blocks; all by default.
        window: Blocks held together, at least 1.
    """
    chosen = np.ones(sum(sizes), np.bool_) if chosen is None else chosen
    stops = np.cumsum(sizes, dtype=np.int64)
    rows = {
        block: stop - size + np.flatnonzero(chosen[stop - size : stop])
        for block, (size, stop) in enumerate(zip(sizes, stops, strict=True))
    }
    blocks = [block for block, inside in rows.items() if len(inside)]
    groups = [blocks[first : first + window] for first in range(0, len(blocks), window)]
    return tuple(Window(tuple(g), np.concatenate([rows[b] for b in g])) for g in groups)


@dataclass(frozen=True)
class EpochOrder:
    """The order of the rows in every epoch.

    Args:
        seed: Seed of the run.
        fingerprint: Fingerprint of the store, so that other features or clips get another order.
        folds: Training folds.
        sizes: Number of rows of each block of these folds, in the reader's order; may be 0.
        window: Number of blocks shuffled together, at least 1.
        kept: (n,) bool, rows to train on; None for all.
    """

    seed: int
    fingerprint: str
    folds: tuple[int, ...]
    sizes: tuple[int, ...]
    window: int = WINDOW
    kept: NDArray[np.bool_] | None = field(default=None, compare=False)

    def windows(self, epoch: int) -> Iterator[Window]:
        """Yield the windows of an epoch: blocks in random order, `window` at a time."""
        rng = np.random.default_rng(
            derive_seed("order", self.seed, epoch, self.fingerprint, *self.folds)
        )
        stops = np.cumsum(self.sizes, dtype=np.int64)
        blocks = rng.permutation(len(self.sizes)).tolist()
        for first in range(0, len(blocks), self.window):
            group = blocks[first : first + self.window]
            rows = np.concatenate([np.arange(stops[b] - self.sizes[b], stops[b]) for b in group])
            if self.kept is not None:
                # Before the shuffle: the reader fetches every block of the group all the same.
                rows = rows[self.kept[rows]]
            yield Window(tuple(group), rng.permutation(rows))

    def rows(self, epoch: int) -> NDArray[np.int64]:
        """Return the rows of a whole epoch, (n,) int64, each once."""
        windows = [window.rows for window in self.windows(epoch)]
        return np.concatenate([np.empty(0, np.int64), *windows])

"""The order in which an epoch sees the training rows: a pure function of seed, epoch and store.

And the seeds: every random stream of a run has its own, made of what it is for. None depends on how
much another has drawn, so a run can start at any fold and epoch.

Rows are shuffled within a window of a few blocks at a time, so that a reader that holds only one
window in memory, and reads each block once, gives the same order as one that holds everything.
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
    """Return a seed in [0, 2**63) that depends on every part; other parts, an unrelated seed.

    Args:
        parts: Texts and whole numbers, also NumPy's, which count as the same number.
    """
    plain = [part if isinstance(part, str) else int(operator.index(part)) for part in parts]
    digest = hashlib.blake2b(json.dumps(plain).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


WINDOW = 32
"""Blocks per window: with 32 to 64 clips per chunk, 1000 to 2000 clips."""


@dataclass(frozen=True)
class Window:
    """Blocks to hold at once, and the order of their rows.

    Args:
        blocks: Positions of the blocks among all blocks of the training folds.
        rows: (n,) int64, rows of these blocks, each at most once, counted over all blocks of the
            training folds: an index into what the reader's `load` returns.
    """

    blocks: tuple[int, ...]
    rows: NDArray[np.int64]


def store_order(sizes: Sequence[int], window: int = WINDOW) -> Iterator[Window]:
    """Yield windows that have every row in the store's order.

    Args:
        sizes: Rows of each block; may be 0.
        window: Blocks held together, at least 1.
    """
    start = 0
    for first in range(0, len(sizes), window):
        stop = start + sum(sizes[first : first + window])
        blocks = range(first, min(first + window, len(sizes)))
        yield Window(tuple(blocks), np.arange(start, stop))
        start = stop


def chosen_windows(
    sizes: Sequence[int], chosen: NDArray[np.bool_], window: int = WINDOW
) -> tuple[Window, ...]:
    """Return windows of the chosen rows in the store's order, over the blocks that have some.

    Args:
        sizes: Rows of each block; may be 0.
        chosen: (n,) bool, one for each row of these blocks.
        window: Blocks held together, at least 1.
    """
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
    """The order of every epoch.

    Args:
        seed: The run's seed.
        fingerprint: The store's fingerprint; other features or clips get another order.
        folds: The training folds.
        sizes: Rows of each block of these folds, in the reader's order; may be 0.
        window: Blocks shuffled together, at least 1.
        kept: (n,) bool, rows that an epoch has; None for all.
    """

    seed: int
    fingerprint: str
    folds: tuple[int, ...]
    sizes: tuple[int, ...]
    window: int = WINDOW
    kept: NDArray[np.bool_] | None = field(default=None, compare=False)

    def windows(self, epoch: int) -> Iterator[Window]:
        """Yield the epoch's windows: blocks in random order, `window` of them at a time."""
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
        """Return the rows (n,) of the whole epoch, each once."""
        windows = [window.rows for window in self.windows(epoch)]
        return np.concatenate([np.empty(0, np.int64), *windows])

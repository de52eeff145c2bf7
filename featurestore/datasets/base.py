"""The result of loading any dataset: its card and its clips."""

from dataclasses import dataclass
from pathlib import Path

from schemas import Clip, DatasetCard

SYNTHETIC_MARKER = "synthetic.json"
"""File by which a synthetic collection is recognised; its other code needs NumPy."""


@dataclass(frozen=True)
class Dataset:
    """A dataset found on disk: a card, a root, and one clip per row of its table.

    Invariant: `clips` is in table order, clip ids are unique, every class_id indexes
    `card.class_names`, and no path is absolute or leaves the root.
    """

    card: DatasetCard
    root: Path
    clips: tuple[Clip, ...]
    left_out: tuple[str, ...] = ()
    """Files in the root that are no clips, by kind and number; for directories without a table."""

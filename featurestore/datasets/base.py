"""The result of loading any dataset: its card and its clips."""

from dataclasses import dataclass
from pathlib import Path

from featurestore.cliplist import ClipList
from schemas import DatasetCard

SYNTHETIC_MARKER = "synthetic.json"
"""File by which a synthetic collection is recognised; its other code needs NumPy."""


@dataclass(frozen=True)
class Dataset:
    """A dataset found on disk: a card, a root, and one clip per row of its table.

    Any sequence of `Clip` is taken for `clips`, and kept as columns.

    Invariant: `clips` is in table order, clip ids are unique, every class_id indexes
    `card.class_names`, and no path is absolute or leaves the root.
    """

    card: DatasetCard
    root: Path
    clips: ClipList
    left_out: tuple[str, ...] = ()
    """Files in the root that are no clips, by kind and number; for directories without a table."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "clips", ClipList.of(self.clips))

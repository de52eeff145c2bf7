"""The result of loading any dataset: its card and its clips."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.errors import DatasetError
from schemas import NOT_COMPARABLE, Collection, DatasetCard

if TYPE_CHECKING:
    from featurestore.cliplist import ClipList

SYNTHETIC_MARKER = "synthetic.json"
"""File that marks a synthetic collection; defined here because `synthetic` needs NumPy."""


@dataclass(frozen=True)
class Dataset:
    """A dataset found on disk: a card, a root, and one clip per row of its table.

    `clips` may be any sequence of `Clip`; it is stored as columns.

    Invariant: `clips` is in table order, clip ids are unique, every class_id (and column of
    `labels`) indexes `card.class_names`, and no path is absolute or leaves the root.
    """

    card: DatasetCard
    root: Path
    clips: "ClipList"
    left_out: tuple[str, ...] = ()
    """Files in the root that are not clips, counted by kind; for directories without a table."""
    fold_names: Mapping[int, str] = field(default_factory=dict)
    """Names of the folds that are official splits, by fold number."""
    collection: Collection = field(default_factory=Collection)
    """Record of how a custom collection was read."""
    understood: tuple[str, ...] = ()
    """Interpretation of the table or the directories, in phrases."""
    warnings: tuple[str, ...] = ()
    """Warnings for the user before anything is extracted."""
    official_clips: int = 0
    """Number of clips of the published dataset if only some of them are listed here; else 0."""
    in_groups: bool = False
    """Whether clips are read fastest together with their neighbours, as in Parquet row groups."""
    num_present: int = 0
    """Number of clips whose file exists, if that is not all of them."""
    spec_name: str = ""
    """Name of the spec if a store holds several of the dataset; the card's name ends with it."""

    def with_spec_name(self, spec_name: str) -> "Dataset":
        """Return the dataset renamed for a store that holds several specs of it.

        Raises:
            DatasetError: The name is not valid as a directory name.
        """
        if not spec_name:
            return self
        name, values = f"{self.card.name}-{spec_name}", self.card.model_dump()
        try:
            DatasetCard.model_validate(values | {"name": spec_name})
            card = DatasetCard.model_validate(values | {"name": name})
        except ValueError as error:
            raise DatasetError(
                f"--as {spec_name}: expected a short name of letters, digits, _ and -"
            ) from error
        return replace(self, card=card, spec_name=spec_name)

    @property
    def is_new(self) -> bool:
        """Whether its manifest has fields that format version 2 did not have."""
        known = bool(self.fold_names) or bool(self.official_clips)
        more = self.has_parts or self.has_shards or self.is_multilabel or bool(self.spec_name)
        return known or more or self.collection != Collection()

    @property
    def has_parts(self) -> bool:
        """Whether clips are parts of their files."""
        return self.clips.start_s is not None

    @property
    def has_shards(self) -> bool:
        """Whether clips are in shards."""
        return self.clips.item is not None

    @property
    def is_multilabel(self) -> bool:
        """Whether clips may have several labels, or none."""
        return self.clips.labels is not None

    @property
    def partial(self) -> str | None:
        """Phrase saying that only a part of the published dataset is here, or None."""
        if not self.official_clips:
            return None
        return f"{self.num_present:,} of {self.official_clips:,} clips: {NOT_COMPARABLE}"

    def __post_init__(self) -> None:
        from featurestore.cliplist import ClipList  # NumPy, which `datasets` need not wait for

        object.__setattr__(self, "clips", ClipList.of(self.clips, len(self.card.class_names)))

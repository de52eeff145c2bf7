"""What a store says about itself: clips, their outcomes, the dataset's card, the manifest."""

from enum import IntEnum
from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Schema
from schemas.features import FeatureSpec, Name

FORMAT_VERSION = 1
"""Of the store's layout. A reader refuses a store of another one."""


class ClipStatus(IntEnum):
    """The outcome of a clip, as stored in the `status` array. Anything above `OK` is a failure."""

    PENDING = 0
    OK = 1
    MISSING = 2
    UNREADABLE = 3
    EMPTY = 4
    TRUNCATED = 5
    NON_FINITE = 6
    TOO_LONG = 7
    CRASH = 8
    UNSUPPORTED = 9

    @property
    def reason(self) -> str:
        """What the code means, in words."""
        return _REASONS[self]

    @property
    def failed(self) -> bool:
        """Whether the clip was tried and has no features."""
        return self > ClipStatus.OK


_REASONS = {
    ClipStatus.PENDING: "not built yet",
    ClipStatus.OK: "stored",
    ClipStatus.MISSING: "the file does not exist or cannot be opened",
    ClipStatus.UNREADABLE: "the file is not audio, or is damaged",
    ClipStatus.EMPTY: "the file holds no samples",
    ClipStatus.TRUNCATED: "the file ends before its header says",
    ClipStatus.NON_FINITE: "samples are NaN or infinite",
    ClipStatus.TOO_LONG: "the clip is longer than max_duration_s allows",
    ClipStatus.CRASH: "the process that decoded the file died",
    ClipStatus.UNSUPPORTED: "the file's format is not supported",
}


class Clip(Schema):
    """One row of a dataset's table."""

    clip_id: Annotated[str, Field(min_length=1)]
    """Unique in the dataset."""
    path: Annotated[str, Field(min_length=1)]
    """Of the audio file, relative to the dataset's root, with `/`. Nothing outside the root is
    opened: neither through `..` nor through a link."""
    fold: Annotated[int, Field(ge=0)]
    class_id: Annotated[int, Field(ge=0)]
    source: str = ""
    """The recording the clip was cut from; clips of one source belong in one fold."""


class DatasetCard(Schema):
    """What a user must know of a dataset, whatever store it is in."""

    name: Name
    title: str
    class_names: tuple[str, ...]
    """By class_id."""
    licence: str
    citation: str
    url: str


class Fold(Schema):
    """One fold's number and size."""

    fold: Annotated[int, Field(ge=0)]
    num_clips: Annotated[int, Field(ge=1)]


class StoreManifest(Schema):
    """How the arrays of one dataset in a store were made. No clock time and no path is in it.

    `fingerprint` covers `spec`, the clip list and `extractor_version`, so it says whether two
    stores hold the same features of the same clips.
    """

    format_version: int = FORMAT_VERSION
    extractor_version: int
    fingerprint: str
    clips_sha256: str
    spec: FeatureSpec
    card: DatasetCard
    folds: tuple[Fold, ...]
    num_clips: int
    chunk_clips: Annotated[int, Field(ge=1)]
    """Clips in one chunk of every array."""
    block_clips: Annotated[int, Field(ge=1)]
    """Clips in one unit of work: one chunk, or, above it, one shard of whole chunks."""
    order_seed: int
    """Of the permutation of the rows within each fold."""
    libraries: dict[str, str]
    """Versions of the libraries that shaped the numbers."""
    state: Literal["building", "complete"]
    counts: dict[str, int] = Field(default_factory=dict)
    """Clips by outcome (name of a `ClipStatus`, lower case), once complete."""

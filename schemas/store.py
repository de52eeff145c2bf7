"""Contents of a store: clips, their outcomes, the dataset's card, the manifest."""

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import IntEnum
from math import prod
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.base import Schema
from schemas.features import ITEM_BYTES, FeatureSpec, Name

FORMAT_VERSION = 3
"""Highest format version. All from 1 to this one are read, finished and repaired, each in its own
layout; a newer one is refused."""
PLAIN_VERSION = 2
"""Format version of new datasets that need no field of version 3."""

MAX_CLIPS = 10**9
"""Maximum number of clips of a dataset; also the largest fold number."""
MAX_FOLDS = 10_000
MAX_CHUNKS = 2**22
"""Maximum number of chunks of one array, over all folds, as readers loop over them."""
MAX_CHUNK_BYTES = 2**31 - 1
"""Largest chunk in bytes before compression, as in Blosc."""
_MAX_BLOCK_CLIPS = 2**17
TABLE_BLOCKS = 16
"""Blocks of rows in one chunk of the clip table."""
_MAX_ARRAYS = 1000
_MAX_LABELS = 2**33
"""Maximum number of values of a dataset's multi-hot labels, which are held in memory."""
MAX_NAME = 128
"""Maximum number of characters of the name of a dataset or fold."""

NOT_COMPARABLE = "not comparable with the paper"
"""End of the message that a dataset is only a part of the published one."""
SPLIT_ROLES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Names of official splits, in lower case, by their role."""


def split_role(name: str) -> str | None:
    """Return the role of a split by its name: `train`, `valid` or `test`; None if unknown."""
    folded = name.strip().lower()
    return next((role for role, names in SPLIT_ROLES.items() if folded in names), None)


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
OptionalSha256 = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
DirectoryName = Annotated[Name, Field(max_length=MAX_NAME)]
"""Name that is a directory in the store, and cannot lead outside."""


class ClipStatus(IntEnum):
    """Outcome of a clip, as stored in the `status` array; values above `OK` are failures."""

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
        """Meaning of the code in words."""
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
    """Clip id, unique in the dataset."""
    path: Annotated[str, Field(min_length=1)]
    """Path of the audio file relative to the dataset's root, with `/`. Nothing outside the root is
    opened, neither through `..` nor through a link."""
    fold: Annotated[int, Field(ge=0)]
    class_id: Annotated[int, Field(ge=-1)]
    """Class number; with `labels`, that of the primary class, or -1 if there is none."""
    source: str = ""
    """Recording that the clip was cut from; clips of one source belong in one fold."""
    start_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Start of the clip in its file, in seconds; None for the file's start."""
    end_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """End of the clip in its file, in seconds; None for the file's end."""
    item: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """Position of the clip in its file, which is a shard: the row of a Parquet or Arrow file, or
    the byte at which a tar's member begins; None if the file is the sound."""
    labels: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """All classes of the clip, ascending, perhaps none; None if `class_id` is its only one."""

    @model_validator(mode="after")
    def _has_its_class(self) -> Self:
        labels = (self.class_id,) if self.labels is None else self.labels
        if (self.class_id >= 0 or self.labels is None) and self.class_id not in labels:
            raise ValueError(f"class_id: {self.class_id} is not among the labels")
        if self.class_id < 0 and self.labels is None:
            raise ValueError("class_id: a clip without a class has labels")
        return self


class DatasetCard(Schema):
    """Description of a dataset for its users, the same in every store."""

    name: DirectoryName
    title: str
    class_names: tuple[str, ...]
    """Class names by class_id."""
    licence: str
    citation: str
    url: str


class Fold(Schema):
    """Number, size, checksum and name of a fold."""

    fold: Annotated[int, Field(ge=0, le=MAX_CLIPS)]
    num_clips: Annotated[int, Field(ge=1, le=MAX_CLIPS)]
    checksums: OptionalSha256 = ""
    """SHA-256 of the checksums of the fold's chunks (little-endian uint32), once complete; from
    format version 2 on."""
    name: Annotated[str, Field(max_length=MAX_NAME)] = ""
    """Name of the official split that the fold is, such as `test`; from format version 3 on."""

    @property
    def label(self) -> str:
        """The fold's name, or its number if it has none."""
        return self.name or str(self.fold)


class Collection(Schema):
    """Record of how a custom collection was read, so that it can be read in the same way again."""

    table: str = ""
    """Path of the table, relative to the root; empty for directories and for tables elsewhere."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Columns that the user named, by role."""
    folds: Annotated[int, Field(ge=0, le=MAX_FOLDS)] = 0
    """Number of folds that were made, stratified by class; 0 if the collection has its own."""
    group_by: str = ""
    """Column whose values are never split across folds."""
    fold_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the folds that were made."""


class StoreMark(Schema):
    """Attribute `featurestore` of a store's root group."""

    format_version: Annotated[int, Field(ge=1)]
    """Highest format version of its datasets."""
    datasets: tuple[DirectoryName, ...]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        _refuse_repeated("datasets", self.datasets)
        return self


class StoreManifest(Schema):
    """Settings that the arrays of one dataset were made with. Contains no clock time and no path.

    `fingerprint` covers `spec`, the clip list and `extractor_version`: two stores with the same one
    hold the same features of the same clips. `digest` covers the manifest itself and, through the
    folds' `checksums`, every chunk.
    """

    format_version: Annotated[int, Field(ge=1, le=FORMAT_VERSION)] = PLAIN_VERSION
    extractor_version: Annotated[int, Field(ge=0, lt=2**31)]
    fingerprint: Sha256
    clips_sha256: Sha256
    spec: FeatureSpec
    card: DatasetCard
    folds: Annotated[tuple[Fold, ...], Field(min_length=1, max_length=MAX_FOLDS)]
    num_clips: Annotated[int, Field(ge=1, le=MAX_CLIPS)]
    chunk_clips: Annotated[int, Field(ge=1, le=_MAX_BLOCK_CLIPS)]
    """Clips per chunk of every array."""
    block_clips: Annotated[int, Field(ge=1, le=_MAX_BLOCK_CLIPS)]
    """Clips per block, the unit of work: one chunk, or one shard of whole chunks."""
    order_seed: Annotated[int, Field(ge=0, lt=2**63)]
    """Seed of the permutation of the rows within each fold."""
    libraries: dict[str, str]
    """Versions of the libraries that computed the values."""
    state: Literal["building", "complete"]
    counts: dict[str, Annotated[int, Field(ge=0, le=MAX_CLIPS)]] = Field(default_factory=dict)
    """Number of clips by outcome (a `ClipStatus` in lower case), once complete."""
    collection: Collection = Collection()
    """Record of how a custom collection was read; from format version 3 on."""
    parts: bool = False
    """Whether clips are parts of their files: the clip table then has `start_s` and `end_s`. From
    format version 3 on."""
    shards: bool = False
    """Whether clips lie in shards: the clip table then has `item`. From format version 3 on."""
    run_clips: Annotated[int, Field(ge=0, le=_MAX_BLOCK_CLIPS)] = 0
    """Clips of the dataset's table that stay together in the rows of a fold, so that a block reads
    few row groups of its shards; 0 if each clip is placed alone. From format version 3 on."""
    multilabel: bool = False
    """Whether clips may have several labels, or none: the clip table then has `labels`, multi-hot,
    and `class_id` is the primary class, or -1 where there is none. From format version 3 on."""
    official_clips: Annotated[int, Field(ge=0, le=MAX_CLIPS)] = 0
    """Number of clips of the published dataset of which this is a part; 0 if it is complete, or not
    a published one. From format version 3 on."""
    coordinates: bool = False
    """Whether folds hold the coordinates of their axes (Hz, seconds, class names) and each clip's
    trimmed length, `trimmed_s`. From format version 3 on."""
    spec_name: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_-]*)?$")] = ""
    """Name of this spec among several of one dataset in a store; `card.name` ends with it. From
    format version 3 on."""
    digest: OptionalSha256 = ""
    """SHA-256 of all other fields in canonical JSON, from format version 2 on; computed when the
    manifest is written, and compared whenever it is read."""

    @property
    def is_new(self) -> bool:
        """Whether the manifest uses a field that format version 2 does not have."""
        named = any(fold.name for fold in self.folds) or self.multilabel
        more = self.parts or self.shards or bool(self.run_clips) or bool(self.official_clips)
        more = more or bool(self.spec.features) or bool(self.spec_name) or self.coordinates
        return named or more or self.collection != Collection()

    @property
    def dataset_name(self) -> str:
        """Name of the dataset without `spec_name`: `esc10` of `esc10-small`."""
        return (
            self.card.name.removesuffix(f"-{self.spec_name}") if self.spec_name else self.card.name
        )

    @property
    def partial(self) -> str | None:
        """Message that only a part of a published dataset has features; None if that is not so."""
        if not self.official_clips:
            return None
        return f"{self.counts.get('ok', 0):,} of {self.official_clips:,} clips: {NOT_COMPARABLE}"

    @property
    def fold_names(self) -> dict[int, str]:
        """Names of the folds that have one, by their numbers."""
        return {fold.fold: fold.name for fold in self.folds if fold.name}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        """Refuse fields that contradict one another, and sizes too large to loop over."""
        _refuse_repeated("folds", [fold.fold for fold in self.folds])
        _refuse_repeated("folds", [fold.name for fold in self.folds if fold.name])
        if self.format_version < FORMAT_VERSION and self.is_new:
            raise ValueError(f"format_version: there are fields of version {FORMAT_VERSION}")
        if self.spec_name and not self.card.name[1:].endswith(f"-{self.spec_name}"):
            raise ValueError(f"spec_name: {self.card.name} does not end with -{self.spec_name}")
        if self.num_clips != sum(fold.num_clips for fold in self.folds):
            raise ValueError(f"num_clips: {self.num_clips} is not the sum of the folds")
        if self.block_clips % self.chunk_clips:
            raise ValueError(
                f"block_clips: {self.block_clips} is not a multiple of chunk_clips "
                f"{self.chunk_clips}"
            )
        num_chunks = sum(-(-fold.num_clips // self.chunk_clips) for fold in self.folds)
        if num_chunks > MAX_CHUNKS:
            raise ValueError(f"chunk_clips: {num_chunks} chunks, at most {MAX_CHUNKS} are possible")
        self._check_arrays()
        self._check_end()
        return self

    def _check_arrays(self) -> None:
        """Refuse too many or too large arrays, and features of an unknown version of librosa."""
        if len(self.spec.resolutions) * max(1, len(self.spec.variants)) > _MAX_ARRAYS:
            raise ValueError(f"spec: more than {_MAX_ARRAYS} arrays")
        if self.spec.features and "librosa" not in self.libraries:
            raise ValueError("libraries: lack librosa, which the features depend on")
        for name, shape in self.spec.arrays.items():
            item_bytes = ITEM_BYTES[self.spec.dtype_of(name)]
            if self.chunk_clips * prod(shape) * item_bytes > MAX_CHUNK_BYTES:
                raise ValueError(f"spec: a chunk of {name} is larger than {MAX_CHUNK_BYTES} bytes")
        num_classes = len(self.card.class_names)
        if self.multilabel and self.num_clips * num_classes > _MAX_LABELS:
            raise ValueError(
                f"multilabel: {self.num_clips} clips by {num_classes} classes are more than "
                f"{_MAX_LABELS} labels"
            )
        rows = min(TABLE_BLOCKS * self.block_clips, self.num_clips)
        if self.multilabel and rows * num_classes > MAX_CHUNK_BYTES:
            raise ValueError(f"multilabel: a chunk is larger than {MAX_CHUNK_BYTES} bytes")

    def _check_end(self) -> None:
        """Refuse a complete manifest that lacks counts or checksums, or has wrong ones."""
        unknown = self.counts.keys() - {status.name.lower() for status in ClipStatus}
        if unknown:
            raise ValueError(f"counts: {min(unknown)!r} is not an outcome of a clip")
        if self.format_version == 1 and (self.digest or any(f.checksums for f in self.folds)):
            raise ValueError("digest: format version 1 has none")
        if self.state != "complete":
            return
        if "pending" in self.counts or sum(self.counts.values()) != self.num_clips:
            raise ValueError(
                f"counts: do not add up to the {self.num_clips} clips of a complete dataset"
            )
        if self.format_version > 1 and not all(fold.checksums for fold in self.folds):
            raise ValueError("folds: a complete dataset has checksums for each fold")


def _refuse_repeated(what: str, values: Iterable[object]) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"{what}: {value} occurs {count} times")

"""Errors of `featurestore`.

    FeatureStoreError
    ├── SpecError            a FeatureSpec that is unknown, unreadable or impossible
    ├── DatasetError         a dataset's root or table
    │   └── DatasetNotFoundError
    ├── DownloadError        a file could not be fetched, or is not what it should be
    │   └── ArchiveError         an archive is damaged, or would write where it must not
    ├── AudioError           one clip's file; carries the ClipStatus it ends with
    ├── BuildError           a build that could not be completed
    │   ├── StrictError      clips failed under --strict
    │   ├── BusyError        another process writes the store
    │   ├── ClusterError     a Dask cluster that cannot be reached, is gone, or has no fit worker
    │   └── UnfitWorkerError this process cannot take part: another version, no such root or store
    ├── StorageError         the store's place cannot be written or reached
    └── StoreError           a store on disk
        ├── FingerprintError     holds other features than asked for
        ├── SourcesError         its sources are not the files it was made from
        ├── UnfinishedError      is not complete
        ├── UnknownNameError     has no such dataset, fold, array or clip
        ├── NotAStoreError       is something else
        ├── NewerError           was made by a newer version of this program
        └── CorruptError         is damaged: a checksum, a chunk, metadata

A message says what, where, what was expected, what was found and what to do. The command lines
print it as one line and exit with 1.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

    from schemas import ClipStatus

_MOST_CHARS = 200


class FeatureStoreError(Exception):
    """Anything the user can put right."""


class SpecError(FeatureStoreError):
    """A FeatureSpec is unknown, unreadable or impossible."""


class DatasetError(FeatureStoreError):
    """A dataset's root or table is not what its layout promises."""


class DatasetNotFoundError(DatasetError):
    """No root holds the dataset."""


class DownloadError(FeatureStoreError):
    """A file could not be fetched, or is not what it should be."""


class ArchiveError(DownloadError):
    """An archive is damaged, or would write where or what it must not."""


class AudioError(FeatureStoreError):
    """One clip has no usable samples.

    Args:
        status: The failure code its row gets.
        detail: What the decoder said, without the path.
    """

    def __init__(self, status: "ClipStatus", detail: str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.status.reason} ({self.detail})"


class BuildError(FeatureStoreError):
    """A build could not be completed."""


class StrictError(BuildError):
    """Clips failed and the build was asked not to accept that."""


class StorageError(FeatureStoreError):
    """The store cannot be written (no space, no permission) or reached (network)."""


class BusyError(BuildError):
    """Another process is writing the store."""


class ClusterError(BuildError):
    """A Dask cluster cannot be reached, is gone, or has no worker that is fit for the tasks."""


class UnfitWorkerError(BuildError):
    """This process cannot do a task that another may: by its version, or by what it sees."""


class StoreError(FeatureStoreError):
    """A store on disk is not what was asked for."""


class FingerprintError(StoreError):
    """The store holds other features, or other clips, than asked for."""


class SourcesError(StoreError):
    """The files at the root are not those the store was made from."""


class UnfinishedError(StoreError):
    """The store is not complete."""


class NotAStoreError(StoreError):
    """The path holds something that was not made by this program."""


class NewerError(StoreError):
    """The store is of a format, or has settings, that only a newer version knows."""


class CorruptError(StoreError):
    """The store is damaged."""


class UnknownNameError(StoreError):
    """The store has nothing of that name.

    Args:
        kind: What was asked for: dataset, fold, array, clip.
        name: The name that was given.
        known: The names there are.
        hint: What to do.
    """

    def __init__(self, kind: str, name: object, known: Iterable[object], hint: str = "") -> None:
        self.kind, self.name, self.known, self.hint = kind, name, tuple(known), hint
        super().__init__(kind, name, self.known, hint)

    def __str__(self) -> str:
        known = ", ".join(map(str, self.known)) or "none"
        return f"no {self.kind} {self.name!r} in the store; it has: {known}" + (
            f". {self.hint}" if self.hint else ""
        )


def first_problem(error: "ValidationError") -> str:
    """Return the first problem that pydantic found, as one line: where, and what."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(_shortened(str(part)) for part in first["loc"])
    what = _shortened(" ".join(first["msg"].removeprefix("Value error, ").split()))
    return f"{where}: {what}" if where else what


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else f"{text[: _MOST_CHARS - 1]}…"

"""Errors of `featurestore`.

    FeatureStoreError
    ├── ArgumentError        a function was called with another value than it takes
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
    ├── MissingLibraryError  an optional library is not installed
    ├── RunError             a run that cannot be shown next to its clips
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

import errno
import os
import re
import reprlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from featurestore.text import did_you_mean

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from schemas import ClipStatus

_MOST_CHARS = 200


class FeatureStoreError(Exception):
    """Anything the user can put right."""


class FeatureStoreWarning(UserWarning):
    """Something the user should know, of a call that prints nothing."""


class ArgumentError(FeatureStoreError, TypeError, ValueError):
    """A public function was called with another value than it takes.

    It also is what Python raises itself for values of another type, and for impossible ones.
    """


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


class RunError(FeatureStoreError):
    """A run cannot be shown: it is damaged, unfinished, or of other clips."""


class StorageError(FeatureStoreError):
    """The store cannot be written (no space, no permission) or reached (network)."""


class BusyError(BuildError):
    """Another process is writing the store."""


class ClusterError(BuildError):
    """A Dask cluster cannot be reached, is gone, or has no worker that is fit for the tasks."""


class UnfitWorkerError(BuildError):
    """This process cannot do a task that another may: by its version, or by what it sees."""


class MissingLibraryError(FeatureStoreError):
    """An optional library is not installed."""


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
        meant = did_you_mean(self.name, self.known)
        hint = f". {self.hint}" if self.hint else ""
        return f"no {self.kind} {self.name!r} in the store; it has: {known}{meant}{hint}"


def first_problem(error: "ValidationError", names: Iterable[str] = ()) -> str:
    """Return the first problem that pydantic found, as one line: where, and what.

    Args:
        error: What pydantic raised.
        names: Names that exist, one of which an unknown name may be meant as.
    """
    first = error.errors(include_url=False)[0]
    where = ".".join(_shortened(str(part)) for part in first["loc"])
    what = _shortened(" ".join(problem_text(first, names).split()))
    return f"{where}: {what}" if where else what


def problem_text(problem: "ErrorDetails", names: Iterable[str] = ()) -> str:
    """Return what is wrong with a value, in our words instead of pydantic's.

    Args:
        problem: One of the errors that pydantic found.
        names: Names that exist, one of which an unknown name may be meant as.
    """
    kind, context, shown = problem["type"], problem.get("ctx", {}), _shown(problem["input"])
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return f"no such field{did_you_mean(problem['loc'][-1], names)}"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        return f"expected {context['expected']}, got {shown}{did_you_mean(problem['input'], known)}"
    for bound, words in _BOUNDS.items():
        if bound in context:
            return f"expected {words} {context[bound]}, got {shown}"
    for prefix, words in _EXPECTED.items():
        if kind.startswith(prefix):
            return f"expected {words}, got {shown}"
    return problem["msg"].removeprefix("Value error, ")


def cause(error: BaseException) -> str:
    """Return why something failed, to stand after a path and a colon: without the path itself.

    Args:
        error: What was raised; of an error of the system its number is put into words.
    """
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    if error.errno is None or error.strerror != os.strerror(error.errno):
        return str(error.strerror)  # words of our own
    known = _SYSTEM.get(error.errno)
    return known or error.strerror[:1].lower() + error.strerror[1:]


_SYSTEM = {
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "a part of the path is a file, not a directory",
    errno.EISDIR: "is a directory",
    errno.EEXIST: "something of that name is in the way",
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "no space left in the quota",
    errno.EROFS: "the file system is read-only",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.EIO: "the disk cannot read or write",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "too many symbolic links",
}
"""Errors of the system in words."""


_BOUNDS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string_type": "text",
    "tuple": "a list",
    "list": "a list",
    "sequence_str": "a list",
    "is_instance_of": "a list or another collection",
    "too_short": "more of them",
    "too_long": "fewer of them",
    "model": "a mapping of names to values",
    "dict": "a mapping of names to values",
    "mapping": "a mapping of names to values",
    "path": "a path",
}
"""Expected kind of value, by how pydantic's name of the problem begins."""


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else reprlib.repr(value)


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else f"{text[: _MOST_CHARS - 1]}…"

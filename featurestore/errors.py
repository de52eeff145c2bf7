"""Errors of `featurestore`.

    FeatureStoreError
    ├── ArgumentError        a function was called with an invalid argument
    ├── SpecError            a FeatureSpec is unreadable or invalid
    ├── DatasetError         a dataset's root or table
    │   └── DatasetNotFoundError
    ├── DownloadError        a file could not be fetched, or is not what it should be
    │   └── ArchiveError         an archive is damaged, or would write where it must not
    ├── AudioError           a clip's file is unusable; carries the ClipStatus of the clip
    ├── BuildError           a build could not be completed
    │   ├── StrictError      clips failed under --strict
    │   ├── BusyError        another process is writing the store
    │   ├── ClusterError     a Dask cluster is unreachable, gone, or has no suitable worker
    │   └── UnfitWorkerError this process cannot take part: other version, no root, no store
    ├── MissingLibraryError  an optional library is not installed
    ├── RunError             a run cannot be shown next to its clips
    ├── StorageError         the store cannot be written or reached
    └── StoreError           a store on disk
        ├── FingerprintError     it holds other features than requested
        ├── SourcesError         the audio files have changed since it was built
        ├── UnfinishedError      its build is not complete
        ├── UnknownNameError     it has no such dataset, fold, array or clip
        ├── NotAStoreError       it is something else
        ├── NewerError           it was made by a newer version of this program
        └── CorruptError         it is damaged: a checksum, a chunk, metadata

A message says what happened and where, what was expected and found, and what to do. The commands
print it as one line and exit with code 1.
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
    """Any error that the user can fix."""


class FeatureStoreWarning(UserWarning):
    """A warning of a function that prints nothing."""


class ArgumentError(FeatureStoreError, TypeError, ValueError):
    """A public function was called with an invalid argument.

    Also a TypeError and a ValueError, which Python itself raises in such cases.
    """


class SpecError(FeatureStoreError):
    """A FeatureSpec is unreadable or invalid."""


class DatasetError(FeatureStoreError):
    """A dataset's root or table is missing, unreadable or invalid."""


class DatasetNotFoundError(DatasetError):
    """The dataset is in none of the places searched."""


class DownloadError(FeatureStoreError):
    """A file could not be fetched, or is not what it should be."""


class ArchiveError(DownloadError):
    """An archive is damaged, or would write forbidden files."""


class AudioError(FeatureStoreError):
    """The audio of a clip is unusable.

    Args:
        status: Failure code stored for the clip.
        detail: Reason, without the path.
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
    """Clips failed in a build with `strict`."""


class RunError(FeatureStoreError):
    """A run cannot be shown: it is damaged, unfinished, or was trained on other clips."""


class StorageError(FeatureStoreError):
    """The store cannot be written (no space, no permission) or reached (network)."""


class BusyError(BuildError):
    """Another process is writing the store."""


class ClusterError(BuildError):
    """A Dask cluster is unreachable, gone, or has no worker that can run the tasks."""


class UnfitWorkerError(BuildError):
    """This process cannot run a task that another could: wrong version, or files not visible."""


class MissingLibraryError(FeatureStoreError):
    """An optional library is not installed."""


class StoreError(FeatureStoreError):
    """A store is missing, or not what was requested."""


class FingerprintError(StoreError):
    """The store holds other features or other clips than requested."""


class SourcesError(StoreError):
    """The audio files are missing, or have changed since the store was built."""


class UnfinishedError(StoreError):
    """The build of the store is not complete."""


class NotAStoreError(StoreError):
    """The path holds something that was not made by this program."""


class NewerError(StoreError):
    """The store has a format or settings that only a newer version knows."""


class CorruptError(StoreError):
    """The store is damaged."""


class UnknownNameError(StoreError):
    """The store has no dataset, fold, array or clip with that name.

    Args:
        kind: What was requested: dataset, fold, array or clip.
        name: The unknown name.
        known: The existing names.
        hint: Advice for the user.
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
    """Return the first problem found by pydantic as one line: where and what.

    Args:
        error: Error raised by pydantic.
        names: Existing names, to suggest one instead of an unknown name.
    """
    first = error.errors(include_url=False)[0]
    where = ".".join(_shortened(str(part)) for part in first["loc"])
    what = _shortened(" ".join(problem_text(first, names).split()))
    return f"{where}: {what}" if where else what


def problem_text(problem: "ErrorDetails", names: Iterable[str] = ()) -> str:
    """Return what is wrong with a value in plain words.

    Args:
        problem: One of the problems found by pydantic.
        names: Existing names, to suggest one instead of an unknown name.
    """
    kind, context, shown = problem["type"], problem.get("ctx", {}), _shown(problem["input"])
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return f"no such field{did_you_mean(problem['loc'][-1], names)}"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        # Choices are short: at less likeness 'stream' would be meant by 'ram'.
        meant = did_you_mean(problem["input"], known, cutoff=0.7)
        return f"expected {context['expected']}, got {shown}{meant}"
    for bound, words in _BOUNDS.items():
        if bound in context:
            return f"expected {words} {context[bound]}, got {shown}"
    if "Path" in str(context.get("class")):  # of is_instance_of
        kind = "path"
    for prefix, words in _EXPECTED.items():
        if kind.startswith(prefix):
            return f"expected {words}, got {shown}"
    return problem["msg"].removeprefix("Value error, ")


def cause(error: BaseException) -> str:
    """Return the reason for a failure without the path, to follow a path and a colon.

    Args:
        error: The exception; for OSError, its error number is put into words.
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
"""System errors in words."""


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
"""Expected type of value, by prefix of pydantic's error type."""


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else reprlib.repr(value)


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else f"{text[: _MOST_CHARS - 1]}…"

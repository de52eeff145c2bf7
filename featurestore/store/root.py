"""The root of a store: recognition, version and contents.

Whoever opens a store gets one of three errors from here: not a store of ours, made by a newer
version, or damaged.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from featurestore.errors import (
    CorruptError,
    NewerError,
    NotAStoreError,
    StorageError,
    StoreError,
    cause,
)
from featurestore.storage import Place, Storage, locate
from featurestore.storage.local import LocalStorage
from featurestore.store.parsing import (
    DOCUMENT,
    MANIFEST_SIGN,
    MARK,
    Document,
    attributes_in,
    copies_in,
    parse_mark,
    parsed,
)
from featurestore.text import did_you_mean

_TRACES = (f'"{MARK}"'.encode(), f'"{MANIFEST_SIGN}"'.encode())
"""Byte strings by which a damaged root is recognised as ours."""
_FOLD_KEY = re.compile(r"[^/]+/fold\d+/(status|source_sha256|clip_id)/")
"""Pattern of keys that only our datasets have."""
_MOST_LOOKED_AT = 1000
"""Maximum number of files next to a missing store among which to look for a store that is meant."""


@dataclass(frozen=True)
class Root:
    """Content of a root.

    Attributes:
        format_version: Highest format version of the datasets.
        datasets: Names of the datasets.
        copies: Copies of other documents, by key without zarr.json.
    """

    format_version: int
    datasets: tuple[str, ...]
    copies: Mapping[str, Document]


def read_root(storage: Storage) -> Root:
    """Read the root of a store.

    Raises:
        StoreError: There is nothing, or it cannot be read.
        NotAStoreError: It is not a store of ours.
        NewerError: It was made by a newer version.
        CorruptError: It is damaged.
        StorageError: It cannot be reached.
    """
    try:
        data = storage.read(DOCUMENT)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and storage.is_blank():
            raise StoreError(
                f"no store at {storage}: `featurestore build DATASET` makes one{_near(storage)}"
            ) from error
        if isinstance(error, PermissionError):
            raise StorageError(f"cannot read {storage}: {cause(error)}") from error
        raise _unreadable(storage, b"", cause(error)) from error
    return root_in(storage, data)


def _near(storage: Storage) -> str:
    """Return a suggestion of a store next to a missing one, to append to an error."""
    if not isinstance(storage, LocalStorage):
        return ""
    try:
        beside = islice(storage.path.parent.iterdir(), _MOST_LOOKED_AT)
        names = [path.name for path in beside if (path / DOCUMENT).is_file()]
    except OSError:
        return ""
    return did_you_mean(storage.path.name, names)


def root_in(storage: Storage, data: bytes) -> Root:
    """Parse the bytes of a root; see `read_root`."""
    try:
        document = parsed(data)
    except ValueError as error:
        raise _unreadable(storage, data, str(error)) from error
    try:
        mark = attributes_in(document).get(MARK)
        if mark is None and not _is_ours(storage, data):
            raise NotAStoreError(
                f"{storage} is a Zarr group, but not a feature store: `{MARK}` is not in it"
            )
        says = parse_mark(mark)
    except NewerError as error:
        raise NewerError(f"{storage} was made by a newer version: {error}") from error
    except ValueError as error:
        raise _unreadable(storage, data, str(error)) from error
    return Root(says.format_version, says.datasets, copies_in(document))


def _unreadable(storage: Storage, data: bytes, why: str) -> StoreError:
    if not _is_ours(storage, data):
        return NotAStoreError(
            f"{storage} is not a feature store (no readable {DOCUMENT}: {why}): name another place"
        )
    return CorruptError(
        f"{storage}: the root's {DOCUMENT} is damaged: {why}. `featurestore repair {storage}` "
        "repairs it"
    )


def _is_ours(storage: Storage, data: bytes) -> bool:
    """Return whether a damaged or absent root was that of a store of ours."""
    return any(trace in data for trace in _TRACES) or any(_groups_found(storage))


def dataset_names(place: Place) -> tuple[str, ...]:
    """Return the names of the datasets in a store, sorted.

    Raises:
        StoreError: See `read_root`.
        StorageError: It cannot be reached.
    """
    return read_root(locate(place)).datasets


def datasets_found(storage: Storage) -> tuple[str, ...]:
    """Return the names of all datasets with any files, even if the root is damaged.

    Raises:
        NewerError: The store was made by a newer version.
        StoreError: There is no store, or the root is damaged and files cannot be listed.
    """
    names = set(_groups_found(storage))
    try:
        names.update(dataset_names(storage))
    except CorruptError:
        if not names:
            raise
    return tuple(sorted(names))


def datasets_made(storage: Storage) -> tuple[str, ...]:
    """Return the datasets the root should name: those whose creation is complete.

    Raises:
        StoreError: See `datasets_found`.
    """
    try:
        named = set(dataset_names(storage))
    except CorruptError:
        named = set(datasets_found(storage))

    def made(name: str) -> bool:
        return name in named or any("/status/c/" in key for key, _ in storage.sizes(name))

    return tuple(filter(made, datasets_found(storage)))


def _groups_found(storage: Storage) -> Iterator[str]:
    """Yield the names of groups that are datasets of ours, by what lies in them."""
    if not storage.listable:
        return
    yielded = set()
    for key, _ in storage.sizes():
        name = key.split("/")[0]
        if name not in yielded and (_FOLD_KEY.match(key) or _has_manifest(storage, key, name)):
            yielded.add(name)
            yield name


def _has_manifest(storage: Storage, key: str, name: str) -> bool:
    try:
        return key == f"{name}/{DOCUMENT}" and _TRACES[1] in storage.read(key)
    except OSError:
        return False

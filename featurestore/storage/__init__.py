"""Storage of a store's bytes: a directory (`local`), an object store or a web server (`remote`).

The only interface between a store and where it lies. Keys are relative, with slashes; writes are
atomic, whatever dies. A `Storage` is a value: it prints as its path or URL, compares by it, and can
be pickled to other machines, which use their own credentials.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from featurestore.errors import StoreError
from featurestore.storage.local import LocalStorage
from featurestore.storage.remote import SCHEMES, RemoteStorage

__all__ = ["LocalStorage", "Place", "RemoteStorage", "Storage", "locate", "overlap"]

T = TypeVar("T")
R = TypeVar("R")

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


class Storage(Protocol):
    """Interface of storages: bytes by key.

    Every method may raise StorageError if the server could not be reached or refused the request,
    also after retries; a local disk raises OSError instead. Neither is raised for a missing object.
    Reading may raise UnusableFileError for an object that is not a plain file or too large, or a
    link that leads out of the directory. So no read blocks forever or takes unbounded memory.
    """

    def __hash__(self) -> int: ...

    @property
    def remote(self) -> bool:
        """Whether requests go over a network."""
        ...

    @property
    def threads(self) -> int:
        """Number of requests that are worth sending concurrently."""
        ...

    @property
    def listable(self) -> bool:
        """Whether `sizes` can list the objects."""
        ...

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        """Read a whole object.

        Args:
            key: Key of the object.
            max_bytes: Maximum size in bytes; None for the default of its kind (`bounds`).

        Raises:
            FileNotFoundError: There is no such object.
            UnusableFileError: The object is larger.
        """
        ...

    def read_range(self, key: str, start: int, size: int) -> bytes:
        """Read `size` bytes from `start`; fewer if the object ends before.

        Raises:
            FileNotFoundError: There is no such object.
        """
        ...

    def read_end(self, key: str, size: int) -> bytes:
        """Read the last `size` bytes; fewer if the object is smaller.

        Raises:
            FileNotFoundError: There is no such object.
        """
        ...

    def write(self, key: str, data: bytes) -> None:
        """Write a whole object, replacing any existing one."""
        ...

    def create(self, key: str, data: bytes) -> None:
        """Write a whole object unless it exists; of concurrent writers, the first succeeds."""
        ...

    def update(self, key: str, change: Callable[[bytes], bytes]) -> None:
        """Replace an object by a function of its content.

        Concurrent updates are not lost: `change` is called again with the new content. In a
        directory, the lock of the store prevents them.

        Raises:
            FileNotFoundError: There is no such object.
        """
        ...

    def remove(self, key: str) -> None:
        """Remove an object, if it exists."""
        ...

    def exists(self, key: str) -> bool:
        """Return whether an object exists."""
        ...

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield key and size in bytes of every object below the path `prefix`, in any order."""
        ...

    def is_blank(self) -> bool:
        """Return whether the storage is empty, apart from leftovers of a killed first write."""
        ...

    def remove_partial(self) -> int:
        """Remove partial files of killed writers; returns their number."""
        ...


Place = str | Path | Storage
"""Path of a directory, or URL of a directory or of a prefix in an object store."""


def locate(place: Place) -> Storage:
    """Return the storage at a place, without accessing it.

    Args:
        place: A path, `file://…`, `s3://bucket/…`, `gs://bucket/…`, `az://container/…`, or, only
            for reading, `http(s)://…`.

    Raises:
        StoreError: The URL is of another kind, or contains a password or a query.
    """
    if not isinstance(place, str | Path):
        return place
    if isinstance(place, str) and _URL.match(place):
        return _at_url(place)
    scheme = Path(place).parts[:1]
    if scheme and scheme[0].removesuffix(":") in SCHEMES and scheme[0].endswith(":"):
        raise StoreError(f"{place} looks like a URL that went through a Path: pass it as a string")
    return LocalStorage(Path(place))


def _at_url(url: str) -> Storage:
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        # Not repeated in the message: there may be a password in it.
        raise StoreError(
            f"the {parts.scheme}:// URL of the store has a user, password or query in it: "
            "credentials come from environment variables, so that none is ever written down"
        )
    if parts.scheme == "file":
        return LocalStorage(Path(unquote(parts.path)))
    if parts.scheme not in SCHEMES or not parts.netloc:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise StoreError(f"{url} is no place for a store: a path or {known}…")
    return RemoteStorage(url.rstrip("/"))


def overlap(storage: Storage, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Map a function that reads or writes something small over items, concurrently if remote.

    On a local disk, threads would cost more than they save.
    """
    todo = list(items)
    if not storage.remote or len(todo) < 2:
        return [function(item) for item in todo]
    with ThreadPoolExecutor(min(storage.threads, len(todo))) as pool:
        return list(pool.map(function, todo))

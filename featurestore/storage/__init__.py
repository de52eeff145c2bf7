"""Storage of a store's bytes: a directory (`local`), an object store, a web server (`remote`).

The only seam between the store and the outside. Keys are relative, with slashes; what is written
is there whole or not at all, and stays whole whatever dies. A `Storage` is a value: it prints as
its path or URL, compares by it, and pickles to other machines, which find their own credentials.
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
    """Bytes by key.

    Every method may raise StorageError: the other side could not be reached or refused, also when
    asked again. A local disk raises OSError instead. Neither ever stands for a missing object. What
    is read may raise UnusableFileError: it is no plain file, or too large; of a directory, also
    where a link leads out of it. So no reading hangs, and none takes more memory than makes sense.
    """

    def __hash__(self) -> int: ...

    @property
    def remote(self) -> bool:
        """Whether each request waits for an answer from afar."""
        ...

    @property
    def threads(self) -> int:
        """Number of requests worth sending at once."""
        ...

    @property
    def listable(self) -> bool:
        """Whether `sizes` can say what is there."""
        ...

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        """Return a whole object.

        Args:
            key: Key of the object.
            max_bytes: Most bytes it may have; None for the bound of its kind (`bounds`).

        Raises:
            FileNotFoundError: There is none.
            UnusableFileError: It is larger.
        """
        ...

    def read_range(self, key: str, start: int, size: int) -> bytes:
        """Return `size` bytes from `start`; fewer if the object ends.

        Raises:
            FileNotFoundError: There is none.
        """
        ...

    def read_end(self, key: str, size: int) -> bytes:
        """Return the last `size` bytes; fewer if the object is smaller.

        Raises:
            FileNotFoundError: There is none.
        """
        ...

    def write(self, key: str, data: bytes) -> None:
        """Put a whole object, in place of what is there."""
        ...

    def create(self, key: str, data: bytes) -> None:
        """Put a whole object, unless there is one: of several put at once, the first stays."""
        ...

    def update(self, key: str, change: Callable[[bytes], bytes]) -> None:
        """Replace an object by what `change` makes of it.

        What others write meanwhile is not lost: `change` is called again, with that. In a
        directory, the lock of the store keeps them away.

        Raises:
            FileNotFoundError: There is none.
        """
        ...

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""
        ...

    def exists(self, key: str) -> bool:
        """Return whether there is an object."""
        ...

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield key and number of bytes of every object below `prefix`, a path; in any order."""
        ...

    def is_blank(self) -> bool:
        """Return whether nothing is here, or only what a writer killed at its first write left."""
        ...

    def remove_partial(self) -> int:
        """Remove what killed writers left half written; returns how many."""
        ...


Place = str | Path | Storage
"""A directory's path, or the URL of one or of a prefix in an object store."""


def locate(place: Place) -> Storage:
    """Return the storage at a place. Nothing is opened or asked yet.

    Args:
        place: A path, `file://…`, `s3://bucket/…`, `gs://bucket/…`, `az://container/…`, or
            `http(s)://…`, which can be read only.

    Raises:
        StoreError: The URL is none of these, or has a password or a query in it.
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
    """Return the results of a function that reads or writes something small for each item.

    All at once where each would wait for its answer; on a disk, that costs more than it saves.
    """
    todo = list(items)
    if not storage.remote or len(todo) < 2:
        return [function(item) for item in todo]
    with ThreadPoolExecutor(min(storage.threads, len(todo))) as pool:
        return list(pool.map(function, todo))

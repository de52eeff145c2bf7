"""Storage in an object store or, for reading, on a web server: the only module that uses obstore.

obstore retries requests that failed on the way, timed out or could not be served (5xx, 429), with
exponential backoff; it does not report how often (obstore issue 105). Remaining errors are reported
in one line.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from featurestore.errors import StorageError
from featurestore.files import UnusableFileError
from featurestore.storage import requests
from featurestore.storage.bounds import check_part, most_bytes, too_large
from featurestore.storage.listing import Listing

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, ObjectMeta, SuffixRange, UpdateVersion
    from obstore.store import ObjectStore

T = TypeVar("T")

SCHEMES = ("s3", "gs", "az", "abfs", "abfss", "https", "http")
_THREADS = 32
"""Number of concurrent requests: an answer takes tens of ms, decoding a chunk about one."""
_LIST_CHUNK = 1000
_MOST_UPDATES = 100
"""Maximum number of attempts to update an object: each failure is another writer's success."""


@dataclass(frozen=True)
class RemoteStorage:
    """Storage in an object store or on a web server; see `Storage`.

    Endpoint, region and credentials come from the environment (`AWS_…`, …).

    Args:
        url: `s3://bucket/prefix` or the like, without a slash at the end.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> tuple[type["RemoteStorage"], tuple[str]]:
        return RemoteStorage, (self.url,)  # the client stays: it holds credentials

    @property
    def remote(self) -> bool:
        """True."""
        return True

    @property
    def threads(self) -> int:
        """Enough to hide the latency of the network."""
        return _THREADS

    @property
    def _read_only(self) -> bool:
        return urlsplit(self.url).scheme in ("http", "https")

    @cached_property
    def _client(self) -> "ObjectStore":
        from obstore import store

        options = requests.client_options()
        retry = requests.retry_options()
        if self._read_only:
            return store.HTTPStore.from_url(self.url, client_options=options, retry_config=retry)
        return store.from_url(self.url, client_options=options, retry_config=retry)

    def _ask(self, request: Callable[["ObjectStore"], Awaitable[T]]) -> T:
        """Return the answer to a request; unlike obstore's own wait, this one ends at Ctrl-C."""

        async def bounded() -> T:
            async with asyncio.timeout(requests.longest_s()):
                return await request(self._client)

        with self._telling():
            return asyncio.run_coroutine_threadsafe(bounded(), requests.loop()).result()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Translate obstore's errors."""
        try:
            from obstore.exceptions import BaseError
        except ModuleNotFoundError as error:
            raise StorageError(
                f"{self.url} needs obstore: pip install 'featurestore[remote]'"
            ) from error
        try:
            yield
        except UnusableFileError as error:
            raise UnusableFileError(
                error.errno, error.strerror, f"{self.url}/{error.filename}"
            ) from None
        except FileNotFoundError as error:
            if not requests.names_no_bucket(error):
                raise
            raise StorageError(f"{self.url}: {requests.reason(error)}") from error
        except TimeoutError as error:
            raise StorageError(f"{self.url}: {requests.too_late()}") from error
        except BaseError as error:
            raise StorageError(f"{self.url}: {requests.reason(error)}") from error

    def _refuse_writing(self) -> None:
        if self._read_only:
            raise StorageError(
                f"{self.url} can be read only: build into a directory or an object store "
                "(s3://, gs://, az://)"
            )

    @property
    def listable(self) -> bool:
        """False for a web server."""
        return not self._read_only

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        """Read an object by GET."""
        most = most_bytes(key, max_bytes)
        return self._ask(lambda client: _get(client, key, most))

    def read_range(self, key: str, start: int, size: int) -> bytes:
        """Read by GET of a range, or of the whole object if the server does not support ranges."""
        check_part(key, start, size)
        if size == 0:
            return b""
        return self._read_part(key, (start, start + size), slice(start, start + size), size)

    def read_end(self, key: str, size: int) -> bytes:
        """Read by GET of a suffix, or of the whole object if the server does not support ranges."""
        check_part(key, 0, size)
        if size == 0:
            return b""
        return self._read_part(key, {"suffix": size}, slice(-size, None), size)

    def _read_part(
        self, key: str, part: "tuple[int, int] | SuffixRange", same: slice, size: int
    ) -> bytes:
        from obstore.exceptions import GenericError, NotSupportedError

        async def get(client: "ObjectStore") -> bytes:
            try:
                return await _get(client, key, size, {"range": part})
            except NotSupportedError:
                return (await _get(client, key, most_bytes(key, None)))[same]
            except GenericError as error:
                if requests.is_beyond_the_end(error):
                    return b""
                raise

        return self._ask(get)

    def write(self, key: str, data: bytes) -> None:
        """Write by one PUT."""
        self._refuse_writing()
        self._ask(lambda client: client.put_async(key, data, use_multipart=False))

    def create(self, key: str, data: bytes) -> None:
        """Create by one PUT with If-None-Match."""
        from obstore.exceptions import AlreadyExistsError

        self._refuse_writing()

        async def put(client: "ObjectStore") -> None:
            # Perhaps it was put by an attempt of this very request whose answer was lost.
            with suppress(AlreadyExistsError):
                await client.put_async(key, data, mode="create", use_multipart=False)

        self._ask(put)

    def update(self, key: str, change: Callable[[bytes], bytes]) -> None:
        """Update by GET, and PUT with If-Match (its ETag or other version), until it succeeds.

        Raises:
            StorageError: It never succeeds, such as with a server that lacks this condition.
        """
        self._refuse_writing()
        for _ in range(_MOST_UPDATES):
            data, version = self._ask(lambda client: _get_version(client, key))
            changed = change(data)
            # The same also where it was put by an attempt whose answer was lost.
            if changed == data or self._put_over(version, key, changed):
                return
        raise StorageError(
            f"{self.url}: {key} changed {_MOST_UPDATES} times while it was being replaced, or the "
            "server does not know conditional writes (If-Match), which a store needs"
        )

    def _put_over(self, version: "UpdateVersion", key: str, data: bytes) -> bool:
        """Return whether the object was still of that version, and so was replaced."""
        from obstore.exceptions import PreconditionError

        async def put(client: "ObjectStore") -> bool:
            try:
                await client.put_async(key, data, mode=version, use_multipart=False)
            except PreconditionError:
                return False
            return True

        return self._ask(put)

    def remove(self, key: str) -> None:
        """Remove by DELETE."""
        self._refuse_writing()
        with suppress(FileNotFoundError):
            self._ask(lambda client: client.delete_async(key))

    def exists(self, key: str) -> bool:
        """Return whether the object exists, by HEAD."""
        try:
            self._ask(lambda client: client.head_async(key))
        except FileNotFoundError:
            return False
        return True

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield keys and sizes from the pages of a listing.

        Raises:
            StorageError: Also for a web server, which cannot list objects.
        """
        if self._read_only:
            raise StorageError(f"{self.url} cannot be listed: a web server has no listing")
        with self._telling():
            pages = aiter(self._client.list(prefix or None, chunk_size=_LIST_CHUNK))
        listing = Listing()
        while page := listing.next_page(self.url, lambda: self._ask(lambda _: _next(pages))):
            for entry in page:
                yield entry["path"], entry["size"]

    def is_blank(self) -> bool:
        """Return whether there is no object; True for a web server, where that is unknown."""
        return self._read_only or next(self.sizes(), None) is None

    def remove_partial(self) -> int:
        """Return 0, since there are no partial objects."""
        return 0


async def _get(
    client: "ObjectStore", key: str, most: int, options: "GetOptions | None" = None
) -> bytes:
    """Return the bytes of an answer, of which no more are taken than make sense."""
    return await _body(await client.get_async(key, options=options), key, most)


async def _body(answer: "GetResult", key: str, most: int) -> bytes:
    start, stop = answer.range
    if stop - start > most:
        raise too_large(key, stop - start, most)
    # An answer may continue after the length that it has announced.
    body = bytearray()
    async for piece in answer.stream():
        body += piece
        if len(body) > most:
            raise too_large(key, f"more than {most:,}", most)
    return bytes(body)


async def _get_version(client: "ObjectStore", key: str) -> "tuple[bytes, UpdateVersion]":
    """Return an object, and what names this version of it: an ETag, or a generation."""
    answer = await client.get_async(key)
    version: UpdateVersion = {}  # obstore accepts no None in it
    if e_tag := answer.meta["e_tag"]:
        version["e_tag"] = e_tag
    if number := answer.meta["version"]:
        version["version"] = number
    return await _body(answer, key, most_bytes(key, None)), version


async def _next(pages: AsyncIterator[Sequence["ObjectMeta"]]) -> Sequence["ObjectMeta"]:
    try:
        return await anext(pages)
    except StopAsyncIteration:
        return ()

"""Bounded listing of the objects on a server."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from featurestore.errors import StorageError
from featurestore.storage import requests

if TYPE_CHECKING:
    from obstore import ObjectMeta

_MOST_OBJECTS = 2_000_000
"""Maximum number of objects in a listing: several times those of a store of a million clips."""
_LEAST_OBJECTS_PER_S = 1000
"""Minimum rate of a listing in objects per second, after the time that one request may take."""


class Listing:
    """State of a listing in pages."""

    def __init__(self) -> None:
        self._count, self._waited_s = 0, 0.0
        self._last_keys = set[str]()

    def next_page(
        self, url: str, ask: Callable[[], Sequence["ObjectMeta"]]
    ) -> Sequence["ObjectMeta"]:
        """Return the next page, empty at the end.

        Raises:
            StorageError: The listing is too long or too slow.
        """
        started = time.monotonic()
        page = ask()
        self._waited_s += time.monotonic() - started
        self._count += len(page)
        limit_s = requests.longest_s() + self._count / _LEAST_OBJECTS_PER_S
        last_key = page[-1]["path"] if page else ""
        # A server that loses its place begins again, and never ends.
        if self._count > _MOST_OBJECTS or self._waited_s > limit_s or last_key in self._last_keys:
            raise StorageError(f"{url}: the server's listing of it has no end")
        self._last_keys.add(last_key)
        return page

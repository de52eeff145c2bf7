"""A server's listing, which must have an end."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from featurestore.errors import StorageError
from featurestore.storage import requests

if TYPE_CHECKING:
    from obstore import ObjectMeta

_MOST_OBJECTS = 2_000_000
"""Most objects of a listing: several times those of a store of a million clips."""
_LEAST_OBJECTS_PER_S = 1000
"""Least rate of a listing, beyond the time that a single request may take."""


class Listing:
    """State of a listing."""

    def __init__(self) -> None:
        self._count, self._waited_s = 0, 0.0
        self._last_keys = set[str]()

    def next_page(
        self, url: str, ask: Callable[[], Sequence["ObjectMeta"]]
    ) -> Sequence["ObjectMeta"]:
        """Return the next page, empty at the end.

        Raises:
            StorageError: There were more, and slower, pages than any store has.
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

"""Listings in memory, evicted least recently used first."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from cachetools import LRUCache

from onefs.catalogue.listing import Listing

#: rows of listings kept in memory, all listings together
MAX_MEMORY_ROWS = 20_000


class ListingMemory:
    """Listings by their keys. Thread-safe. A listing that was dropped is read from SQLite next."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._listings: LRUCache[str, Listing[Any]] = LRUCache(
            MAX_MEMORY_ROWS, getsizeof=Listing.row_count
        )

    def get(self, key: str) -> Listing[Any] | None:
        """The listing of a key, if it is in memory."""
        with self._lock:
            return self._listings.get(key)

    def put(self, key: str, listing: Listing[Any]) -> None:
        """Keep a listing, unless it alone is larger than the memory."""
        if listing.row_count() <= MAX_MEMORY_ROWS:
            with self._lock:
                self._listings[key] = listing

    def drop(self, key: str) -> None:
        """Forget a listing."""
        with self._lock:
            self._listings.pop(key, None)

    def drop_unless(self, key: str, is_right: Callable[[Any], bool]) -> bool:
        """Forget a listing if ``is_right`` rejects its value; whether it was forgotten."""
        with self._lock:
            cached = self._listings.get(key)
            if cached is None or is_right(cached.value):
                return False
            del self._listings[key]
        return True

    def drop_prefix(self, prefix: str) -> None:
        """Forget all listings whose key has this prefix."""
        with self._lock:
            for key in [key for key in self._listings if key.startswith(prefix)]:
                del self._listings[key]

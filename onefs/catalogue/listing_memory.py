"""Listings in memory, up to a number of rows. The least recently used listing is removed first.

The versions of removed listings stay in memory, until the listing is read again. So what was made
from a listing, such as the names in a folder, can be used without reading the listing again.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from cachetools import LRUCache

from onefs.catalogue.listing import Listing, ListingVersion

#: number of rows that all listings in memory have together, at most
MAX_MEMORY_ROWS = 20_000
#: number of listings whose version is in memory, at most; each needs about 500 bytes. There are as
#: many as sessions fit in ``onefs.tree.listed_sessions``, and some thousand other listings
MAX_MEMORY_VERSIONS = 100_000


class ListingMemory:
    """The listings in memory, by key. Thread-safe.

    A listing that is no longer in memory is read from SQLite at its next use.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._listings: LRUCache[str, Listing[Any]] = LRUCache(
            MAX_MEMORY_ROWS, getsizeof=Listing.row_count
        )
        self._versions: LRUCache[str, ListingVersion] = LRUCache(MAX_MEMORY_VERSIONS)
        #: grows each time that a listing is added, replaced or dropped
        self.changes = 0

    def version_of(self, key: str) -> ListingVersion | None:
        """Return the version of the listing that was last in memory. Return None if unknown."""
        with self._lock:
            listing = self._listings.get(key)
            return self._versions.get(key) if listing is None else listing.version

    def get(self, key: str) -> Listing[Any] | None:
        """Return the listing with this key. Return None if the listing is not in memory."""
        with self._lock:
            return self._listings.get(key)

    def put(self, key: str, listing: Listing[Any]) -> None:
        """Keep a listing in memory if it has at most :data:`MAX_MEMORY_ROWS` rows.

        Its version is kept in any case.
        """
        with self._lock:
            self.changes += 1
            self._versions[key] = listing.version
            if listing.row_count() <= MAX_MEMORY_ROWS:
                self._listings[key] = listing
            else:
                self._listings.pop(key, None)

    def drop(self, key: str) -> None:
        """Remove a listing from memory, if it is there."""
        with self._lock:
            self._drop(key)

    def drop_unless(self, key: str, is_right: Callable[[Any], bool]) -> None:
        """Remove a listing from memory if ``is_right`` returns False for the listing's value.

        A version without its listing is removed too, because the value is unknown.
        """
        with self._lock:
            cached = self._listings.get(key)
            if cached is None or not is_right(cached.value):
                self._drop(key)

    def drop_prefix(self, prefix: str) -> None:
        """Remove from memory every listing whose key begins with ``prefix``."""
        with self._lock:
            self.changes += 1
            for key in {*self._listings, *self._versions}:
                if key.startswith(prefix):
                    self._drop(key)

    def _drop(self, key: str) -> None:
        self.changes += 1
        self._listings.pop(key, None)
        self._versions.pop(key, None)

"""Cache layouts: the names of folders and files that are made from a listing of the catalogue.

A layout is kept until its listing changes.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar, cast

from cachetools import LRUCache

from onefs.catalogue.listing import Listing, ListingVersion

L = TypeVar("L")
S = TypeVar("S")

#: most layouts kept in memory, counted as rows of the listings that the layouts were built from
MAX_CACHED_ROWS = 20_000


class LayoutCache:
    """A cache of layouts: the names of folders and files that were made from a listing.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        #: for each key: the version and the rows of the listing, and the layout
        self._layouts: LRUCache[str, tuple[ListingVersion, int, Any]] = LRUCache(
            MAX_CACHED_ROWS, getsizeof=lambda built: built[1]
        )

    def get_or_build(
        self,
        key: str,
        listing: Listing[L],
        build: Callable[[L], S],
        on_change: Callable[[S, S], None] | None = None,
    ) -> S:
        """Return the layout of a listing. Build the layout if no layout of the listing is cached.

        ``key`` identifies the folder that is listed. ``on_change`` is called with the old and the
        new layout if the folder has a cached layout of an earlier listing.
        """
        with self._lock:
            before = self._layouts.get(key)
        if before is not None and before[0] is listing.version:
            return cast("S", before[2])
        layout = build(listing.value)
        if before is not None and on_change is not None:
            on_change(cast("S", before[2]), layout)
        rows = listing.row_count()
        if rows <= MAX_CACHED_ROWS:
            with self._lock:
                self._layouts[key] = (listing.version, rows, layout)
        return layout

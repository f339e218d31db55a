"""Cache layouts: the names of folders and files that are made from a listing of the catalogue.

A layout is kept until its listing changes.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
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
        #: the same for the layouts that are never removed
        self._kept: dict[str, tuple[ListingVersion, int, Any]] = {}

    def get_or_build(
        self,
        key: str,
        listing: Listing[L],
        build: Callable[[L], S],
        on_change: Callable[[S, S], None] | None = None,
        *,
        is_kept: bool = False,
    ) -> S:
        """Return the layout of a listing. Build the layout if no layout of the listing is cached.

        ``key`` identifies the folder that is listed. ``on_change`` is called with the old and the
        new layout if the folder has a cached layout of an earlier listing. ``is_kept``: keep the
        layout whatever its size, and never remove it.
        """
        layouts: MutableMapping[str, tuple[ListingVersion, int, Any]]
        layouts = self._kept if is_kept else self._layouts
        with self._lock:
            before = layouts.get(key)
        if before is not None and before[0] is listing.version:
            return cast("S", before[2])
        layout = build(listing.value)
        if before is not None and on_change is not None:
            on_change(cast("S", before[2]), layout)
        rows = listing.row_count()
        if is_kept or rows <= MAX_CACHED_ROWS:
            with self._lock:
                layouts[key] = (listing.version, rows, layout)
        return layout

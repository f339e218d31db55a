"""A cache of layouts, each kept until its listing changes."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar, cast

from cachetools import LRUCache

from onefs.catalogue.listing import Listing

L = TypeVar("L")
S = TypeVar("S")

#: rows of all listings whose layout is kept in memory
MAX_CACHED_ROWS = 20_000


class LayoutCache:
    """The layouts of listings. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._layouts: LRUCache[str, tuple[Listing[Any], Any]] = LRUCache(
            MAX_CACHED_ROWS, getsizeof=lambda built: built[0].row_count()
        )

    def get_or_build(
        self,
        key: str,
        listing: Listing[L],
        build: Callable[[L], S],
        on_change: Callable[[S, S], None] | None = None,
    ) -> S:
        """Return the layout of a listing, built unless this very listing has one already.

        ``on_change`` is called with the layout that ``key`` had before, if any, and the new one.
        """
        with self._lock:
            before = self._layouts.get(key)
        if before is not None and before[0] is listing:
            return cast("S", before[1])
        layout = build(listing.value)
        if before is not None and on_change is not None:
            on_change(cast("S", before[1]), layout)
        if listing.row_count() <= MAX_CACHED_ROWS:
            with self._lock:
                self._layouts[key] = (listing, layout)
        return layout

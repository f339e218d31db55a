"""Shapes that were built already, kept until their listing changes."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar, cast

from cachetools import LRUCache

from onefs.catalogue.listing import Listing

L = TypeVar("L")
S = TypeVar("S")

#: rows of listings whose shape is kept in memory
MAX_CACHED_ROWS = 20_000


class LayoutCache:
    """What listings were made into. Thread-safe."""

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
        """The shape of a listing, built when this very listing has none yet.

        ``changed`` is told the shape before, if it is known, and the new one.
        """
        with self._lock:
            known = self._layouts.get(key)
        if known is not None and known[0] is listing:
            return cast("S", known[1])
        shape = build(listing.value)
        if known is not None and on_change is not None:
            on_change(cast("S", known[1]), shape)
        if listing.row_count() <= MAX_CACHED_ROWS:
            with self._lock:
                self._layouts[key] = (listing, shape)
        return shape

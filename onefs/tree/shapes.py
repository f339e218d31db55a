"""Shapes that were built already, kept until their listing changes."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar, cast

from cachetools import LRUCache

from onefs.metadata.catalogue import HOT_ROWS, Listing, weight

L = TypeVar("L")
S = TypeVar("S")


class Shapes:
    """What listings were made into. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._built: LRUCache[str, tuple[Listing[Any], Any]] = LRUCache(
            HOT_ROWS, getsizeof=lambda built: weight(built[0])
        )

    def of(self, key: str, listing: Listing[L], build: Callable[[L], S]) -> S:
        """The shape of a listing, built when this very listing has none yet."""
        with self._lock:
            known = self._built.get(key)
        if known is not None and known[0] is listing:
            return cast("S", known[1])
        shape = build(listing.value)
        with self._lock:
            self._built[key] = (listing, shape)
        return shape

"""Negative cache: failures that are the answer to the same request for a moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cachetools import TLRUCache

from onefs.errors import OnefsError, copy_error, strip_tracebacks

K = TypeVar("K", bound=Hashable)


class NegativeCache(Generic[K]):
    """The latest failure of each key, for as many seconds as its TTL. Thread-safe.

    ``ttl`` returns the seconds for which a failure is kept; 0 for one that is not kept at all.
    Beyond ``max_entries`` the failure that was used least recently is dropped.
    """

    def __init__(
        self,
        max_entries: int,
        ttl: Callable[[OnefsError], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.Lock()
        self._failures: TLRUCache[K, OnefsError] = TLRUCache(
            max_entries, lambda _key, error, now: now + ttl(error), clock
        )

    def add(self, key: K, error: OnefsError) -> None:
        """Keep ``error`` as the failure of ``key``, without the frames that it was raised in."""
        strip_tracebacks(error)
        with self._lock:
            self._failures[key] = error

    def get(self, key: K) -> OnefsError | None:
        """The failure of ``key``; None when there is none, or its TTL has expired."""
        with self._lock:
            return self._failures.get(key)

    def raise_failure(self, key: K) -> None:
        """Raise a copy of the failure of ``key``, if there is one."""
        error = self.get(key)
        if error is not None:
            raise copy_error(error)

    def discard(self, key: K) -> None:
        """Drop the failure of ``key``, if there is one."""
        with self._lock:
            self._failures.pop(key, None)

    def clear(self) -> None:
        """Drop all failures."""
        with self._lock:
            self._failures.clear()

"""Negative cache: failures that are remembered for a short time, and raised again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cachetools import TLRUCache

from onefs.errors import OnefsError, copy_error, strip_tracebacks

K = TypeVar("K", bound=Hashable)


class NegativeCache(Generic[K]):
    """Keeps the latest failure of each key until its time to live (TTL) has passed. Thread-safe.

    ``ttl`` returns the TTL of a failure in seconds; 0 means that the failure is not kept. At most
    ``max_entries`` failures are kept: those that were used most recently.
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
        """Keep a copy of ``error`` as the failure of ``key``. Remove the error's tracebacks."""
        strip_tracebacks(error)
        # a copy, because ``raise`` in an ``except`` block of Python 3.10 restores the traceback
        kept = copy_error(error)
        with self._lock:
            self._failures[key] = kept

    def get(self, key: K) -> OnefsError | None:
        """Return the failure of ``key``.

        Return None if ``key`` has no failure, or if the failure's TTL has passed.
        """
        with self._lock:
            return self._failures.get(key)

    def raise_failure(self, key: K) -> None:
        """Raise a copy of the failure of ``key``. Do nothing if ``key`` has no failure."""
        error = self.get(key)
        if error is not None:
            raise copy_error(error)

    def discard(self, key: K) -> None:
        """Drop the failure of ``key``. Do nothing if ``key`` has no failure."""
        with self._lock:
            self._failures.pop(key, None)

    def clear(self) -> None:
        """Drop all failures."""
        with self._lock:
            self._failures.clear()

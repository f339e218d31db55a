"""Room for bytes before they are fetched: limits, reservations, and eviction when it gets tight."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from onefs.cache.usage import UsageCounter
from onefs.errors import CacheFull

#: evicted beyond what is needed, as a part of the limit, so that not every block needs an eviction
EXTRA_EVICTION_FRACTION = 0.02
#: seconds to wait for room that other transfers have reserved
RESERVED_WAIT_SECONDS = 2.0
#: seconds to wait for blocks that somebody looks at for a moment
PINNED_WAIT_SECONDS = 0.3
#: bytes that a transfer writes between two entries in the ledger
REPORT_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """How much disk the cache may take, in bytes."""

    #: of our own files together; None for as much as there is
    cache_size: int | None = None
    #: free space that is left to others on the disk
    min_free: int = 0


class Reservation:
    """Room for bytes that are going to be written."""

    def __init__(self, room: DiskSpace, granted: int) -> None:
        self._space = room
        self.granted_bytes = granted
        self._unreported_bytes = 0

    def ensure_space(self, size: int) -> None:
        """Make sure that there is room for ``size`` bytes more. Raises CacheFull."""
        lacking = size - (self.granted_bytes - self._unreported_bytes)
        if lacking > 0:
            self.granted_bytes += self._space.reserve(lacking, lacking)

    def note_written(self, size: int) -> None:
        """So many bytes have been written and stay."""
        self._unreported_bytes += size
        if self._unreported_bytes >= REPORT_BYTES:
            self._report()

    def release(self) -> None:
        """Nothing more will be written: the rest is given back."""
        self._report()
        self._space.release(0, self.granted_bytes)
        self.granted_bytes = 0

    def _report(self) -> None:
        self._space.release(self._unreported_bytes, self._unreported_bytes)
        self.granted_bytes -= self._unreported_bytes
        self._unreported_bytes = 0


class DiskSpace:
    """Hands out room. Thread-safe.

    ``evict(count)`` removes at least so many bytes if it can. Raises CacheFull when there is no
    room and none can be made.
    """

    def __init__(
        self, root: Path, ledger: UsageCounter, limits: CacheLimits, evict: Callable[[int], object]
    ) -> None:
        self._root = root
        self._usage = ledger
        self.limits = limits
        self._evict = evict

    def max_readahead(self, most: int) -> int:
        """How far ahead of a reader to fetch: ``most`` bytes, or what a small cache allows."""
        sizes = [] if self.limits.cache_size is None else [self.limits.cache_size]
        if self.limits.min_free:
            sizes.append(self._free_bytes() - self.limits.min_free + self._usage.total_bytes())
        return max(0, min([most, *(size // 8 for size in sizes)]))

    @contextmanager
    def reservation(self, size: int, least: int) -> Iterator[Reservation]:
        """Room for ``size`` bytes, or for ``least`` if that is all that can be had.

        What is needed at once (``least``) may go beyond the cache's limit when everything in it
        is being read, but never into the free space that is left to others.
        """
        reservation = Reservation(self, self.reserve(size, least))
        try:
            yield reservation
        finally:
            reservation.release()

    def release(self, written: int, reserved: int) -> None:
        """Reserved bytes were written, or will not be."""
        self._usage.adjust(written, -reserved)

    def reserve(self, size: int, least: int) -> int:
        """The bytes that were reserved, to be given back: ``size``, or ``least`` (0 is allowed)."""
        self._usage.recount_if_needed()
        if self._try_reserve(size):
            return size
        if least and least < size and self._try_reserve(least):
            return least
        if not least:
            return 0
        began = time.monotonic()
        while True:
            if not self._lacking_free_bytes(least):
                self._usage.reserve(least, None)
                return least
            # what others have reserved may be given back, or written and evicted, and what is
            # being hashed at this moment may be evicted in the next
            patience = (
                RESERVED_WAIT_SECONDS if self._usage.reserved_bytes() else PINNED_WAIT_SECONDS
            )
            if time.monotonic() > began + patience:
                break
            time.sleep(0.02)
            self._evict(least)
        raise CacheFull(f"there is no room left in the cache folder {self._root}")

    def _try_reserve(self, size: int) -> bool:
        for attempt in range(3):
            lacking = self._lacking_free_bytes(size)
            over = lacking or self._usage.reserve(size, self.limits.cache_size)
            if not over:
                return True
            if attempt < 2:
                self._evict(over + int(EXTRA_EVICTION_FRACTION * (self.limits.cache_size or 0)))
        return False

    def _lacking_free_bytes(self, size: int) -> int:
        if not self.limits.min_free:
            return 0
        return max(
            0, size + self.limits.min_free + self._usage.reserved_bytes() - self._free_bytes()
        )

    def _free_bytes(self) -> int:
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

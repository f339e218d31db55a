"""Room for bytes before they are fetched: limits, reservations, and eviction when it gets tight."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from onefs.content.ledger import Ledger
from onefs.errors import CacheFull

#: evicted beyond what is needed, as a part of the limit, so that not every block needs an eviction
SPARE = 0.02
#: seconds to wait for room that other transfers have reserved
PATIENCE = 2.0
#: seconds to wait for blocks that somebody looks at for a moment
MOMENT = 0.3
#: bytes that a transfer writes between two entries in the ledger
TOLD_EVERY = 2 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """How much disk the cache may take, in bytes."""

    #: of our own files together; None for as much as there is
    cache_size: int | None = None
    #: free space that is left to others on the disk
    min_free: int = 0


class Reservation:
    """Room for bytes that are going to be written."""

    def __init__(self, room: Room, granted: int) -> None:
        self._room = room
        self.granted = granted
        self._written = 0

    def cover(self, size: int) -> None:
        """Make sure that there is room for ``size`` bytes more. Raises CacheFull."""
        lacking = size - (self.granted - self._written)
        if lacking > 0:
            self.granted += self._room.reserve(lacking, lacking)

    def wrote(self, size: int) -> None:
        """So many bytes have been written and stay."""
        self._written += size
        if self._written >= TOLD_EVERY:
            self._tell()

    def end(self) -> None:
        """Nothing more will be written: the rest is given back."""
        self._tell()
        self._room.give_back(0, self.granted)
        self.granted = 0

    def _tell(self) -> None:
        self._room.give_back(self._written, self._written)
        self.granted -= self._written
        self._written = 0


class Room:
    """Hands out room. Thread-safe.

    ``evict(count)`` removes at least so many bytes if it can. Raises CacheFull when there is no
    room and none can be made.
    """

    def __init__(
        self, root: Path, ledger: Ledger, limits: Limits, evict: Callable[[int], object]
    ) -> None:
        self._root = root
        self._ledger = ledger
        self._limits = limits
        self._evict = evict

    def farthest(self, most: int) -> int:
        """How far ahead of a reader to fetch: ``most`` bytes, or what a small cache allows."""
        sizes = [] if self._limits.cache_size is None else [self._limits.cache_size]
        if self._limits.min_free:
            sizes.append(self._free() - self._limits.min_free + self._ledger.total())
        return max(0, min([most, *(size // 8 for size in sizes)]))

    @contextmanager
    def reserved(self, size: int, least: int) -> Iterator[Reservation]:
        """Room for ``size`` bytes, or for ``least`` if that is all that can be had.

        What is needed at once (``least``) may go beyond the cache's limit when everything in it
        is being read, but never into the free space that is left to others.
        """
        reservation = Reservation(self, self.reserve(size, least))
        try:
            yield reservation
        finally:
            reservation.end()

    def give_back(self, written: int, reserved: int) -> None:
        """Reserved bytes were written, or will not be."""
        self._ledger.change(written, -reserved)

    def reserve(self, size: int, least: int) -> int:
        """The bytes that were reserved, to be given back: ``size``, or ``least`` (0 is allowed)."""
        self._ledger.mend()
        if self._try(size):
            return size
        if least and least < size and self._try(least):
            return least
        if not least:
            return 0
        began = time.monotonic()
        while True:
            if not self._lacks_free(least):
                self._ledger.reserve(least, None)
                return least
            # what others have reserved may be given back, or written and evicted, and what is
            # being hashed at this moment may be evicted in the next
            patience = PATIENCE if self._ledger.reserved() else MOMENT
            if time.monotonic() > began + patience:
                break
            time.sleep(0.02)
            self._evict(least)
        raise CacheFull(f"there is no room left in the cache folder {self._root}")

    def _try(self, size: int) -> bool:
        for attempt in range(3):
            lacking = self._lacks_free(size)
            over = lacking or self._ledger.reserve(size, self._limits.cache_size)
            if not over:
                return True
            if attempt < 2:
                self._evict(over + int(SPARE * (self._limits.cache_size or 0)))
        return False

    def _lacks_free(self, size: int) -> int:
        if not self._limits.min_free:
            return 0
        return max(0, size + self._limits.min_free + self._ledger.reserved() - self._free())

    def _free(self) -> int:
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

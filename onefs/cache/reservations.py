"""Space reservations: disk space is reserved before bytes are fetched.

If there is too little space, cached files are evicted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from onefs.cache.usage import UsageCounter
from onefs.errors import CacheFull

#: fraction of the cache's limit that an eviction frees in addition to the needed bytes, so that the
#: next blocks need no eviction
EXTRA_EVICTION_FRACTION = 0.02
#: longest wait in seconds for space that other transfers have reserved
RESERVED_WAIT_SECONDS = 2.0
#: longest wait in seconds until pinned blocks can be evicted, if no transfer has reserved space
PINNED_WAIT_SECONDS = 0.3
#: bytes that a transfer writes between two updates of the usage counter
REPORT_BYTES = 2 << 20


class CacheLimits(NamedTuple):
    """Limits on the cache's use of disk space, in bytes."""

    #: most bytes of disk for all files that onefs downloaded; None if there is no limit
    cache_size: int | None = None
    #: bytes that must stay free on the disk
    min_free: int = 0


class Reservation:
    """Disk space that is reserved for bytes which are about to be written."""

    def __init__(self, space: DiskSpace, granted: int, *, may_evict: bool = True) -> None:
        self._space = space
        self.granted_bytes = granted
        self._may_evict = may_evict
        self._unreported_bytes = 0

    def ensure_space(self, size: int) -> None:
        """Reserve more space if less than ``size`` reserved bytes are left. Raises CacheFull."""
        lacking = size - (self.granted_bytes - self._unreported_bytes)
        if lacking > 0:
            self.granted_bytes += self._space.reserve(lacking, lacking, may_evict=self._may_evict)

    def note_written(self, size: int) -> None:
        """Count ``size`` bytes as written."""
        self._unreported_bytes += size
        if self._unreported_bytes >= REPORT_BYTES:
            self._report()

    def release(self) -> None:
        """End the reservation, so that other transfers can reserve the space that was not used."""
        self._end(self.granted_bytes)

    def _report(self) -> None:
        self._end(self._unreported_bytes)

    def _end(self, reserved: int) -> None:
        self._space.release(self._unreported_bytes, reserved)
        self.granted_bytes -= reserved
        self._unreported_bytes = 0


class DiskSpace:
    """Reserves disk space for one cache folder. Thread-safe.

    ``evict(count)`` is called if there is too little space, and frees at least ``count`` bytes if
    possible.
    """

    def __init__(
        self, root: Path, usage: UsageCounter, limits: CacheLimits, evict: Callable[[int], object]
    ) -> None:
        self._root = root
        self._usage = usage
        self.limits = limits
        self._evict = evict

    def max_readahead(self, most: int) -> int:
        """Return how many bytes may be read ahead.

        The result is ``most``, or an eighth of the cache's disk space if this is less.
        """
        sizes = [] if self.limits.cache_size is None else [self.limits.cache_size]
        if self.limits.min_free:
            sizes.append(self._free_bytes() - self.limits.min_free + self._usage.total_bytes())
        return max(0, min([most, *(size // 8 for size in sizes)]))

    def unused_bytes(self) -> int:
        """Return how many bytes of disk can be used without an eviction."""
        left = self._free_bytes() - self.limits.min_free - self._usage.reserved_bytes()
        if self.limits.cache_size is not None:
            left = min(left, self.limits.cache_size - self._usage.total_bytes())
        return max(0, left)

    @contextmanager
    def reservation(
        self, size: int, least: int, *, may_evict: bool = True
    ) -> Iterator[Reservation]:
        """Reserve ``size`` bytes, or ``least`` bytes if there is too little space.

        The end of the ``with`` block ends the reservation. ``least`` is the number of bytes that
        the caller needs at least. Raises CacheFull if ``least`` bytes do not fit; see
        :meth:`reserve` for ``may_evict``.
        """
        granted = self.reserve(size, least, may_evict=may_evict)
        reservation = Reservation(self, granted, may_evict=may_evict)
        try:
            yield reservation
        finally:
            reservation.release()

    def release(self, written: int, reserved: int) -> None:
        """Count ``written`` bytes as written, and end the reservation of ``reserved`` bytes."""
        if self._has_limits():
            self._usage.adjust(written, -reserved)
        else:  # a file of some kilobytes would take a dozen system calls
            self._usage.adjust_later(written, -reserved)

    def reserve(self, size: int, least: int, *, may_evict: bool = True) -> int:
        """Reserve ``size`` bytes, or ``least`` bytes if there is too little space.

        Return the number of bytes reserved. If ``least`` is 0, this number can be 0. Raises
        CacheFull if ``least`` bytes do not fit. If ``may_evict`` is False, all ``size`` bytes must
        fit at once, within the limits and without an eviction.
        """
        self._usage.recount_if_needed()
        if not self._has_limits():
            self._usage.reserve_freely(size)
            return size
        if not may_evict:
            self._reserve_unused(size)
            return size
        if self._try_reserve(size):
            return size
        if least and least < size and self._try_reserve(least):
            return least
        if not least:
            return 0
        started_at = time.monotonic()
        while True:
            if not self._lacking_free_bytes(least):
                # nothing can be evicted now: the cache's limit may be exceeded, but the space that
                # must stay free on the disk is not used
                self._usage.reserve(least, None)
                return least
            # Other transfers may release space that they have reserved, or may write blocks that
            # can be evicted. Blocks that are being hashed now can be evicted later.
            wait_seconds = (
                RESERVED_WAIT_SECONDS if self._usage.reserved_bytes() else PINNED_WAIT_SECONDS
            )
            if time.monotonic() > started_at + wait_seconds:
                break
            time.sleep(0.02)
            self._evict(least)
        raise self._full_error()

    def _has_limits(self) -> bool:
        return self.limits.cache_size is not None or bool(self.limits.min_free)

    def _reserve_unused(self, size: int) -> None:
        if self._usage.reserve(size, self.limits.cache_size):
            raise self._full_error()
        # checked after the reservation, so that several of them together cannot exceed the limit
        if self._free_bytes() < self.limits.min_free + self._usage.reserved_bytes():
            self.release(0, size)
            raise self._full_error()

    def _full_error(self) -> CacheFull:
        return CacheFull(
            f"there is no space left in the cache folder {self._root}: raise --cache-size, free "
            "space on the disk, or run `onefs cache evict`"
        )

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
        status = os.statvfs(self._root)
        return status.f_bavail * status.f_frsize

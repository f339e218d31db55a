"""Limit simultaneous requests, so that a stalled server does not block reads of cached files.

libfuse uses a thread for each request, so a read that waits for the network occupies a thread. The
kernel also has a limit: it sends at most ``max_background`` background requests at the same time,
and read-ahead is a background request. Both limits must be larger than the number of reads that
wait for a stalled server. Otherwise, reads of complete files would have to wait, too.

A program that reads sequentially occupies two requests: one for the page that it needs, and one for
the read-ahead after this page. So 200 waiting programs occupy 400 requests. If
:data:`MAX_WAITING_READS` reads are waiting, a further read that has to wait fails immediately, so
that the remaining threads stay free for reads of cached bytes.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onefs.errors import Busy

#: largest number of libfuse threads. libfuse starts a thread only if all its threads are busy.
MAX_THREADS = 1024
#: largest number of idle threads that are kept; further idle threads end
MAX_IDLE_THREADS = 64
#: largest number of background requests that the kernel sends at the same time. The kernel's
#: default is 12.
MAX_BACKGROUND_REQUESTS = 960
#: largest number of reads that may wait for the network at the same time
MAX_WAITING_READS = 800
#: number of requests that are reserved for reads that do not wait, if the kernel allows fewer
#: background requests than MAX_BACKGROUND_REQUESTS
_RESERVED_REQUESTS = 32

_MAX_USER_BACKGROUND_FILE = Path("/sys/module/fuse/parameters/max_user_bgreq")


log = logging.getLogger(__name__)


class WaitingReads:
    """A counter of the reads that wait for the network. At most ``limit`` reads may wait."""

    def __init__(self, limit: int = MAX_WAITING_READS) -> None:
        self._limit = limit
        self._waiting = 0
        #: how many reads wait for each path
        self._by_path: Counter[str] = Counter()
        self._is_refusal_logged = False
        self._lock = threading.Lock()

    def has_others(self, path: str) -> bool:
        """Whether a read of another file than ``path`` is waiting now."""
        return len(self._by_path) > (path in self._by_path)

    @contextmanager
    def hold_slot(self, path: str = "") -> Iterator[None]:
        """Count one more waiting read of the file ``path`` during the ``with`` block.

        Raises :class:`Busy` if ``limit`` reads are already waiting.
        """
        with self._lock:
            if self._waiting >= self._limit:
                raise self._busy_error()
            self._waiting += 1
            self._by_path[path] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                self._by_path[path] -= 1
                if not self._by_path[path]:
                    del self._by_path[path]
                self._is_refusal_logged = self._is_refusal_logged and self._waiting > 0

    def _busy_error(self) -> Busy:
        """Return the error for a read that is refused because ``limit`` reads are waiting."""
        refusal = Busy(
            f"{self._limit} reads are waiting for the server, and no more reads can wait, so that "
            "cached files can still be read: try again when the server answers."
        )
        # log only the first refusal, and again after a time at which no read waits
        if not self._is_refusal_logged:
            self._is_refusal_logged = True
            log.warning("%s", refusal)
        return refusal


def waiting_read_limit(system: Path = _MAX_USER_BACKGROUND_FILE) -> int:
    """Return how many reads may wait for the network at the same time on this machine.

    The number is MAX_WAITING_READS, or less if the kernel allows few requests. ``system`` is the
    file ``max_user_bgreq`` of the kernel.
    """
    # The file contains the largest ``max_background`` that the kernel allows for the mount of an
    # ordinary user. The kernel computes it from the size of the memory: 330 requests for 1 GiB.
    try:
        allowed = int(system.read_text())
    except (OSError, ValueError):
        return MAX_WAITING_READS
    return max(1, min(MAX_WAITING_READS, allowed - _RESERVED_REQUESTS))

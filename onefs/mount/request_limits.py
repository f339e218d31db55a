"""Limits of simultaneous requests, so that a stalled server does not block reads of cached files.

libfuse has a thread for each request, so a read that waits for the network occupies a thread. The
kernel has a limit, too: read-ahead counts as background requests, of which it sends at most
``max_background`` at a time. Both limits must exceed the number of reads that can wait for a
stalled server, or reads of complete files queue behind them.

A sequential reader occupies two requests (the page that it needs and the read-ahead after it), so
200 stuck readers occupy 400. Beyond :data:`MAX_WAITING_READS`, a read that has to wait fails at
once, so that the remaining threads stay free for reads that do not wait.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onefs.errors import Busy

#: largest number of libfuse's threads; it starts one only if all others are busy
MAX_THREADS = 1024
#: idle threads that are kept; further ones end
MAX_IDLE_THREADS = 64
#: background requests that the kernel sends at the same time; its default is 12
MAX_BACKGROUND_REQUESTS = 960
#: reads that may wait for the network at the same time
MAX_WAITING_READS = 800
#: requests reserved for reads that do not wait, if the system allows fewer than requested
_RESERVED_REQUESTS = 32

_MAX_USER_BACKGROUND_FILE = Path("/sys/module/fuse/parameters/max_user_bgreq")


log = logging.getLogger(__name__)


class WaitingReads:
    """Counts the reads that wait for the network, and refuses those above ``limit``."""

    def __init__(self, limit: int = MAX_WAITING_READS) -> None:
        self._limit = limit
        self._waiting = 0
        self._is_refusal_logged = False
        self._lock = threading.Lock()

    @contextmanager
    def hold_slot(self) -> Iterator[None]:
        """Count a read as waiting during the block. Raises :class:`Busy` at the limit."""
        with self._lock:
            if self._waiting >= self._limit:
                raise self._busy_error()
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                self._is_refusal_logged = self._is_refusal_logged and self._waiting > 0

    def _busy_error(self) -> Busy:
        """Return the error of a refused read, logged once until no read is waiting."""
        refusal = Busy(
            f"{self._limit} reads are waiting for the server: more are refused, so that cached "
            "files can still be read. Try again when it answers."
        )
        if not self._is_refusal_logged:
            self._is_refusal_logged = True
            log.warning("%s", refusal)
        return refusal


def waiting_read_limit(system: Path = _MAX_USER_BACKGROUND_FILE) -> int:
    """Return the number of reads that may wait at the same time on this machine.

    The kernel lowers ``max_background`` of an ordinary user's mount to ``max_user_bgreq``, which
    it derives from the size of the memory (330 for 1 GiB).
    """
    try:
        allowed = int(system.read_text())
    except (OSError, ValueError):
        return MAX_WAITING_READS
    return max(1, min(MAX_WAITING_READS, allowed - _RESERVED_REQUESTS))

"""How many requests the mount takes at once, and the gate that keeps a stalled server bounded.

libfuse answers one request a thread, so a read that waits for the network holds a thread until
its bytes are there. The kernel adds a bound of its own: read-ahead counts as background, and
``max_background`` requests are all that it sends at a time. Both must be larger than all the
readers that a stalled server can collect, or reads of complete files queue behind them.

A reader that reads in order holds two requests (the page that it needs and the read-ahead after
it), so 200 stuck readers hold 400. Beyond :data:`MAX_WAITING_READS` a read that would have to wait
fails at once, and what is left stays free for reads that do not wait.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onefs.errors import Busy

#: threads that libfuse starts at most; it starts one only when all others are taken
MAX_THREADS = 1024
#: threads that stay when there is nothing to do; the others end
MAX_IDLE_THREADS = 64
#: background requests that the kernel sends at once; its own default is 12
MAX_BACKGROUND_REQUESTS = 960
#: reads that may wait for the network at once
MAX_WAITING_READS = 800
#: requests kept free for reads that do not wait, where the system allows fewer than we ask for
_RESERVED_REQUESTS = 32

_MAX_USER_BACKGROUND_FILE = Path("/sys/module/fuse/parameters/max_user_bgreq")


log = logging.getLogger(__name__)


class WaitingReads:
    """Counts the reads that wait for the network, and refuses the one too many."""

    def __init__(self, limit: int = MAX_WAITING_READS) -> None:
        self._limit = limit
        self._waiting = 0
        self._is_refusal_logged = False
        self._lock = threading.Lock()

    @contextmanager
    def hold_slot(self) -> Iterator[None]:
        """Hold a place while waiting. Raises :class:`Busy` at once when all are taken."""
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
        """Why a read is refused: logged once, until nothing waits any more."""
        refusal = Busy(
            f"{self._limit} reads wait for the server already: more are refused, so that cached "
            "files can still be read. Try again when it answers."
        )
        if not self._is_refusal_logged:
            self._is_refusal_logged = True
            log.warning("%s", refusal)
        return refusal


def waiting_read_limit(system: Path = _MAX_USER_BACKGROUND_FILE) -> int:
    """How many reads may wait on this machine.

    The kernel lowers ``max_background`` of an ordinary user's mount to ``max_user_bgreq``, which
    it derives from the size of the memory (330 with 1 GiB).
    """
    try:
        allowed = int(system.read_text())
    except (OSError, ValueError):
        return MAX_WAITING_READS
    return max(1, min(MAX_WAITING_READS, allowed - _RESERVED_REQUESTS))

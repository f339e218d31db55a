"""Memory of large answers, given back to the system when they are done with.

The C library keeps what was freed for later; a daemon that once parsed an answer of 30 MB would
hold several times that for good.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress

#: seconds after a large answer, by which its rows are stored and dropped
RELEASE_DELAY_SECONDS = 3.0

_lock = threading.Lock()
#: the timer that will give memory back; None when nothing is to be given back
_timer: threading.Timer | None = None


def schedule_memory_release() -> None:
    """Give freed memory back to the system in some seconds, on a thread of its own."""
    global _timer
    with _lock:
        if _timer is not None and _timer.is_alive():
            return
        _timer = threading.Timer(RELEASE_DELAY_SECONDS, release_free_memory)
        _timer.name = "onefs-memory"
        _timer.daemon = True
        with suppress(RuntimeError):  # the interpreter is ending, or threads have run out
            _timer.start()


def release_free_memory() -> None:
    """Give freed memory back to the system, where the C library can do so (glibc)."""
    global _timer
    with _lock:
        _timer = None
    if (trim := _malloc_trim()) is not None:
        trim(0)


def _malloc_trim() -> Callable[[int], int] | None:
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim

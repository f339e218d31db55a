"""Release of free memory to the operating system after large answers of a server.

The C library keeps freed memory for later use. A daemon that has parsed one answer of 30 MB would
keep several times 30 MB for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

#: seconds from a large answer to the release. After this time the rows of the answer are stored,
#: and their memory is freed
RELEASE_DELAY_SECONDS = 3.0

_lock = threading.Lock()
#: the timer of the next release; None if no release is scheduled
_timer: threading.Timer | None = None


def schedule_memory_release() -> None:
    """Release free memory after RELEASE_DELAY_SECONDS, in a separate thread.

    Does nothing if a release is already scheduled.
    """
    global _timer
    with _lock:
        if _timer is not None and _timer.is_alive():
            return
        _timer = threading.Timer(RELEASE_DELAY_SECONDS, release_free_memory)
        _timer.name = "onefs-memory"
        _timer.daemon = True
        with suppress(RuntimeError):  # at interpreter exit, or if no thread can be started
            _timer.start()


def release_free_memory() -> None:
    """Release free memory to the operating system.

    Does nothing if the C library lacks the function ``malloc_trim``. glibc has this function.
    """
    global _timer
    with _lock:
        _timer = None
    if (trim := _malloc_trim()) is not None:
        trim(0)


def _malloc_trim() -> Callable[[int], int] | None:
    import ctypes  # few commands get large answers; a daemon loads it with mfusepy

    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim

"""How much freed memory the C library keeps for later use.

A process that moves many bytes keeps the memory of its buffers. A daemon that has parsed one large
answer of a server releases free memory: after one answer of 30 MB, it would keep several times
30 MB for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

#: seconds from a large answer to the release. After this time the rows of the answer are stored,
#: and their memory is freed
RELEASE_DELAY_SECONDS = 3.0

_MIB = 1 << 20
#: arguments for glibc's function mallopt: (parameter, value). libfuse and downloads allocate and
#: free a buffer for each request and each chunk. Reads are two to four times slower if the memory
#: of this buffer is returned to the kernel each time. 32 MiB is the largest M_MMAP_THRESHOLD that
#: glibc accepts. Two arenas are enough, because most threads wait for the GIL. More arenas would
#: waste memory, because each arena has its own padding (M_TOP_PAD).
_MALLOPT_SETTINGS = (
    (-3, 32 * _MIB),  # M_MMAP_THRESHOLD
    (-1, 512 * _MIB),  # M_TRIM_THRESHOLD
    (-2, 16 * _MIB),  # M_TOP_PAD
    (-8, 2),  # M_ARENA_MAX
)

_lock = threading.Lock()
#: the timer of the next release; None if no release is scheduled
_timer: threading.Timer | None = None


def keep_free_memory() -> None:
    """Let the C library keep the memory of freed buffers, so that the next ones are fast.

    Does nothing if the C library lacks the function ``mallopt``. glibc has this function.
    """
    mallopt = _library_function("mallopt")
    if mallopt is not None:
        for parameter, value in _MALLOPT_SETTINGS:
            mallopt(parameter, value)


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
    if (trim := _library_function("malloc_trim")) is not None:
        trim(0)


def _library_function(name: str) -> Callable[..., int] | None:
    import ctypes  # few commands need it; a daemon loads it with mfusepy

    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return function

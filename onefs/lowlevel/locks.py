"""Locks between processes, and between hosts where the file system supports that.

There are two kinds: of a whole file (``flock``), and of a range of its bytes (``F_OFD_SETLK``).
Both belong to an open file, not to a process: two descriptors of one process exclude each other as
those of two processes do. The kernel frees them when the process dies, so that nothing is left to
clean up.

Some network file systems have no locks, and Python has none on Windows and not all on macOS.
:func:`lock_or_go_on` decides what happens then.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from onefs.errors import reason_of

try:
    import fcntl
except ImportError:
    _HAS_FCNTL = False
else:
    _HAS_FCNTL = hasattr(fcntl, "F_OFD_SETLK")  # which macOS lacks

log = logging.getLogger(__name__)

#: seconds between two attempts to get a lock that another process holds
_POLL_SECONDS = 0.02


def try_lock(descriptor: int, start: int, length: int = 1, *, shared: bool = False) -> bool:
    """Lock bytes of a file; return False at once if another open file has locked one of them.

    Raises OSError where there are no locks.
    """
    _check_supported()
    return _set_lock(descriptor, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, start, length)


def unlock(descriptor: int, start: int, length: int = 1) -> None:
    """Unlock bytes of a file; bytes that are not locked stay so. Raises as :func:`try_lock`."""
    _check_supported()
    _set_lock(descriptor, fcntl.F_UNLCK, start, length)


def lock_file(
    descriptor: int,
    timeout: float = 0.0,
    *,
    poll_seconds: float = _POLL_SECONDS,
    keep_waiting: Callable[[], bool] = lambda: True,
    advice: str = "",
) -> bool:
    """Lock a whole file; return False if another open file has it locked for ``timeout`` seconds.

    ``keep_waiting`` and ``advice`` are as in :func:`wait_for_lock` and
    :func:`lock_or_go_on`.
    """
    return wait_for_lock(
        lambda: lock_or_go_on(lambda: _try_lock_file(descriptor), advice),
        timeout,
        poll_seconds=poll_seconds,
        keep_waiting=keep_waiting,
    )


def unlock_file(descriptor: int) -> None:
    """Undo :func:`lock_file`; a file that is not locked stays so."""
    with suppress(OSError):  # there are no locks
        _check_supported()
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def lock_or_go_on(attempt: Callable[[], bool], advice: str = "") -> bool:
    """Return the result of an attempt to lock; where there are no locks, return True.

    The work then goes on without the lock: refusing it would help less than the rare collision of
    two processes hurts. ``advice``, on what the user should avoid there, is logged as a warning.
    Only the cache folder does otherwise: where :func:`onefs.cache.locks.can_lock` finds no locks,
    it excludes threads by locks of their own.
    """
    try:
        return attempt()
    except OSError as error:
        if advice:
            log.warning("the file system has no locks (%s): %s", reason_of(error), advice)
        return True


def wait_for_lock(
    attempt: Callable[[], bool],
    timeout: float,
    *,
    poll_seconds: float = _POLL_SECONDS,
    keep_waiting: Callable[[], bool] = lambda: True,
) -> bool:
    """Repeat an attempt to lock until it succeeds; return False when the wait ends before.

    The wait ends after ``timeout`` seconds, or once ``keep_waiting`` returns False.
    """
    end = time.monotonic() + timeout
    while not attempt():
        if time.monotonic() >= end or not keep_waiting():
            return False
        time.sleep(min(poll_seconds, max(0.001, end - time.monotonic())))
    return True


def _try_lock_file(descriptor: int) -> bool:
    _check_supported()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _set_lock(descriptor: int, kind: int, start: int, length: int) -> bool:
    # struct flock: l_type, l_whence, l_start, l_len, l_pid (0 for this kind of lock)
    request = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _check_supported() -> None:
    if not _HAS_FCNTL:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

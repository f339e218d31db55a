"""File locks that exclude other processes, also on other hosts if the file system supports that.

There are two kinds of locks: locks on a whole file (``flock``), and locks on a range of its bytes
(``F_OFD_SETLK``). A lock of either kind belongs to an open file, not to a process. If one process
opens a file twice, the two descriptors exclude each other, like descriptors of two processes. The
kernel frees the locks when the process ends, so that nothing must be cleaned up.

Some network file systems have no locks. Windows has no locks of these kinds, and macOS has only
locks on whole files. :func:`lock_or_go_on` decides what happens if there are no locks.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from onefs.errors import reason_of

try:
    import fcntl
except ImportError:
    _SUPPORTED = frozenset[str]()
else:
    _SUPPORTED = frozenset(dir(fcntl))

log = logging.getLogger(__name__)

#: seconds before the second attempt to get a lock; each later pause is twice as long
_FIRST_PAUSE_SECONDS = 0.0005
#: longest pause between two attempts
_MAX_PAUSE_SECONDS = 0.05


def try_lock(descriptor: int, start: int, length: int = 1, *, shared: bool = False) -> bool:
    """Lock bytes of a file. Return False at once if another open file has locked one of the bytes.

    If ``shared`` is True, several open files can lock the same bytes. Raises OSError if the file
    system or the operating system has no locks.
    """
    return _set_lock(descriptor, "F_RDLCK" if shared else "F_WRLCK", start, length)


def unlock(descriptor: int, start: int, length: int = 1) -> None:
    """Unlock bytes of a file. The bytes need not be locked.

    Raises OSError if the file system or the operating system has no locks.
    """
    _set_lock(descriptor, "F_UNLCK", start, length)


def lock_file(
    descriptor: int,
    timeout: float = 0.0,
    *,
    keep_waiting: Callable[[], bool] = lambda: True,
    advice: str = "",
) -> bool:
    """Lock a whole file and return True. Return False if another open file has the lock too long.

    The wait ends after ``timeout`` seconds, or when ``keep_waiting`` returns False. If the file
    system or the operating system has no locks, log ``advice`` as a warning and return True.
    """
    attempt = partial(_try_lock_file, descriptor)
    return wait_for_lock(partial(lock_or_go_on, attempt, advice), timeout, keep_waiting)


def unlock_file(descriptor: int) -> None:
    """Unlock a whole file. The file need not be locked."""
    with suppress(OSError):  # there are no locks
        _check_supported("flock")
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def lock_or_go_on(attempt: Callable[[], bool], advice: str = "") -> bool:
    """Call ``attempt``, which tries to lock a file, and return its result.

    If the file system or the operating system has no locks, log ``advice`` as a warning and return
    True. ``advice`` tells the user what to avoid.
    """
    try:
        return attempt()
    except OSError as error:
        if advice:
            log.warning("the file system has no locks (%s): %s", reason_of(error), advice)
        # a rare collision of two processes is better than no work. Only the cache folder has locks
        # in memory instead (onefs.cache.locks.can_lock)
        return True


def wait_for_lock(
    attempt: Callable[[], bool],
    timeout: float,
    keep_waiting: Callable[[], bool] = lambda: True,
) -> bool:
    """Call ``attempt``, which tries to lock, until it returns True. Then return True.

    Return False if the wait ends first: after ``timeout`` seconds, or when ``keep_waiting`` returns
    False.
    """
    end, pause = time.monotonic() + timeout, _FIRST_PAUSE_SECONDS
    while not attempt():
        if time.monotonic() >= end or not keep_waiting():
            return False
        time.sleep(pause)
        pause = min(2 * pause, _MAX_PAUSE_SECONDS)
    return True


def _try_lock_file(descriptor: int) -> bool:
    _check_supported("flock")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _set_lock(descriptor: int, kind: str, start: int, length: int) -> bool:
    _check_supported("F_OFD_SETLK")
    # struct flock: l_type, l_whence, l_start, l_len, l_pid (0 for this kind of lock)
    request = struct.pack("hhqqi4x", getattr(fcntl, kind), os.SEEK_SET, start, length, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _check_supported(name: str) -> None:
    if name not in _SUPPORTED:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

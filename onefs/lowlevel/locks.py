"""Locks between processes, and between hosts where the file system supports that.

There are two kinds: of a whole file (``flock``), and of a range of its bytes (``F_OFD_SETLK``).
Both belong to an open file, not to a process: two descriptors of one process exclude each other as
those of two processes do. The kernel frees them when the process dies, so that nothing is left to
clean up.

Some network file systems have no locks; Windows has neither kind, and macOS only that of files.
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
    """Lock bytes of a file; return False at once if another open file has locked one of them.

    Raises OSError where there are no locks.
    """
    return _set_lock(descriptor, "F_RDLCK" if shared else "F_WRLCK", start, length)


def unlock(descriptor: int, start: int, length: int = 1) -> None:
    """Unlock bytes of a file; bytes that are not locked stay so. Raises as :func:`try_lock`."""
    _set_lock(descriptor, "F_UNLCK", start, length)


def lock_file(
    descriptor: int,
    timeout: float = 0.0,
    *,
    keep_waiting: Callable[[], bool] = lambda: True,
    advice: str = "",
) -> bool:
    """Lock a whole file; return False if another open file has it locked for ``timeout`` seconds.

    ``keep_waiting`` is that of :func:`wait_for_lock`, ``advice`` that of :func:`lock_or_go_on`.
    """
    attempt = partial(_try_lock_file, descriptor)
    return wait_for_lock(partial(lock_or_go_on, attempt, advice), timeout, keep_waiting)


def unlock_file(descriptor: int) -> None:
    """Undo :func:`lock_file`; a file that is not locked stays so."""
    with suppress(OSError):  # there are no locks
        _check_supported("flock")
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
    keep_waiting: Callable[[], bool] = lambda: True,
) -> bool:
    """Repeat an attempt to lock until it succeeds; return False when the wait ends before.

    The wait ends after ``timeout`` seconds, or once ``keep_waiting`` returns False.
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

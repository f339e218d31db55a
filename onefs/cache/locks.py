"""Locks between processes that share a cache folder, and between hosts where the disk can do it.

Byte-range locks of the open-file-description kind (``F_OFD_SETLK``): the kernel frees them when a
process dies, and nothing is left behind to clean. They belong to an open file, not to a process,
so that two descriptors of one process exclude each other as two processes do.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from onefs.errors import DeadlineExceeded
from onefs.lowlevel.files import open_or_create
from onefs.lowlevel.forking import hold_lock_file

#: seconds between two tries to get a lock that another process holds
LOCK_POLL_SECONDS = 0.05
#: locks of threads that stand in for the kernel's where these do not work
_STRIPE_COUNT = 256


def try_lock(descriptor: int, start: int, length: int = 1, *, shared: bool = False) -> bool:
    """Lock bytes of a file, or say at once that another open file holds one of them.

    Raises OSError where the file system has no such locks.
    """
    return _set_lock(descriptor, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, start, length)


def unlock(descriptor: int, start: int, length: int = 1) -> None:
    """Free bytes of a file; those that are not locked too."""
    _set_lock(descriptor, fcntl.F_UNLCK, start, length)


def can_lock(folder: Path) -> bool:
    """Whether two open files exclude each other on the file system of ``folder``: tried out.

    Raises OSError when no file can be made there.
    """
    with (
        tempfile.NamedTemporaryFile(dir=folder, prefix="locktest-") as first,
        open(first.name, "rb+") as second,
    ):
        try:
            if not try_lock(first.fileno(), 0) or try_lock(second.fileno(), 0):
                return False
            unlock(first.fileno(), 0)
            return try_lock(second.fileno(), 0)
        except OSError:
            return False


class DatasetLocks:
    """One lock a dataset, on one lock file. Thread-safe.

    Without ``shared`` (the file system has no locks) it excludes this process's threads only.
    ``before`` is called before each, and may raise.
    """

    def __init__(
        self, path: Path, *, shared: bool, before: Callable[[], None] = lambda: None
    ) -> None:
        self._path = path
        self._before_each = before
        self._shared = shared
        self._stripes = [threading.Lock() for _ in range(_STRIPE_COUNT)]

    @contextmanager
    def hold(
        self, dataset_id: str, deadline: float, wanted: Callable[[], bool] = lambda: True
    ) -> Iterator[None]:
        """Hold the lock of one dataset.

        Waits at most ``deadline`` seconds, and stops waiting when ``wanted`` says so: raises
        DeadlineExceeded in both cases.
        """
        self._before_each()
        number = uuid.UUID(dataset_id).int
        if not self._shared:
            with self._hold_stripe(number, dataset_id, deadline, wanted):
                yield
            return
        with hold_lock_file(self._path, open_or_create) as descriptor:
            end = time.monotonic() + deadline
            while not try_lock(descriptor, number % (1 << 62)):
                if time.monotonic() >= end or not wanted():
                    raise _lock_timeout(dataset_id)
                time.sleep(min(LOCK_POLL_SECONDS, max(0.001, deadline)))
            yield

    @contextmanager
    def _hold_stripe(
        self, number: int, dataset_id: str, deadline: float, wanted: Callable[[], bool]
    ) -> Iterator[None]:
        stripe = self._stripes[number % _STRIPE_COUNT]
        end = time.monotonic() + deadline
        while not stripe.acquire(timeout=min(LOCK_POLL_SECONDS, deadline)):
            if time.monotonic() >= end or not wanted():
                raise _lock_timeout(dataset_id)
        try:
            yield
        finally:
            stripe.release()


def _lock_timeout(dataset_id: str) -> DeadlineExceeded:
    return DeadlineExceeded(f"another process has been working on {dataset_id} for long")


def _set_lock(descriptor: int, kind: int, start: int, length: int) -> bool:
    # struct flock: l_type, l_whence, l_start, l_len, l_pid (0 for this kind of lock)
    request = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
    except (BlockingIOError, PermissionError):
        return False
    return True

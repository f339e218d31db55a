"""Locks on datasets, between the processes and hosts that share a cache folder."""

from __future__ import annotations

import os
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from onefs.errors import DeadlineExceeded
from onefs.lowlevel.files import open_or_create
from onefs.lowlevel.forking import (
    ForkAware,
    close_lock_file,
    open_lock_file,
    register_fork_aware,
)
from onefs.lowlevel.locks import try_lock, unlock, wait_for_lock

#: number of thread locks, which are used where the file system has no locks
_STRIPE_COUNT = 256


def can_lock(folder: Path) -> bool:
    """Whether locks work on the file system of ``folder``.

    Raises OSError if a temporary file cannot be created in ``folder``.
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


class _LockFile(ForkAware):
    """An open lock file, and the bytes that threads of this process have locked in it.

    It is closed, and its locks end, when nobody refers to it any more.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = open_lock_file(path, open_or_create)
        self._locked: set[int] = set()
        self._mutex = threading.Lock()
        status = os.fstat(self.descriptor)
        self._identity = status.st_dev, status.st_ino
        register_fork_aware(self)

    def after_fork_in_child(self) -> None:
        """Use the file no more: its locks are those of the parent."""
        self.descriptor, self._identity = -1, (-1, -1)

    def is_at(self, path: Path) -> bool:
        """Whether ``path`` leads to this file."""
        try:
            status = os.stat(path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def try_lock(self, byte: int) -> bool:
        """Lock a byte. Return False if another thread or another open file has locked it."""
        # the kernel does not exclude threads that use the same open file
        with self._mutex:
            if byte in self._locked:
                return False
            self._locked.add(byte)
        is_locked = False
        try:
            is_locked = try_lock(self.descriptor, byte)
        finally:
            if not is_locked:
                self._locked.discard(byte)
        return is_locked

    def unlock(self, byte: int) -> None:
        """Unlock a byte that this process has locked. In a forked child, do nothing."""
        try:
            if self.descriptor >= 0:
                unlock(self.descriptor, byte)
        finally:
            self._locked.discard(byte)

    def __del__(self) -> None:
        if self.__dict__.get("descriptor", -1) >= 0:
            close_lock_file(self.descriptor)


class DatasetLocks:
    """One lock for each dataset. Thread-safe.

    Each lock is one byte of the lock file ``path``. If ``shared`` is False, the locks are in
    memory, and exclude only threads of this process. ``before`` is called before each lock is
    taken, and may raise an error.
    """

    def __init__(
        self, path: Path, *, shared: bool, before: Callable[[], None] = lambda: None
    ) -> None:
        self._path = path
        self._before_each = before
        self._shared = shared
        self._stripes = [threading.Lock() for _ in range(_STRIPE_COUNT)]
        self._file: _LockFile | None = None

    def close(self) -> None:
        """Close the lock file as soon as no lock is held."""
        self._file = None

    @contextmanager
    def hold(
        self, dataset_id: str, deadline: float, is_wanted: Callable[[], bool] = lambda: True
    ) -> Iterator[None]:
        """Hold the lock of one dataset.

        Waits at most ``deadline`` seconds, and stops waiting once ``is_wanted`` returns False.
        Raises DeadlineExceeded in both cases.
        """
        if not self._shared:
            self._before_each()
        number = uuid.UUID(dataset_id).int
        with self._hold_byte(number) if self._shared else self._hold_stripe(number) as try_once:
            if not wait_for_lock(try_once, deadline, is_wanted):
                raise DeadlineExceeded(
                    f"another process has been working on dataset {dataset_id} for too long: try "
                    "again"
                )
            yield

    @contextmanager
    def _hold_byte(self, number: int) -> Iterator[Callable[[], bool]]:
        """Yield a function that tries once to lock the byte of a dataset.

        The end of the ``with`` block unlocks the byte.
        """
        file, byte, acquired = self._lock_file(), number % (1 << 62), False

        def try_once() -> bool:
            nonlocal acquired
            acquired = file.try_lock(byte)
            return acquired

        try:
            yield try_once
        finally:
            if acquired:
                file.unlock(byte)

    def _lock_file(self) -> _LockFile:
        """Return the open lock file. It is opened again if another file is at its path now."""
        file = self._file
        if file is None or not file.is_at(self._path):
            self._file = None
            self._before_each()
            file = self._file = _LockFile(self._path)
        return file

    @contextmanager
    def _hold_stripe(self, number: int) -> Iterator[Callable[[], bool]]:
        """Yield a function that tries once to take the thread lock of a dataset.

        The lock is released at the end of the ``with`` block.
        """
        stripe = self._stripes[number % _STRIPE_COUNT]
        acquired = False

        def try_once() -> bool:
            nonlocal acquired
            acquired = stripe.acquire(blocking=False)
            return acquired

        try:
            yield try_once
        finally:
            if acquired:
                stripe.release()

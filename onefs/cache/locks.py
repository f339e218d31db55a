"""Locks on datasets, between the processes and hosts that share a cache folder."""

from __future__ import annotations

import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from onefs.errors import DeadlineExceeded
from onefs.lowlevel.files import open_or_create
from onefs.lowlevel.forking import hold_lock_file
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

    @contextmanager
    def hold(
        self, dataset_id: str, deadline: float, is_wanted: Callable[[], bool] = lambda: True
    ) -> Iterator[None]:
        """Hold the lock of one dataset.

        Waits at most ``deadline`` seconds, and stops waiting once ``is_wanted`` returns False.
        Raises DeadlineExceeded in both cases.
        """
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
        with hold_lock_file(self._path, open_or_create) as descriptor:
            yield lambda: try_lock(descriptor, number % (1 << 62))

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

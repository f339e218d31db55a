"""Leases on labs, so that processes which share a catalogue do not fetch the same batches.

If several processes walk over one lab whose listings are not stored, all of them would request the
same batches. Therefore the process that requests a batch holds a lease on the lab. Another process
waits a short time for the lease, and then reads from the catalogue what the first process has
stored. A lease only saves requests. If the lease cannot be acquired in time, or the file system has
no locks, the request is sent without a lease. If a process dies, the kernel releases its lease.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onefs.lowlevel.forking import close_lock_file, open_lock_file
from onefs.lowlevel.locks import lock_file


@dataclass(slots=True)
class _HeldLease:
    """A lease on one lab, and how many threads of this process hold the lease."""

    thread_count: int = 0
    descriptor: int | None = None


class LabLeases:
    """The leases of this process, by lab. Thread-safe. Threads of this process share a lease.

    ``max_wait_seconds`` is the longest wait for another process. ``stopping`` ends each wait.
    """

    def __init__(self, folder: Path, max_wait_seconds: float, stopping: threading.Event) -> None:
        self._folder = folder
        self._max_wait_seconds = max_wait_seconds
        self._stopping = stopping
        self._lock = threading.Lock()
        self._held_leases: dict[str, _HeldLease] = {}

    @contextlib.contextmanager
    def hold(self, lab: str) -> Iterator[None]:
        """Hold a lease on a lab inside the ``with`` block.

        Waits if another process holds the lease. If the wait takes too long, the block runs without
        a lease. Check the catalogue inside the block, because the other process may have stored the
        wanted rows.
        """
        with self._lock:
            held = self._held_leases.setdefault(lab, _HeldLease())
            held.thread_count += 1
            first = held.thread_count == 1
        try:
            if first:
                held.descriptor = self._acquire(lab)
            yield
        finally:
            with self._lock:
                held.thread_count -= 1
                if held.thread_count == 0:
                    del self._held_leases[lab]
                    if held.descriptor is not None:
                        close_lock_file(held.descriptor)

    def _acquire(self, lab: str) -> int | None:
        """Wait for the lock of a lab, and return the descriptor of the lock file.

        Return None if the lock file cannot be opened.
        """
        name = hashlib.sha1(lab.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            # if the wait takes too long, the descriptor is returned without the lock
            descriptor = open_lock_file(self._folder / name)
        except OSError:  # the folder cannot be used: work without a lease
            return None
        lock_file(
            descriptor,
            self._max_wait_seconds,
            keep_waiting=lambda: not self._stopping.is_set(),
        )
        return descriptor

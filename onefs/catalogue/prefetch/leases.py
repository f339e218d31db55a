"""Leases on labs, so that processes which share a catalogue do not fetch the same batches.

Walks of several processes over one lab that is not cached would request the same batches. So the
process that requests a batch holds a lease on the lab; another process waits for a moment, and
then reads from the catalogue what the first one has stored. A lease only saves requests: if it
cannot be acquired in time, or the file system has no locks, the request is sent without it. The
kernel releases the lease of a process that dies.
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
    """A lease that threads of this process hold."""

    thread_count: int = 0
    descriptor: int | None = None


class LabLeases:
    """The leases of one process. Thread-safe; threads of one process share a lease.

    ``max_wait_seconds`` bounds the wait for another process's lease; waits end when ``stopping``
    is set.
    """

    def __init__(self, folder: Path, max_wait_seconds: float, stopping: threading.Event) -> None:
        self._folder = folder
        self._max_wait_seconds = max_wait_seconds
        self._stopping = stopping
        self._lock = threading.Lock()
        self._held_leases: dict[str, _HeldLease] = {}

    @contextlib.contextmanager
    def hold(self, lab: str) -> Iterator[None]:
        """Hold a lease on a lab; the wanted rows may have been stored by the time this begins."""
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
        """The descriptor of the lock file; None if it cannot be opened."""
        name = hashlib.sha1(lab.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = open_lock_file(self._folder / name)
        except OSError:  # the folder cannot be used: work without a lease
            return None
        lock_file(
            descriptor,
            self._max_wait_seconds,
            keep_waiting=lambda: not self._stopping.is_set(),
        )
        return descriptor

"""Who asks ahead for a lab, among the processes that share a catalogue.

Walks of several processes over one cold lab would ask for the same batches. So who asks for a
batch claims the lab; another process waits for a moment, and then finds in the catalogue what the
first one has brought. A claim saves requests and is needed for nothing: where it cannot be had in
time, or the file system has no locks, everybody asks. The kernel ends the claim of a process that
dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onefs.lowlevel.forking import close_lock_file, open_lock_file

#: seconds between two tries
_POLL_SECONDS = 0.02


@dataclass(slots=True)
class _HeldLease:
    """One lab that threads of this process are asking ahead for."""

    thread_count: int = 0
    descriptor: int | None = None


class LabLeases:
    """The claims of one process. Thread-safe; threads of one process do not exclude each other.

    ``patience`` is the longest time in seconds that another process is waited for; waits end when
    ``stopping`` is set.
    """

    def __init__(self, folder: Path, max_wait_seconds: float, stopping: threading.Event) -> None:
        self._folder = folder
        self._max_wait_seconds = max_wait_seconds
        self._stopping = stopping
        self._lock = threading.Lock()
        self._held_leases: dict[str, _HeldLease] = {}

    @contextlib.contextmanager
    def hold(self, lab: str) -> Iterator[None]:
        """Claim a lab while asking ahead for it; what is wanted may be there by then."""
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
        """The descriptor that holds the claim, if it could be had."""
        name = hashlib.sha1(lab.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        descriptor = None
        end = time.monotonic() + self._max_wait_seconds
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = open_lock_file(self._folder / name, os.O_RDWR | os.O_CREAT)
            while time.monotonic() < end:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self._stopping.wait(_POLL_SECONDS):
                        break
        except OSError:  # no such folder, or no locks there: nobody is kept from asking
            pass
        return descriptor

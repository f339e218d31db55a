"""The fsync queue: small files are synced to disk in the background.

Syncing a file of a few kilobytes takes a thousand times longer than writing it. So it is served as
soon as it is verified, and its record names the boot in which it was written
(``CacheEntry.boot``): after a power loss it is verified again. One thread here syncs such files,
one by one, and then clears ``boot``.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress

from onefs.cache.files import sync_file
from onefs.cache.store import Store
from onefs.errors import OnefsError, reason_of
from onefs.model import Dataset

log = logging.getLogger(__name__)

#: so many queued files are synced at once
FULL_BATCH_FILES = 10_000
#: further files are not synced
MAX_QUEUED_FILES = 100_000
#: seconds without a new file after which syncing begins: it would slow down a burst of reads
QUIET_SECONDS = 1.0
#: seconds after which syncing begins in any case
MAX_DELAY_SECONDS = 30.0


class FsyncQueue:
    """Syncs files on a thread that lives while files are queued. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._queued: list[Dataset] = []
        #: when a file was last added (monotonic seconds)
        self._last_added_at = 0.0
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, dataset: Dataset) -> None:
        """Sync the file of a dataset soon. Wakes no thread: that would slow down readers."""
        with self._lock:
            if len(self._queued) < MAX_QUEUED_FILES:
                self._queued.append(dataset)
                self._last_added_at = time.monotonic()
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="onefs-sync", daemon=True)
                with suppress(RuntimeError):  # no more threads just now: try with the next file
                    thread.start()
                    self._thread = thread

    def close(self) -> None:
        """Sync the queued files, for ten seconds at most."""
        self._closing.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(10.0)

    def _run(self) -> None:
        while batch := self._next_batch():
            for dataset in batch:
                try:
                    self._sync(dataset)
                except (OnefsError, OSError) as error:
                    log.debug("%s was not synced: %s", dataset.name, reason_of(error))

    def _next_batch(self) -> list[Dataset]:
        """The files of one burst; an empty list if there are none, and the thread must end."""
        latest = time.monotonic() + MAX_DELAY_SECONDS
        while True:
            now = time.monotonic()
            with self._lock:
                quiet = min(self._last_added_at + QUIET_SECONDS, latest)
                if now >= quiet or len(self._queued) >= FULL_BATCH_FILES or self._closing.is_set():
                    batch, self._queued = self._queued, []
                    if not batch:
                        self._thread = None
                    return batch
            self._closing.wait(quiet - now)

    def _sync(self, dataset: Dataset) -> None:
        entry = self._store.valid_entry(dataset)
        if entry is not None and entry.boot:
            sync_file(self._store.root / entry.path)
            self._store.records.mark_synced(entry)

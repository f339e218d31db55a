"""The fsync queue: small files are synced to disk in the background.

Syncing a file with a few kilobytes takes a thousand times longer than writing the file. So a small
file is served as soon as it is verified, before it is synced. The file's record names the boot in
which the file was written (``CacheEntry.boot``), so that the file is verified again after a power
loss. Threads of this module sync such files, several at the same time, and then clear ``boot`` in
their records.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress

from onefs.cache.files import sync_file
from onefs.cache.store import Store
from onefs.errors import Busy, OnefsError, reason_of
from onefs.lowlevel.parallel import run_parallel
from onefs.model import Dataset

log = logging.getLogger(__name__)

#: number of queued files at which syncing begins without further waiting
FULL_BATCH_FILES = 10_000
#: most queued files. A file that is added to a full queue is not synced
MAX_QUEUED_FILES = 100_000
#: seconds without a new file after which syncing begins. Syncing during many reads would slow down
#: these reads
QUIET_SECONDS = 1.0
#: seconds after which syncing begins, even if new files are still added
MAX_DELAY_SECONDS = 30.0
#: files synced at the same time. The disk writes them together, in a fraction of the time that it
#: takes for one after the other
SYNC_THREADS = 8


class FsyncQueue:
    """Syncs files on a thread that runs only while files are queued. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._queued: list[Dataset] = []
        #: when a file was last added (monotonic seconds)
        self._last_added_at = 0.0
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, dataset: Dataset) -> None:
        """Add the file of a dataset to the queue. The file is synced soon.

        If the queue is full, the file is not added, and is verified again after a reboot.
        """
        # the thread that syncs is not woken: waking a thread would slow down readers
        with self._lock:
            if len(self._queued) < MAX_QUEUED_FILES:
                self._queued.append(dataset)
                self._last_added_at = time.monotonic()
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="onefs-sync", daemon=True)
                with suppress(RuntimeError):  # no thread starts now: try with the next file
                    thread.start()
                    self._thread = thread

    def close(self) -> None:
        """Sync the queued files.

        Return after ten seconds, even if some files are not synced yet.
        """
        self._closing.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(10.0)

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                for outcome in run_parallel(self._sync, batch, SYNC_THREADS, "onefs-sync"):
                    outcome.result()
            except Busy:  # no more threads can be started now
                for dataset in batch:
                    self._sync(dataset)

    def _next_batch(self) -> list[Dataset]:
        """Wait until queued files should be synced. Empty the queue, and return these files.

        An empty list means that the thread must end.
        """
        latest = time.monotonic() + MAX_DELAY_SECONDS
        while True:
            now = time.monotonic()
            with self._lock:
                # due with FULL_BATCH_FILES files, or after QUIET_SECONDS without a new file, and at
                # the latest after MAX_DELAY_SECONDS
                quiet = min(self._last_added_at + QUIET_SECONDS, latest)
                if now >= quiet or len(self._queued) >= FULL_BATCH_FILES or self._closing.is_set():
                    batch, self._queued = self._queued, []
                    if not batch:
                        self._thread = None
                    return batch
            self._closing.wait(quiet - now)

    def _sync(self, dataset: Dataset) -> None:
        try:
            entry = self._store.valid_entry(dataset)
            if entry is None or not entry.boot:
                return
            # a file that was never used is added again when it is used
            if not self._store.records.is_unused(dataset.id):
                sync_file(self._store.root / entry.path)
                self._store.records.mark_synced(entry)
        except (OnefsError, OSError) as error:
            log.debug("the file %s was not synced to the disk: %s", dataset.name, reason_of(error))

"""Small files onto the disk for good, behind everybody's back.

A file of a few kilobytes takes a thousand times longer to sync than to write. So it is served as
soon as it is verified, and its entry says in which boot that was (``Entry.boot``): after a power
loss it would be verified anew. Here one thread syncs such files one by one and strikes that out.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from contextlib import suppress

from onefs.content.store import Store
from onefs.errors import OnefsError
from onefs.model import Dataset

log = logging.getLogger(__name__)

#: files that may wait to be synced; more are left as they are
WAITING = 10_000
#: seconds without a new file after which it begins: syncing competes with who reads many of them
QUIET = 1.0
#: seconds after which it begins all the same
LATEST = 30.0


class Syncer:
    """Syncs files. Thread-safe; its thread starts with the first file."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: queue.Queue[Dataset | None] = queue.Queue(WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, dataset: Dataset) -> None:
        """Sync the file of a dataset soon."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="onefs-sync", daemon=True)
                self._thread.start()
        with suppress(queue.Full):
            self._queue.put_nowait(dataset)

    def close(self) -> None:
        """Sync what waits, for ten seconds at most."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            end = time.monotonic() + 10.0
            with suppress(queue.Full):
                self._queue.put(None, timeout=10.0)
            thread.join(max(0.0, end - time.monotonic()))

    def _run(self) -> None:
        ended = False
        while not ended:
            batch, ended = self._gather()
            for dataset in batch:
                try:
                    self._sync(dataset)
                except (OnefsError, OSError) as error:
                    log.debug("%s was not synced: %s", dataset.name, error)

    def _gather(self) -> tuple[list[Dataset], bool]:
        """The files of one burst, and whether they are the last."""
        batch: list[Dataset] = []
        first = self._queue.get()
        end = time.monotonic() + LATEST
        while first is not None:
            batch.append(first)
            try:
                first = self._queue.get(timeout=max(0.0, min(QUIET, end - time.monotonic())))
            except queue.Empty:
                return batch, False
        return batch, True

    def _sync(self, dataset: Dataset) -> None:
        entry = self._store.recorded(dataset)
        if entry is None or not entry.boot:
            return
        descriptor = os.open(self._store.root / entry.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self._store.confirm(entry)

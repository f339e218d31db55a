"""The bytes that users have accepted although the database describes others."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress

from onefs.cache.records import CacheEntry
from onefs.cache.store import Store
from onefs.model import Dataset

#: seconds until files that other processes have accepted are looked for again
ACCEPTED_TTL_SECONDS = 1.0


class AcceptedEntries:
    """The entries of accepted bytes in one store, read again after a second. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: Mapping[str, CacheEntry] = {}
        #: monotonic seconds
        self._valid_until = 0.0

    def get(self, dataset: Dataset) -> CacheEntry | None:
        """The entry of a dataset's accepted bytes; None if there is none, or if the database has
        changed since."""
        now = time.monotonic()
        if now > self._valid_until:
            self._valid_until = now + ACCEPTED_TTL_SECONDS
            with suppress(OSError):  # without the disk, listings show the sizes of before
                entries = self._store.records.accepted_entries()
                self._entries = {entry.dataset_id: entry for entry in entries}
        entry = self._entries.get(dataset.id)
        if entry is None or (entry.claimed_size, entry.claimed_md5) != (dataset.size, dataset.md5):
            return None
        return entry

    def expire(self, dataset_id: str | None = None) -> None:
        """Read the entries again at the next use; with an id only if that is not among them."""
        if dataset_id not in self._entries:
            self._valid_until = 0.0

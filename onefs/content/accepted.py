"""The bytes that users have accepted although these bytes contradict the database."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress

from onefs.cache.records import CacheEntry
from onefs.cache.store import Store
from onefs.model import Dataset

#: seconds until the entries are read again, to find files that other processes have accepted
ACCEPTED_TTL_SECONDS = 1.0


class AcceptedEntries:
    """The cache entries of accepted bytes in one cache folder. Thread-safe.

    The entries are read again after ACCEPTED_TTL_SECONDS.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: Mapping[str, CacheEntry] = {}
        #: when the entries must be read again (monotonic seconds)
        self._valid_until = 0.0

    def get(self, dataset: Dataset) -> CacheEntry | None:
        """Return the cache entry of a dataset's accepted bytes, or None if no bytes are accepted.

        After a change of the dataset in the database, its bytes no longer count as accepted.
        """
        now = time.monotonic()
        if now > self._valid_until:
            self._valid_until = now + ACCEPTED_TTL_SECONDS
            with suppress(OSError):  # if the disk fails, listings show the former sizes
                entries = self._store.records.accepted_entries()
                self._entries = {entry.dataset_id: entry for entry in entries}
        entry = self._entries.get(dataset.id)
        if entry is None or (entry.claimed_size, entry.claimed_md5) != (dataset.size, dataset.md5):
            return None
        return entry

    def expire(self, dataset_id: str | None = None) -> None:
        """Make the next :meth:`get` read all entries again.

        With ``dataset_id``, do nothing if an entry of this dataset has been read already.
        """
        if dataset_id not in self._entries:
            self._valid_until = 0.0

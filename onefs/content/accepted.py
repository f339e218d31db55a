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
    """The records of files that contradict the database, but that the user has accepted.

    These are the files in one cache folder. The records are read again after ACCEPTED_TTL_SECONDS.
    Thread-safe.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: Mapping[str, CacheEntry] = {}
        self._state = object()
        #: when the entries must be read again (monotonic seconds)
        self._valid_until = 0.0

    def get(self, dataset: Dataset) -> CacheEntry | None:
        """Return the record of a dataset's file if the user has accepted it, otherwise None.

        Return None also if the size or md5 in the database has changed since the file was accepted.
        """
        self._reload()
        entry = self._entries.get(dataset.id)
        if entry is None or (entry.claimed_size, entry.claimed_md5) != (dataset.size, dataset.md5):
            return None
        return entry

    @property
    def state(self) -> object:
        """An object that is replaced by another one when the records change."""
        self._reload()
        return self._state

    def _reload(self) -> None:
        now = time.monotonic()
        if now > self._valid_until:
            self._valid_until = now + ACCEPTED_TTL_SECONDS
            with suppress(OSError):  # if the disk fails, listings show the former sizes
                entries = self._store.records.accepted_entries()
                by_id = {entry.dataset_id: entry for entry in entries}
                if by_id != self._entries:
                    self._entries, self._state = by_id, object()

    def expire(self, dataset_id: str | None = None) -> None:
        """Make the next :meth:`get` read all records again.

        If ``dataset_id`` is given and its record is known already, do nothing.
        """
        if dataset_id not in self._entries:
            self._valid_until = 0.0

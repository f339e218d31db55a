"""The catalogue's table of probe insertions.

This module stores and returns rows. It never decides whether a row is fresh.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from onefs.catalogue.storage.catalogue_file import CatalogueFile
from onefs.model import Insertion


class InsertionTable(CatalogueFile):
    """The probe insertions of a catalogue. Thread-safe.

    Methods raise CacheError if the file cannot be used. ``now`` is the time of the request, in
    seconds since the epoch.
    """

    def insertions(self, eid: str) -> list[Insertion]:
        """Return a session's stored insertions, sorted by name."""
        return self.insertions_of([eid])

    def insertions_of(self, eids: Sequence[str]) -> list[Insertion]:
        """Return the stored insertions of these sessions, in the order of ``eids`` and by name."""
        query = (
            "SELECT insertions.id, eid, name, record FROM json_each(?) AS wanted"
            " JOIN insertions ON eid = wanted.value ORDER BY wanted.key, name, insertions.id"
        )
        return [Insertion(*map(str, row)) for row in self._fetch_rows(query, json.dumps(eids))]

    def insertion(self, pid: str) -> tuple[Insertion, float] | None:
        """Return an insertion and the time of its request. Return None if it is not stored."""
        query = "SELECT id, eid, name, record, fetched_at FROM insertions WHERE id = ?"
        rows = self._fetch_rows(query, pid)
        return (Insertion(*map(str, rows[0][:4])), float(rows[0][4])) if rows else None

    def sessions_with_insertions(self) -> list[str]:
        """Return the eids of the sessions that have a stored insertion."""
        return [str(row[0]) for row in self._fetch_rows("SELECT DISTINCT eid FROM insertions")]

    def without_insertions(self, eids: Sequence[str], since: float) -> list[str]:
        """Return those of ``eids`` whose insertions were not listed after the time ``since``."""
        query = (
            "SELECT wanted.value FROM json_each(?) AS wanted WHERE NOT EXISTS (SELECT 1"
            " FROM listings WHERE key = 'insertions/' || wanted.value AND fetched_at >= ?)"
            " ORDER BY wanted.key"
        )
        return [str(row[0]) for row in self._fetch_rows(query, json.dumps(list(eids)), since)]

    def store_insertions(
        self,
        insertions: Iterable[Insertion],
        now: float,
        whole: Iterable[str] = (),
        key: str = "",
    ) -> None:
        """Store insertions.

        - ``whole``: the eids of the sessions of which ``insertions`` has all insertions. Their
          other stored insertions are removed.
        - ``key``: another listing that counts as requested at ``now``.
        """
        eids = [(eid,) for eid in whole]
        with self._transaction() as connection:
            connection.executemany("DELETE FROM insertions WHERE eid = ?", eids)
            connection.executemany(
                "REPLACE INTO insertions VALUES (?, ?, ?, ?, ?)",
                ((each.id, each.eid, each.name, now, each.record) for each in insertions),
            )
            keys = [f"insertions/{eid}" for (eid,) in eids] + ([key] if key else [])
            connection.executemany(
                "REPLACE INTO listings VALUES (?, ?)", ((each, now) for each in keys)
            )

"""The store's SQLite index: rows in, rows out. Decides nothing (see ``index.sql``)."""

from __future__ import annotations

from dataclasses import astuple
from importlib import resources
from pathlib import Path

from onefs.content.records import Entry
from onefs.sqlite import SqliteFile

SCHEMA = 2

_ACCEPTED = "SELECT * FROM entries WHERE state = 'accepted'"


class Index:
    """Thread-safe, and safe beside other processes of the same host. Raises CacheError."""

    def __init__(self, path: Path) -> None:
        schema = resources.files("onefs.content").joinpath("index.sql").read_text("utf-8")
        self._file = SqliteFile(path, schema, SCHEMA, "the cache index")
        self._execute = self._file.rows

    def close(self) -> None:
        self._file.close()

    def get(self, dataset_id: str) -> Entry | None:
        found = self._execute("SELECT * FROM entries WHERE dataset_id = ?", dataset_id)
        return Entry(*found[0]) if found else None

    def put(self, entry: Entry) -> None:
        self._execute(f"REPLACE INTO entries VALUES ({', '.join('?' * 14)})", *astuple(entry))

    def forget(self, dataset_id: str) -> None:
        self._execute("DELETE FROM entries WHERE dataset_id = ?", dataset_id)

    def touch(self, dataset_id: str, now: float) -> None:
        self._execute("UPDATE entries SET used_at = ? WHERE dataset_id = ?", now, dataset_id)

    def accepted(self) -> list[Entry]:
        """What the user has accepted although the database claims otherwise."""
        return [Entry(*row) for row in self._execute(_ACCEPTED)]

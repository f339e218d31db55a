"""The catalogue's SQLite file: facts, times of listings, invalidations and stored answers."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from onefs.errors import CacheError
from onefs.lowlevel.sqlite_file import SqliteFile

log = logging.getLogger(__name__)

SCHEMA_VERSION = 2
#: by version, the statements that bring an older file to the next version
_MIGRATIONS = {
    1: """
    CREATE TABLE IF NOT EXISTS forced (path TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS sessions_of_ref ON sessions (subject, date, number);
    """
}
#: seconds after which every listing is stale anyway, so that an invalidation is not needed
_INVALIDATION_LIFETIME_SECONDS = 7 * 86400.0
#: the stored answer with Alyx's dataset types, and their patterns for file names
DATASET_TYPES_KEY = "table/dataset-types"


class CatalogueFile:
    """The file of ``schema.sql`` at ``path``. Thread-safe. Methods raise CacheError when the file
    cannot be used. Times are seconds since the epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        schema = Path(__file__).with_name("schema.sql").read_text("utf-8")
        self._file = SqliteFile(path, schema, SCHEMA_VERSION, "the catalogue", _MIGRATIONS)
        self._fetch_rows = self._file.fetch_rows
        self._transaction = self._file.transaction

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def folder_status(self) -> str:
        """What happened to the folder, if it was deleted or its disk was unmounted; '' else.

        Raises CacheError while it cannot be used.
        """
        self._fetch_rows("SELECT 1")
        return self._file.folder_status

    def _execute(self, statement: str, *values: object) -> None:
        """Run one statement in a transaction of its own."""
        with self._transaction() as connection:
            connection.execute(statement, values)

    # -- facts

    def fact(self, key: str) -> str | None:
        """A fact about the catalogue itself."""
        rows = self._fetch_rows("SELECT value FROM facts WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def facts(self, prefix: str) -> dict[str, str]:
        """The facts whose keys have this prefix, by the rest of their keys, sorted."""
        query = "SELECT substr(key, ?), value FROM facts WHERE substr(key, 1, ?) = ? ORDER BY key"
        rows = self._fetch_rows(query, len(prefix) + 1, len(prefix), prefix)
        return {str(name): str(value) for name, value in rows}

    def set_fact(self, key: str, value: str) -> None:
        """Store a fact, in place of an older one."""
        self._execute("REPLACE INTO facts VALUES (?, ?)", key, value)

    def drop_fact(self, key: str) -> None:
        """Delete a fact."""
        self._execute("DELETE FROM facts WHERE key = ?", key)

    def creation_time(self, now: float) -> float:
        """When the catalogue was created; ``now``, which is stored, if it was created just now or
        does not say."""
        try:
            stored = self.fact("created")
            if stored is None:
                self.set_fact("created", repr(now))
            return float(stored or now)
        except (CacheError, ValueError) as error:
            log.warning("the catalogue's time of creation cannot be read: %s", error)
            return now

    def note_server_url(self, url: str) -> None:
        """Store the server's URL; expire the repositories if it has changed.

        An embedded laboratory has another URL at each start, and its file server too.
        """
        try:
            if self.fact("alyx_url") != url:
                self.expire_listing("repositories")
                self.set_fact("alyx_url", url)
        except CacheError as error:
            log.warning("the database's URL cannot be stored in the catalogue: %s", error)

    # -- times of listings

    def fetched_at(self, key: str) -> float | None:
        """When a listing was requested; None if it never was."""
        rows = self._fetch_rows("SELECT fetched_at FROM listings WHERE key = ?", key)
        return float(rows[0][0]) if rows else None

    def last_fetched_at(self) -> float:
        """When the newest listing was requested; 0 if there is none."""
        return float(self._fetch_rows("SELECT coalesce(max(fetched_at), 0) FROM listings")[0][0])

    def is_empty(self) -> bool:
        """Whether no listing was ever stored."""
        return not self._fetch_rows("SELECT 1 FROM listings LIMIT 1")

    def expire_listing(self, key: str) -> None:
        """Delete the time of a listing, so that it is requested again before its next use."""
        self._execute("DELETE FROM listings WHERE key = ?", key)

    # -- invalidations

    def data_version(self) -> int:
        """A number that changes whenever another process has written. Cheap."""
        return int(self._fetch_rows("PRAGMA data_version")[0][0])

    def invalidations(self) -> dict[tuple[str, ...], float]:
        """When each part of the tree was last invalidated, () for all of it."""
        rows = self._fetch_rows("SELECT path, at FROM forced")
        return {tuple(json.loads(path)): float(at) for path, at in rows}

    def invalidate(self, path: tuple[str, ...], now: float) -> None:
        """Store an invalidation of the listings at and below ``path``."""
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM forced WHERE at < ?", (now - _INVALIDATION_LIFETIME_SECONDS,)
            )
            connection.execute("REPLACE INTO forced VALUES (?, ?)", (json.dumps(path), now))

    # -- stored answers

    def stored_answer(self, key: str) -> tuple[str, float] | None:
        """A stored answer and its time; None if there is none."""
        rows = self._fetch_rows("SELECT body, fetched_at FROM answers WHERE key = ?", key)
        return (str(rows[0][0]), float(rows[0][1])) if rows else None

    def store_answer(self, key: str, body: str, now: float, keep: int = 1000) -> None:
        """Store an answer; of the answers to searches, keep the latest ``keep``."""
        oldest = (
            "SELECT key FROM answers WHERE key NOT LIKE 'table/%'"
            " ORDER BY fetched_at DESC LIMIT -1 OFFSET ?"
        )
        with self._transaction() as connection:
            connection.execute("REPLACE INTO answers VALUES (?, ?, ?)", (key, now, body))
            connection.execute(f"DELETE FROM answers WHERE key IN ({oldest})", (keep,))

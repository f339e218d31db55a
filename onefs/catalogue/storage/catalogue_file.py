"""The catalogue's SQLite file: facts, times of listings, invalidations and stored answers.

A fact is a named value about the catalogue itself, such as the URL of Alyx.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from pathlib import Path

from onefs.errors import CacheError
from onefs.lowlevel.sqlite_file import SqliteFile

log = logging.getLogger(__name__)

SCHEMA_VERSION = 2
#: by version of an older file, the statements that convert the file to the next version
_MIGRATIONS = {
    1: """
    CREATE TABLE IF NOT EXISTS forced (path TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS sessions_of_ref ON sessions (subject, date, number);
    """
}
#: seconds for which an invalidation is kept; a listing of that age is stale in any case
_INVALIDATION_LIFETIME_SECONDS = 7 * 86400.0
#: the key of the stored answer with Alyx's dataset types and their patterns for file names
DATASET_TYPES_KEY = "table/dataset-types"
#: how the keys of answers of Alyx's REST interface begin, and the first text after all such keys
REST_ANSWERS, _REST_END = "rest/", "rest0"
#: bytes of these answers that are kept
MAX_REST_BYTES = 128 * 2**20
#: bytes that an answer needs beside its text, about
_ANSWER_OVERHEAD = 512
#: the fact with the size of these answers
_REST_SIZE = "rest_answers_size"


class CatalogueFile:
    """The SQLite file at ``path``, with the tables of ``schema.sql``. Thread-safe.

    Methods raise CacheError if the file cannot be used. Times are seconds since the epoch.
    """

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
        """Return a sentence for the user if the file's folder was deleted or its disk unmounted.

        Otherwise return ''. Raises CacheError if the file cannot be used now.
        """
        self._fetch_rows("SELECT 1")
        return self._file.folder_status

    def _execute(self, statement: str, *values: object) -> None:
        """Run one statement in its own transaction."""
        with self._transaction() as connection:
            connection.execute(statement, values)

    # -- facts

    def fact(self, key: str) -> str | None:
        """Return a fact about the catalogue itself, such as the URL of Alyx.

        Return None if no fact with this key is stored.
        """
        rows = self._fetch_rows("SELECT value FROM facts WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def facts(self, prefix: str) -> dict[str, str]:
        """Return the facts whose keys begin with ``prefix``, sorted by key.

        The keys of the returned dict do not contain the prefix.
        """
        query = "SELECT substr(key, ?), value FROM facts WHERE substr(key, 1, ?) = ? ORDER BY key"
        rows = self._fetch_rows(query, len(prefix) + 1, len(prefix), prefix)
        return {str(name): str(value) for name, value in rows}

    def set_fact(self, key: str, value: str) -> None:
        """Store a fact. An older fact with the same key is replaced."""
        self._execute("REPLACE INTO facts VALUES (?, ?)", key, value)

    def drop_fact(self, key: str) -> None:
        """Delete the fact with this key, if it is stored."""
        self._execute("DELETE FROM facts WHERE key = ?", key)

    def creation_time(self, now: float) -> float:
        """Return when the catalogue was created.

        If no time of creation is stored, store and return ``now``. If the stored time cannot be
        read, return ``now``.
        """
        try:
            stored = self.fact("created")
            if stored is None:
                self.set_fact("created", repr(now))
            return float(stored or now)
        except (CacheError, ValueError) as error:
            log.warning("the catalogue's time of creation cannot be read: %s", error)
            return now

    def note_server_url(self, url: str) -> None:
        """Store the URL of Alyx.

        If it has changed, the repositories are requested again, because their URLs may have changed
        too.
        """
        try:
            # ``onefs mount --demo`` has other URLs of Alyx and of the file server after each start
            if self.fact("alyx_url") != url:
                self.expire_listing("repositories")
                self.set_fact("alyx_url", url)
        except CacheError as error:
            log.warning("the database's URL cannot be stored in the catalogue: %s", error)

    # -- times of listings

    def fetched_at(self, key: str) -> float | None:
        """Return when a listing was last requested. Return None if it was never requested."""
        rows = self._fetch_rows("SELECT fetched_at FROM listings WHERE key = ?", key)
        return float(rows[0][0]) if rows else None

    def last_fetched_at(self) -> float:
        """Return when the newest listing was requested. Return 0 if no listing is stored."""
        return float(self._fetch_rows("SELECT coalesce(max(fetched_at), 0) FROM listings")[0][0])

    def is_empty(self) -> bool:
        """Whether the file contains no listing."""
        return not self._fetch_rows("SELECT 1 FROM listings LIMIT 1")

    def expire_listing(self, key: str) -> None:
        """Delete the time of a listing, so that the listing is requested again at its next use."""
        self._execute("DELETE FROM listings WHERE key = ?", key)

    # -- invalidations

    def data_version(self) -> int:
        """Return a number that changes each time another process writes to the file.

        The call is cheap.
        """
        return int(self._fetch_rows("PRAGMA data_version")[0][0])

    def invalidations(self) -> dict[tuple[str, ...], float]:
        """Return when each path in the tree was last invalidated, by path.

        The path () means all listings. Invalidations older than a week may be missing.
        """
        rows = self._fetch_rows("SELECT path, at FROM forced")
        return {tuple(json.loads(path)): float(at) for path, at in rows}

    def invalidate(self, path: tuple[str, ...], now: float) -> None:
        """Store an invalidation of the listings at and below ``path``.

        Invalidations older than a week are removed.
        """
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM forced WHERE at < ?", (now - _INVALIDATION_LIFETIME_SECONDS,)
            )
            connection.execute("REPLACE INTO forced VALUES (?, ?)", (json.dumps(path), now))

    # -- stored answers

    def stored_answer(self, key: str) -> tuple[str, float] | None:
        """Return the text of a stored answer of Alyx, and the time of its request.

        Return None if no answer with this key is stored.
        """
        rows = self._fetch_rows("SELECT body, fetched_at FROM answers WHERE key = ?", key)
        return (str(rows[0][0]), float(rows[0][1])) if rows else None

    def store_answer(self, key: str, body: str, now: float, keep: int = 1000) -> None:
        """Store the text of an answer of Alyx, with ``now`` as the time of its request.

        Of the answers to searches, only the latest ``keep`` are kept.
        """
        oldest = (
            f"SELECT key FROM answers WHERE (key < '{REST_ANSWERS}' OR key >= '{_REST_END}')"
            " AND key NOT LIKE 'table/%' ORDER BY fetched_at DESC LIMIT -1 OFFSET ?"
        )
        with self._transaction() as connection:
            connection.execute("REPLACE INTO answers VALUES (?, ?, ?)", (key, now, body))
            connection.execute(f"DELETE FROM answers WHERE key IN ({oldest})", (keep,))

    def store_rest_answer(
        self, key: str, body: str, now: float, most_bytes: int = MAX_REST_BYTES
    ) -> None:
        """Store the text of an answer of Alyx's REST interface, as :meth:`store_answer` does.

        Of these answers, the latest ``most_bytes`` are kept. ``key`` begins with REST_ANSWERS.
        """
        # a sum of all answers would read them all; this number is at least their sum, because an
        # answer that is replaced, or deleted by an older onefs, is not subtracted
        with self._transaction() as connection:
            found = connection.execute("SELECT value FROM facts WHERE key = ?", (_REST_SIZE,))
            size = int((found.fetchone() or ("0",))[0]) + len(body) + _ANSWER_OVERHEAD
            connection.execute("REPLACE INTO answers VALUES (?, ?, ?)", (key, now, body))
            if size > most_bytes:
                size = self._drop_rest_answers(connection, most_bytes * 3 // 4)
            connection.execute("REPLACE INTO facts VALUES (?, ?)", (_REST_SIZE, str(size)))

    @staticmethod
    def _drop_rest_answers(connection: sqlite3.Connection, most_bytes: int) -> int:
        """Delete the oldest answers, until the others have at most this size. Return their size."""
        rows = connection.execute(
            "SELECT key, length(body) FROM answers WHERE key >= ? AND key < ?"
            " ORDER BY fetched_at DESC",
            (REST_ANSWERS, _REST_END),
        ).fetchall()
        size = 0
        for number, (_, length) in enumerate(rows):
            # the latest answer is kept in any case
            if number and size + length + _ANSWER_OVERHEAD > most_bytes:
                dropped = [(key,) for key, _ in rows[number:]]
                connection.executemany("DELETE FROM answers WHERE key = ?", dropped)
                break
            size += length + _ANSWER_OVERHEAD
        return size

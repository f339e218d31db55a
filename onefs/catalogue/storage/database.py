"""The catalogue's SQLite file: rows in, rows out. Decides nothing."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from onefs import alf
from onefs.alyx.parsing import DatasetRow
from onefs.catalogue.storage.row_codecs import (
    INSERT_DATASET,
    INSERT_SESSION,
    decode_dataset,
    decode_session,
    encode_dataset,
    encode_session,
)
from onefs.errors import CacheError
from onefs.lowlevel.sqlite_file import SqliteFile
from onefs.model import Dataset, Repository, Session

log = logging.getLogger(__name__)

SCHEMA_VERSION = 2
#: what brings an older file to the next version
_MIGRATIONS = {
    1: """
    CREATE TABLE IF NOT EXISTS forced (path TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS sessions_of_ref ON sessions (subject, date, number);
    """
}
#: datasets that a session must have: columns of ``datasets``, and their values
DatasetConditions = Sequence[tuple[Literal["dataset_type", "name"], str]]

#: seconds after which everything is stale in any case, and a wish for it anew is forgotten
_INVALIDATION_LIFETIME_SECONDS = 7 * 86400.0
#: the kept answer that has Alyx's dataset types, and their patterns for names of files
DATASET_TYPES_KEY = "table/dataset-types"


class CatalogueDatabase:
    """The tables of ``schema.sql``. Thread-safe. Raises CacheError when the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        schema = Path(__file__).with_name("schema.sql").read_text("utf-8")
        self._file = SqliteFile(path, schema, SCHEMA_VERSION, "the catalogue", _MIGRATIONS)
        self._fetch_rows = self._file.fetch_rows
        self._transaction = self._file.transaction

    def close(self) -> None:
        self._file.close()

    def folder_status(self) -> str:
        """What became of the folder, if it was deleted or its disk was away; '' else.

        Raises CacheError while it cannot be used.
        """
        self._fetch_rows("SELECT 1")
        return self._file.folder_status

    # -- facts and ages

    def fact(self, key: str) -> str | None:
        """A fact about the catalogue itself."""
        found = self._fetch_rows("SELECT value FROM facts WHERE key = ?", key)
        return str(found[0][0]) if found else None

    def set_fact(self, key: str, value: str) -> None:
        with self._transaction() as connection:
            connection.execute("REPLACE INTO facts VALUES (?, ?)", (key, value))

    def note_server_url(self, url: str) -> None:
        """Note where the server is. When it has moved, as the embedded one does at each start, its
        files have moved with it, and are asked for anew."""
        try:
            if self.fact("alyx_url") != url:
                self.expire_listing("repositories")
                self.set_fact("alyx_url", url)
        except CacheError as error:
            log.warning("where the database is now cannot be noted: %s", error)

    def facts(self, prefix: str) -> dict[str, str]:
        """The facts whose keys begin so, by the rest of their keys, sorted."""
        query = "SELECT substr(key, ?), value FROM facts WHERE substr(key, 1, ?) = ? ORDER BY key"
        found = self._fetch_rows(query, len(prefix) + 1, len(prefix), prefix)
        return {str(name): str(value) for name, value in found}

    def drop_fact(self, key: str) -> None:
        with self._transaction() as connection:
            connection.execute("DELETE FROM facts WHERE key = ?", (key,))

    def fetched_at(self, key: str) -> float | None:
        """When a listing was taken; None when it never was."""
        found = self._fetch_rows("SELECT fetched_at FROM listings WHERE key = ?", key)
        return float(found[0][0]) if found else None

    def last_fetched_at(self) -> float:
        """When the newest listing was taken; 0 when none was."""
        return float(self._fetch_rows("SELECT coalesce(max(fetched_at), 0) FROM listings")[0][0])

    def is_empty(self) -> bool:
        """Whether no listing was ever taken."""
        return not self._fetch_rows("SELECT 1 FROM listings LIMIT 1")

    def expire_listing(self, key: str) -> None:
        """Drop the age of a listing, so that it is taken again before its next use."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM listings WHERE key = ?", (key,))

    # -- what the user wants anew

    def data_version(self) -> int:
        """A number that changes whenever another process has written. Cheap."""
        return int(self._fetch_rows("PRAGMA data_version")[0][0])

    def invalidations(self) -> dict[tuple[str, ...], float]:
        """When each part of the tree was last wanted anew, () for all of it."""
        found = self._fetch_rows("SELECT path, at FROM forced")
        return {tuple(json.loads(path)): float(at) for path, at in found}

    def invalidate(self, path: tuple[str, ...], now: float) -> None:
        """Want what stands at and below ``path`` anew."""
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM forced WHERE at < ?", (now - _INVALIDATION_LIFETIME_SECONDS,)
            )
            connection.execute("REPLACE INTO forced VALUES (?, ?)", (json.dumps(path), now))

    # -- cache tables beneath the catalogue: see onefs.catalogue.storage.overlay; here there are
    # none

    def is_from_tables(self, key: str) -> bool:
        """Whether a listing is what cache tables said."""
        return False

    def is_empty_in_tables(self, eid: str) -> bool:
        """Whether cache tables have a session but no dataset of it."""
        return False

    def tables_version(self) -> object:
        """Another value when other cache tables are there; None without any."""
        return None

    def tables_created_at(self) -> float:
        """When what the tables say was true; 0.0 without any."""
        return 0.0

    def has_lab_in_tables(self, lab: str) -> bool:
        """Whether cache tables have sessions of a lab."""
        return False

    def guess_types(self, names: Iterable[str]) -> dict[str, str]:
        """The dataset types that files of these names, which only tables know, likely have."""
        return {}

    def add_new_sessions(self, lab: str, found: Sequence[tuple[Session, bool]], now: float) -> None:
        """Sessions of a lab that are newer than what cache tables say of them."""
        with self._transaction() as connection:
            _insert_sessions(connection, found)
            for session, _ in found:
                _mark_listed(connection, f"session/{session.eid}", now)
            _mark_listed(connection, f"news/{lab}", now)

    def add_sessions(self, key: str, found: Iterable[tuple[Session, bool]], now: float) -> None:
        """Sessions that stand beside those known, under a listing of their own."""
        with self._transaction() as connection:
            _insert_sessions(connection, found)
            _mark_listed(connection, key, now)

    def store_probed_size_by_md5(self, dataset: Dataset, size: int) -> None:
        """Remember a size that a file server gave for a dataset which only tables know."""
        with self._transaction() as connection:
            values = (dataset.id, dataset.md5, size)
            connection.execute("REPLACE INTO probed_sizes VALUES (?, ?, ?)", values)

    # -- listings, each replaced whole

    def labs(self) -> list[str]:
        return [str(row[0]) for row in self._fetch_rows("SELECT name FROM labs ORDER BY name")]

    def store_labs(self, names: Iterable[str], now: float) -> None:
        with self._transaction() as connection:
            connection.execute("DELETE FROM labs")
            connection.executemany("INSERT OR IGNORE INTO labs VALUES (?)", ((n,) for n in names))
            _mark_listed(connection, "labs", now)

    def repositories(self) -> dict[str, Repository]:
        return {
            str(name): Repository(str(name), str(data_url), bool(personal))
            for name, data_url, personal in self._fetch_rows("SELECT * FROM repositories")
        }

    def store_repositories(self, found: Iterable[Repository], now: float) -> None:
        with self._transaction() as connection:
            connection.execute("DELETE FROM repositories")
            connection.executemany(
                "INSERT OR REPLACE INTO repositories VALUES (?, ?, ?)",
                ((r.name, r.data_url, r.personal) for r in found),
            )
            _mark_listed(connection, "repositories", now)

    def subjects(self, lab: str) -> list[str]:
        """A lab's subjects, and those that its known sessions name besides."""
        query = (
            "SELECT nickname FROM subjects WHERE lab = ?"
            " UNION SELECT DISTINCT subject FROM sessions WHERE lab = ? ORDER BY 1"
        )
        return [str(row[0]) for row in self._fetch_rows(query, lab, lab)]

    def store_subjects(self, lab: str, nicknames: Iterable[str], now: float) -> None:
        with self._transaction() as connection:
            connection.execute("DELETE FROM subjects WHERE lab = ?", (lab,))
            connection.executemany(
                "INSERT OR IGNORE INTO subjects VALUES (?, ?)", ((lab, n) for n in nicknames)
            )
            _mark_listed(connection, f"subjects/{lab}", now)

    def sessions(self, lab: str, subject: str) -> list[Session]:
        """A subject's numbered sessions, by date, number and eid."""
        query = (
            "SELECT * FROM sessions WHERE lab = ? AND subject = ? AND number IS NOT NULL"
            " ORDER BY date, number, eid"
        )
        return [decode_session(row) for row in self._fetch_rows(query, lab, subject)]

    def session(self, eid: str) -> Session | None:
        """A session by its eid, with or without a folder."""
        found = self._fetch_rows("SELECT * FROM sessions WHERE eid = ?", eid)
        return decode_session(found[0]) if found else None

    def store_sessions(
        self, lab: str, subject: str, found: Iterable[tuple[Session, bool]], now: float
    ) -> None:
        with self._transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE lab = ? AND subject = ?", (lab, subject))
            _insert_sessions(connection, found)
            _mark_listed(connection, f"sessions/{lab}/{subject}", now)

    def store_lab_sessions(
        self, lab: str, subjects: Iterable[str], found: Sequence[tuple[Session, bool]], now: float
    ) -> None:
        """All sessions of a lab: the listings of these subjects, and of all that have any."""
        names = {*subjects, *(session.subject for session, _ in found)}
        with self._transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE lab = ?", (lab,))
            _insert_sessions(connection, found)
            for name in names:
                _mark_listed(connection, f"sessions/{lab}/{name}", now)

    def unlisted_subjects(self, lab: str) -> list[str]:
        """The subjects of a lab whose sessions were never listed."""
        query = (
            "SELECT nickname FROM subjects WHERE lab = ? AND NOT EXISTS (SELECT 1 FROM listings"
            " WHERE key = 'sessions/' || subjects.lab || '/' || subjects.nickname)"
        )
        return [str(row[0]) for row in self._fetch_rows(query, lab)]

    def unlisted_neighbours(
        self, session: Session, most: int, since: float, all_subjects: bool
    ) -> list[str]:
        """``session``, and up to ``most`` in all of those that come after it in its lab, or in
        its subject alone, and whose datasets were not listed since; then of those before it."""
        query = (
            "SELECT eid FROM sessions AS s WHERE lab = ? {subject} AND number IS NOT NULL"
            " AND (subject, date, number, eid) {after} (?, ?, ?, ?) AND NOT EXISTS (SELECT 1"
            " FROM listings WHERE key = 'datasets/' || s.eid AND fetched_at >= ?)"
            " ORDER BY subject {order}, date {order}, number {order}, eid {order} LIMIT ?"
        )
        subject = "" if all_subjects else "AND subject = ?"
        where = [session.lab] if all_subjects else [session.lab, session.subject]
        place = [session.subject, session.date, session.number, session.eid]
        found = [session.eid]
        for after, order in ((">", "ASC"), ("<", "DESC")):
            text = query.format(subject=subject, after=after, order=order)
            values = (*where, *place, since, most - len(found))
            found += [str(row[0]) for row in self._fetch_rows(text, *values)]
        return found

    def filter_unlisted(self, eids: Sequence[str], since: float) -> list[str]:
        """Those of some sessions whose datasets were not listed since."""
        query = (
            "SELECT wanted.value FROM json_each(?) AS wanted WHERE NOT EXISTS (SELECT 1"
            " FROM listings WHERE key = 'datasets/' || wanted.value AND fetched_at >= ?)"
            " ORDER BY wanted.key"
        )
        return [str(row[0]) for row in self._fetch_rows(query, json.dumps(list(eids)), since)]

    def store_session(self, found: Session, numbered: bool, now: float) -> None:
        """One session, known by its eid alone."""
        with self._transaction() as connection:
            _insert_sessions(connection, [(found, numbered)])
            _mark_listed(connection, f"session/{found.eid}", now)

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        """The sessions known by a ref, one for each lab that has the nickname."""
        query = (
            "SELECT * FROM sessions WHERE subject = ? AND date = ? AND number = ? ORDER BY lab, eid"
        )
        return [
            decode_session(row)
            for row in self._fetch_rows(query, ref.subject, ref.date, ref.number)
        ]

    def store_sessions_by_ref(
        self, ref: alf.Ref, found: Iterable[tuple[Session, bool]], now: float
    ) -> None:
        """The sessions that Alyx has for a ref, in whatever lab, in place of those known."""
        where = "subject = ? AND date = ? AND number = ?"
        with self._transaction() as connection:
            values = (ref.subject, ref.date, ref.number)
            connection.execute(f"DELETE FROM sessions WHERE {where}", values)
            _insert_sessions(connection, found)
            _mark_listed(connection, f"ref/{ref.date}_{ref.number}_{ref.subject}", now)

    def datasets(self, eid: str) -> list[DatasetRow]:
        """All datasets of a session, reachable or not, in a stable order."""
        query = "SELECT * FROM datasets WHERE eid = ? ORDER BY collection, revision, name, id"
        bases = {name: found.data_url for name, found in self.repositories().items()}
        return [decode_dataset(row, bases) for row in self._fetch_rows(query, eid)]

    def session_of_dataset(self, dataset_id: str) -> str | None:
        """The eid of a dataset's session; None when the dataset was never listed."""
        found = self._fetch_rows("SELECT eid FROM datasets WHERE id = ?", dataset_id)
        return str(found[0][0]) if found else None

    def store_datasets(self, eid: str, found: Sequence[DatasetRow], now: float) -> None:
        """Replace a session's datasets; see :meth:`store_datasets_by_eid`."""
        self.store_datasets_by_eid({eid: found}, now)

    def store_datasets_by_eid(self, found: Mapping[str, Sequence[DatasetRow]], now: float) -> None:
        """Replace the datasets of sessions. Sizes that were probed stay while Alyx knows none,
        and the hash says that the bytes are the same."""
        bases = {name: known.data_url for name, known in self.repositories().items()}
        known = "SELECT id, md5, probed FROM datasets WHERE eid = ? AND probed IS NOT NULL"
        with self._transaction() as connection:
            for eid, datasets in found.items():
                probed = {row[:2]: row[2] for row in connection.execute(known, (eid,))}
                connection.execute("DELETE FROM datasets WHERE eid = ?", (eid,))
                connection.executemany(
                    INSERT_DATASET,
                    (
                        encode_dataset(row, probed.get((row.dataset.id, row.dataset.md5)), bases)
                        for row in datasets
                    ),
                )
                _mark_listed(connection, f"datasets/{eid}", now)

    def store_probed_size(self, dataset_id: str, size: int) -> None:
        """Remember the size that the file server gave for a dataset whose size Alyx lacks."""
        with self._transaction() as connection:
            connection.execute("UPDATE datasets SET probed = ? WHERE id = ?", (size, dataset_id))

    def record(self, eid: str) -> str | None:
        """A session's whole record as JSON."""
        found = self._fetch_rows("SELECT body FROM records WHERE eid = ?", eid)
        return str(found[0][0]) if found else None

    def store_record(self, eid: str, body: str, now: float) -> None:
        with self._transaction() as connection:
            connection.execute("REPLACE INTO records VALUES (?, ?)", (eid, body))
            _mark_listed(connection, f"record/{eid}", now)

    # -- searches

    def find_sessions(
        self, condition: str, values: Iterable[object], having: DatasetConditions = ()
    ) -> list[tuple[str, int, str]]:
        """Date, number and eid of known sessions for which an SQL condition on their columns holds
        and which have all these datasets; the latest first. The number is -1 for none."""
        has = "".join(f" AND eid IN (SELECT eid FROM datasets WHERE {c} = ?)" for c, _ in having)
        query = (
            f"SELECT date, ifnull(number, -1), eid FROM sessions WHERE {condition}{has}"
            " ORDER BY start_time DESC"
        )
        return self._fetch_rows(query, *values, *(value for _, value in having))

    def sessions_by_eid(self, eids: Sequence[str]) -> list[Session]:
        """The known sessions of these eids, in that order."""
        query = (
            "SELECT sessions.* FROM json_each(?) AS wanted JOIN sessions ON eid = wanted.value"
            " ORDER BY wanted.key"
        )
        return [decode_session(row) for row in self._fetch_rows(query, json.dumps(eids))]

    def distinct_values(self, table: str, column: str) -> list[str]:
        """The values that a column has."""
        return [str(row[0]) for row in self._fetch_rows(f"SELECT DISTINCT {column} FROM {table}")]

    def dataset_types(self) -> list[str]:
        """The dataset types that are known."""
        return [name for name in self.distinct_values("datasets", "dataset_type") if name]

    def store_search_results(self, found: Iterable[tuple[Session, bool]]) -> None:
        """Sessions that a search has met; no listing is whole by them."""
        with self._transaction() as connection:
            _insert_sessions(connection, found)

    def stored_answer(self, key: str) -> tuple[str, float] | None:
        """A kept answer and when it was given; None when there is none."""
        found = self._fetch_rows("SELECT body, fetched_at FROM answers WHERE key = ?", key)
        return (str(found[0][0]), float(found[0][1])) if found else None

    def store_answer(self, key: str, body: str, now: float, keep: int = 1000) -> None:
        """Keep an answer, and of the answers to searches the last ``keep``."""
        oldest = (
            "SELECT key FROM answers WHERE key NOT LIKE 'table/%'"
            " ORDER BY fetched_at DESC LIMIT -1 OFFSET ?"
        )
        with self._transaction() as connection:
            connection.execute("REPLACE INTO answers VALUES (?, ?, ?)", (key, now, body))
            connection.execute(f"DELETE FROM answers WHERE key IN ({oldest})", (keep,))


def _insert_sessions(connection: sqlite3.Connection, found: Iterable[tuple[Session, bool]]) -> None:
    connection.executemany(INSERT_SESSION, (encode_session(*item) for item in found))


def _mark_listed(connection: sqlite3.Connection, key: str, now: float) -> None:
    connection.execute("REPLACE INTO listings VALUES (?, ?)", (key, now))

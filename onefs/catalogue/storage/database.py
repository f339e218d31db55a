"""The tables of the catalogue: labs, subjects, sessions and datasets as rows.

It stores and returns rows, and decides nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from onefs import alf
from onefs.alyx.parsing import DatasetRow
from onefs.catalogue.storage.catalogue_file import CatalogueFile
from onefs.catalogue.storage.row_codecs import (
    INSERT_DATASET,
    INSERT_SESSION,
    decode_dataset,
    decode_session,
    encode_dataset,
    encode_session,
)
from onefs.model import Dataset, Repository, Session

#: datasets that a session must have: columns of ``datasets``, and their values
DatasetConditions = Sequence[tuple[Literal["dataset_type", "name"], str]]

#: a session as Alyx gives it, and whether Alyx has a number for it
NumberedSession = tuple[Session, bool]


class CatalogueDatabase(CatalogueFile):
    """The listings of a catalogue. Thread-safe. Methods raise CacheError when the file cannot be
    used; ``now`` is the time of the request, in seconds since the epoch."""

    # -- cache tables beneath the catalogue, which OverlayDatabase adds; here there are none

    def is_from_tables(self, key: str) -> bool:
        """Whether a listing is from cache tables."""
        return False

    def is_empty_in_tables(self, eid: str) -> bool:
        """Whether cache tables have a session but no dataset of it."""
        return False

    def tables_version(self) -> object:
        """A value that changes with the cache tables; None without any."""
        return None

    def tables_created_at(self) -> float:
        """When the cache tables were made; 0.0 without any."""
        return 0.0

    def has_lab_in_tables(self, lab: str) -> bool:
        """Whether cache tables have sessions of a lab."""
        return False

    def guess_types(self, names: Iterable[str]) -> dict[str, str]:
        """The dataset types that the names of files in cache tables imply, by name."""
        return {}

    # -- labs, repositories and subjects

    def labs(self) -> list[str]:
        """The names of the labs, sorted."""
        return [str(row[0]) for row in self._fetch_rows("SELECT name FROM labs ORDER BY name")]

    def store_labs(self, names: Iterable[str], now: float) -> None:
        """Replace the labs."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM labs")
            connection.executemany("INSERT OR IGNORE INTO labs VALUES (?)", ((n,) for n in names))
            _mark_listed(connection, "labs", now)

    def repositories(self) -> dict[str, Repository]:
        """The repositories, by name."""
        return {
            str(name): Repository(str(name), str(data_url), bool(personal))
            for name, data_url, personal in self._fetch_rows("SELECT * FROM repositories")
        }

    def store_repositories(self, repositories: Iterable[Repository], now: float) -> None:
        """Replace the repositories."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM repositories")
            connection.executemany(
                "INSERT OR REPLACE INTO repositories VALUES (?, ?, ?)",
                ((r.name, r.data_url, r.personal) for r in repositories),
            )
            _mark_listed(connection, "repositories", now)

    def subjects(self, lab: str) -> list[str]:
        """The nicknames of a lab's subjects, and of those that its known sessions name."""
        query = (
            "SELECT nickname FROM subjects WHERE lab = ?"
            " UNION SELECT DISTINCT subject FROM sessions WHERE lab = ? ORDER BY 1"
        )
        return [str(row[0]) for row in self._fetch_rows(query, lab, lab)]

    def store_subjects(self, lab: str, nicknames: Iterable[str], now: float) -> None:
        """Replace a lab's subjects."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM subjects WHERE lab = ?", (lab,))
            connection.executemany(
                "INSERT OR IGNORE INTO subjects VALUES (?, ?)", ((lab, n) for n in nicknames)
            )
            _mark_listed(connection, f"subjects/{lab}", now)

    def unlisted_subjects(self, lab: str) -> list[str]:
        """The subjects of a lab whose sessions were never listed."""
        query = (
            "SELECT nickname FROM subjects WHERE lab = ? AND NOT EXISTS (SELECT 1 FROM listings"
            " WHERE key = 'sessions/' || subjects.lab || '/' || subjects.nickname)"
        )
        return [str(row[0]) for row in self._fetch_rows(query, lab)]

    # -- sessions

    def sessions(self, lab: str, subject: str) -> list[Session]:
        """A subject's numbered sessions, by date, number and eid."""
        query = (
            "SELECT * FROM sessions WHERE lab = ? AND subject = ? AND number IS NOT NULL"
            " ORDER BY date, number, eid"
        )
        return [decode_session(row) for row in self._fetch_rows(query, lab, subject)]

    def session(self, eid: str) -> Session | None:
        """A session by its eid, with or without a folder."""
        rows = self._fetch_rows("SELECT * FROM sessions WHERE eid = ?", eid)
        return decode_session(rows[0]) if rows else None

    def sessions_by_eid(self, eids: Sequence[str]) -> list[Session]:
        """The known sessions of these eids, in that order."""
        query = (
            "SELECT sessions.* FROM json_each(?) AS wanted JOIN sessions ON eid = wanted.value"
            " ORDER BY wanted.key"
        )
        return [decode_session(row) for row in self._fetch_rows(query, json.dumps(eids))]

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        """The known sessions of a ref, one for each lab that has the nickname."""
        query = (
            "SELECT * FROM sessions WHERE subject = ? AND date = ? AND number = ? ORDER BY lab, eid"
        )
        rows = self._fetch_rows(query, ref.subject, ref.date, ref.number)
        return [decode_session(row) for row in rows]

    def store_sessions(
        self, lab: str, subject: str, sessions: Iterable[NumberedSession], now: float
    ) -> None:
        """Replace a subject's sessions."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE lab = ? AND subject = ?", (lab, subject))
            _insert_sessions(connection, sessions)
            _mark_listed(connection, f"sessions/{lab}/{subject}", now)

    def store_lab_sessions(
        self, lab: str, subjects: Iterable[str], sessions: Sequence[NumberedSession], now: float
    ) -> None:
        """Replace all sessions of a lab: the listings of these subjects, and of all with one."""
        names = {*subjects, *(session.subject for session, _ in sessions)}
        with self._transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE lab = ?", (lab,))
            _insert_sessions(connection, sessions)
            for name in names:
                _mark_listed(connection, f"sessions/{lab}/{name}", now)

    def store_sessions_by_ref(
        self, ref: alf.Ref, sessions: Iterable[NumberedSession], now: float
    ) -> None:
        """Replace the sessions of a ref in all labs."""
        where = "subject = ? AND date = ? AND number = ?"
        with self._transaction() as connection:
            values = (ref.subject, ref.date, ref.number)
            connection.execute(f"DELETE FROM sessions WHERE {where}", values)
            _insert_sessions(connection, sessions)
            _mark_listed(connection, f"ref/{ref.date}_{ref.number}_{ref.subject}", now)

    def add_sessions(self, key: str, sessions: Iterable[NumberedSession], now: float) -> None:
        """Add sessions to those stored, under a listing of their own."""
        with self._transaction() as connection:
            _insert_sessions(connection, sessions)
            _mark_listed(connection, key, now)

    def add_new_sessions(self, lab: str, sessions: Sequence[NumberedSession], now: float) -> None:
        """Add sessions of a lab that are newer than its cache tables."""
        with self._transaction() as connection:
            _insert_sessions(connection, sessions)
            for session, _ in sessions:
                _mark_listed(connection, f"session/{session.eid}", now)
            _mark_listed(connection, f"news/{lab}", now)

    def store_session(self, session: Session, numbered: bool, now: float) -> None:
        """Add one session, looked up by its eid."""
        self.add_sessions(f"session/{session.eid}", [(session, numbered)], now)

    def store_search_results(self, sessions: Iterable[NumberedSession]) -> None:
        """Add the sessions that a search has found; they complete no listing."""
        with self._transaction() as connection:
            _insert_sessions(connection, sessions)

    def unlisted_neighbours(
        self, session: Session, most: int, since: float, all_subjects: bool
    ) -> list[str]:
        """The eids of ``session`` and of sessions near it whose datasets were not listed since a
        time, at most ``most`` in all.

        Those that follow it in its lab (in its subject without ``all_subjects``) are first, then
        those that precede it.
        """
        query = (
            "SELECT eid FROM sessions AS s WHERE lab = ? {subject} AND number IS NOT NULL"
            " AND (subject, date, number, eid) {after} (?, ?, ?, ?) AND NOT EXISTS (SELECT 1"
            " FROM listings WHERE key = 'datasets/' || s.eid AND fetched_at >= ?)"
            " ORDER BY subject {order}, date {order}, number {order}, eid {order} LIMIT ?"
        )
        subject = "" if all_subjects else "AND subject = ?"
        where = [session.lab] if all_subjects else [session.lab, session.subject]
        place = [session.subject, session.date, session.number, session.eid]
        eids = [session.eid]
        for after, order in ((">", "ASC"), ("<", "DESC")):
            text = query.format(subject=subject, after=after, order=order)
            values = (*where, *place, since, most - len(eids))
            eids += [str(row[0]) for row in self._fetch_rows(text, *values)]
        return eids

    def find_sessions(
        self, condition: str, values: Iterable[object], having: DatasetConditions = ()
    ) -> list[tuple[str, int, str]]:
        """Date, number (-1 for none) and eid of the known sessions that fulfil an SQL condition on
        their columns and have all these datasets; the latest first."""
        has = "".join(f" AND eid IN (SELECT eid FROM datasets WHERE {c} = ?)" for c, _ in having)
        query = (
            f"SELECT date, ifnull(number, -1), eid FROM sessions WHERE {condition}{has}"
            " ORDER BY start_time DESC"
        )
        return self._fetch_rows(query, *values, *(value for _, value in having))

    def record(self, eid: str) -> str | None:
        """A session's whole record as JSON."""
        rows = self._fetch_rows("SELECT body FROM records WHERE eid = ?", eid)
        return str(rows[0][0]) if rows else None

    def store_record(self, eid: str, body: str, now: float) -> None:
        """Store a session's whole record."""
        with self._transaction() as connection:
            connection.execute("REPLACE INTO records VALUES (?, ?)", (eid, body))
            _mark_listed(connection, f"record/{eid}", now)

    # -- datasets

    def datasets(self, eid: str) -> list[DatasetRow]:
        """All datasets of a session, with or without a usable replica, in a stable order."""
        query = "SELECT * FROM datasets WHERE eid = ? ORDER BY collection, revision, name, id"
        url_by_repository = self._url_by_repository()
        return [decode_dataset(row, url_by_repository) for row in self._fetch_rows(query, eid)]

    def session_of_dataset(self, dataset_id: str) -> str | None:
        """The eid of a dataset's session; None if the dataset was never listed."""
        rows = self._fetch_rows("SELECT eid FROM datasets WHERE id = ?", dataset_id)
        return str(rows[0][0]) if rows else None

    def filter_unlisted(self, eids: Sequence[str], since: float) -> list[str]:
        """The eids of the sessions whose datasets were not listed since a time."""
        query = (
            "SELECT wanted.value FROM json_each(?) AS wanted WHERE NOT EXISTS (SELECT 1"
            " FROM listings WHERE key = 'datasets/' || wanted.value AND fetched_at >= ?)"
            " ORDER BY wanted.key"
        )
        return [str(row[0]) for row in self._fetch_rows(query, json.dumps(list(eids)), since)]

    def store_datasets(self, eid: str, rows: Sequence[DatasetRow], now: float) -> None:
        """Replace a session's datasets; see :meth:`store_datasets_by_eid`."""
        self.store_datasets_by_eid({eid: rows}, now)

    def store_datasets_by_eid(
        self, rows_by_eid: Mapping[str, Sequence[DatasetRow]], now: float
    ) -> None:
        """Replace the datasets of sessions.

        Sizes from file servers stay while Alyx has none and the hash is the same.
        """
        url_by_repository = self._url_by_repository()
        query = "SELECT id, md5, probed FROM datasets WHERE eid = ? AND probed IS NOT NULL"
        with self._transaction() as connection:
            for eid, rows in rows_by_eid.items():
                probed = {row[:2]: row[2] for row in connection.execute(query, (eid,))}
                connection.execute("DELETE FROM datasets WHERE eid = ?", (eid,))
                connection.executemany(
                    INSERT_DATASET,
                    (
                        encode_dataset(
                            row, probed.get((row.dataset.id, row.dataset.md5)), url_by_repository
                        )
                        for row in rows
                    ),
                )
                _mark_listed(connection, f"datasets/{eid}", now)

    def store_probed_size(self, dataset_id: str, size: int) -> None:
        """Store the size in bytes that a file server gave for a dataset whose size Alyx lacks."""
        self._execute("UPDATE datasets SET probed = ? WHERE id = ?", size, dataset_id)

    def store_probed_size_by_md5(self, dataset: Dataset, size: int) -> None:
        """Store the size in bytes that a file server gave for a dataset of cache tables."""
        self._execute("REPLACE INTO probed_sizes VALUES (?, ?, ?)", dataset.id, dataset.md5, size)

    def distinct_values(self, table: str, column: str) -> list[str]:
        """The distinct values of a column."""
        return [str(row[0]) for row in self._fetch_rows(f"SELECT DISTINCT {column} FROM {table}")]

    def dataset_types(self) -> list[str]:
        """The known dataset types."""
        return [name for name in self.distinct_values("datasets", "dataset_type") if name]

    def _url_by_repository(self) -> dict[str, str]:
        return {name: each.data_url for name, each in self.repositories().items()}


def _insert_sessions(connection: sqlite3.Connection, sessions: Iterable[NumberedSession]) -> None:
    connection.executemany(INSERT_SESSION, (encode_session(*item) for item in sessions))


def _mark_listed(connection: sqlite3.Connection, key: str, now: float) -> None:
    connection.execute("REPLACE INTO listings VALUES (?, ?)", (key, now))

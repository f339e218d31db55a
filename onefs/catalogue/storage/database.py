"""The tables of the catalogue: labs, subjects, sessions and datasets as rows.

This module stores and returns rows. It never decides whether a row is fresh.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from onefs import alf
from onefs.alyx.parsing import DatasetRow
from onefs.catalogue.storage.insertion_table import InsertionTable
from onefs.catalogue.storage.row_codecs import (
    INSERT_DATASET,
    INSERT_SESSION,
    decode_datasets,
    decode_session,
    encode_dataset,
    encode_session,
)
from onefs.model import Dataset, Repository, Session

#: pairs of a column of ``datasets`` and a value: for each pair, a session must have a dataset with
#: this value in this column
DatasetConditions = Sequence[tuple[Literal["dataset_type", "name"], str]]

#: a session as Alyx sends it, and whether Alyx has a number for the session
NumberedSession = tuple[Session, bool]


class CatalogueDatabase(InsertionTable):
    """The listings of a catalogue. Thread-safe.

    Methods raise CacheError if the file cannot be used. ``now`` is the time of the request, in
    seconds since the epoch.
    """

    # -- cache tables: this class has none, and OverlayDatabase adds them

    def is_from_tables(self, key: str) -> bool:
        """Whether the current content of a listing is from cache tables."""
        return False

    def is_empty_in_tables(self, eid: str) -> bool:
        """Whether cache tables have the session but have no dataset of it."""
        return False

    def tables_version(self) -> object:
        """Return a value that changes when the cache tables are replaced by a sync.

        Return None if there are no cache tables.
        """
        return None

    def tables_created_at(self) -> float:
        """Return when the cache tables were made. Return 0.0 if there are no cache tables."""
        return 0.0

    def has_complete_tables(self) -> bool:
        """Whether there are cache tables with sessions and datasets."""
        return False

    def has_lab_in_tables(self, lab: str) -> bool:
        """Whether cache tables have sessions of the lab."""
        return False

    def guess_types(self, names: Iterable[str]) -> dict[str, str]:
        """Return the likely dataset types for file names in cache tables, by file name.

        Return {} if there are no cache tables.
        """
        return {}

    # -- labs, repositories and subjects

    def labs(self) -> list[str]:
        """Return the names of the labs, sorted."""
        return [str(row[0]) for row in self._fetch_rows("SELECT name FROM labs ORDER BY name")]

    def store_labs(self, names: Iterable[str], now: float) -> None:
        """Replace all stored labs by ``names``."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM labs")
            connection.executemany("INSERT OR IGNORE INTO labs VALUES (?)", ((n,) for n in names))
            _mark_listed(connection, "labs", now)

    def repositories(self) -> dict[str, Repository]:
        """Return the repositories, by name."""
        return {
            str(name): Repository(str(name), str(data_url), bool(personal))
            for name, data_url, personal in self._fetch_rows("SELECT * FROM repositories")
        }

    def store_repositories(self, repositories: Iterable[Repository], now: float) -> None:
        """Replace all stored repositories by ``repositories``."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM repositories")
            connection.executemany(
                "INSERT OR REPLACE INTO repositories VALUES (?, ?, ?)",
                ((r.name, r.data_url, r.personal) for r in repositories),
            )
            _mark_listed(connection, "repositories", now)

    def subjects(self, lab: str) -> list[str]:
        """Return the nicknames of a lab's subjects, sorted.

        The subject of each stored session of the lab is included, even if Alyx does not list this
        subject.
        """
        query = (
            "SELECT nickname FROM subjects WHERE lab = ?"
            " UNION SELECT DISTINCT subject FROM sessions WHERE lab = ? ORDER BY 1"
        )
        return [str(row[0]) for row in self._fetch_rows(query, lab, lab)]

    def store_subjects(self, lab: str, nicknames: Iterable[str], now: float) -> None:
        """Replace all stored subjects of a lab by ``nicknames``."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM subjects WHERE lab = ?", (lab,))
            connection.executemany(
                "INSERT OR IGNORE INTO subjects VALUES (?, ?)", ((lab, n) for n in nicknames)
            )
            _mark_listed(connection, f"subjects/{lab}", now)

    def unlisted_subjects(self, lab: str) -> list[str]:
        """Return the subjects of a lab whose sessions have never been listed."""
        query = (
            "SELECT nickname FROM subjects WHERE lab = ? AND NOT EXISTS (SELECT 1 FROM listings"
            " WHERE key = 'sessions/' || subjects.lab || '/' || subjects.nickname)"
        )
        return [str(row[0]) for row in self._fetch_rows(query, lab)]

    # -- sessions

    def sessions(self, lab: str, subject: str) -> list[Session]:
        """Return a subject's sessions, sorted by date, number and eid.

        Sessions for which Alyx has no number are left out.
        """
        query = (
            "SELECT * FROM sessions WHERE lab = ? AND subject = ? AND number IS NOT NULL"
            " ORDER BY date, number, eid"
        )
        return [decode_session(row) for row in self._fetch_rows(query, lab, subject)]

    def session(self, eid: str) -> Session | None:
        """Return a session by its eid, even if the session has no folder in the tree.

        Return None if the session is not stored.
        """
        rows = self._fetch_rows("SELECT * FROM sessions WHERE eid = ?", eid)
        return decode_session(rows[0]) if rows else None

    def sessions_by_eid(self, eids: Sequence[str]) -> list[Session]:
        """Return the stored sessions among ``eids``, in the order of ``eids``."""
        query = (
            "SELECT sessions.* FROM json_each(?) AS wanted JOIN sessions ON eid = wanted.value"
            " ORDER BY wanted.key"
        )
        return [decode_session(row) for row in self._fetch_rows(query, json.dumps(eids))]

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        """Return the stored sessions with a ref such as 2019-12-10_1_KS023.

        The sessions are sorted by lab and eid.
        """
        query = (
            "SELECT * FROM sessions WHERE subject = ? AND date = ? AND number = ? ORDER BY lab, eid"
        )
        rows = self._fetch_rows(query, ref.subject, ref.date, ref.number)
        return [decode_session(row) for row in rows]

    def store_sessions(
        self, lab: str, subject: str, sessions: Iterable[NumberedSession], now: float
    ) -> None:
        """Replace all stored sessions of a subject by ``sessions``."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE lab = ? AND subject = ?", (lab, subject))
            _insert_sessions(connection, sessions)
            _mark_listed(connection, f"sessions/{lab}/{subject}", now)

    def store_lab_sessions(
        self, lab: str, subjects: Iterable[str], sessions: Sequence[NumberedSession], now: float
    ) -> None:
        """Replace all stored sessions of a lab by ``sessions``.

        The sessions of each subject in ``subjects`` or in ``sessions`` count as listed at ``now``.
        """
        names = {*subjects, *(session.subject for session, _ in sessions)}
        with self._transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE lab = ?", (lab,))
            _insert_sessions(connection, sessions)
            for name in names:
                _mark_listed(connection, f"sessions/{lab}/{name}", now)

    def store_sessions_by_ref(
        self, ref: alf.Ref, sessions: Iterable[NumberedSession], now: float
    ) -> None:
        """Replace the stored sessions that have the ref ``ref``, in all labs, by ``sessions``.

        A ref is, for example, 2019-12-10_1_KS023.
        """
        where = "subject = ? AND date = ? AND number = ?"
        with self._transaction() as connection:
            values = (ref.subject, ref.date, ref.number)
            connection.execute(f"DELETE FROM sessions WHERE {where}", values)
            _insert_sessions(connection, sessions)
            _mark_listed(connection, f"ref/{ref.date}_{ref.number}_{ref.subject}", now)

    def add_sessions(self, key: str, sessions: Iterable[NumberedSession], now: float) -> None:
        """Store sessions and keep others. The listing ``key`` counts as requested at ``now``."""
        with self._transaction() as connection:
            _insert_sessions(connection, sessions)
            _mark_listed(connection, key, now)

    def add_new_sessions(self, lab: str, sessions: Sequence[NumberedSession], now: float) -> None:
        """Store a lab's sessions that are newer than the cache tables, without removing others."""
        with self._transaction() as connection:
            _insert_sessions(connection, sessions)
            for session, _ in sessions:
                _mark_listed(connection, f"session/{session.eid}", now)
            _mark_listed(connection, f"news/{lab}", now)

    def store_session(self, session: Session, numbered: bool, now: float) -> None:
        """Store one session that was requested by its eid, without removing others."""
        self.add_sessions(f"session/{session.eid}", [(session, numbered)], now)

    def store_search_results(self, sessions: Iterable[NumberedSession]) -> None:
        """Store the sessions that a search has found, without removing others.

        No listing counts as requested, because a search does not return whole listings.
        """
        with self._transaction() as connection:
            _insert_sessions(connection, sessions)

    def unlisted_neighbours(
        self, session: Session, most: int, since: float, all_subjects: bool
    ) -> list[str]:
        """Return the eids of ``session`` and of the nearest sessions whose datasets are not listed.

        - ``most``: the largest number of eids to return.
        - ``since``: a time in seconds since the epoch. Datasets that were listed before it count as
          not listed.
        - ``all_subjects``: whether to include the sessions of the lab's other subjects.

        The first eid is that of ``session``. Then come the sessions after it, then those before it.
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
        """Return date, number and eid of each matching stored session, the latest session first.

        - ``condition``: an SQL condition on the columns of a session.
        - ``values``: the parameters of ``condition``.
        - ``having``: pairs of a column and a value. For each pair, the session must have a dataset
          with this value in this column of ``datasets``.

        The returned number is -1 for a session without a number.
        """
        has = "".join(f" AND eid IN (SELECT eid FROM datasets WHERE {c} = ?)" for c, _ in having)
        query = (
            f"SELECT date, ifnull(number, -1), eid FROM sessions WHERE {condition}{has}"
            " ORDER BY start_time DESC"
        )
        return self._fetch_rows(query, *values, *(value for _, value in having))

    def record(self, eid: str) -> str | None:
        """Return the whole Alyx record of a session as JSON. Return None if it is not stored."""
        rows = self._fetch_rows("SELECT body FROM records WHERE eid = ?", eid)
        return str(rows[0][0]) if rows else None

    def store_record(self, eid: str, body: str, now: float) -> None:
        """Store the whole Alyx record of a session. ``body`` is JSON."""
        with self._transaction() as connection:
            connection.execute("REPLACE INTO records VALUES (?, ?)", (eid, body))
            _mark_listed(connection, f"record/{eid}", now)

    # -- datasets

    def datasets(self, eid: str) -> list[DatasetRow]:
        """Return all datasets of a session in a stable order.

        Datasets that cannot be fetched are included, too.
        """
        query = "SELECT * FROM datasets WHERE eid = ? ORDER BY collection, revision, name, id"
        rows = self._fetch_rows(query, eid)
        return decode_datasets(rows, self._url_by_repository() if rows else {})

    def session_of_dataset(self, dataset_id: str) -> str | None:
        """Return the eid of a dataset's session. Return None if the dataset was never listed."""
        rows = self._fetch_rows("SELECT eid FROM datasets WHERE id = ?", dataset_id)
        return str(rows[0][0]) if rows else None

    def filter_unlisted(self, eids: Sequence[str], since: float) -> list[str]:
        """Return those of ``eids`` whose datasets were not listed after the time ``since``."""
        query = (
            "SELECT wanted.value FROM json_each(?) AS wanted WHERE NOT EXISTS (SELECT 1"
            " FROM listings WHERE key = 'datasets/' || wanted.value AND fetched_at >= ?)"
            " ORDER BY wanted.key"
        )
        return [str(row[0]) for row in self._fetch_rows(query, json.dumps(list(eids)), since)]

    def datasets_basis(self, eid: str) -> object:
        """Return what decides the datasets of a session besides its listing. None: nothing."""
        return None

    def store_datasets(self, eid: str, rows: Sequence[DatasetRow], now: float) -> None:
        """Replace all stored datasets of a session, as :meth:`store_datasets_by_eid` does."""
        self.store_datasets_by_eid({eid: rows}, now)

    def store_datasets_by_eid(
        self, rows_by_eid: Mapping[str, Sequence[DatasetRow]], now: float
    ) -> None:
        """Replace all stored datasets of each session in ``rows_by_eid``.

        A size that a file server gave is kept while the dataset's hash stays the same.
        """
        url_by_repository = self._url_by_repository()
        query = "SELECT id, md5, probed FROM datasets WHERE eid = ? AND probed IS NOT NULL"
        with self._transaction() as connection:
            for eid, rows in rows_by_eid.items():
                # the sizes that file servers gave, which are used only if Alyx has no size
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
        """Store the size in bytes that a file server gave for a dataset from cache tables.

        The size is used only while the dataset's md5 stays the same.
        """
        self._execute("REPLACE INTO probed_sizes VALUES (?, ?, ?)", dataset.uuid, dataset.md5, size)

    def distinct_values(self, table: str, column: str) -> list[str]:
        """Return the values in a column of a table, each value once."""
        return [str(row[0]) for row in self._fetch_rows(f"SELECT DISTINCT {column} FROM {table}")]

    def dataset_types(self) -> list[str]:
        """Return the dataset types of all stored datasets."""
        return [name for name in self.distinct_values("datasets", "dataset_type") if name]

    def _url_by_repository(self) -> dict[str, str]:
        return {name: each.data_url for name, each in self.repositories().items()}


def _insert_sessions(connection: sqlite3.Connection, sessions: Iterable[NumberedSession]) -> None:
    connection.executemany(INSERT_SESSION, (encode_session(*item) for item in sessions))


def _mark_listed(connection: sqlite3.Connection, key: str, now: float) -> None:
    connection.execute("REPLACE INTO listings VALUES (?, ?)", (key, now))

"""The journal of changes: a file in the state folder with what each sync has changed.

A sync compares the new cache tables with those that it replaces. The journal is in a file of its
own, so that other releases of onefs can use the catalogue. If tables were replaced without the
journal, by an older onefs, the journal begins anew: it never has a gap.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from onefs.cache_tables.differences import (
    ADDED,
    REMOVED,
    REPLACED,
    SessionDifference,
    tables_differences,
)
from onefs.cache_tables.reader import SESSIONS_STAGE, decode_session, open_tables, uuid_text
from onefs.errors import CacheError, reason_of
from onefs.lowlevel.sqlite_file import SqliteFile
from onefs.model import Session

log = logging.getLogger(__name__)

JOURNAL_FILE_NAME = "changes.sqlite"
_SCHEMA_VERSION = 1
#: largest number of changed sessions and datasets in the journal, about 50 MB. The oldest are
#: removed first
MAX_CHANGES = 300_000
#: seconds for which changes are kept
MAX_AGE_SECONDS = 400 * 86400.0
#: sessions that are read from the journal at once
_PAGE_SESSIONS = 500

_KEY = "sync, lab, subject, date, number, eid"
_PAGE = f"""
SELECT created, page.*, d.id, d.path, d.size, d.digest, d.old_path, d.old_size, d.old_digest
FROM (SELECT {_KEY}, change, task_protocol, projects FROM sessions
      WHERE ({_KEY}) > (?, ?, ?, ?, ?, ?) AND sync <= ? ORDER BY {_KEY} LIMIT ?) AS page
JOIN syncs ON syncs.number = page.sync
LEFT JOIN datasets AS d ON d.sync = page.sync AND d.eid = page.eid
ORDER BY page.sync, lab, subject, date, page.number, page.eid, coalesce(d.path, d.old_path), d.id
"""
_INSERT_DATASET = "INSERT INTO datasets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class JournalRow(NamedTuple):
    """A change of a session, or of a dataset of this session."""

    #: when the tables with the change were made, in seconds since the epoch
    time: float
    #: added, replaced, removed or changed
    change: str
    session: Session
    #: the dataset's UUID; '' for a change of the session itself
    dataset_id: str = ""
    path: str = ""
    size: int | None = None
    md5: str = ""
    old_path: str = ""
    old_size: int | None = None
    old_md5: str = ""


class _TooManyChangesError(Exception):
    """A sync has changed more than the journal can hold."""


class ChangeJournal:
    """The journal in a state folder. Methods raise CacheError if the file cannot be used."""

    def __init__(self, state_dir: Path) -> None:
        schema = Path(__file__).with_name("change_journal.sql").read_text("utf-8")
        self._file = SqliteFile(
            state_dir / JOURNAL_FILE_NAME, schema, _SCHEMA_VERSION, "the journal of changes"
        )

    @classmethod
    def open_existing(cls, state_dir: Path) -> ChangeJournal | None:
        """Return the journal of a state folder, or None if there is none."""
        return cls(state_dir) if (state_dir / JOURNAL_FILE_NAME).exists() else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def span(self) -> tuple[float, float] | None:
        """Return the times of the first and the last tables. Changes between them are known.

        Return None if the journal is empty.
        """
        ((first, last),) = self._file.fetch_rows("SELECT min(created), max(created) FROM syncs")
        return None if first is None else (float(first), float(last))

    def has_removed_sessions(self, since: float, until: float) -> bool:
        """Whether sessions were removed after ``since``, at ``until`` or before."""
        query = (
            "SELECT 1 FROM sessions JOIN syncs ON syncs.number = sync"
            " WHERE change = ? AND created > ? AND created <= ? LIMIT 1"
        )
        return bool(self._file.fetch_rows(query, REMOVED, since, until))

    def rows(self, since: float, until: float) -> Iterator[JournalRow]:
        """Yield the changes in tables that were made after ``since``, at ``until`` or before.

        The order is that of the syncs, and then that of the paths. Raises CacheError if another
        process removes changes that were not yet read.
        """
        query = "SELECT coalesce(max(number), 0) FROM syncs WHERE created <= ?"
        ((first,),) = self._file.fetch_rows(query, since)
        ((last,),) = self._file.fetch_rows(query, until)
        # the times of these syncs identify the changes: numbers begin anew with the journal
        syncs = self._syncs(first, last)
        place: tuple[Any, ...] = (first + 1, "", "", "", -1, b"")
        while True:
            rows = self._file.fetch_rows(_PAGE, *place, last, _PAGE_SESSIONS)
            # after the rows, which may have been removed before
            if self._syncs(first, last) != syncs:
                raise CacheError("a sync has removed changes while they were read: ask again")
            if not rows:
                return
            previous = place
            for created, *columns in rows:
                place = tuple(columns[:6])
                if place != previous and columns[6]:
                    yield JournalRow(created, columns[6], _session(columns))
                previous = place
                if columns[9] is not None:
                    yield _dataset_row(created, columns)

    def _syncs(self, first: int, last: int) -> list[tuple[Any, ...]]:
        query = "SELECT number, created FROM syncs WHERE number BETWEEN ? AND ? ORDER BY number"
        return self._file.fetch_rows(query, first, last)

    def note_sync(self, old: Path, new: Path) -> None:
        """Compare the tables ``new`` with the tables ``old``, which they will replace.

        ``old`` may be missing. Raises sqlite3.Error if a file cannot be read.
        """
        created = _created(new)
        before = _created(old) if old.exists() else None
        number = self._number_of(old)
        if created == before is not None and not any(tables_differences(old, new)):
            self._rename(number, _identity(new))
            return
        if before is None or created is None or created <= before:
            self._begin(created, _identity(new))
            return
        try:
            with self._file.transaction() as connection:
                if number is None:
                    number = 1
                    _clear(connection)
                    _add_sync(connection, number, before, _identity(old))
                else:  # of a sync that was killed before it has replaced the tables
                    _remove_syncs(connection, "number > ?", number)
                _add_sync(connection, number + 1, created, _identity(new))
                _add_changes(connection, number + 1, tables_differences(old, new))
                _remove_oldest(connection, created)
        except _TooManyChangesError:
            log.warning(
                "the sync has changed more than %d sessions and datasets: `onefs changes` knows "
                "only what changes from now on",
                MAX_CHANGES,
            )
            self._begin(created, _identity(new))

    def _begin(self, created: float | None, identity: str) -> None:
        """Forget all changes. The journal begins with tables, unless they are of a release."""
        with self._file.transaction() as connection:
            _clear(connection)
            if created is not None:
                _add_sync(connection, 1, created, identity)

    def _rename(self, number: int | None, identity: str) -> None:
        """Note that the same tables were loaded again."""
        with self._file.transaction() as connection:
            connection.execute("UPDATE syncs SET tables = ? WHERE number = ?", (identity, number))

    def _number_of(self, tables: Path) -> int | None:
        if not tables.exists():
            return None
        query = "SELECT max(number) FROM syncs WHERE tables = ?"
        ((number,),) = self._file.fetch_rows(query, _identity(tables))
        return None if number is None else int(number)


def note_sync(state_dir: Path, old: Path, new: Path) -> None:
    """Write to the journal what a sync changes. An error is logged, and does not end the sync."""
    try:
        with closing(ChangeJournal(state_dir)) as journal:
            journal.note_sync(old, new)
    except (CacheError, sqlite3.Error, OSError) as error:
        reason = reason_of(error)
        log.warning("what this sync changes cannot be noted for `onefs changes`: %s", reason)


def _created(tables: Path) -> float | None:
    """Return when tables were made. Return None for a release, and for sessions alone."""
    connection, facts = open_tables(tables)
    connection.close()
    created = float(facts.get("created") or 0.0)
    return created if created > 1.0 and facts.get("stage") != SESSIONS_STAGE else None


def _identity(tables: Path) -> str:
    status = tables.stat()
    return f"{status.st_mtime_ns} {status.st_size}"


def _clear(connection: sqlite3.Connection) -> None:
    for table in ("syncs", "sessions", "datasets"):
        connection.execute(f"DELETE FROM {table}")


def _add_sync(connection: sqlite3.Connection, number: int, created: float, identity: str) -> None:
    connection.execute("INSERT INTO syncs VALUES (?, ?, ?)", (number, created, identity))


def _remove_syncs(connection: sqlite3.Connection, condition: str, value: float) -> None:
    connection.execute(f"DELETE FROM syncs WHERE {condition}", (value,))
    for table in ("sessions", "datasets"):
        connection.execute(f"DELETE FROM {table} WHERE sync NOT IN (SELECT number FROM syncs)")


def _add_changes(
    connection: sqlite3.Connection, number: int, differences: Iterator[SessionDifference]
) -> None:
    """Add the changes of a sync. Raises _TooManyChangesError for more than MAX_CHANGES."""
    count = 0
    for change, session, datasets in differences:
        count += 1 + len(datasets)
        if count > MAX_CHANGES:
            raise _TooManyChangesError
        eid, *place, protocol, projects = session
        connection.execute(
            "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (number, *place, eid, change, protocol, projects),
        )
        connection.executemany(_INSERT_DATASET, [(number, eid, *each[1:]) for each in datasets])


def _remove_oldest(connection: sqlite3.Connection, now: float) -> None:
    """Remove the oldest changes if there are too many, or if they are too old."""
    counts = connection.execute(
        "SELECT number, created, (SELECT count(*) FROM sessions WHERE sync = syncs.number)"
        " + (SELECT count(*) FROM datasets WHERE sync = syncs.number)"
        " FROM syncs ORDER BY number DESC"
    ).fetchall()
    total = 0
    for number, created, count in counts:
        total += count
        if total > MAX_CHANGES or created < now - MAX_AGE_SECONDS:
            # the tables of this sync are where the journal begins now
            _remove_syncs(connection, "number < ?", number)
            for table in ("sessions", "datasets"):
                connection.execute(f"DELETE FROM {table} WHERE sync = ?", (number,))
            return


def _session(columns: list[Any]) -> Session:
    _, lab, subject, date, number, eid, _, protocol, projects, *_ = columns
    return decode_session((eid, lab, subject, date, number, protocol, projects))


def _dataset_row(created: float, columns: list[Any]) -> JournalRow:
    id_, path, size, digest, old_path, old_size, old_digest = columns[9:]
    change = ADDED if old_path is None else REMOVED if path is None else REPLACED
    return JournalRow(
        created,
        change,
        _session(columns),
        uuid_text(id_),
        path or "",
        size,
        digest.hex() if digest is not None else "",
        old_path or "",
        old_size,
        old_digest.hex() if old_digest is not None else "",
    )

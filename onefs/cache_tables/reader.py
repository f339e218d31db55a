"""Read ONE's cache tables from the SQLite file that a sync has written."""

from __future__ import annotations

import json
import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from onefs import alf
from onefs.alyx.parsing import DatasetRow, escape_url, is_fetchable_url
from onefs.config.bucket import is_bucket_url
from onefs.errors import CacheError, reason_of
from onefs.lowlevel.forking import ForkAware, register_fork_aware
from onefs.lowlevel.sqlite_connection import leak_connection
from onefs.lowlevel.sqlite_file import hold_replacement_lock
from onefs.model import Dataset, Replica, Repository, Session

log = logging.getLogger(__name__)

#: the version of schema.sql that this code reads
SCHEMA_VERSION = 1
#: the value of the fact ``stage`` while only the sessions are loaded
SESSIONS_STAGE = "sessions"
#: name of the SQLite file in the state folder
TABLES_FILE_NAME = "tables.sqlite"
#: shortest time in seconds between two checks whether a sync has replaced the file
_FILE_CHECK_INTERVAL_SECONDS = 1.0

_SELECT_SESSION = "SELECT eid, lab, subject, date, number, task_protocol, projects FROM sessions"
#: sessions whose datasets are read at once, of all
_PAGE_SESSIONS = 2000
_SELECT_PAGE = """
SELECT eid, id, paths.path, NULL, size, digest, is_default, qc
FROM sessions JOIN datasets ON session = sessions.row JOIN paths ON paths.row = datasets.path
WHERE eid > ? AND eid <= ? AND datasets.path IN (SELECT value FROM json_each(?))
ORDER BY eid, id, paths.path
"""
_SESSION_ROW = "(SELECT row FROM sessions WHERE eid = ?)"


class TablesReader(ForkAware):
    """Reads the cache tables in the SQLite file ``path``. Thread-safe.

    - If the file is missing, the tables are empty.
    - If a sync replaces the file, the new file is used within one second.
    - If the file is damaged or of another schema version, it is renamed. Then the tables are empty,
      and the log has a warning.

    Methods raise CacheError if the disk fails.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._open_identity: tuple[int, int] | None = None
        self._checked_at = -math.inf
        self._facts: Mapping[str, str] = {}
        self._is_paused = False
        register_fork_aware(self)

    def before_fork(self, end: float) -> None:
        """Wait for running queries at most until ``end``, and close the file.

        ``end`` is a time of ``time.monotonic()``, in seconds. After this time, the file stays open.
        """
        self._is_paused = self._lock.acquire(timeout=max(0.0, end - time.monotonic()))
        if self._is_paused:
            # the child must not inherit the connection
            self._close_connection()
            self._checked_at = -math.inf

    def after_fork_in_parent(self) -> None:
        """Release the lock, so that other threads can read again."""
        if self._is_paused:
            self._is_paused = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Forget the parent's connection without closing the connection.

        This is safe, because the connection is read-only and holds no locks.
        """
        self._lock = threading.Lock()
        self._is_paused = False
        leak_connection(self._connection)
        self._connection, self._open_identity, self._checked_at = None, None, -math.inf

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close_connection()

    def check_file_at_next_use(self) -> None:
        """Make the next read check whether a sync has replaced the file.

        The check is done even if the last check was less than one second ago.
        """
        with self._lock:
            self._checked_at = -math.inf

    @property
    def version(self) -> tuple[int, int] | None:
        """A value that changes when the file is replaced. None if there is no file."""
        with self._lock:
            self._reopen_if_replaced()
            return self._open_identity

    @property
    def created_at(self) -> float | None:
        """The time at which the tables were made, in seconds since the epoch.

        None if there are no tables. 1.0, which is older than any listing from Alyx, if the tables
        contain only the datasets of a release.
        """
        created = self.fact("created")
        return float(created) if created else None

    def fact(self, key: str) -> str:
        """Return one value of the tables' metadata. Return '' if there is no value for the key.

        The keys are described in schema.sql.
        """
        return self.facts().get(key, "")

    @property
    def lacks_datasets(self) -> bool:
        """Whether these are only the sessions of tables whose datasets are being loaded."""
        return self.fact("stage") == SESSIONS_STAGE

    def stated_columns(self) -> frozenset[str]:
        """Return the names of the columns that have a value for each dataset.

        Only the columns default_revision and qc are considered.
        """
        return frozenset(self.fact("said").split())

    def facts(self) -> dict[str, str]:
        """Return the tables' metadata by key (see schema.sql). Return {} if there are no tables."""
        with self._lock:
            self._reopen_if_replaced()
            return dict(self._facts)

    def labs(self) -> list[str]:
        """Return the names of the labs that have sessions in the tables."""
        return [str(row[0]) for row in self._fetch_rows("SELECT DISTINCT lab FROM subjects")]

    def subjects(self, lab: str) -> list[str]:
        """Return the sorted nicknames of a lab's subjects that have sessions in the tables."""
        query = "SELECT nickname FROM subjects WHERE lab = ? ORDER BY nickname"
        return [str(row[0]) for row in self._fetch_rows(query, lab)]

    def has_lab(self, lab: str) -> bool:
        """Whether the tables contain a session of the lab."""
        return bool(self._fetch_rows("SELECT 1 FROM subjects WHERE lab = ? LIMIT 1", lab))

    def has_subject(self, lab: str, subject: str) -> bool:
        """Whether the tables contain a session of the subject in this lab."""
        query = "SELECT 1 FROM subjects WHERE lab = ? AND nickname = ?"
        return bool(self._fetch_rows(query, lab, subject))

    def has_datasets(self, eid: str) -> bool:
        """Whether the tables contain a dataset of the session.

        The tables have only datasets in repositories named ``flatiron*`` or ``aws*``. Alyx may have
        more.
        """
        query = f"SELECT 1 FROM datasets WHERE session = {_SESSION_ROW} LIMIT 1"
        return bool(self._fetch_rows(query, _uuid_bytes(eid)))

    def sessions_without_datasets(self, after: Session, most: int, all_subjects: bool) -> list[str]:
        """Return the eids of the sessions without datasets that come after the session ``after``.

        At most ``most`` eids are returned, ordered by subject, date, number and eid. The sessions
        are of the same lab as ``after``. If ``all_subjects`` is False, they are also of the same
        subject.
        """
        subject = "" if all_subjects else "AND subject = ?"
        query = (
            f"SELECT eid FROM sessions AS s WHERE lab = ? {subject}"
            " AND (subject, date, number, eid) > (?, ?, ?, ?)"
            " AND NOT EXISTS (SELECT 1 FROM datasets WHERE session = s.row)"
            " ORDER BY subject, date, number, eid LIMIT ?"
        )
        where = [after.lab] if all_subjects else [after.lab, after.subject]
        place = (after.subject, after.date, after.number, _uuid_bytes(after.eid))
        return [uuid_text(row[0]) for row in self._fetch_rows(query, *where, *place, most)]

    def sessions(self, lab: str, subject: str) -> list[Session]:
        """Return the sessions of a subject, ordered by date, number and eid."""
        query = f"{_SELECT_SESSION} WHERE lab = ? AND subject = ? ORDER BY date, number, eid"
        return [decode_session(row) for row in self._fetch_rows(query, lab, subject)]

    def session(self, eid: str) -> Session | None:
        """Return the session with this eid. Return None if the tables do not contain it."""
        rows = self._fetch_rows(f"{_SELECT_SESSION} WHERE eid = ?", _uuid_bytes(eid))
        return decode_session(rows[0]) if rows else None

    def find_sessions(
        self, condition: str, values: Iterable[object], having: Sequence[Set[int]] = ()
    ) -> list[tuple[str, int, str]]:
        """Return date, number and eid of each session that matches all conditions.

        - ``condition`` is an SQL condition on the columns of the sessions.
        - ``values`` are the parameters of this condition.
        - ``having`` has sets of paths, given by their row numbers (see :meth:`paths`). A session
          must have a dataset at one path of each set.
        """
        query = f"SELECT row, date, number, eid FROM sessions WHERE {condition}"
        rows = self._fetch_rows(query, *values)
        if having:
            matching = self._session_rows_having(having)
            rows = [row for row in rows if row[0] in matching]
        return [(date, number, uuid_text(eid)) for _, date, number, eid in rows]

    def paths(self) -> list[tuple[int, str]]:
        """Return each path that datasets in the tables have, with the path's row number."""
        return self._fetch_rows("SELECT row, path FROM paths")

    def _session_rows_having(self, having: Sequence[Set[int]]) -> set[int]:
        """Return the row numbers of the sessions that have a dataset at one path of each set.

        The sets in ``having`` contain the row numbers of paths (see :meth:`paths`).
        """
        # one scan of the datasets for all sets
        query = "SELECT session, path FROM datasets WHERE path IN (SELECT value FROM json_each(?))"
        pairs = self._fetch_rows(query, json.dumps(sorted(set[int]().union(*having))))
        sessions = [{session for session, path in pairs if path in rows} for rows in having]
        return set.intersection(*sessions)

    def distinct_values(self, column: str) -> list[str]:
        """Return the distinct values of a column in the table of sessions."""
        return [str(row[0]) for row in self._fetch_rows(f"SELECT DISTINCT {column} FROM sessions")]

    def eids(self) -> list[str]:
        """Return the eids of all sessions."""
        return [uuid_text(eid) for (eid,) in self._fetch_rows("SELECT eid FROM sessions")]

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        """Return the sessions with the subject, date and number in ``ref``, ordered by lab.

        Several labs may have a subject of this name.
        """
        query = f"{_SELECT_SESSION} WHERE subject = ? AND date = ? AND number = ? ORDER BY lab, eid"
        rows = self._fetch_rows(query, ref.subject, ref.date, ref.number)
        return [decode_session(row) for row in rows]

    def datasets(self, eid: str) -> list[DatasetRow]:
        """Return the datasets of a session, ordered by path and id."""
        session = self.session(eid)
        if session is None:
            return []
        query = (
            "SELECT id, here.path, there.path, size, digest, is_default, qc FROM datasets"
            " JOIN paths AS here ON here.row = datasets.path"
            " LEFT JOIN paths AS there ON there.row = datasets.stored"
            f" WHERE session = {_SESSION_ROW} ORDER BY here.path, id"
        )
        own = session_folder(session.lab, session.subject, session.date, session.number)
        return [
            _decode_dataset(session.eid, own, row)
            for row in self._fetch_rows(query, _uuid_bytes(eid))
        ]

    def all_datasets(self, is_wanted: Callable[[str], bool]) -> Iterator[Dataset]:
        """Yield the datasets whose path is wanted, of all sessions, ordered by eid, id and path.

        ``is_wanted`` is called once for each path inside a session's folder.
        """
        wanted = json.dumps([row for row, path in self.paths() if is_wanted(path)])
        after = b""
        # in pages, because there may be millions
        while eids := self._fetch_rows(
            "SELECT eid FROM sessions WHERE eid > ? ORDER BY eid LIMIT ?", after, _PAGE_SESSIONS
        ):
            last = eids[-1][0]
            rows = self._fetch_rows(_SELECT_PAGE, after, last, wanted)
            for eid, *row in rows:
                yield _decode_dataset(uuid_text(eid), "", tuple(row)).dataset
            after = last

    def session_of_dataset(self, dataset_id: str) -> str | None:
        """Return the eid of a dataset's session. Return None if the tables lack the dataset.

        All datasets are read, because the tables have no index of their ids.
        """
        query = "SELECT eid FROM datasets JOIN sessions ON sessions.row = session WHERE id = ?"
        rows = self._fetch_rows(query, _uuid_bytes(dataset_id))
        return uuid_text(rows[0][0]) if rows else None

    def _fetch_rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            self._reopen_if_replaced()
            if self._connection is None:
                return []
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.OperationalError as error:
                raise CacheError(
                    f"the cache tables {self._path} cannot be read: {error}"
                ) from error
            except sqlite3.DatabaseError as error:
                self._move_aside(str(error), self._open_identity)
                return []

    def _reopen_if_replaced(self) -> None:
        """Open the new file if a sync has replaced the file. Check this at most once a second."""
        now = time.monotonic()
        if now - self._checked_at < _FILE_CHECK_INTERVAL_SECONDS:
            return
        self._checked_at = now
        try:
            identity = _file_identity(os.stat(self._path))
        except OSError:
            self._close_connection()
            return
        if identity == self._open_identity:
            return
        self._close_connection()
        try:
            self._connection, self._facts = open_tables(self._path)
        except sqlite3.OperationalError as error:
            raise CacheError(f"the cache tables {self._path} cannot be read: {error}") from error
        except sqlite3.DatabaseError as error:
            self._move_aside(str(error), identity)
            return
        self._open_identity = identity

    def _close_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._open_identity, self._facts = None, None, {}

    def _move_aside(self, reason: str, damaged: tuple[int, int] | None) -> None:
        """Rename the damaged file, and log a warning.

        ``damaged`` is the value of ``_file_identity`` for this file. If another file is at the path
        now, it is not renamed.
        """
        self._close_connection()
        aside = self._path.with_name(f"{self._path.name}.unusable")
        result = "the file was moved aside"
        try:
            with hold_replacement_lock(self._path):
                if _file_identity(os.stat(self._path)) != damaged:
                    # a sync has replaced the damaged file
                    self._checked_at = -math.inf  # open the new file at the next read
                    return
                self._path.replace(aside)
        except OSError as error:
            result = f"the file could not be moved aside ({reason_of(error, self._path)})"
        log.warning(
            "the cache tables %s cannot be used (%s): run `onefs sync` (%s)",
            self._path,
            reason,
            result,
        )


def _file_identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_ino, status.st_mtime_ns


def session_folder(lab: str, subject: str, date: str, number: int) -> str:
    """Return the path of a session's folder on a file server.

    The path is the same as in ONE, and follows the ALF specification.
    """
    return f"{lab}/{alf.SUBJECTS}/{subject}/{date}/{alf.number_folder(number)}"


def lab_servers(lab: str, repositories: Mapping[str, Repository]) -> list[tuple[str, str]]:
    """Return the name and the URL, without a final slash, of each file server of a lab.

    These are the buckets and then the file servers whose URL ends with ``lab/Subjects``.
    """
    servers = [
        (name, each.data_url.rstrip("/"))
        for name, each in sorted(repositories.items(), reverse=True)
        if not each.personal and is_fetchable_url(each.data_url)
    ]
    servers.sort(key=lambda server: not is_bucket_url(server[1]))
    return [(name, base) for name, base in servers if base.endswith(f"/{lab}/{alf.SUBJECTS}")]


def presumed_replicas(
    stored: str, dataset_id: str, servers_of: Callable[[str], Iterable[tuple[str, str]]]
) -> tuple[Replica, ...]:
    """Return the copies that file servers should have of a dataset, with their URLs.

    ``stored`` is the dataset's path on the file servers, ``lab/Subjects/...``. Each file server of
    the lab should have a copy; ``servers_of`` returns them as :func:`lab_servers` does. The
    session's listing from Alyx tells which copies really exist.
    """
    # presumed, since the tables do not name repositories. On the servers, a file name has the
    # dataset's UUID before the extension
    lab, _, rest = stored.partition(f"/{alf.SUBJECTS}/")
    folder, slash, name = rest.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    file_name = f"{stem}.{dataset_id}.{extension}" if dot else f"{name}.{dataset_id}"
    return tuple(
        Replica(name, escape_url(f"{base}/{folder}{slash}{file_name}"))
        for name, base in servers_of(lab)
    )


def uuid_text(raw: bytes) -> str:
    """Return the text of a UUID that is given as 16 bytes."""
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _uuid_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))


def open_tables(path: Path) -> tuple[sqlite3.Connection, dict[str, str]]:
    """Open the SQLite file of a sync. Return the connection, and the tables' metadata by key.

    Raises sqlite3.Error if the file cannot be read or has another schema version.
    """
    # no locks (``immutable``), because no process writes to a finished file
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
    )
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(
                f"the file has schema {version}, but this onefs reads schema {SCHEMA_VERSION}"
            )
        facts = dict(connection.execute("SELECT key, value FROM facts"))
    except BaseException:
        connection.close()
        raise
    return connection, facts


def decode_session(row: Sequence[Any]) -> Session:
    """Return the session of a row with eid, lab, subject, date, number, protocol and projects."""
    eid, lab, subject, date, number, task_protocol, projects = row
    return Session(
        eid=uuid_text(eid),
        lab=lab,
        subject=subject,
        date=date,
        number=number,
        task_protocol=task_protocol,
        projects=tuple(projects.split(",")) if projects else (),
    )


class PathParts(NamedTuple):
    """The collection, revision and file name in a dataset's path."""

    collection: str
    revision: str
    name: str


@lru_cache(maxsize=8192)
def split_path(path: str) -> PathParts:
    """Split a dataset's path inside the session's folder into collection, revision and file name.

    Without a folder ``#revision#``, the revision is ''.
    """
    folder, _, name = path.rpartition("/")
    parent, _, last = folder.rpartition("/")
    if len(last) > 2 and last[0] == last[-1] == "#":
        return PathParts(parent, last[1:-1], name)
    return PathParts(folder, "", name)


def _decode_dataset(eid: str, own: str, row: tuple[Any, ...]) -> DatasetRow:
    id_, path, stored, size, digest, default, qc = row
    parts = split_path(path)
    return DatasetRow(
        Dataset(
            id=uuid_text(id_),
            eid=eid,
            name=parts.name,
            collection=parts.collection,
            revision=parts.revision,
            size=size,
            md5=digest.hex() if digest is not None else "",
            default=bool(default),
            qc=qc or "NOT_SET",
            from_tables=True,
        ),
        claimed_replicas=(),
        server_path=f"{stored or own}/{path}",
    )

"""Reads ONE's cache tables from the SQLite file of a sync."""

from __future__ import annotations

import json
import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from onefs import alf
from onefs.alyx.parsing import DatasetRow, escape_url, is_file_server_url
from onefs.errors import CacheError, reason_of
from onefs.lowlevel.forking import ForkAware, register_fork_aware
from onefs.lowlevel.sqlite_connection import leak_connection
from onefs.lowlevel.sqlite_file import hold_replacement_lock
from onefs.model import Dataset, Replica, Repository, Session

log = logging.getLogger(__name__)

#: the version of schema.sql that this code reads
SCHEMA_VERSION = 1
#: the file's name in the state folder
TABLES_FILE_NAME = "tables.sqlite"
#: seconds between two checks whether a sync has replaced the file
_FILE_CHECK_INTERVAL_SECONDS = 1.0

_SELECT_SESSION = "SELECT eid, lab, subject, date, number, task_protocol, projects FROM sessions"
_SESSION_ROW = "(SELECT row FROM sessions WHERE eid = ?)"


class TablesReader(ForkAware):
    """The tables at ``path``; empty while there is no such file. Thread-safe.

    A new file is used within a second. A file that is damaged, or written by a newer onefs, is
    moved aside with a log line. Methods raise CacheError when the disk fails.
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
        """Close the file, so that a child does not inherit the connection."""
        self._is_paused = self._lock.acquire(timeout=max(0.0, end - time.monotonic()))
        if self._is_paused:
            self._close_connection()
            self._checked_at = -math.inf

    def after_fork_in_parent(self) -> None:
        """Release the lock to the other threads."""
        if self._is_paused:
            self._is_paused = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Drop the parent's connection without closing it; it is read-only, and without locks."""
        self._lock = threading.Lock()
        self._is_paused = False
        leak_connection(self._connection)
        self._connection, self._open_identity, self._checked_at = None, None, -math.inf

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close_connection()

    def check_file_at_next_use(self) -> None:
        """Check for a new file at the next use, without waiting for a second."""
        with self._lock:
            self._checked_at = -math.inf

    @property
    def version(self) -> tuple[int, int] | None:
        """A value that changes with the file; None without a file."""
        with self._lock:
            self._reopen_if_replaced()
            return self._open_identity

    @property
    def created_at(self) -> float | None:
        """When the tables were valid, in seconds since the epoch; None without tables."""
        created = self.fact("created")
        return float(created) if created else None

    def fact(self, key: str) -> str:
        """A fact of schema.sql; '' if it is missing."""
        return self.facts().get(key, "")

    def stated_columns(self) -> frozenset[str]:
        """The columns among default_revision and qc that the tables state for each dataset."""
        return frozenset(self.fact("said").split())

    def facts(self) -> dict[str, str]:
        """All facts; {} without tables."""
        with self._lock:
            self._reopen_if_replaced()
            return dict(self._facts)

    def labs(self) -> list[str]:
        """The labs that have a session."""
        return [str(row[0]) for row in self._fetch_rows("SELECT DISTINCT lab FROM subjects")]

    def subjects(self, lab: str) -> list[str]:
        """The subjects of a lab that have a session, sorted."""
        query = "SELECT nickname FROM subjects WHERE lab = ? ORDER BY nickname"
        return [str(row[0]) for row in self._fetch_rows(query, lab)]

    def has_lab(self, lab: str) -> bool:
        """Whether the tables have a session of the lab."""
        return bool(self._fetch_rows("SELECT 1 FROM subjects WHERE lab = ? LIMIT 1", lab))

    def has_subject(self, lab: str, subject: str) -> bool:
        """Whether the tables have a session of the subject."""
        query = "SELECT 1 FROM subjects WHERE lab = ? AND nickname = ?"
        return bool(self._fetch_rows(query, lab, subject))

    def has_datasets(self, eid: str) -> bool:
        """Whether the tables have a dataset of the session.

        A session without any may have datasets in Alyx, whose tables contain only those that are
        on repositories whose names begin with flatiron or aws.
        """
        query = f"SELECT 1 FROM datasets WHERE session = {_SESSION_ROW} LIMIT 1"
        return bool(self._fetch_rows(query, _uuid_bytes(eid)))

    def sessions_without_datasets(self, after: Session, most: int, all_subjects: bool) -> list[str]:
        """The eids of up to ``most`` sessions without datasets that follow one in its lab (in its
        subject without ``all_subjects``)."""
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
        """A subject's sessions, by date, number and eid."""
        query = f"{_SELECT_SESSION} WHERE lab = ? AND subject = ? ORDER BY date, number, eid"
        return [_decode_session(row) for row in self._fetch_rows(query, lab, subject)]

    def session(self, eid: str) -> Session | None:
        """A session by its eid."""
        rows = self._fetch_rows(f"{_SELECT_SESSION} WHERE eid = ?", _uuid_bytes(eid))
        return _decode_session(rows[0]) if rows else None

    def find_sessions(
        self, condition: str, values: Iterable[object], having: Sequence[Set[int]] = ()
    ) -> list[tuple[str, int, str]]:
        """Date, number and eid of the sessions that fulfil an SQL condition on their columns, and
        have a dataset at one of the paths (by row) of each of ``having``."""
        query = f"SELECT row, date, number, eid FROM sessions WHERE {condition}"
        rows = self._fetch_rows(query, *values)
        if having:
            matching = self._session_rows_having(having)
            rows = [row for row in rows if row[0] in matching]
        return [(date, number, uuid_text(eid)) for _, date, number, eid in rows]

    def paths(self) -> list[tuple[int, str]]:
        """The row and the text of each path."""
        return self._fetch_rows("SELECT row, path FROM paths")

    def _session_rows_having(self, having: Sequence[Set[int]]) -> set[int]:
        """The rows of the sessions with a dataset of each of ``having``, by one scan for all."""
        query = "SELECT session, path FROM datasets WHERE path IN (SELECT value FROM json_each(?))"
        pairs = self._fetch_rows(query, json.dumps(sorted(set[int]().union(*having))))
        sessions = [{session for session, path in pairs if path in rows} for rows in having]
        return set.intersection(*sessions)

    def distinct_values(self, column: str) -> list[str]:
        """The distinct values of a column of the sessions."""
        return [str(row[0]) for row in self._fetch_rows(f"SELECT DISTINCT {column} FROM sessions")]

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        """The sessions of a ref, one for each lab that has the nickname."""
        query = f"{_SELECT_SESSION} WHERE subject = ? AND date = ? AND number = ? ORDER BY lab, eid"
        rows = self._fetch_rows(query, ref.subject, ref.date, ref.number)
        return [_decode_session(row) for row in rows]

    def datasets(self, eid: str) -> list[DatasetRow]:
        """A session's datasets, in a stable order."""
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

    def _fetch_rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            self._reopen_if_replaced()
            if self._connection is None:
                return []
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.OperationalError as error:
                raise CacheError(f"the cache tables {self._path}: {error}") from error
            except sqlite3.DatabaseError as error:
                self._move_aside(str(error), self._open_identity)
                return []

    def _reopen_if_replaced(self) -> None:
        """Open the current file, if it is another than the open one."""
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
            raise CacheError(f"the cache tables {self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            self._move_aside(str(error), identity)
            return
        self._open_identity = identity

    def _close_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._open_identity, self._facts = None, None, {}

    def _move_aside(self, reason: str, damaged: tuple[int, int] | None) -> None:
        """Move the file aside that ``damaged`` identifies, unless a sync has replaced it."""
        self._close_connection()
        aside = self._path.with_name(f"{self._path.name}.unusable")
        try:
            with hold_replacement_lock(self._path):
                if _file_identity(os.stat(self._path)) != damaged:
                    self._checked_at = -math.inf  # open the new one at the next use
                    return
                self._path.replace(aside)
        except OSError as error:
            reason = f"{reason}; and it could not be moved: {reason_of(error, self._path)}"
        log.warning("the cache tables %s were moved aside, sync again: %s", self._path, reason)


def _file_identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_ino, status.st_mtime_ns


def session_folder(lab: str, subject: str, date: str, number: int) -> str:
    """A session's folder on a file server, as ONE builds it (the ALF specification's path)."""
    return f"{lab}/{alf.SUBJECTS}/{subject}/{date}/{alf.number_folder(number)}"


def presumed_replicas(
    stored: str, dataset_id: str, repositories: Mapping[str, Repository]
) -> tuple[Replica, ...]:
    """The URLs at which a dataset stored at ``stored`` (``lab/Subjects/...``) should be served.

    The ``lab/Subjects`` part is the end of a repository's URL, and the file's name has the
    dataset's UUID before its extension. The tables name no repository: only the session's listing
    from Alyx has the actual replicas.
    """
    lab, _, rest = stored.partition(f"/{alf.SUBJECTS}/")
    folder, slash, name = rest.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    file_name = f"{stem}.{dataset_id}.{extension}" if dot else f"{name}.{dataset_id}"
    servers = [
        (name, each.data_url.rstrip("/"))
        for name, each in sorted(repositories.items(), reverse=True)
        if not each.personal and is_file_server_url(each.data_url)
    ]
    return tuple(
        Replica(name, escape_url(f"{base}/{folder}{slash}{file_name}"))
        for name, base in servers
        if base.endswith(f"/{lab}/{alf.SUBJECTS}")
    )


def uuid_text(raw: bytes) -> str:
    """A UUID of 16 bytes as text."""
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _uuid_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))


def open_tables(path: Path) -> tuple[sqlite3.Connection, dict[str, str]]:
    """A connection to the file, and its facts. No process writes it, so it needs no locks.

    Raises sqlite3.Error.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
    )
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(
                f"its schema is {version}, this onefs reads {SCHEMA_VERSION}"
            )
        facts = dict(connection.execute("SELECT key, value FROM facts"))
    except BaseException:
        connection.close()
        raise
    return connection, facts


def _decode_session(row: tuple[Any, ...]) -> Session:
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
    """The parts of a dataset's path."""

    collection: str
    revision: str
    name: str


@lru_cache(maxsize=8192)
def split_path(path: str) -> PathParts:
    """Split a dataset's path below its session."""
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

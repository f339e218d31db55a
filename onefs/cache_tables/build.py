"""Convert the two Parquet files of cache tables to the SQLite file that the catalogue uses."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from onefs import alf
from onefs.cache_tables.parquet import (
    DatasetTableRow,
    ParquetTable,
    SessionTableRow,
)
from onefs.cache_tables.reader import SCHEMA_VERSION, SESSIONS_STAGE, session_folder, uuid_text
from onefs.dates import parse_timestamp
from onefs.errors import CacheError, CacheFull, UsageError, reason_of
from onefs.integers import parse_whole_number

log = logging.getLogger(__name__)

#: number of distinct paths that are remembered, so that each path is stored once. If
#: there are more paths, some paths are stored more than once.
_MAX_REMEMBERED_PATHS = 200_000
#: largest number of log lines about datasets that are not stored in the folder of their session
_MAX_DISAGREEMENT_WARNINGS = 1000
#: size in KiB of SQLite's page cache during the build
_SQLITE_CACHE_KIB = 32 * 1024

_SESSION_COLUMNS = ("id", "lab", "subject", "date", "number")
_DATASET_COLUMNS = ("eid", "id", "rel_path")

_USUAL_COLUMNS = "session, id, path, size, digest, is_default"
_INSERT_USUAL = f"INSERT INTO datasets ({_USUAL_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_UNUSUAL = (
    f"INSERT INTO datasets ({_USUAL_COLUMNS}, stored, qc) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)

#: a function that is called with the number of dataset rows read so far, and the number of all
#: dataset rows
ProgressCallback = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The numbers of rows that were written, and the metadata that the tables contain."""

    sessions: int
    datasets: int
    date_created: str
    origin: str


def build(
    sessions: Path,
    datasets: Path,
    target: Path,
    facts: Mapping[str, str],
    *,
    origin: str = "",
    sessions_only: bool = False,
    progress: ProgressCallback = lambda done, total: None,
    clock: Callable[[], float] = time.time,
) -> BuildResult:
    """Write the SQLite file ``target`` from a sessions table and a datasets table.

    - ``target`` must not exist. At the end it is synced to the disk. After an error, the caller
      removes it.
    - ``facts`` are values by key, which are stored in the file (see schema.sql).
    - ``origin`` is the database to which the tables must belong; '' allows any database.
    - ``sessions_only``: write the sessions, and none of their datasets. This takes a second.

    Memory grows by about 200 bytes for each session.

    Raises UsageError, with the name of the file, if a file is not a cache table, or if the two
    tables are not of one database. Raises CacheFull if the disk is full, and CacheError for other
    errors of the disk.
    """
    of_sessions = ParquetTable(sessions, _SESSION_COLUMNS)
    with closing(of_sessions), closing(ParquetTable(datasets, _DATASET_COLUMNS)) as of_datasets:
        if of_sessions.origin != of_datasets.origin:
            raise UsageError(
                f"the datasets table {datasets} is of the database {of_datasets.origin!r}, but the "
                f"sessions table {sessions} is of {of_sessions.origin!r}: give two tables of one "
                "database"
            )
        if origin and of_sessions.origin != origin:
            raise UsageError(
                f"the sessions table {sessions} is of another database ({of_sessions.origin!r}) "
                f"than the cache tables in the state folder ({origin!r}): give another --state-dir"
            )
        try:
            if sessions_only:
                facts = {**facts, "stage": SESSIONS_STAGE}
            return _build_file(of_sessions, of_datasets, target, facts, progress, clock())
        except (sqlite3.Error, OSError) as error:
            if "full" in str(error):
                raise CacheFull(f"the disk of {target.parent} is full") from error
            raise CacheError(
                f"the file {target} cannot be written: {reason_of(error, target)}"
            ) from error


def _build_file(
    sessions: ParquetTable,
    datasets: ParquetTable,
    target: Path,
    facts: Mapping[str, str],
    progress: ProgressCallback,
    now: float,
) -> BuildResult:
    with closing(_create_file(target)) as connection:
        writer = _TablesWriter(connection)
        for session_rows in sessions.sessions():
            writer.add_sessions(session_rows)
        total = datasets.row_count
        for rows in datasets.datasets() if "stage" not in facts else ():
            writer.add_datasets(rows)
            progress(writer.rows_read, total)
        writer.check_result(sessions, datasets)
        date_created = min(sessions.date_created, datasets.date_created)
        all_facts = {
            "created": repr(_valid_at(sessions, datasets, date_created, now)),
            "date_created": date_created,
            "origin": sessions.origin,
            "said": " ".join(datasets.stated_columns),
            **facts,
        }
        connection.executemany("INSERT INTO facts VALUES (?, ?)", all_facts.items())
        _run_script(connection, "index.sql")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.commit()
    _fsync_and_drop_pages(target)
    return BuildResult(writer.session_count, writer.dataset_count, date_created, sessions.origin)


def _valid_at(
    sessions: ParquetTable, datasets: ParquetTable, date_created: str, now: float
) -> float:
    """Return the time at which the tables were made, in seconds since the epoch, at most ``now``.

    Return 1.0 for tables that have only the datasets of a release, so that each listing from Alyx
    is newer.
    """
    if sessions.is_partial or datasets.is_partial:
        # any listing from Alyx counts as newer
        return 1.0
    # the computer that made the tables may have a wrong clock or another time zone
    return min(parse_timestamp(date_created) or 1.0, now)


class _TablesWriter:
    """Write rows into the SQLite file, and count the rows that are left out."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._row_by_eid: dict[bytes, int] = {}
        self._session_folder = lru_cache(_MAX_REMEMBERED_PATHS)(self._load_session_folder)
        #: returns the row of a path. The first call for a path inserts the path.
        self._path_row = lru_cache(_MAX_REMEMBERED_PATHS)(self._insert_path)
        self._path_count = 0
        self._left_out: Counter[str] = Counter()
        self._disagreements = 0
        self.rows_read = 0
        self.dataset_count = 0

    @property
    def session_count(self) -> int:
        """The number of sessions that were written."""
        return len(self._row_by_eid)

    def add_sessions(self, lines: Iterable[SessionTableRow]) -> None:
        """Write the sessions that have a folder. Each session is written only once.

        A session has a folder if its lab, subject, date and number are known.
        """
        rows = []
        for line in lines:
            eid, number = line.eid, line.number
            if eid is None:
                self._left_out["sessions without a UUID"] += 1
            elif number is None or not (line.lab and line.subject and alf.is_date(line.date)):
                self._left_out["sessions without lab, subject, date or number"] += 1
            elif eid in self._row_by_eid:
                self._left_out["duplicate sessions"] += 1
            else:
                row = len(self._row_by_eid) + 1
                self._row_by_eid[eid] = row
                rows.append((row, *line))
        marks = ", ".join("?" * 8)
        self._connection.executemany(f"INSERT INTO sessions VALUES ({marks})", rows)

    def add_datasets(self, lines: Sequence[DatasetTableRow]) -> None:
        """Write the datasets that have a path and are marked as existing.

        The session of the dataset must have been written before.
        """
        usual: list[tuple[Any, ...]] = []
        others: list[tuple[Any, ...]] = []
        sessions = self._row_by_eid.get
        self.rows_read += len(lines)
        for line in lines:
            eid, id_, path, stored, size, digest, default, qc, exists = line
            session = sessions(eid) if eid is not None else None
            if session is None or id_ is None or not path or not exists:
                self._left_out[_skip_reason(line, session)] += 1
                continue
            elsewhere = self._other_folder_row(line, session) if stored else None
            # The module sqlite3 is slow for values that are not int, str or bytearray. Two values
            # of type bytes, two of None and one bool would take twice as long as the rest of a row.
            row = (
                session,
                bytearray(id_),
                self._path_row(path),
                size,
                bytearray(digest) if digest is not None else None,
                int(default),
            )
            if elsewhere is None and qc is None:
                usual.append(row)
            else:
                others.append((*row, elsewhere, qc))
        self.dataset_count += len(usual) + len(others)
        self._connection.executemany(_INSERT_USUAL, usual)
        self._connection.executemany(_INSERT_UNUSUAL, others)

    def check_result(self, sessions: ParquetTable, datasets: ParquetTable) -> None:
        """Log how many rows were left out, and check that some rows were written.

        Raises UsageError if all sessions or all existing datasets were left out.
        """
        for what, count in self._left_out.items():
            log.info(
                "the cache tables in the folder %s: %d %s are left out",
                datasets.path.parent,
                count,
                what,
            )
        if self._disagreements > _MAX_DISAGREEMENT_WARNINGS:
            log.warning(
                "%d more datasets are stored in another folder than they are shown in",
                self._disagreements - _MAX_DISAGREEMENT_WARNINGS,
            )
        if sessions.row_count and not self._row_by_eid:
            raise UsageError(
                f"{sessions.path} is no cache table of Alyx: not one of its {sessions.row_count} "
                "sessions has a UUID, lab, subject, date and number"
            )
        if (
            self.rows_read
            and not self.dataset_count
            and self._left_out["datasets that do not exist"] < self.rows_read
        ):
            raise UsageError(
                f"the datasets table {datasets.path} does not belong to the sessions table "
                f"{sessions.path}: none of the {self.rows_read} datasets is of a session in that "
                "table"
            )

    def _insert_path(self, path: str) -> int:
        self._path_count += 1
        self._connection.execute("INSERT INTO paths VALUES (?, ?)", (self._path_count, path))
        return self._path_count

    def _other_folder_row(self, line: DatasetTableRow, session: int) -> int | None:
        """Return the row number, in ``paths``, of the folder where the file server has a dataset.

        ``paths`` is a table in the SQLite file. Return None if this is the session's own folder.
        """
        assert line.stored is not None
        assert line.eid is not None
        place = self._session_folder(session)
        if line.stored == place:
            return None
        if _with_padded_number(line.stored) != place:
            self._disagreements += 1
            if self._disagreements <= _MAX_DISAGREEMENT_WARNINGS:
                log.warning(
                    "the dataset %s is shown in %s, the folder of its session %s, but stored in %s",
                    line.path,
                    place,
                    uuid_text(line.eid),
                    line.stored,
                )
        return self._path_row(line.stored)

    def _load_session_folder(self, session: int) -> str:
        query = "SELECT lab, subject, date, number FROM sessions WHERE row = ?"
        return session_folder(*self._connection.execute(query, (session,)).fetchone())


def _skip_reason(line: DatasetTableRow, session: int | None) -> str:
    """Return the reason why a dataset is left out, as text for the log.

    Datasets that are left out for the same reason are counted together.
    """
    if not line.exists:
        return "datasets that do not exist"
    if session is None:
        return "datasets of no session in the sessions table"
    return "datasets without a UUID or path"


def _with_padded_number(place: str) -> str:
    """Return the path of a session's folder, with the session's number padded to three digits.

    Return a path without a number unchanged.
    """
    parent, _, number = place.rpartition("/")
    value = parse_whole_number(number)
    return place if value is None else f"{parent}/{value:03d}"


def _create_file(target: Path) -> sqlite3.Connection:
    """Create a SQLite file without a journal.

    A journal is not needed, because no process reads the file yet and the caller deletes an
    unfinished file.
    """
    connection = sqlite3.connect(target)
    for pragma in (
        "journal_mode = OFF",
        "synchronous = OFF",
        "locking_mode = EXCLUSIVE",
        f"cache_size = -{_SQLITE_CACHE_KIB}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    _run_script(connection, "schema.sql")
    return connection


def _run_script(connection: sqlite3.Connection, name: str) -> None:
    connection.executescript(Path(__file__).with_name(name).read_text("utf-8"))


def _fsync_and_drop_pages(target: Path) -> None:
    with target.open("rb") as file:
        os.fsync(file.fileno())
    # drop the written pages from the page cache, where they would displace more useful pages
    with suppress(OSError, AttributeError), target.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

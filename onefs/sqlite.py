"""One way to keep a SQLite file: WAL, one connection behind a lock, no crash on a bad file.

Transactions here are short and threads many, so one connection serves them all. Other processes
may use the same file at the same time. It should lie on a local disk: WAL does not work between
hosts on a network file system (sqlite.org/wal.html). There the journal is DELETE, which is slower
and works as well as that file system's locks do; the log says so.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from onefs.disks import network_disk
from onefs.errors import CacheError
from onefs.ground import Ground

log = logging.getLogger(__name__)

#: seconds between two looks whether a file was deleted
LOOK_EVERY = 1.0


class SqliteFile:
    """A database file with a schema of a certain version.

    A file that is not a database, was written by a newer onefs, or has not the tables of its
    version is moved aside with a log line and a new one begun: nothing is lost, nothing crashes.
    So is one whose damage shows only in use, after the one CacheError that tells of it. ``what``
    names it in errors;
    ``migrations`` has, for each older version, the script that makes it the next one. Every method
    raises CacheError when the file cannot be used.
    """

    def __init__(
        self,
        path: Path,
        schema: str,
        version: int,
        what: str,
        migrations: Mapping[int, str] | None = None,
    ) -> None:
        self._path = path
        self._what = what
        self._schema = schema
        self._version = version
        self._migrations = migrations or {}
        #: False when a new file could not be begun: that is tried again at the next use
        self._usable = True
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection = self._open()
            self._ground = Ground(path.parent, "the state folder")
        except (sqlite3.Error, OSError) as error:
            raise CacheError(f"{what} {path} cannot be opened: {error}") from error
        self._looked_until = time.monotonic() + LOOK_EVERY

    @property
    def said(self) -> str:
        """What became of the folder, if it was deleted or its disk was away; '' else."""
        return self._ground.said

    def close(self) -> None:
        with self._lock:
            self._connection.close()
            self._ground.close()

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement by itself and give its rows."""
        with self._lock, self._errors():
            self._look()
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Several statements, all or none of which take effect."""
        with self._lock, self._errors():
            self._look()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _look(self) -> None:
        """See that the file is still the one that is open: SQLite goes on with one that is deleted.

        Raises CacheError while its disk is away.
        """
        now = time.monotonic()
        if now < self._looked_until:
            return
        try:
            if self._path.exists() and self._path.stat().st_ino == self._inode:
                self._looked_until = now + LOOK_EVERY
                self._ground.is_same()
                return
            self._ground.check()
            made = not self._path.exists()
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection.close()
            self._usable = False
            self._connection = self._open()
            self._usable = True
            self._ground.is_back(made=made)
        except (sqlite3.Error, OSError) as error:
            raise CacheError(f"{self._what} {self._path} cannot be opened: {error}") from error

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if is_damage(error) or not self._usable:
                self._begin_anew(str(error))
            raise CacheError(f"{self._what} {self._path}: {error}") from error

    def _begin_anew(self, reason: str) -> None:
        """Put a new file in the place of ours, unless another process has done so already."""
        self._usable = False
        self._connection.close()
        try:
            if self._path.exists() and self._path.stat().st_ino == self._inode:
                self._set_aside(reason)
            self._connection = self._open()
            self._usable = True
        except (sqlite3.Error, OSError) as error:
            raise CacheError(f"{self._what} {self._path} cannot be opened: {error}") from error

    def _open(self) -> sqlite3.Connection:
        try:
            connection = self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and not is_damage(error):
                raise  # locked, no permission, no space
            self._set_aside(str(error))
            connection = self._connect()
        self._inode = self._path.stat().st_ino
        return connection

    def _connect(self) -> sqlite3.Connection:
        disk = network_disk(self._path.parent)
        if disk:
            _say_once(self._path.parent, disk)
        journal = "DELETE" if disk else "WAL"
        return _connect(self._path, journal, self._schema, self._version, self._migrations)

    def _set_aside(self, reason: str) -> None:
        aside = self._free_name()
        for suffix in ("", "-wal", "-shm", "-journal"):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.replace(aside.with_name(aside.name + suffix))
        log.warning(
            "%s %s was moved aside to %s, a new one is begun: %s",
            self._what,
            self._path,
            aside.name,
            reason,
        )

    def _free_name(self) -> Path:
        """A name that holds no file that was moved aside before."""
        number = 0
        while True:
            mark = f".{number}" if number else ""
            aside = self._path.with_name(f"{self._path.name}.unusable{mark}")
            if not aside.exists():
                return aside
            number += 1


@lru_cache(maxsize=256)  # one line a folder: several files lie in it, and are opened again
def _say_once(folder: Path, disk: str) -> None:
    log.warning(
        "%s lies on a network file system (%s): its databases are kept with a slower journal "
        "(DELETE). A state folder on a local disk (--state-dir) is faster, and safer",
        folder,
        disk,
    )


def _connect(
    path: Path, journal: str, schema: str, version: int, migrations: Mapping[int, str]
) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    try:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > version:
            raise sqlite3.DatabaseError(f"it was written by a newer onefs (schema {found})")
        connection.execute(f"PRAGMA journal_mode = {journal}")
        # without WAL, NORMAL may damage the file at a power loss
        connection.execute(f"PRAGMA synchronous = {'NORMAL' if journal == 'WAL' else 'FULL'}")
        if 0 < found < version:
            _migrate(connection, version, migrations)
        _look_at_tables(connection, schema)
        connection.executescript(schema)
        connection.execute(f"PRAGMA user_version = {version}")
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, version: int, migrations: Mapping[int, str]) -> None:
    """Bring the file to ``version`` in one transaction, unless another process has just done so."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in range(connection.execute("PRAGMA user_version").fetchone()[0], version):
            for statement in migrations[step].split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {step + 1}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _look_at_tables(connection: sqlite3.Connection, schema: str) -> None:
    """Raise DatabaseError when a table that is there has other columns than ``schema`` says."""
    model = sqlite3.connect(":memory:")
    try:
        model.executescript(schema)
        wanted = _columns(model)
    finally:
        model.close()
    for table, columns in _columns(connection).items():
        if table in wanted and columns != wanted[table]:
            raise sqlite3.DatabaseError(f"its table {table} has other columns than ours")


def _columns(connection: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    query = "SELECT name, type, pk FROM pragma_table_info(?)"
    return {str(name): connection.execute(query, (name,)).fetchall() for (name,) in names}


def is_damage(error: BaseException | None) -> bool:
    """Whether SQLite says that a file is broken, not merely in use, full or forbidden."""
    text = str(error) if isinstance(error, sqlite3.Error) else ""
    return "malformed" in text or "not a database" in text or text.startswith("no such")

"""Connections to SQLite files: open a file, migrate its tables, and classify SQLite's errors."""

from __future__ import annotations

import ctypes
import errno
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

#: seconds that SQLite waits, while it opens a file, for another process that migrates the file
OPEN_TIMEOUT_SECONDS = 10.0
#: seconds that SQLite waits in one statement for another process's lock. The other threads of this
#: process wait, too
_BUSY_TIMEOUT_SECONDS = 0.05


def connect(
    path: Path | str,
    journal: str,
    schema: str,
    version: int,
    migrations: Mapping[int, str],
    *,
    may_create: bool = True,
) -> sqlite3.Connection:
    """Return a connection to a database file. Create or migrate the file's tables if needed.

    - ``journal`` is SQLite's journal mode: WAL, DELETE or MEMORY.
    - ``schema`` is the script that creates the tables.
    - ``migrations`` has the script from each older version to the next.
    - ``may_create`` says whether to create a missing file.

    Raises DatabaseError if the file was written by a newer onefs, or if its tables have other
    columns than ``schema``. Raises sqlite3.Error for any other failure.
    """
    connection = sqlite3.connect(
        path if may_create else f"file:{quote(os.fsencode(path))}?mode=rw",
        uri=not may_create,
        timeout=OPEN_TIMEOUT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        stored = connection.execute("PRAGMA user_version").fetchone()[0]
        if stored > version:
            raise sqlite3.DatabaseError(f"the file was written by a newer onefs (schema {stored})")
        connection.execute(f"PRAGMA journal_mode = {journal}")
        # without WAL, a power loss may damage the file if ``synchronous`` is NORMAL
        connection.execute(f"PRAGMA synchronous = {'NORMAL' if journal == 'WAL' else 'FULL'}")
        if 0 < stored < version:
            _migrate(connection, version, migrations)
        _check_columns(connection, schema)
        connection.executescript(schema)
        if stored != version:  # no needless write: it would wait for other processes' locks
            connection.execute(f"PRAGMA user_version = {version}")
        connection.execute(f"PRAGMA busy_timeout = {round(_BUSY_TIMEOUT_SECONDS * 1000)}")
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, version: int, migrations: Mapping[int, str]) -> None:
    """Migrate the file to ``version`` in one transaction.

    If another process has just migrated the file, do nothing.
    """
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


def _check_columns(connection: sqlite3.Connection, schema: str) -> None:
    """Raise DatabaseError if a table in the file has other columns than in ``schema``."""
    model = sqlite3.connect(":memory:")
    try:
        model.executescript(schema)
        expected = _columns_by_table(model)
    finally:
        model.close()
    for table, columns in _columns_by_table(connection).items():
        if table in expected and columns != expected[table]:
            raise sqlite3.DatabaseError(f"the table {table} has other columns than in this onefs")


def _columns_by_table(connection: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    query = "SELECT name, type, pk FROM pragma_table_info(?)"
    return {str(name): connection.execute(query, (name,)).fetchall() for (name,) in names}


def is_locked(error: BaseException | None) -> bool:
    """Whether SQLite reports that another process has the file locked."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def is_unusable(error: sqlite3.DatabaseError) -> bool:
    """Whether the error means that the file can never be used.

    A locked or unreadable file, or a file on a full disk, can be used later.
    """
    return not isinstance(error, sqlite3.OperationalError) or is_corrupt(error)


def is_disk_full(folder: Path, error: Exception) -> bool:
    """Whether a full disk caused the error.

    ``folder`` is a folder on this disk.
    """
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    text = str(error)
    if "database or disk is full" in text:
        return True
    if "disk I/O" not in text and "unable to open" not in text:
        return False
    try:
        # these errors do not say whether the disk is full: look at it now
        return os.statvfs(folder).f_bavail == 0
    except OSError:
        return False


def is_corrupt(error: BaseException | None) -> bool:
    """Whether ``error`` says that a file is damaged, is no database, or lacks a table or column.

    Only errors of SQLite can say this.
    """
    text = str(error) if isinstance(error, sqlite3.Error) else ""
    return "malformed" in text or "not a database" in text or text.startswith("no such")


def leak_connection(connection: sqlite3.Connection | None) -> None:
    """Prevent that a child made by ``fork`` ever closes the connection of its parent.

    Closing it would free the parent's locks.
    """
    # closing it would free the parent's locks, remove the WAL file that the parent writes to, or
    # wait for ever for a lock that no thread of the child can release
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))

"""Connections to SQLite files: opening one with its schema and migrations, and SQLite's errors."""

from __future__ import annotations

import ctypes
import errno
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: seconds that SQLite waits, while it opens a file, for another process that migrates the file
OPEN_TIMEOUT_SECONDS = 10.0
#: seconds that a statement waits for another process's lock, while this process's lock is held
_BUSY_TIMEOUT_SECONDS = 0.05


def connect(
    path: Path | str, journal: str, schema: str, version: int, migrations: Mapping[int, str]
) -> sqlite3.Connection:
    """Open a database file, creating or migrating its tables as needed.

    ``journal`` is WAL, DELETE or MEMORY; ``migrations`` has the script that leads from each older
    version to the next. Raises sqlite3.Error; DatabaseError also if the file was written by a newer
    onefs or has other columns.
    """
    connection = sqlite3.connect(
        path, timeout=OPEN_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        stored = connection.execute("PRAGMA user_version").fetchone()[0]
        if stored > version:
            raise sqlite3.DatabaseError(f"it was written by a newer onefs (schema {stored})")
        connection.execute(f"PRAGMA journal_mode = {journal}")
        # without WAL, a power loss may damage the file if this is NORMAL
        connection.execute(f"PRAGMA synchronous = {'NORMAL' if journal == 'WAL' else 'FULL'}")
        if 0 < stored < version:
            _migrate(connection, version, migrations)
        _check_columns(connection, schema)
        connection.executescript(schema)
        if stored != version:  # else nothing is written, and no lock of another process delays us
            connection.execute(f"PRAGMA user_version = {version}")
        connection.execute(f"PRAGMA busy_timeout = {round(_BUSY_TIMEOUT_SECONDS * 1000)}")
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, version: int, migrations: Mapping[int, str]) -> None:
    """Migrate the file to ``version`` in one transaction, if no other process has done so."""
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
    """Raise DatabaseError if an existing table has other columns than in ``schema``."""
    model = sqlite3.connect(":memory:")
    try:
        model.executescript(schema)
        expected = _columns_by_table(model)
    finally:
        model.close()
    for table, columns in _columns_by_table(connection).items():
        if table in expected and columns != expected[table]:
            raise sqlite3.DatabaseError(f"its table {table} has other columns than ours")


def _columns_by_table(connection: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    query = "SELECT name, type, pk FROM pragma_table_info(?)"
    return {str(name): connection.execute(query, (name,)).fetchall() for (name,) in names}


def is_locked(error: BaseException | None) -> bool:
    """Whether SQLite reports that another process has the file locked."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def is_unusable(error: sqlite3.DatabaseError) -> bool:
    """Whether the file can never be used; one that is locked, forbidden or on a full disk can."""
    return not isinstance(error, sqlite3.OperationalError) or is_corrupt(error)


def is_disk_full(folder: Path, error: Exception) -> bool:
    """Whether a full disk caused the error; SQLite gives only a general reason for some."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    text = str(error)
    if "database or disk is full" in text:
        return True
    if "disk I/O" not in text and "unable to open" not in text:
        return False
    try:
        return os.statvfs(folder).f_bavail == 0
    except OSError:
        return False


def is_corrupt(error: BaseException | None) -> bool:
    """Whether SQLite reports that the file is damaged, not only in use, full or forbidden."""
    text = str(error) if isinstance(error, sqlite3.Error) else ""
    return "malformed" in text or "not a database" in text or text.startswith("no such")


def leak_connection(connection: sqlite3.Connection | None) -> None:
    """Keep the parent's connection open for ever, in a child made by a fork.

    Closing it would free the parent's locks, remove the WAL that the parent writes to, or wait for
    a lock that no thread of the child holds.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))

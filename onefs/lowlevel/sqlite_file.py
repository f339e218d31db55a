"""One way to keep a SQLite file: WAL, one connection behind a lock, no crash on a bad file.

Transactions here are short and threads many, so one connection serves them all. Other processes
may use the same file at the same time. It should lie on a local disk: WAL does not work between
hosts on a network file system (sqlite.org/wal.html). There the journal is DELETE, which is slower
and works as well as that file system's locks do; the log says so.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from onefs.errors import CacheError, CacheFull, reason_of
from onefs.lowlevel.filesystems import network_filesystem_type
from onefs.lowlevel.folder_guard import FolderGuard
from onefs.lowlevel.forking import (
    ForkAware,
    close_lock_file,
    open_lock_file,
    register_fork_aware,
)
from onefs.lowlevel.locks import lock_file

log = logging.getLogger(__name__)

#: the path of a database that is in memory only
IN_MEMORY = Path(":memory:")
#: seconds that a new or older file is waited for while another process brings it up to date
_OPEN_TIMEOUT_SECONDS = 10.0
#: seconds that SQLite itself waits for another process's lock: our own lock is held meanwhile
_BUSY_TIMEOUT_SECONDS = 0.05
#: seconds for which a statement is tried again while another process has the file locked
LOCK_RETRY_SECONDS = 1.5
#: seconds after such a failure for which statements are tried once: a walk must not wait each time
_FAIL_FAST_SECONDS = 10.0
#: seconds between two tries, in which other threads have their turn
_RETRY_PAUSE_SECONDS = 0.02
#: seconds that another process is waited for while it moves a file aside
_REPLACEMENT_LOCK_TIMEOUT_SECONDS = 5.0
#: what messages call the folder of a file
_FOLDER_DESCRIPTION = "the state folder"
#: seconds between two looks whether a file was deleted
FILE_CHECK_INTERVAL_SECONDS = 1.0
#: files whose connection was in use when this process was forked: see :class:`SqliteFile`
_in_use_at_fork: set[Path] = set()


class SqliteFile(ForkAware):
    """A database file with a schema of a certain version.

    A file that is not a database, was written by a newer onefs, or has not the tables of its
    version is moved aside with a log line and a new one begun: nothing is lost, nothing crashes.
    So is one whose damage shows only in use, after the one CacheError that tells of it. ``what``
    names it in errors;
    ``migrations`` has, for each older version, the script that makes it the next one. Every method
    raises CacheError when the file cannot be used or another process has it locked for more than
    LOCK_RETRY_SECONDS, and CacheFull when its disk is full. ``path`` may be IN_MEMORY.

    A fork finds the file closed, and it is opened again at its next use. Where it is in use for
    longer than a fork waits, the child works on an empty database in memory instead: SQLite cannot
    open a file twice in a process whose parent's connection it has inherited.
    """

    def __init__(
        self,
        path: Path,
        schema: str,
        version: int,
        description: str,
        migrations: Mapping[int, str] | None = None,
    ) -> None:
        self._path = path
        self._description = description
        self._schema = schema
        self._version = version
        self._migrations = migrations or {}
        #: False when a new file could not be begun: that is tried again at the next use
        self._is_usable = True
        #: until when a locked file is not waited for (``time.monotonic``)
        self._fail_fast_until = 0.0
        self._lock = threading.RLock()
        #: None after a fork, until the next use
        self._connection: sqlite3.Connection | None = None
        self._is_paused = self._is_closed = False
        #: the folder, once it is there; None in memory
        self._folder_guard: FolderGuard | None = None
        self._checked_until = 0.0
        with self._lock:  # a fork waits until it is open
            register_fork_aware(self)
            self._current_connection()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._connection is not None:
                self._connection.close()
            if self._folder_guard is not None:
                self._folder_guard.close()

    @property
    def folder_status(self) -> str:
        """What became of the folder, if it was deleted or its disk was away; '' else."""
        return "" if self._folder_guard is None else self._folder_guard.status_message

    def fetch_rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement by itself and give its rows."""
        end = self._retry_deadline()
        while True:
            try:
                with self._lock, self._translated_errors():
                    return self._current_connection().execute(statement, values).fetchall()
            except CacheError as error:
                self._pause_or_raise(error, end)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Several statements, all or none of which take effect."""
        end = self._retry_deadline()
        connection = self._begin_transaction(end)
        try:
            with self._translated_errors():
                yield connection
                self._commit(connection, end)
        finally:
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            self._lock.release()

    def before_fork(self, end: float) -> None:
        """Close the connection, so that both processes open one of their own."""
        self._is_paused = self._lock.acquire(timeout=max(0.0, end - time.monotonic()))
        connection = self._connection
        if not self._is_paused or connection is None or self._is_closed or self._path == IN_MEMORY:
            return
        if connection.in_transaction:  # of the very thread that forks
            self._is_paused = False
            self._lock.release()
        else:
            connection.close()
            self._connection = None

    def after_fork_in_parent(self) -> None:
        """Let the other threads go on."""
        if self._is_paused:
            self._is_paused = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Drop a connection that could not be closed, without SQLite's noticing."""
        if not self._is_paused:
            _in_use_at_fork.add(self._path)
            leak_connection(self._connection)
            self._connection = None
        self._is_paused = False
        self._lock = threading.RLock()

    def _current_connection(self) -> sqlite3.Connection:
        """The connection to the file that is there: SQLite goes on with one that was deleted.

        Raises CacheError while the disk of the file is away.
        """
        if self._is_closed:
            raise CacheError(f"{self._description} {self._path} is closed")
        if self._connection is None or not self._is_file_unchanged():
            try:
                self._reopen()
            except (sqlite3.Error, OSError) as error:
                raise self._to_cache_error(error, " cannot be opened") from error
        assert self._connection is not None
        return self._connection

    def _is_file_unchanged(self) -> bool:
        """Whether the file that is open is the one at our path; looked at once a second."""
        now = time.monotonic()
        if now < self._checked_until or self._path == IN_MEMORY or self._path in _in_use_at_fork:
            return True
        if self._connection is not None and self._connection.in_transaction:
            return True
        with suppress(OSError):
            if _inode_of(self._path) == self._inode:
                self._checked_until = now + FILE_CHECK_INTERVAL_SECONDS
                if self._folder_guard is not None:
                    self._folder_guard.is_same_folder()
                return True
        return False

    def _reopen(self) -> None:
        """Open the file, made if need be, unless its disk is away.

        Raises CacheError, sqlite3.Error, OSError.
        """
        if self._folder_guard is not None:
            self._folder_guard.check_available()
        lost, made = self._connection, not self._path.exists()
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if lost is not None:
            lost.close()
            self._is_usable = False
        self._connection = self._open()
        self._is_usable = True
        self._checked_until = time.monotonic() + FILE_CHECK_INTERVAL_SECONDS
        if self._folder_guard is None:
            self._folder_guard = (
                None
                if self._path == IN_MEMORY
                else FolderGuard(self._path.parent, _FOLDER_DESCRIPTION)
            )
        elif lost is not None:
            self._folder_guard.note_available_again(recreated=made)

    def _begin_transaction(self, end: float) -> sqlite3.Connection:
        """Begin a transaction, with our lock held; between two tries others have the lock."""
        while True:
            self._lock.acquire()
            try:
                with self._translated_errors():
                    connection = self._current_connection()
                    connection.execute("BEGIN IMMEDIATE")
                return connection
            except CacheError as error:
                self._lock.release()
                self._pause_or_raise(error, end)
            except BaseException:
                self._lock.release()
                raise

    def _commit(self, connection: sqlite3.Connection, end: float) -> None:
        """Commit; where the journal is DELETE, readers of other processes may be in the way."""
        while True:
            try:
                connection.execute("COMMIT")
                break
            except sqlite3.OperationalError as error:
                if not is_locked(error) or time.monotonic() >= end:
                    raise
                time.sleep(_RETRY_PAUSE_SECONDS)
        self._fail_fast_until = 0.0

    def _retry_deadline(self) -> float:
        now = time.monotonic()
        return now if now < self._fail_fast_until else now + LOCK_RETRY_SECONDS

    def _pause_or_raise(self, error: CacheError, end: float) -> None:
        """Pause before the next try at a file that another process has locked, or raise."""
        if not is_locked(error.__cause__):
            raise error
        if time.monotonic() >= end:
            self._fail_fast_until = time.monotonic() + _FAIL_FAST_SECONDS
            raise error
        time.sleep(_RETRY_PAUSE_SECONDS)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if is_corrupt(error) or not self._is_usable:
                self._replace_damaged_file(str(error))
            raise self._to_cache_error(error) from error
        except (OverflowError, UnicodeError) as error:  # a number or text that SQLite cannot hold
            raise self._to_cache_error(error) from error

    def _to_cache_error(self, error: Exception, doing: str = "") -> CacheError:
        """What an error of SQLite or of the disk is to callers."""
        folder = self._path.parent
        if _is_full(folder, error):
            return CacheFull(f"{self._description} {self._path}: the disk of {folder} is full")
        return CacheError(
            f"{self._description} {self._path}{doing}: {reason_of(error, self._path)}"
        )

    def _replace_damaged_file(self, reason: str) -> None:
        """Put a new file in the place of ours, unless another process has done so already."""
        self._is_usable = False
        if self._connection is not None:
            self._connection.close()
        try:
            with hold_replacement_lock(self._path):
                if _inode_of(self._path) == self._inode:
                    self._move_aside(reason)
            self._connection = self._open()
            self._is_usable = True
        except (sqlite3.Error, OSError) as error:
            raise self._to_cache_error(error, " cannot be opened") from error

    def _open(self) -> sqlite3.Connection:
        if self._path in _in_use_at_fork:
            log.warning("%s was in use during a fork: this process goes without", self._path)
            self._inode = -1
            return _connect(":memory:", "MEMORY", self._schema, self._version, {})
        try:
            connection = self._connect()
        except sqlite3.DatabaseError as error:
            if not _is_unusable(error):
                raise
            connection = self._open_or_replace()
        self._inode = _inode_of(self._path)
        return connection

    def _open_or_replace(self) -> sqlite3.Connection:
        """Move a file aside that cannot be used, unless another process has done so already."""
        with hold_replacement_lock(self._path):
            try:
                return self._connect()
            except sqlite3.DatabaseError as error:
                if not _is_unusable(error):
                    raise
                self._move_aside(str(error))
                return self._connect()

    def _connect(self) -> sqlite3.Connection:
        disk = network_filesystem_type(self._path.parent)
        if disk:
            _warn_once_about_network_disk(self._path.parent, disk)
        journal = "DELETE" if disk else "WAL"
        end = time.monotonic() + _OPEN_TIMEOUT_SECONDS
        while True:
            try:
                return _connect(self._path, journal, self._schema, self._version, self._migrations)
            except sqlite3.OperationalError as error:
                # SQLite does not wait where two processes begin a new file's journal at once
                if not is_locked(error) or time.monotonic() >= end:
                    raise
                time.sleep(_RETRY_PAUSE_SECONDS)

    def _move_aside(self, reason: str) -> None:
        aside = self._unused_name()
        # the caller holds the lock of ``replacing``
        for suffix in ("", "-wal", "-shm", "-journal"):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.replace(aside.with_name(aside.name + suffix))
        log.warning(
            "%s %s was moved aside to %s, a new one is begun: %s",
            self._description,
            self._path,
            aside.name,
            reason,
        )

    def _unused_name(self) -> Path:
        """A name that holds no file that was moved aside before."""
        number = 0
        while True:
            mark = f".{number}" if number else ""
            aside = self._path.with_name(f"{self._path.name}.unusable{mark}")
            if not aside.exists():
                return aside
            number += 1


@lru_cache(maxsize=256)  # one line a folder: several files lie in it, and are opened again
def _warn_once_about_network_disk(folder: Path, disk: str) -> None:
    log.warning(
        "%s lies on a network file system (%s): its databases are kept with a slower journal "
        "(DELETE). A state folder on a local disk (--state-dir) is faster, and safer",
        folder,
        disk,
    )


def leak_connection(connection: sqlite3.Connection | None) -> None:
    """Keep a connection of the parent open for ever, in a child made by a fork.

    To close it would free its locks, remove the WAL that the parent writes to, or wait for a lock
    that no thread here holds.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


@contextmanager
def hold_replacement_lock(path: Path) -> Iterator[None]:
    """Keep other processes from replacing the file at ``path``, or moving it aside, meanwhile.

    Goes on without the lock where it cannot be had in time, or the disk has no locks.
    """
    descriptor = None
    with suppress(OSError):
        lock = path.with_name(f"{path.name}.lock")
        descriptor = open_lock_file(lock, os.O_RDWR | os.O_CREAT)
        lock_file(descriptor, _REPLACEMENT_LOCK_TIMEOUT_SECONDS)
    try:
        yield
    finally:
        if descriptor is not None:
            close_lock_file(descriptor)


def _inode_of(path: Path) -> int:
    """The inode of a file; 0 when there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _connect(
    path: Path | str, journal: str, schema: str, version: int, migrations: Mapping[int, str]
) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_OPEN_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > version:
            raise sqlite3.DatabaseError(f"it was written by a newer onefs (schema {found})")
        connection.execute(f"PRAGMA journal_mode = {journal}")
        # without WAL, NORMAL may damage the file at a power loss
        connection.execute(f"PRAGMA synchronous = {'NORMAL' if journal == 'WAL' else 'FULL'}")
        if 0 < found < version:
            _migrate(connection, version, migrations)
        _check_columns(connection, schema)
        connection.executescript(schema)
        if found != version:  # else nothing is written, and another process's lock not waited for
            connection.execute(f"PRAGMA user_version = {version}")
        connection.execute(f"PRAGMA busy_timeout = {round(_BUSY_TIMEOUT_SECONDS * 1000)}")
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


def _check_columns(connection: sqlite3.Connection, schema: str) -> None:
    """Raise DatabaseError when a table that is there has other columns than ``schema`` says."""
    model = sqlite3.connect(":memory:")
    try:
        model.executescript(schema)
        wanted = _columns_by_table(model)
    finally:
        model.close()
    for table, columns in _columns_by_table(connection).items():
        if table in wanted and columns != wanted[table]:
            raise sqlite3.DatabaseError(f"its table {table} has other columns than ours")


def _columns_by_table(connection: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    query = "SELECT name, type, pk FROM pragma_table_info(?)"
    return {str(name): connection.execute(query, (name,)).fetchall() for (name,) in names}


def is_locked(error: BaseException | None) -> bool:
    """Whether SQLite says that another process has the file locked."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _is_unusable(error: sqlite3.DatabaseError) -> bool:
    """Whether a file will never do; one that is locked, forbidden or on a full disk may."""
    return not isinstance(error, sqlite3.OperationalError) or is_corrupt(error)


def _is_full(folder: Path, error: Exception) -> bool:
    """Whether an error comes of a full disk; for some SQLite gives only a general reason."""
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
    """Whether SQLite says that a file is broken, not merely in use, full or forbidden."""
    text = str(error) if isinstance(error, sqlite3.Error) else ""
    return "malformed" in text or "not a database" in text or text.startswith("no such")

"""SQLite files: WAL, one connection shared by all threads, and replacement of damaged files.

Transactions are short and there are many threads, so all threads share one connection and its lock.
Other processes may use the same file at the same time. The file should be on a local disk, because
WAL does not work between hosts on a network file system (sqlite.org/wal.html). On a network file
system the journal is DELETE, which is slower, and only as reliable as the locks of that file
system. In this case a warning is logged.
"""

from __future__ import annotations

import itertools
import logging
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
from onefs.lowlevel.sqlite_connection import (
    OPEN_TIMEOUT_SECONDS,
    connect,
    is_corrupt,
    is_disk_full,
    is_locked,
    is_unusable,
    leak_connection,
)

log = logging.getLogger(__name__)

#: the path of a database in memory
IN_MEMORY = Path(":memory:")
#: seconds for which a statement is repeated while another process has the file locked
LOCK_RETRY_SECONDS = 1.5
#: seconds in which statements are not repeated, after a statement has failed because the file was
#: locked for LOCK_RETRY_SECONDS. So a walk over many folders does not wait for each folder
_FAIL_FAST_SECONDS = 10.0
#: seconds between two attempts, in which other threads can use the connection
_RETRY_PAUSE_SECONDS = 0.02
#: longest wait for another process that replaces a file
_REPLACEMENT_LOCK_TIMEOUT_SECONDS = 5.0
#: how messages name the folder of a file
_FOLDER_DESCRIPTION = "the state folder"
#: seconds between two checks whether the file was deleted or replaced
FILE_CHECK_INTERVAL_SECONDS = 1.0
#: files whose connection was in use when this process was forked: see :class:`SqliteFile`
_in_use_at_fork: set[Path] = set()


class SqliteFile(ForkAware):
    """A database file with a schema of a certain version. Thread-safe.

    - ``path`` may be IN_MEMORY.
    - ``description`` names the file in errors.
    - ``migrations`` has the script from each older version to the next.

    An unusable file is moved aside: it is damaged, of a newer onefs, or has other columns than
    ``schema``. Then a new file is created, and the log has a warning.

    Methods raise CacheError if the file cannot be used, is locked for more than LOCK_RETRY_SECONDS,
    or is found damaged in use. They raise CacheFull if the disk is full.
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
        #: False if a new file could not be created; the next use tries to create it again
        self._is_usable = True
        #: until this time (``time.monotonic``) statements are not repeated on a locked file
        self._fail_fast_until = 0.0
        self._lock = threading.RLock()
        #: None between a fork and the next use
        self._connection: sqlite3.Connection | None = None
        self._is_paused = self._is_closed = False
        #: None before the folder exists, and for a database in memory
        self._folder_guard: FolderGuard | None = None
        self._checked_until = 0.0
        with self._lock:  # a fork waits until the file is open
            register_fork_aware(self)
            self._current_connection()

    def close(self) -> None:
        """Close the connection. Every later use raises CacheError."""
        with self._lock:
            self._is_closed = True
            if self._connection is not None:
                self._connection.close()
            if self._folder_guard is not None:
                self._folder_guard.close()

    @property
    def folder_status(self) -> str:
        """Return one sentence if the file's folder was deleted, or if its disk was unmounted.

        Return '' if neither has happened.
        """
        return "" if self._folder_guard is None else self._folder_guard.status_message

    def fetch_rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement as a separate transaction, and return its rows."""
        end = self._retry_deadline()
        while True:
            try:
                with self._lock, self._translated_errors():
                    return self._current_connection().execute(statement, values).fetchall()
            except CacheError as error:
                self._pause_or_raise(error, end)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection for a transaction, which ends with the ``with`` block.

        After an error, no statement of the block takes effect.
        """
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
        """Close the connection before a fork. Parent and child each open their own later.

        Wait until the connection is not in use, at most until ``end``. After this time, it stays
        open.
        """
        # if it stays open, the child works on an empty database in memory: SQLite cannot open a
        # file again in a process that has inherited a connection to it
        self._is_paused = self._lock.acquire(timeout=max(0.0, end - time.monotonic()))
        connection = self._connection
        if not self._is_paused or connection is None or self._is_closed or self._path == IN_MEMORY:
            return
        if connection.in_transaction:  # the thread that forks is inside a transaction
            self._is_paused = False
            self._lock.release()
        else:
            connection.close()
            self._connection = None

    def after_fork_in_parent(self) -> None:
        """Let the other threads use the file again."""
        if self._is_paused:
            self._is_paused = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Forget a connection that was in use during the fork, without closing the connection."""
        if not self._is_paused:
            _in_use_at_fork.add(self._path)
            leak_connection(self._connection)
            self._connection = None
        self._is_paused = False
        self._lock = threading.RLock()

    def _current_connection(self) -> sqlite3.Connection:
        """Return a connection to the file that is at ``path`` now.

        Raises CacheError if the file cannot be opened, or if its disk is unmounted.
        """
        if self._is_closed:
            raise CacheError(f"{self._description} {self._path} is closed")
        # SQLite would still use a file that was deleted or replaced
        if self._connection is None or not self._is_file_unchanged():
            try:
                self._reopen()
            except (sqlite3.Error, OSError) as error:
                raise self._to_cache_error(error, " cannot be opened") from error
        assert self._connection is not None
        return self._connection

    def _is_file_unchanged(self) -> bool:
        """Whether the open file is still the file at ``path``.

        The file system is asked at most once in FILE_CHECK_INTERVAL_SECONDS.
        """
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
        """Open the file. Create the file if it is missing and its disk is mounted.

        Raises CacheError if the disk is unmounted, and sqlite3.Error or OSError for other failures.
        """
        if self._folder_guard is not None:
            self._folder_guard.check_available()
        previous, is_new = self._connection, not self._path.exists()
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if previous is not None:
            previous.close()
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
        elif previous is not None:
            self._folder_guard.note_available_again(recreated=is_new)

    def _begin_transaction(self, end: float) -> sqlite3.Connection:
        """Acquire the lock of this object, begin a transaction and return the connection.

        If another process has the file locked, try again until ``end``.
        """
        while True:
            self._lock.acquire()
            try:
                with self._translated_errors():
                    connection = self._current_connection()
                    connection.execute("BEGIN IMMEDIATE")
                return connection
            except CacheError as error:
                self._lock.release()
                # other threads can acquire the lock meanwhile
                self._pause_or_raise(error, end)
            except BaseException:
                self._lock.release()
                raise

    def _commit(self, connection: sqlite3.Connection, end: float) -> None:
        """Commit the transaction. Try again until ``end`` if the file is locked.

        With a DELETE journal, other processes that read the file can delay a commit.
        """
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
        """Pause before the next attempt if another process has the file locked.

        Raises ``error`` if the file is not locked, or if the time ``end`` has passed.
        """
        if not is_locked(error.__cause__):
            raise error
        if time.monotonic() >= end:
            self._fail_fast_until = time.monotonic() + _FAIL_FAST_SECONDS
            raise error
        time.sleep(_RETRY_PAUSE_SECONDS)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Turn errors of SQLite into CacheError, and replace a damaged file."""
        try:
            yield
        except sqlite3.Error as error:
            if is_corrupt(error) or not self._is_usable:
                self._replace_damaged_file(str(error))
            raise self._to_cache_error(error) from error
        except (OverflowError, UnicodeError) as error:  # a number or text that SQLite cannot hold
            raise self._to_cache_error(error) from error

    def _to_cache_error(self, error: Exception, doing: str = "") -> CacheError:
        """Return the CacheError or CacheFull for an error of SQLite or of the disk."""
        folder = self._path.parent
        if is_disk_full(folder, error):
            return CacheFull(f"{self._description} {self._path}: the disk of {folder} is full")
        return CacheError(
            f"{self._description} {self._path}{doing}: {reason_of(error, self._path)}"
        )

    def _replace_damaged_file(self, reason: str) -> None:
        """Move the damaged file aside, and open a new file.

        If another process has already replaced the file, open that file.
        """
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
            log.warning(
                "the file %s was in use when this process was forked: this process works without "
                "the file",
                self._path,
            )
            self._inode = -1
            return connect(":memory:", "MEMORY", self._schema, self._version, {})
        connection = self._connect() if self._path == IN_MEMORY else self._open_at_rest()
        self._inode = _inode_of(self._path)
        return connection

    def _open_at_rest(self) -> sqlite3.Connection:
        """Open the file while no process moves a file aside; create or replace it if needed."""
        # While an unusable file is moved aside, it is missing, or a connection to it may read the
        # journal of the new file. A file that is created then would lose its journal.
        inode = _inode_of(self._path)
        try:
            connection = self._connect(may_create=False)
        except sqlite3.DatabaseError as error:
            if not is_unusable(error) and _inode_of(self._path) == inode != 0:
                raise
            return self._open_or_replace()
        if _inode_of(self._path) == inode:
            return connection
        connection.close()
        return self._open_or_replace()

    def _open_or_replace(self) -> sqlite3.Connection:
        """Open the file, and return a connection to it.

        A missing file is created. An unusable file is moved aside, and replaced by a new file.
        """
        with hold_replacement_lock(self._path):
            try:
                # opens the new file if another process has replaced the file
                return self._connect()
            except sqlite3.DatabaseError as error:
                if not is_unusable(error):
                    raise
                self._move_aside(str(error))
                return self._connect()

    def _connect(self, *, may_create: bool = True) -> sqlite3.Connection:
        disk = network_filesystem_type(self._path.parent)
        if disk:
            _warn_once_about_network_disk(self._path.parent, disk)
        journal = "DELETE" if disk else "WAL"
        end = time.monotonic() + OPEN_TIMEOUT_SECONDS
        while True:
            try:
                return connect(
                    self._path,
                    journal,
                    self._schema,
                    self._version,
                    self._migrations,
                    may_create=may_create,
                )
            except sqlite3.OperationalError as error:
                # SQLite does not wait if two processes create a new file's journal at the same time
                if not is_locked(error) or time.monotonic() >= end:
                    raise
                time.sleep(_RETRY_PAUSE_SECONDS)

    def _move_aside(self, reason: str) -> None:
        """Rename the file and its journals. The caller has called hold_replacement_lock."""
        aside = self._unused_name()
        for suffix in ("", "-wal", "-shm", "-journal"):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.replace(aside.with_name(aside.name + suffix))
        log.warning(
            "the file %s (%s) was moved aside to %s, and replaced by a new file, because of an "
            "error: %s",
            self._path,
            self._description,
            aside.name,
            reason,
        )

    def _unused_name(self) -> Path:
        """Return a path for the file that is moved aside. No other file is at this path."""
        marks = (f".{number}" if number else "" for number in itertools.count())
        names = (self._path.with_name(f"{self._path.name}.unusable{mark}") for mark in marks)
        return next(path for path in names if not path.exists())


@lru_cache(maxsize=256)  # one warning per folder, although its files are opened several times
def _warn_once_about_network_disk(folder: Path, disk: str) -> None:
    log.warning(
        "the state folder %s is on a network file system (%s): the databases in the folder have a "
        "slower journal (DELETE). A state folder on a local disk (--state-dir) is faster, and "
        "safer",
        folder,
        disk,
    )


@contextmanager
def hold_replacement_lock(path: Path) -> Iterator[None]:
    """Keep other processes from replacing the file at ``path``, or moving it aside.

    Waits at most five seconds for the lock, and continues without it after that.
    """
    descriptor = None
    with suppress(OSError):
        lock = path.with_name(f"{path.name}.lock")
        descriptor = open_lock_file(lock)
        lock_file(descriptor, _REPLACEMENT_LOCK_TIMEOUT_SECONDS)
    try:
        yield
    finally:
        if descriptor is not None:
            close_lock_file(descriptor)


def _inode_of(path: Path) -> int:
    """Return the inode of a file. Return 0 if there is no file."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0

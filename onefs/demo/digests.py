"""md5 sums of files on disk, each computed once and stored across restarts."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from onefs.errors import reason_of

log = logging.getLogger(__name__)

#: files larger than this many bytes are hashed in the background
LARGE_FILE_BYTES = 64 * 2**20
_BLOCK_BYTES = 2**20
#: the shortest time in ns after which a second change gives another change time. The md5 of a file
#: that changed less than this time ago is not stored
_TIMESTAMP_TICK_NANOSECONDS = 50_000_000
#: identifies the version of a file that was hashed: path, size in bytes, mtime and ctime in ns,
#: inode. If a program writes to a file and sets the mtime back, the ctime changes all the same
FileKey = tuple[bytes, int, int, int, int]

# A row says that a file with this path, size, mtime and ctime (ns) and inode had this md5 in hex
# digits, or '' if the file was not hashed yet. The path is bytes, because names need not be UTF-8.
# Only one version of a file is stored. onefs 0.1 used a table ``md5`` without change times.
_SCHEMA = """CREATE TABLE IF NOT EXISTS digests (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, inode INTEGER,
    md5 TEXT NOT NULL
) WITHOUT ROWID"""


class Digests:
    """The md5 sums of files, in memory and in the SQLite file ``database``.

    An md5 is used only while the file's path, size, change times and inode stay the same. If
    ``database`` is None, the sums are only in memory. Files of more than ``large`` bytes are hashed
    in the background.
    """

    def __init__(self, database: Path | None = None, large: int = LARGE_FILE_BYTES) -> None:
        self._large = large
        self._lock = threading.Lock()
        self._known: dict[bytes, tuple[FileKey, str]] = {}
        self._waiting: set[FileKey] = set()
        self._queue: queue.SimpleQueue[tuple[FileKey, Path]] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._database = _connect(database)

    def md5(self, path: Path, stat: os.stat_result) -> str:
        """Return the md5 of a file, in hex digits, or '' if the md5 is unknown for now.

        ``stat`` is the file's current status. A later call tries again. The md5 is unknown in these
        cases:

        - a large file is being hashed in the background
        - the file cannot be read
        - the file changes while it is read
        """
        key = _key(path, stat)
        with self._lock:
            known, digest = self._last_known(key[0]) or (None, "")
        if known == key and digest:
            return digest
        if stat.st_size > self._large:
            self._enqueue(key, path, seen=known is not None)
            return ""
        return self._compute(key, path)

    def has_changed(self, path: Path, stat: os.stat_result) -> bool:
        """Whether a file has changed since its status was stored.

        Return False if no status is stored. ``stat`` is the file's current status.
        """
        # a large file's first version is stored before its md5 is known (see ``_enqueue``)
        key = _key(path, stat)
        with self._lock:
            known = self._last_known(key[0])
        return known is not None and known[0] != key

    def _last_known(self, path: bytes) -> tuple[FileKey, str] | None:
        """Return the FileKey and md5 that are stored for a path. Return None if there are none.

        The md5 is '' if the file was seen but not hashed yet.
        """
        if path not in self._known and self._database is not None:
            with _ignore_database_errors("read"):
                row = self._database.execute(
                    "SELECT size, mtime_ns, ctime_ns, inode, md5 FROM digests WHERE path=?", (path,)
                ).fetchone()
                if row is not None:
                    self._known[path] = (path, *row[:4]), str(row[4])
        return self._known.get(path)

    def _store(self, key: FileKey, digest: str) -> None:
        with self._lock:
            self._known[key[0]] = key, digest
            if self._database is not None:
                with _ignore_database_errors("written"), self._database:
                    self._database.execute(
                        "REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)", (*key, digest)
                    )

    def _compute(self, key: FileKey, path: Path) -> str:
        now = time.time_ns()
        settled = min(abs(now - key[2]), abs(now - key[3])) > _TIMESTAMP_TICK_NANOSECONDS
        digest = _hash(key, path)
        if digest and settled:
            self._store(key, digest)
        return digest

    def _enqueue(self, key: FileKey, path: Path, *, seen: bool) -> None:
        if not seen:  # so that a later version is known to be changed, also after a restart
            self._store(key, "")
        with self._lock:
            if key in self._waiting:
                return
            self._waiting.add(key)
            if self._worker is None:
                self._worker = threading.Thread(
                    target=self._run_queue, name="demo-md5", daemon=True
                )
                self._worker.start()
        self._queue.put((key, path))

    def _run_queue(self) -> None:
        while True:
            key, path = self._queue.get()
            self._compute(key, path)
            with self._lock:
                self._waiting.discard(key)


def md5_of(content: bytes) -> str:
    """Return the md5 of bytes, in hex digits."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _hash(key: FileKey, path: Path) -> str:
    """Return the md5 of a file, in hex digits.

    Return '' if the file cannot be read, or if it no longer matches ``key``.
    """
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
            stat = os.fstat(file.fileno())
    except OSError as error:
        log.warning(
            "the file %r cannot be read, so the file has no md5: %s",
            str(path),
            reason_of(error, path),
        )
        return ""
    # the file may have changed while it was read
    return digest.hexdigest() if _key(path, stat) == key else ""


def _key(path: Path, stat: os.stat_result) -> FileKey:
    times = (stat.st_mtime_ns, stat.st_ctime_ns)
    return (os.fsencode(path), stat.st_size, *times, stat.st_ino)


def _connect(path: Path | None) -> sqlite3.Connection | None:
    database: sqlite3.Connection | None = None
    if path is not None:
        with _ignore_database_errors("opened"):
            path.parent.mkdir(parents=True, exist_ok=True)
            opened = sqlite3.connect(path, timeout=2.0, check_same_thread=False)
            opened.execute(_SCHEMA)
            database = opened
    return database


@contextlib.contextmanager
def _ignore_database_errors(action: str) -> Iterator[None]:
    """Log an error of the SQLite file and continue, because md5 sums can be computed again.

    ``action`` is a word for the log message, such as ``read``.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        log.warning("The database of md5 sums cannot be %s: %s", action, reason_of(error))

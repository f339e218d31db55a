"""md5 sums of files on disk, each computed once and kept across restarts."""

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

log = logging.getLogger(__name__)

#: files above this are hashed in the background, in bytes
LARGE = 64 * 2**20
_BLOCK = 2**20
#: a file that changed within this may change again without a new mtime, in ns
_TICK = 50_000_000
#: what says that a file is still the one that was hashed: path, size, mtime in ns, inode
Key = tuple[bytes, int, int, int]

# A row says that a file with this path, size, modification time (ns) and inode had this md5 (hex).
# The path is bytes: names need not be UTF-8. Only one version of each path is kept.
_SCHEMA = """CREATE TABLE IF NOT EXISTS md5 (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER, md5 TEXT NOT NULL
) WITHOUT ROWID"""


class Digests:
    """md5 sums by (path, size, mtime, inode); in memory, and in a file where one is given."""

    def __init__(self, database: Path | None = None, large: int = LARGE) -> None:
        self._large = large
        self._lock = threading.Lock()
        self._known: dict[bytes, tuple[Key, str]] = {}
        self._waiting: set[Key] = set()
        self._queue: queue.SimpleQueue[tuple[Key, Path]] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._database = _connect(database)

    def md5(self, path: Path, stat: os.stat_result) -> str:
        """The md5 of a file whose ``stat`` was just taken.

        '' while a large file is being hashed in the background, and for a file that cannot be
        read or changes while it is read; it is asked for again then.
        """
        key = (os.fsencode(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)
        found = self._look_up(key)
        if found:
            return found
        if stat.st_size > self._large:
            self._enqueue(key, path)
            return ""
        return self._compute(key, path)

    def _look_up(self, key: Key) -> str:
        with self._lock:
            known, digest = self._known.get(key[0], (None, ""))
            if known == key:
                return digest
            if self._database is None:
                return ""
            with _survived("read"):
                row = self._database.execute(
                    "SELECT md5 FROM md5 WHERE path=? AND size=? AND mtime_ns=? AND inode=?", key
                ).fetchone()
                if row is not None:
                    self._known[key[0]] = key, row[0]
                    return str(row[0])
        return ""

    def _compute(self, key: Key, path: Path) -> str:
        settled = abs(time.time_ns() - key[2]) > _TICK
        digest = _hash(key, path)
        if digest and settled:
            with self._lock:
                self._known[key[0]] = key, digest
                if self._database is not None:
                    with _survived("written"), self._database:
                        self._database.execute(
                            "REPLACE INTO md5 VALUES (?, ?, ?, ?, ?)", (*key, digest)
                        )
        return digest

    def _enqueue(self, key: Key, path: Path) -> None:
        with self._lock:
            if key in self._waiting:
                return
            self._waiting.add(key)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="demo-md5", daemon=True)
                self._worker.start()
        self._queue.put((key, path))

    def _work(self) -> None:
        while True:
            key, path = self._queue.get()
            self._compute(key, path)
            with self._lock:
                self._waiting.discard(key)


def _hash(key: Key, path: Path) -> str:
    """The md5 of exactly the file that ``key`` describes, else ''."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
            stat = os.fstat(file.fileno())
    except OSError as error:
        log.warning("%r cannot be read, so it has no md5: %s", str(path), error.strerror)
        return ""
    same = (stat.st_size, stat.st_mtime_ns, stat.st_ino) == key[1:]
    return digest.hexdigest() if same else ""


def _connect(path: Path | None) -> sqlite3.Connection | None:
    database: sqlite3.Connection | None = None
    if path is not None:
        with _survived("opened"):
            path.parent.mkdir(parents=True, exist_ok=True)
            opened = sqlite3.connect(path, timeout=2.0, check_same_thread=False)
            opened.execute(_SCHEMA)
            database = opened
    return database


@contextlib.contextmanager
def _survived(action: str) -> Iterator[None]:
    """Goes on without the database: it only saves work."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        log.warning("The database of md5 sums cannot be %s: %s", action, error)

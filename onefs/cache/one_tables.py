"""ONE's own tables in the root of the cache folder: ``sessions.pqt`` and ``datasets.pqt``.

The tables are plain files, so that ONE-api can use the folder as its cache directory. The tables
are not datasets: they have no record, are never evicted, and do not count towards a limit. Only
``onefs sync`` writes them.

The two tables are called a pair. A new pair is published by two renames. Before the renames,
``.onefs/tables.json`` is written. This file names the new tables (by inode, size and mtime) and the
former tables of onefs. So at any time, and after any crash, a reader can tell whether the folder
has the new pair, the old pair, or one table of each pair. The mounted tree shows two tables only if
they are of the same pair. Tables that ``tables.json`` does not name belong to another program, and
are neither shown in the tree nor overwritten.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onefs.cache.files import disk_errors, stamp_of
from onefs.config.cache_owner import PRIVATE_FOLDER, claim_cache_folder
from onefs.errors import Busy, UsageError
from onefs.lowlevel.files import (
    fsync_folder,
    inherit_permissions,
    make_folder,
    open_or_create,
    replace_file,
)
from onefs.lowlevel.forking import hold_lock_file
from onefs.lowlevel.locks import lock_file

#: the names of the two tables, in the order in which they are published
TABLE_NAMES = ("datasets.pqt", "sessions.pqt")
#: seconds between the last use of a pair and the time at which a new pair is shown
IDLE_SECONDS = 5.0
#: longest time in seconds for which an old pair is shown because it was read recently
MAX_KEEP_SECONDS = 60.0
_RECORD_NAME = "tables.json"
_WORK_FOLDER_NAME = "tables.part"
_LOCK_NAME = "tables.lock"

#: identifies a file by its inode, size and mtime in ns
FileIdentity = tuple[int, int, int]


@dataclass(eq=False, slots=True)
class OpenTable:
    """One of ONE's two tables in a cache folder. The file is kept open."""

    name: str
    identity: FileIdentity
    fd: int
    #: number of users of ``fd``: its readers, and one more while the table is in the pair that is
    #: shown
    user_count: int = 1

    @property
    def size(self) -> int:
        """Return the size of the file in bytes."""
        return self.identity[1]

    @property
    def mtime(self) -> float:
        """Return the mtime of the file in seconds since the epoch."""
        return self.identity[2] / 1e9


class OneTables:
    """The pair of ONE's tables that the mounted tree shows. Thread-safe.

    A new pair is shown when the old pair was not used for IDLE_SECONDS.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._lock = threading.Lock()
        self._pair: dict[str, OpenTable] = {}
        self._last_used_at = -math.inf
        #: when a new pair was first seen, in seconds of the clock; None if there is no new pair
        self._new_pair_since: float | None = None
        #: tables of former pairs that are still being read
        self._retired: set[OpenTable] = set()

    def close(self) -> None:
        """Close both tables.

        A table that is still being read is closed when its last reader has released the table.
        """
        with self._lock:
            self._replace_pair({})

    def current_pair(self) -> Mapping[str, OpenTable]:
        """Return the two tables that the mounted tree shows, by name. Return {} if there are none.

        The last pair is still shown while the disk fails, or while a sync replaces the tables.
        """
        with self._lock, suppress(OSError):
            current = _tables_in(self._root)
            shown = {name: table.identity for name, table in self._pair.items()}
            if current == shown:
                self._new_pair_since = None
            if current != shown and current in _recorded_pairs(self._root):
                if not self._is_in_use():
                    self._open_pair(current)
            elif len(current) < len(TABLE_NAMES) or not all(
                map(_is_unmodified, self._pair.values())
            ):
                self._replace_pair({})
        return dict(self._pair)

    def acquire(self, name: str, identity: FileIdentity) -> OpenTable | None:
        """Return one of ONE's two tables to read from. Return None if the table is closed already.

        The caller must call :meth:`release` after the last read.
        """
        with self._lock:
            for table in (*self._pair.values(), *self._retired):
                if (table.name, table.identity) == (name, identity):
                    table.user_count += 1
                    self._last_used_at = self._clock()
                    return table
        return None

    def release(self, table: OpenTable) -> None:
        """End the use of a table that :meth:`acquire` returned."""
        with self._lock:
            self._last_used_at = self._clock()
            self._release_user(table)

    def _is_in_use(self) -> bool:
        """Whether the old tables are in use. Then the new tables are not shown yet.

        A recent read counts as use for at most MAX_KEEP_SECONDS.
        """
        # a program opens a table twice (pyarrow: the file's end, then the rows), and then the other
        # table: all must be of the same pair
        now = self._clock()
        if self._new_pair_since is None:
            self._new_pair_since = now
        if any(table.user_count > 1 for table in self._pair.values()):
            return True
        return (
            now - self._last_used_at < IDLE_SECONDS
            and now - self._new_pair_since < MAX_KEEP_SECONDS
        )

    def _open_pair(self, wanted: Mapping[str, FileIdentity]) -> None:
        """Open the tables ``wanted``. The mounted tree shows these tables from now on.

        Nothing is changed if a file was replaced before it could be opened.
        """
        opened: dict[str, OpenTable] = {}
        for name in TABLE_NAMES:
            with suppress(FileNotFoundError):
                fd = os.open(self._root / name, os.O_RDONLY | os.O_CLOEXEC)
                opened[name] = OpenTable(name, stamp_of(os.fstat(fd)), fd)
        if {name: table.identity for name, table in opened.items()} == wanted:
            self._replace_pair(opened)
        else:
            for table in opened.values():
                os.close(table.fd)

    def _replace_pair(self, pair: dict[str, OpenTable]) -> None:
        before, self._pair = self._pair, pair
        self._new_pair_since = None
        for table in before.values():
            self._retired.add(table)
            self._release_user(table)

    def _release_user(self, table: OpenTable) -> None:
        table.user_count -= 1
        if not table.user_count:
            self._retired.discard(table)
            os.close(table.fd)


@contextmanager
def write_tables(root: Path, database: str, source: str, mtime: float) -> Iterator[Path]:
    """Yield an empty folder for new tables. The end of the ``with`` block replaces the old tables.

    - ``database`` is the database to which the cache folder must belong.
    - ``source`` is a text that identifies the data of the new tables. :func:`source_of` returns it.
    - ``mtime`` is the mtime of the new tables, in seconds since the epoch.

    Raises UsageError if the folder belongs to another database, or has tables of another program.
    Raises Busy while another sync writes the tables. Also raises CacheError or CacheFull.
    """
    private = root / PRIVATE_FOLDER
    work = private / _WORK_FOLDER_NAME
    with disk_errors(root):
        make_folder(private, root)
        claim_cache_folder(root, database)
        with hold_lock_file(private / _LOCK_NAME, open_or_create) as lock:
            if not lock_file(lock):
                raise Busy(f"another sync writes the tables in {root}: wait until it ends")
            _check_ownership(root)
            shutil.rmtree(work, ignore_errors=True)
            make_folder(work, root)
            try:
                yield work
                _publish(root, work, source, mtime)
            finally:
                shutil.rmtree(work, ignore_errors=True)


def source_of(root: Path) -> str:
    """Return the text ``source`` of the tables in ``root`` (see :func:`write_tables`).

    Return '' if there are no tables, or if onefs did not write them.
    """
    with suppress(OSError):
        record = _read_record(root)
        if _parse_pair(record.get("files")) == _tables_in(root):
            return str(record.get("source", ""))
    return ""


def _publish(root: Path, work: Path, source: str, mtime: float) -> None:
    for name in TABLE_NAMES:
        os.utime(work / name, (mtime, mtime))
    current = _tables_in(root)
    record = {
        "source": source,
        "files": _tables_in(work),
        # after a crash, the tables may be from onefs, but of different pairs
        "before": current if current in _recorded_pairs(root) else {},
        "replaced": current,
    }
    replace_file(
        root / PRIVATE_FOLDER / _RECORD_NAME,
        json.dumps(record).encode(),
        temporary=work / _RECORD_NAME,
        durable=True,
    )
    fsync_folder(root / PRIVATE_FOLDER)
    for name in TABLE_NAMES:
        inherit_permissions(work / name, root.stat(), 0o666)
        (work / name).replace(root / name)
    fsync_folder(root)


def _check_ownership(root: Path) -> None:
    ours = [*_recorded_pairs(root), _parse_pair(_read_record(root).get("replaced"))]
    for name, current in _tables_in(root).items():
        if not any(each.get(name) == current for each in ours):
            raise UsageError(
                f"{root / name} was not written by onefs, so onefs does not replace this file: to "
                "get the tables of onefs, move this file away"
            )


def _recorded_pairs(root: Path) -> list[dict[str, FileIdentity]]:
    """Return the two pairs of tables that ``tables.json`` names: the new and the former pair.

    A pair is {} if ``tables.json`` does not name the pair.
    """
    record = _read_record(root)
    return [_parse_pair(record.get("files")), _parse_pair(record.get("before"))]


def _tables_in(folder: Path) -> dict[str, FileIdentity]:
    """Return the inode, size and mtime of each of ONE's tables in a folder, by name.

    The tables may have been written by onefs or by another program.
    """
    tables = {}
    for name in TABLE_NAMES:
        with suppress(FileNotFoundError):
            tables[name] = stamp_of((folder / name).lstat())
    return tables


def _parse_pair(value: Any) -> dict[str, FileIdentity]:
    """Return the inode, size and mtime of each table, by name, from a value in ``tables.json``.

    Return {} if the value is invalid.
    """
    try:
        return {name: (value[name][0], value[name][1], value[name][2]) for name in value}
    except (TypeError, KeyError, IndexError):
        return {}


def _read_record(root: Path) -> dict[str, Any]:
    """Return the content of ``tables.json``. Return {} if the file is missing or invalid."""
    try:
        record = json.loads((root / PRIVATE_FOLDER / _RECORD_NAME).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _is_unmodified(table: OpenTable) -> bool:
    """Return True if no program has written to a table since onefs opened the table."""
    return stamp_of(os.fstat(table.fd)) == table.identity

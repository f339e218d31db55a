"""ONE's own tables in the root of the cache folder: ``sessions.pqt`` and ``datasets.pqt``.

They are plain files, so that the folder by itself is a cache directory of ONE-api. They are not
datasets: they have no record, are never evicted, and do not count towards a limit. Only
``onefs sync`` writes them.

A pair is published by two renames. ``.onefs/tables.json``, which is written before the renames,
names the new files (by inode, size and mtime) and the former ones of onefs. So at any instant, and
after any crash, a reader recognizes the new pair, the old one, or a mixture, which is not shown.
Tables that it does not name belong to another program: they are neither shown nor overwritten.
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

#: the files, in the order in which they are published
TABLE_NAMES = ("datasets.pqt", "sessions.pqt")
#: seconds after the last use of a pair until a new pair is shown
IDLE_SECONDS = 5.0
#: longest time in seconds for which an old pair is shown because it was just used
MAX_KEEP_SECONDS = 60.0
_RECORD_NAME = "tables.json"
_WORK_FOLDER_NAME = "tables.part"
_LOCK_NAME = "tables.lock"

#: identifies a file: inode, size, mtime in ns
FileIdentity = tuple[int, int, int]


@dataclass(eq=False, slots=True)
class OpenTable:
    """One table of a pair, held open."""

    name: str
    identity: FileIdentity
    fd: int
    #: readers of ``fd``; the pair that is shown counts as one
    user_count: int = 1

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.identity[1]

    @property
    def mtime(self) -> float:
        """Seconds since the epoch."""
        return self.identity[2] / 1e9


class OneTables:
    """The pair of tables that a cache folder shows. Thread-safe.

    A new pair is shown once the old one was not read for IDLE_SECONDS: a program opens a table
    twice (pyarrow reads its end, then its rows), and then opens the other one.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._lock = threading.Lock()
        self._pair: dict[str, OpenTable] = {}
        self._last_used_at = -math.inf
        #: since when there is a new pair (seconds of the clock)
        self._new_pair_since: float | None = None
        #: tables of former pairs that are still being read
        self._retired: set[OpenTable] = set()

    def close(self) -> None:
        """Close the pair, once it is not being read any more."""
        with self._lock:
            self._replace_pair({})

    def current_pair(self) -> Mapping[str, OpenTable]:
        """The tables by name: both, or none. The pair stays the same while the disk fails.

        While a sync renames the tables, and after one that was killed doing so, the pair that was
        shown before is still shown.
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
        """A table to read from until :meth:`release`; None if it is not shown any more."""
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
        """Whether the new pair must wait, because the old one is being read, or was read recently
        (then for MAX_KEEP_SECONDS at most)."""
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
        """Show the ``wanted`` files, unless they were replaced before they were open."""
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
    """Yield an empty folder for new tables, which replace the old ones at the end.

    ``source`` is what :func:`source_of` will return for them, ``mtime`` their mtime in seconds
    since the epoch. Raises UsageError if the cache folder belongs to another database than
    ``database`` or has tables that onefs did not write, Busy while another sync writes them,
    CacheError or CacheFull.
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
    """The source that the current pair was made from; '' if there is no pair of onefs."""
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
        # a mixture left by a crash belongs to onefs, but is no pair
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
                f"{root / name} was not written by onefs, and is left as it is: to have onefs's, "
                "move it away"
            )


def _recorded_pairs(root: Path) -> list[dict[str, FileIdentity]]:
    """The pairs that the record names: the new one, and the one before."""
    record = _read_record(root)
    return [_parse_pair(record.get("files")), _parse_pair(record.get("before"))]


def _tables_in(folder: Path) -> dict[str, FileIdentity]:
    """The tables in a folder, whichever program wrote them."""
    tables = {}
    for name in TABLE_NAMES:
        with suppress(FileNotFoundError):
            tables[name] = stamp_of((folder / name).lstat())
    return tables


def _parse_pair(value: Any) -> dict[str, FileIdentity]:
    """A pair of the record; {} if it is invalid."""
    try:
        return {name: (value[name][0], value[name][1], value[name][2]) for name in value}
    except (TypeError, KeyError, IndexError):
        return {}


def _read_record(root: Path) -> dict[str, Any]:
    """The record; {} if there is none, or an invalid one."""
    try:
        record = json.loads((root / PRIVATE_FOLDER / _RECORD_NAME).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _is_unmodified(table: OpenTable) -> bool:
    """Whether no program has written to an open table."""
    return stamp_of(os.fstat(table.fd)) == table.identity

"""ONE's own tables in the root of the cache folder: ``sessions.pqt`` and ``datasets.pqt``.

They are plain files, so that the folder by itself is a cache directory of ONE-api. They are not
datasets: no record, no eviction, no share of a limit; ``onefs sync`` alone writes them.

A pair is published by two renames, and something must say which files belong together and which
are ours: ``.onefs/tables.json``, which is written before the renames and names the new files (by
inode, size and mtime) and those of ours that stood there before. So whoever looks, at any instant
and after any crash, knows the new pair, the old one, or a mixture, which is shown to nobody. A
table that it does not name is somebody else's, and is neither shown nor overwritten.
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

from onefs.cache.files import disk_errors
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
#: seconds from the last use of a pair to the next pair
IDLE_SECONDS = 5.0
#: seconds for which a pair that is used again and again is kept
MAX_KEEP_SECONDS = 60.0
_RECORD_NAME = "tables.json"
_WORK_FOLDER_NAME = "tables.part"
_LOCK_NAME = "tables.lock"

#: a file as ``stat`` tells it from others: inode, size, mtime in ns
FileIdentity = tuple[int, int, int]


@dataclass(eq=False, slots=True)
class OpenTable:
    """One file of a pair, held open."""

    name: str
    identity: FileIdentity
    fd: int
    #: who reads from ``fd``; the pair that is shown counts as one
    user_count: int = 1

    @property
    def size(self) -> int:
        return self.identity[1]

    @property
    def mtime(self) -> float:
        """Seconds since the epoch."""
        return self.identity[2] / 1e9


class OneTables:
    """The pair that a cache folder has, as whoever shows it needs it. Thread-safe.

    A new pair is shown once nobody has read the old one for IDLE_SECONDS seconds: who reads a table
    opens it twice (pyarrow: its end, then its rows), and then the other one.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._lock = threading.Lock()
        self._pair: dict[str, OpenTable] = {}
        self._last_used_at = -math.inf
        #: since when another pair stands there
        self._new_pair_since: float | None = None
        #: pairs that were replaced, while somebody reads them
        self._retired: set[OpenTable] = set()

    def close(self) -> None:
        """Let go of the pair; who reads it goes on."""
        with self._lock:
            self._replace_pair({})

    def current_pair(self) -> Mapping[str, OpenTable]:
        """The tables by name: both, or none. What is shown stays while the disk fails.

        While a sync renames them, and after one that was killed then, the pair before stands for
        who has shown it.
        """
        with self._lock, suppress(OSError):
            standing = _tables_in(self._root)
            shown = {name: table.identity for name, table in self._pair.items()}
            if standing == shown:
                self._new_pair_since = None
            if standing != shown and standing in _recorded_pairs(self._root):
                if not self._is_in_use():
                    self._open_pair(standing)
            elif len(standing) < len(TABLE_NAMES) or not all(
                map(_is_unmodified, self._pair.values())
            ):
                self._replace_pair({})
        return dict(self._pair)

    def acquire(self, name: str, identity: FileIdentity) -> OpenTable | None:
        """A table to read from until :meth:`release`; None when it is gone."""
        with self._lock:
            for table in (*self._pair.values(), *self._retired):
                if (table.name, table.identity) == (name, identity):
                    table.user_count += 1
                    self._last_used_at = self._clock()
                    return table
        return None

    def release(self, table: OpenTable) -> None:
        """The end of what :meth:`hold` began."""
        with self._lock:
            self._last_used_at = self._clock()
            self._release_user(table)

    def _is_in_use(self) -> bool:
        """Whether the new pair is to wait; if only the last use is near, not for longer than
        PATIENCE."""
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
        """Show these files, if they are still there when they are open."""
        found: dict[str, OpenTable] = {}
        for name in TABLE_NAMES:
            with suppress(FileNotFoundError):
                fd = os.open(self._root / name, os.O_RDONLY | os.O_CLOEXEC)
                found[name] = OpenTable(name, _identity_of(os.fstat(fd)), fd)
        if {name: table.identity for name, table in found.items()} == wanted:
            self._replace_pair(found)
        else:
            for table in found.values():
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
    """An empty folder for new tables, which take the place of the old ones at the end.

    ``source`` is what :func:`source_of` will say of them, ``mtime`` (seconds since the epoch) is
    theirs. Raises UsageError when the cache folder belongs to another database than ``database``
    or has tables that onefs did not write, Busy while another sync is at it, CacheError or
    CacheFull.
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
    """What the pair that stands there was made from; '' when there is no pair of ours."""
    with suppress(OSError):
        record = _read_record(root)
        if _parse_pair(record.get("files")) == _tables_in(root):
            return str(record.get("source", ""))
    return ""


def _publish(root: Path, work: Path, source: str, mtime: float) -> None:
    for name in TABLE_NAMES:
        os.utime(work / name, (mtime, mtime))
    standing = _tables_in(root)
    record = {
        "source": source,
        "files": _tables_in(work),
        # a mixture that a crash has left is ours, but no pair
        "before": standing if standing in _recorded_pairs(root) else {},
        "replaced": standing,
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
    for name, standing in _tables_in(root).items():
        if not any(each.get(name) == standing for each in ours):
            raise UsageError(
                f"{root / name} was not written by onefs, and is left as it is: to have onefs's, "
                "move it away"
            )


def _recorded_pairs(root: Path) -> list[dict[str, FileIdentity]]:
    """The files that belong together by the record: the new ones, and those before."""
    record = _read_record(root)
    return [_parse_pair(record.get("files")), _parse_pair(record.get("before"))]


def _tables_in(folder: Path) -> dict[str, FileIdentity]:
    """The tables that stand in a folder, whoseever they are."""
    found = {}
    for name in TABLE_NAMES:
        with suppress(FileNotFoundError):
            found[name] = _identity_of((folder / name).lstat())
    return found


def _parse_pair(said: Any) -> dict[str, FileIdentity]:
    """What the record says of a pair; {} for what nobody can read."""
    try:
        return {name: (said[name][0], said[name][1], said[name][2]) for name in said}
    except (TypeError, KeyError, IndexError):
        return {}


def _read_record(root: Path) -> dict[str, Any]:
    """The record; {} when there is none that can be read."""
    try:
        found = json.loads((root / PRIVATE_FOLDER / _RECORD_NAME).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _identity_of(found: os.stat_result) -> FileIdentity:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _is_unmodified(table: OpenTable) -> bool:
    """Whether nobody has written into an open table since."""
    return _identity_of(os.fstat(table.fd)) == table.identity

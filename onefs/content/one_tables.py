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

import errno
import fcntl
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

from onefs.content.files import disk_errors
from onefs.descriptors import create, make_folder, share_like, sync_folder
from onefs.errors import Busy, UsageError
from onefs.forking import lock_file
from onefs.owner import PRIVATE, claim

#: the files, in the order in which they are published
NAMES = ("datasets.pqt", "sessions.pqt")
#: seconds from the last use of a pair to the next pair
SETTLED = 5.0
#: seconds for which a pair that is used again and again is kept
PATIENCE = 60.0
_RECORD = "tables.json"
_WORK = "tables.part"
_LOCK = "tables.lock"

#: a file as ``stat`` tells it from others: inode, size, mtime in ns
Identity = tuple[int, int, int]


@dataclass(eq=False, slots=True)
class Table:
    """One file of a pair, held open."""

    name: str
    identity: Identity
    fd: int
    #: who reads from ``fd``; the pair that is shown counts as one
    users: int = 1

    @property
    def size(self) -> int:
        return self.identity[1]

    @property
    def mtime(self) -> float:
        """Seconds since the epoch."""
        return self.identity[2] / 1e9


class OneTables:
    """The pair that a cache folder has, as whoever shows it needs it. Thread-safe.

    A new pair is shown once nobody has read the old one for SETTLED seconds: who reads a table
    opens it twice (pyarrow: its end, then its rows), and then the other one.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._lock = threading.Lock()
        self._pair: dict[str, Table] = {}
        self._used = -math.inf
        #: since when another pair stands there
        self._waiting: float | None = None
        #: pairs that were replaced, while somebody reads them
        self._retired: set[Table] = set()

    def close(self) -> None:
        """Let go of the pair; who reads it goes on."""
        with self._lock:
            self._show({})

    def pair(self) -> Mapping[str, Table]:
        """The tables by name: both, or none. What is shown stays while the disk fails.

        While a sync renames them, and after one that was killed then, the pair before stands for
        who has shown it.
        """
        with self._lock, suppress(OSError):
            standing = _standing(self._root)
            shown = {name: table.identity for name, table in self._pair.items()}
            if standing == shown:
                self._waiting = None
            if standing != shown and standing in _pairs(self._root):
                if not self._is_used():
                    self._take(standing)
            elif len(standing) < len(NAMES) or not all(map(_is_whole, self._pair.values())):
                self._show({})
        return dict(self._pair)

    def hold(self, name: str, identity: Identity) -> Table | None:
        """A table to read from until :meth:`release`; None when it is gone."""
        with self._lock:
            for table in (*self._pair.values(), *self._retired):
                if (table.name, table.identity) == (name, identity):
                    table.users += 1
                    self._used = self._clock()
                    return table
        return None

    def release(self, table: Table) -> None:
        """The end of what :meth:`hold` began."""
        with self._lock:
            self._used = self._clock()
            self._drop(table)

    def _is_used(self) -> bool:
        """Whether the new pair is to wait; if only the last use is near, not for longer than
        PATIENCE."""
        now = self._clock()
        if self._waiting is None:
            self._waiting = now
        if any(table.users > 1 for table in self._pair.values()):
            return True
        return now - self._used < SETTLED and now - self._waiting < PATIENCE

    def _take(self, wanted: Mapping[str, Identity]) -> None:
        """Show these files, if they are still there when they are open."""
        found: dict[str, Table] = {}
        for name in NAMES:
            with suppress(FileNotFoundError):
                fd = os.open(self._root / name, os.O_RDONLY | os.O_CLOEXEC)
                found[name] = Table(name, _of(os.fstat(fd)), fd)
        if {name: table.identity for name, table in found.items()} == wanted:
            self._show(found)
        else:
            for table in found.values():
                os.close(table.fd)

    def _show(self, pair: dict[str, Table]) -> None:
        before, self._pair = self._pair, pair
        self._waiting = None
        for table in before.values():
            self._retired.add(table)
            self._drop(table)

    def _drop(self, table: Table) -> None:
        table.users -= 1
        if not table.users:
            self._retired.discard(table)
            os.close(table.fd)


@contextmanager
def making(root: Path, database: str, source: str, mtime: float) -> Iterator[Path]:
    """An empty folder for new tables, which take the place of the old ones at the end.

    ``source`` is what :func:`made_from` will say of them, ``mtime`` (seconds since the epoch) is
    theirs. Raises UsageError when the cache folder belongs to another database than ``database``
    or has tables that onefs did not write, Busy while another sync is at it, CacheError or
    CacheFull.
    """
    private = root / PRIVATE
    work = private / _WORK
    with disk_errors(root):
        make_folder(private, root)
        claim(root, database)
        with lock_file(private / _LOCK, create) as lock:
            _take_lock(lock, root)
            _refuse_others(root)
            shutil.rmtree(work, ignore_errors=True)
            make_folder(work, root)
            try:
                yield work
                _publish(root, work, source, mtime)
            finally:
                shutil.rmtree(work, ignore_errors=True)


def made_from(root: Path) -> str:
    """What the pair that stands there was made from; '' when there is no pair of ours."""
    with suppress(OSError):
        record = _read(root)
        if _pair_of(record.get("files")) == _standing(root):
            return str(record.get("source", ""))
    return ""


def _publish(root: Path, work: Path, source: str, mtime: float) -> None:
    for name in NAMES:
        os.utime(work / name, (mtime, mtime))
    standing = _standing(root)
    record = {
        "source": source,
        "files": _standing(work),
        # a mixture that a crash has left is ours, but no pair
        "before": standing if standing in _pairs(root) else {},
        "replaced": standing,
    }
    fresh = work / _RECORD
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(record, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(root / PRIVATE / _RECORD)
    sync_folder(root / PRIVATE)
    for name in NAMES:
        share_like(work / name, root.stat(), 0o666)
        (work / name).replace(root / name)
    sync_folder(root)


def _refuse_others(root: Path) -> None:
    ours = [*_pairs(root), _pair_of(_read(root).get("replaced"))]
    for name, standing in _standing(root).items():
        if not any(each.get(name) == standing for each in ours):
            raise UsageError(
                f"{root / name} was not written by onefs, and is left as it is: to have onefs's, "
                "move it away"
            )


def _pairs(root: Path) -> list[dict[str, Identity]]:
    """The files that belong together by the record: the new ones, and those before."""
    record = _read(root)
    return [_pair_of(record.get("files")), _pair_of(record.get("before"))]


def _standing(folder: Path) -> dict[str, Identity]:
    """The tables that stand in a folder, whoseever they are."""
    found = {}
    for name in NAMES:
        with suppress(FileNotFoundError):
            found[name] = _of((folder / name).lstat())
    return found


def _pair_of(said: Any) -> dict[str, Identity]:
    """What the record says of a pair; {} for what nobody can read."""
    try:
        return {name: (said[name][0], said[name][1], said[name][2]) for name in said}
    except (TypeError, KeyError, IndexError):
        return {}


def _read(root: Path) -> dict[str, Any]:
    """The record; {} when there is none that can be read."""
    try:
        found = json.loads((root / PRIVATE / _RECORD).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _of(found: os.stat_result) -> Identity:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _is_whole(table: Table) -> bool:
    """Whether nobody has written into an open table since."""
    return _of(os.fstat(table.fd)) == table.identity


def _take_lock(lock: int, root: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            raise Busy(f"another sync writes the tables in {root}: wait until it ends") from None
        # a file system without locks: then nobody else is kept out

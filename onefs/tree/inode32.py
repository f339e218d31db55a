"""Inode numbers that 32-bit programs can hold: given out one by one, and kept.

The tree's own numbers have 63 bits. A 32-bit program without large-file support gets EOVERFLOW
for them, and sees folders as empty. Cut to 32 bits they would collide: of 100,000 files about
one has the number of another. So each is given the next number that is free, which a SQLite file
in the state folder keeps, so that a remount shows the same ones.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from onefs.errors import CacheError
from onefs.lowlevel.sqlite_file import SqliteFile
from onefs.tree.nodes import Handle, Node, Tree

#: the file's name in the state folder
INODES_FILENAME = "inodes.sqlite"
#: one more than the largest number that is given out
INODE_LIMIT = 2**32
#: the root's number, which is the tree's own; 0 stands for "no file" in many programs
ROOT_INODE = 1

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS inodes (wide INTEGER PRIMARY KEY, narrow INTEGER NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS next_number (id INTEGER PRIMARY KEY CHECK (id = 0), number INTEGER);
"""
#: numbers that each mount sets aside for the time when the file is locked or its disk is full;
#: those that it does not use are lost, which half a million mounts may do
_RESERVED_NUMBERS = 4096
#: numbers that are kept in memory: about 150 bytes each
_MAX_CACHED_NUMBERS = 50_000
#: numbers that one statement asks for
_NUMBERS_PER_QUERY = 500
#: seconds after a failure for which the file is not written to: a listing must not wait each time
_WRITE_RETRY_SECONDS = 5.0

log = logging.getLogger(__name__)


class InodeNumbers:
    """The numbers of one state folder, which several processes may share. Thread-safe.

    While the file cannot be written, numbers come from a reserve that no other process has, and
    are kept when it can be written again. Without any left, the tree's own number is shown, as it
    is without ``--inode32``. Raises CacheError when the file cannot be opened at first.
    """

    def __init__(
        self, path: Path, limit: int = INODE_LIMIT, reserve: int = _RESERVED_NUMBERS
    ) -> None:
        self._file = SqliteFile(path, _SCHEMA, _SCHEMA_VERSION, "the file of inode numbers")
        self._limit = limit
        self._lock = threading.Lock()
        #: numbers by the tree's own
        self._cached: dict[int, int] = {}
        #: those of them that the file does not have yet
        self._unsaved: dict[int, int] = {}
        self._reserve_size = reserve
        self._reserve = range(0)
        #: when the file may be written to again (``time.monotonic``)
        self._retry_at = 0.0
        #: texts of troubles that were logged
        self._logged: set[str] = set()
        with self._lock:
            self._assign([])

    def close(self) -> None:
        """Keep what is not kept yet, and close the file."""
        with self._lock:
            if self._unsaved:
                self._retry_at = 0.0
                self._load_or_assign([])
            self._file.close()

    def get_or_assign(self, wide: Sequence[int]) -> list[int]:
        """Return the numbers of things, by the tree's own numbers of them."""
        known = self._cached
        found = [known.get(each, 0) for each in wide]
        if 0 not in found:
            return found
        with self._lock:
            if len(self._cached) + len(wide) > _MAX_CACHED_NUMBERS:
                # a new dictionary, since other threads look at the one that is there
                self._cached = dict(self._unsaved)
            self._load_or_assign([each for each in dict.fromkeys(wide) if each not in self._cached])
            return [self._cached.get(each, each) for each in wide]

    def _load_or_assign(self, missing: Sequence[int]) -> None:
        """Put numbers of all of ``missing`` into memory, as far as there are any."""
        try:
            self._cached.update(self._read_assigned(missing))
            new = [each for each in missing if each not in self._cached]
            if (new or self._unsaved) and time.monotonic() >= self._retry_at:
                self._assign(new)
        except CacheError as error:
            self._retry_at = time.monotonic() + _WRITE_RETRY_SECONDS
            self._log_once(f"new inode numbers cannot be kept for now: {error}")
        self._assign_from_reserve([each for each in missing if each not in self._cached])

    def _read_assigned(self, wide: Sequence[int]) -> dict[int, int]:
        """Return the numbers that the file has; a reader does not wait for who writes."""
        found: dict[int, int] = {}
        for start in range(0, len(wide), _NUMBERS_PER_QUERY):
            part = wide[start : start + _NUMBERS_PER_QUERY]
            marks = ",".join("?" * len(part))
            query = f"SELECT wide, narrow FROM inodes WHERE wide IN ({marks})"
            found.update(self._file.fetch_rows(query, *part))
        return found

    def _assign(self, wide: Sequence[int]) -> None:
        """Give out the next numbers in one transaction; renew the reserve if little is left."""
        lacking = 0 if 2 * len(self._reserve) > self._reserve_size else self._reserve_size
        with self._file.transaction() as connection:
            first = _next_number(connection, self._limit)
            # never more than there are: what is left out keeps the tree's own number
            given = dict(zip(wide, range(first, self._limit), strict=False))
            reserved = range(first + len(given), min(first + len(given) + lacking, self._limit))
            rows = [(ROOT_INODE, ROOT_INODE), *self._unsaved.items(), *given.items()]
            # another process may have given one of them a number since it was read
            connection.executemany("INSERT OR IGNORE INTO inodes VALUES (?, ?)", rows)
            number = first + len(given) + len(reserved)
            connection.execute("REPLACE INTO next_number VALUES (0, ?)", (number,))
        self._unsaved.clear()
        self._reserve = reserved if lacking else self._reserve
        self._cached.update(self._read_assigned(wide))
        if len(given) < len(wide):
            self._log_once(
                f"all inode numbers below {self._limit} are given out: new files keep their long "
                f"ones. To begin anew, unmount, and remove {INODES_FILENAME} in the state folder"
            )

    def _assign_from_reserve(self, wide: Sequence[int]) -> None:
        taken = dict(zip(wide, self._reserve, strict=False))
        self._reserve = self._reserve[len(taken) :]
        self._cached.update(taken)
        self._unsaved.update(taken)

    def _log_once(self, trouble: str) -> None:
        if trouble not in self._logged:
            self._logged.add(trouble)
            log.warning("%s", trouble)


class Inode32Tree:
    """A tree whose inode numbers fit into 32 bits (see ``onefs.tree.nodes.Tree``)."""

    def __init__(self, tree: Tree, numbers: InodeNumbers) -> None:
        self._tree = tree
        self._numbers = numbers
        self.target = tree.target
        self.xattrs = tree.xattrs
        self.space = tree.space

    def node(self, path: str) -> Node:
        node = self._tree.node(path)
        [number] = self._numbers.get_or_assign((node.ino,))
        return _with_inode(node, number)

    def children(self, path: str) -> list[tuple[str, Node]]:
        """The listed children; those without numbers get theirs in one transaction."""
        found = self._tree.children(path)
        numbers = self._numbers.get_or_assign([node.ino for _, node in found])
        return [
            (name, _with_inode(node, number))
            for (name, node), number in zip(found, numbers, strict=True)
        ]

    def open(self, path: str) -> Handle:
        return self._tree.open(path)


def _with_inode(node: Node, number: int) -> Node:
    return Node(node.kind, number, node.size, node.mtime)


def _next_number(connection: sqlite3.Connection, limit: int) -> int:
    """Return the number to give out next. Called in a transaction.

    A new file does not begin at the same number as one that was lost: processes that run may still
    show numbers of that one.
    """
    found = connection.execute("SELECT number FROM next_number").fetchone()
    return int(found[0]) if found is not None else random.randrange(ROOT_INODE + 1, limit // 2)

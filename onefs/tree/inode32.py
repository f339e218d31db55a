"""Inode numbers of 32 bits, for 32-bit programs. Numbers are assigned in sequence, and stored.

The tree's own inode numbers have 63 bits. A 32-bit program without large-file support gets
EOVERFLOW for such numbers, and sees folders as empty. If the numbers were truncated to 32 bits, two
files could have the same number. This would happen about once among 100,000 files. So each file
gets the next free number. Numbers are stored in a SQLite file in the state folder (the folder
for onefs's databases), so that each file has the same number after a remount.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from onefs.errors import CacheError
from onefs.lowlevel.files import own_random
from onefs.lowlevel.sqlite_file import SqliteFile
from onefs.tree.nodes import Handle, ListedEntry, Node, Tree

#: the file's name in the state folder
INODES_FILENAME = "inodes.sqlite"
#: one more than the largest inode number that may be assigned
INODE_LIMIT = 2**32
#: the root's inode number. The root has this number without this module, too. It is not 0, because
#: for many programs 0 means "no file".
ROOT_INODE = 1

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS inodes (wide INTEGER PRIMARY KEY, narrow INTEGER NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS next_number (id INTEGER PRIMARY KEY CHECK (id = 0), number INTEGER);
"""
#: how many inode numbers each mount reserves for times when the file is locked or the disk is full.
#: Unused reserved numbers are lost; there are enough numbers for at least 500,000 mounts
_RESERVED_NUMBERS = 4096
#: how many inode numbers are kept in memory; each needs about 150 bytes
_MAX_CACHED_NUMBERS = 50_000
#: how many inode numbers are looked up with one SQL statement
_NUMBERS_PER_QUERY = 500
#: seconds without writing to the file after a failed write, so that listings do not wait
_WRITE_RETRY_SECONDS = 5.0

log = logging.getLogger(__name__)


class InodeNumbers:
    """The 32-bit inode numbers that are stored in the SQLite file ``path``. Thread-safe.

    Several processes may share the file.

    - ``limit``: one more than the largest 32-bit number
    - ``reserve``: how many numbers this object takes from the file in advance, to assign them while
      the file cannot be written

    If no number is free, an entry keeps the tree's own number, which has 63 bits. Raises
    CacheError if the file cannot be opened.
    """

    def __init__(
        self, path: Path, limit: int = INODE_LIMIT, reserve: int = _RESERVED_NUMBERS
    ) -> None:
        self._file = SqliteFile(path, _SCHEMA, _SCHEMA_VERSION, "the file of inode numbers")
        self._limit = limit
        self._lock = threading.Lock()
        #: 32-bit numbers by the tree's own numbers
        self._cached: dict[int, int] = {}
        #: the part of ``_cached`` that the file does not contain yet
        self._unsaved: dict[int, int] = {}
        # numbers from the reserve are stored when the file can be written again
        self._reserve_size = reserve
        self._reserve = range(0)
        #: time at which the file may be written to again (``time.monotonic``)
        self._retry_at = 0.0
        #: messages that were already logged
        self._logged: set[str] = set()
        with self._lock:
            self._assign([])

    def close(self) -> None:
        """Store the numbers that the file does not contain yet, and close the file."""
        with self._lock:
            if self._unsaved:
                self._retry_at = 0.0
                self._load_or_assign([])
            self._file.close()

    def get_or_assign(self, wide: Sequence[int]) -> list[int]:
        """Return a 32-bit number for each of the tree's own numbers ``wide``, in the same order.

        New numbers are assigned and stored. If no 32-bit number is free, the tree's own number is
        returned.
        """
        cached = self._cached
        numbers = [cached.get(each, 0) for each in wide]
        if 0 not in numbers:
            return numbers
        with self._lock:
            if len(self._cached) + len(wide) > _MAX_CACHED_NUMBERS:
                # a new dictionary, because other threads read the old one without the lock
                self._cached = dict(self._unsaved)
            self._load_or_assign([each for each in dict.fromkeys(wide) if each not in self._cached])
            return [self._cached.get(each, each) for each in wide]

    def _load_or_assign(self, missing: Sequence[int]) -> None:
        """Put 32-bit numbers for the tree's own numbers ``missing`` into the cache in memory.

        If too few 32-bit numbers are free, some of ``missing`` get none.
        """
        # numbers that the file contains, then new numbers
        try:
            self._cached.update(self._read_assigned(missing))
            new = [each for each in missing if each not in self._cached]
            if (new or self._unsaved) and time.monotonic() >= self._retry_at:
                self._assign(new)
        except CacheError as error:
            self._retry_at = time.monotonic() + _WRITE_RETRY_SECONDS
            self._log_once(f"new inode numbers cannot be stored for now: {error}")
        self._assign_from_reserve([each for each in missing if each not in self._cached])

    def _read_assigned(self, wide: Sequence[int]) -> dict[int, int]:
        """Return the stored 32-bit numbers, by the tree's own numbers ``wide``.

        Numbers that are not stored are left out.
        """
        # reading does not wait for processes that write
        assigned: dict[int, int] = {}
        for start in range(0, len(wide), _NUMBERS_PER_QUERY):
            part = wide[start : start + _NUMBERS_PER_QUERY]
            marks = ",".join("?" * len(part))
            query = f"SELECT wide, narrow FROM inodes WHERE wide IN ({marks})"
            assigned.update(self._file.fetch_rows(query, *part))
        return assigned

    def _assign(self, wide: Sequence[int]) -> None:
        """Assign the next 32-bit numbers to ``wide``, and store these numbers."""
        # If half of the reserve is used, a new one is taken in the same transaction. The used
        # numbers of the old reserve are stored, too.
        lacking = 0 if 2 * len(self._reserve) > self._reserve_size else self._reserve_size
        with self._file.transaction() as connection:
            first = _next_number(connection, self._limit)
            # if the range is too short, the remaining files keep the tree's own number
            assigned = dict(zip(wide, range(first, self._limit), strict=False))
            end = first + len(assigned)
            reserved = range(end, min(end + lacking, self._limit))
            rows = [(ROOT_INODE, ROOT_INODE), *self._unsaved.items(), *assigned.items()]
            # since the file was read, another process may have assigned a number to the same file
            connection.executemany("INSERT OR IGNORE INTO inodes VALUES (?, ?)", rows)
            connection.execute("REPLACE INTO next_number VALUES (0, ?)", (end + len(reserved),))
        self._unsaved.clear()
        self._reserve = reserved if lacking else self._reserve
        self._cached.update(self._read_assigned(wide))
        if len(assigned) < len(wide):
            self._log_once(
                f"all inode numbers below {self._limit} are assigned: new files have longer "
                "numbers, which 32-bit programs cannot hold. To assign all numbers again, unmount, "
                f"and remove {INODES_FILENAME} in the state folder"
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

    def entries(self, path: str) -> list[ListedEntry]:
        """Return the entries of a folder's listing, with 32-bit inode numbers."""
        entries = self._tree.entries(path)
        # new numbers are assigned in one transaction
        numbers = self._numbers.get_or_assign([ino for _, _, ino, _, _ in entries])
        return [
            (name, kind, number, size, mtime)
            for (name, kind, _, size, mtime), number in zip(entries, numbers, strict=True)
        ]

    def node(self, path: str) -> Node:
        return self._with_number(self._tree.node(path))

    def open(self, path: str) -> tuple[Node, Handle]:
        node, handle = self._tree.open(path)
        return self._with_number(node), handle

    def children(self, path: str) -> list[tuple[str, Node]]:
        """Return the names and nodes (values of ``stat``) of a folder's listed children.

        The nodes have 32-bit inode numbers.
        """
        children = self._tree.children(path)
        # new numbers are assigned in one transaction
        numbers = self._numbers.get_or_assign([node.ino for _, node in children])
        return [
            (name, _with_inode(node, number))
            for (name, node), number in zip(children, numbers, strict=True)
        ]

    def _with_number(self, node: Node) -> Node:
        [number] = self._numbers.get_or_assign((node.ino,))
        return _with_inode(node, number)


def _with_inode(node: Node, number: int) -> Node:
    return Node(node.kind, number, node.size, node.mtime)


def _next_number(connection: sqlite3.Connection, limit: int) -> int:
    """Return the 32-bit number to assign next. The caller must have begun a transaction."""
    row = connection.execute("SELECT number FROM next_number").fetchone()
    # the first number in a new file is random, because running mounts may still show numbers from a
    # deleted file
    return int(row[0]) if row is not None else own_random.randrange(ROOT_INODE + 1, limit // 2)

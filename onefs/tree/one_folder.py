"""What makes the mount a cache folder for ONE-api: its two tables, and ``.rest``.

ONE reads ``*.pqt`` in the root, and keeps Alyx's answers in ``.rest``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock

from onefs.alf import ROOT_FILES
from onefs.content.one_tables import OneTables, Table
from onefs.model import Dataset
from onefs.tree.nodes import Handle, Kind, Node, inode_of_path
from onefs.tree.opened import HeldHandle, Opened
from onefs.tree.rest import REST, RestLink
from onefs.tree.shape import SessionShape


class OneFolder:
    """The tables and the link of one mount. Thread-safe.

    A pair that a sync replaces is a dataset that is replaced (see ``onefs.tree.opened``): who has
    a table open keeps it, and while anybody has, its path is the old table for everybody.
    """

    def __init__(self, tables: OneTables, opened: Opened, rest: RestLink | None) -> None:
        self._tables = tables
        self._opened = opened
        self._rest = rest
        self._lock = Lock()
        #: the last pair that there was
        self._seen: Mapping[str, Table] = {}
        #: what the kernel has pages of
        self._kept: dict[str, Dataset] = {}

    def children(self) -> dict[str, TableFile]:
        """The tables that there are: both, or none."""
        pair = self._tables.pair()
        with self._lock:
            before, self._seen = self._seen, pair or self._seen
        if pair and before and pair != before:
            self._opened.listed_anew((), _shape(before), _shape(pair))
        return {name: TableFile(self, _dataset(table)) for name, table in sorted(pair.items())}

    def child(self, name: str) -> TableFile | RestLink | None:
        """One of them, or ``.rest``."""
        if name == REST:
            return self._rest
        return self.children().get(name) if name in ROOT_FILES else None

    def shown(self, dataset: Dataset) -> Dataset:
        """What stands at the path of a table for now."""
        return self._opened.shown(dataset, (dataset.name,))

    def open(self, dataset: Dataset) -> Handle:
        """Open a table. Raises ESTALE where the kernel is to look it up again first."""
        place = (dataset.name,)
        held = self._opened.hold(dataset, place)
        table = self._tables.hold(held.name, _identity(held))
        if table is None:
            self._opened.let_go(place)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        with self._lock:
            same = self._kept.get(held.name) == held
            self._kept[held.name] = held
        handle = TableHandle(table, same, lambda: self._tables.release(table))
        return HeldHandle(handle, self._opened, place)


@dataclass(frozen=True, slots=True)
class TableFile:
    """``sessions.pqt`` or ``datasets.pqt``."""

    folder: OneFolder
    dataset: Dataset

    def node(self) -> Node:
        shown = self.folder.shown(self.dataset)
        return Node(Kind.FILE, inode_of_path("table", shown.name), shown.size, shown.mtime)

    def open(self) -> Handle:
        return self.folder.open(self.dataset)

    def xattrs(self) -> dict[str, str]:
        return {"user.onefs.state": "cached"}


class TableHandle:
    """An open table (see ``onefs.tree.nodes.Handle``)."""

    def __init__(self, table: Table, keep_cache: bool, release: Callable[[], None]) -> None:
        self.size = table.size
        self.keep_cache = keep_cache
        self._table = table
        self._release = release

    def ready(self, offset: int, length: int) -> int:
        """The descriptor: nothing is ever waited for."""
        return self._table.fd

    def fd(self, offset: int, length: int) -> int:
        """The descriptor of the file in the cache folder."""
        return self._table.fd

    def close(self) -> None:
        self._release()


def _dataset(table: Table) -> Dataset:
    """A table as a dataset without session, whose bytes its identity names."""
    ino, size, mtime_ns = table.identity
    return Dataset(
        table.name, "", table.name, size=size, md5=f"{ino}.{mtime_ns}", mtime=table.mtime
    )


def _identity(dataset: Dataset) -> tuple[int, int, int]:
    ino, _, mtime_ns = dataset.md5.partition(".")
    return int(ino), dataset.size or 0, int(mtime_ns)


def _shape(pair: Mapping[str, Table]) -> SessionShape:
    return SessionShape({(): {name: _dataset(table) for name, table in pair.items()}})

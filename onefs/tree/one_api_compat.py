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
from onefs.cache.one_tables import OneTables, OpenTable
from onefs.model import Dataset
from onefs.tree.layout import SessionLayout
from onefs.tree.nodes import Handle, Node, NodeKind, inode_of_path
from onefs.tree.open_files import OpenFiles, PinnedHandle
from onefs.tree.rest_link import REST, RestLink


class OneApiFolder:
    """The tables and the link of one mount. Thread-safe.

    A pair that a sync replaces is a dataset that is replaced (see ``onefs.tree.open_files``): who
    has a table open keeps it, and while anybody has, its path is the old table for everybody.
    """

    def __init__(self, tables: OneTables, open_files: OpenFiles, rest: RestLink | None) -> None:
        self._tables = tables
        self._open_files = open_files
        self._rest = rest
        self._lock = Lock()
        #: the last pair that there was
        self._last_pair: Mapping[str, OpenTable] = {}
        #: what the kernel has pages of
        self._kernel_cached: dict[str, Dataset] = {}

    def children(self) -> dict[str, OneTableFile]:
        """The tables that there are: both, or none."""
        pair = self._tables.current_pair()
        with self._lock:
            before, self._last_pair = self._last_pair, pair or self._last_pair
        if pair and before and pair != before:
            self._open_files.listing_changed((), _table_layout(before), _table_layout(pair))
        return {
            name: OneTableFile(self, _table_dataset(table)) for name, table in sorted(pair.items())
        }

    def child(self, name: str) -> OneTableFile | RestLink | None:
        """One of them, or ``.rest``."""
        if name == REST:
            return self._rest
        return self.children().get(name) if name in ROOT_FILES else None

    def effective_dataset(self, dataset: Dataset) -> Dataset:
        """What stands at the path of a table for now."""
        return self._open_files.effective_dataset(dataset, (dataset.name,))

    def open(self, dataset: Dataset) -> Handle:
        """Open a table. Raises ESTALE where the kernel is to look it up again first."""
        place = (dataset.name,)
        held = self._open_files.pin(dataset, place)
        table = self._tables.acquire(held.name, _table_identity(held))
        if table is None:
            self._open_files.unpin(place)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        with self._lock:
            same = self._kernel_cached.get(held.name) == held
            self._kernel_cached[held.name] = held
        handle = OneTableHandle(table, same, lambda: self._tables.release(table))
        return PinnedHandle(handle, self._open_files, place)


@dataclass(frozen=True, slots=True)
class OneTableFile:
    """``sessions.pqt`` or ``datasets.pqt``."""

    folder: OneApiFolder
    dataset: Dataset

    def node(self) -> Node:
        shown = self.folder.effective_dataset(self.dataset)
        return Node(NodeKind.FILE, inode_of_path("table", shown.name), shown.size, shown.mtime)

    def open(self) -> Handle:
        return self.folder.open(self.dataset)

    def xattrs(self) -> dict[str, str]:
        return {"user.onefs.state": "cached"}


class OneTableHandle:
    """An open table (see ``onefs.tree.nodes.Handle``)."""

    def __init__(self, table: OpenTable, keep_cache: bool, release: Callable[[], None]) -> None:
        self.size = table.size
        self.keep_cache = keep_cache
        self._table = table
        self._release = release

    def try_fd(self, offset: int, length: int) -> int:
        """The descriptor: nothing is ever waited for."""
        return self._table.fd

    def wait_fd(self, offset: int, length: int) -> int:
        """The descriptor of the file in the cache folder."""
        return self._table.fd

    def close(self) -> None:
        self._release()


def _table_dataset(table: OpenTable) -> Dataset:
    """A table as a dataset without session, whose bytes its identity names."""
    ino, size, mtime_ns = table.identity
    return Dataset(
        table.name, "", table.name, size=size, md5=f"{ino}.{mtime_ns}", mtime=table.mtime
    )


def _table_identity(dataset: Dataset) -> tuple[int, int, int]:
    ino, _, mtime_ns = dataset.md5.partition(".")
    return int(ino), dataset.size or 0, int(mtime_ns)


def _table_layout(pair: Mapping[str, OpenTable]) -> SessionLayout:
    return SessionLayout({(): {name: _table_dataset(table) for name, table in pair.items()}})

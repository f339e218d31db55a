"""The two cache tables and the link ``.rest``, which ONE-api needs to use a mount as cache folder.

ONE-api reads ``*.pqt`` in the root, and stores Alyx's responses in ``.rest``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock

from onefs.alf import ROOT_FILES
from onefs.cache.one_tables import OneTables, OpenTable
from onefs.model import Dataset
from onefs.tree.entries import File
from onefs.tree.handles import FdHandle
from onefs.tree.layout import SessionLayout
from onefs.tree.nodes import Handle, Node, NodeKind, inode_of_path
from onefs.tree.open_files import OpenFiles, PinnedHandle
from onefs.tree.rest_link import REST, RestLink


class OneApiFolder:
    """The two cache tables and the link ``.rest`` of one mount. Thread-safe.

    A table that programs have open stays at its path, even if ``onefs sync`` replaces the table.
    ``has_tables`` is False for a mount without tables.
    """

    # Datasets are treated in the same way (see ``onefs.tree.open_files``).
    def __init__(
        self,
        tables: OneTables,
        open_files: OpenFiles,
        rest: RestLink | None,
        *,
        has_tables: bool = True,
    ) -> None:
        self._tables = tables
        self._has_tables = has_tables
        self._open_files = open_files
        self._rest = rest
        self._lock = Lock()
        #: the tables that the last call of :meth:`children` has found, if a call has found tables
        self._last_pair: Mapping[str, OpenTable] = {}
        #: the tables of which the kernel may have cached pages, by name
        self._kernel_cached: dict[str, Dataset] = {}

    def children(self) -> dict[str, OneTableFile]:
        """Return the two tables by their file names, or {} if there are no tables."""
        pair = self._tables.current_pair() if self._has_tables else {}
        with self._lock:
            before, self._last_pair = self._last_pair, pair or self._last_pair
        if pair and before and pair != before:
            self._open_files.listing_changed((), _table_layout(before), _table_layout(pair))
        return {
            name: OneTableFile(self, _table_dataset(table)) for name, table in sorted(pair.items())
        }

    def child(self, name: str) -> OneTableFile | RestLink | None:
        """Return the table or link that is named ``name``, or None if no entry has this name."""
        if name == REST:
            return self._rest
        return self.children().get(name) if name in ROOT_FILES else None

    def effective_dataset(self, dataset: Dataset) -> Dataset:
        """Return the version of the table ``dataset`` that programs have open.

        If no program has the table open, return ``dataset``.
        """
        return self._open_files.effective_dataset(dataset, (dataset.name,))

    def open(self, dataset: Dataset) -> Handle:
        """Open a table. Raises OSError (ESTALE) if the table was replaced.

        ESTALE makes the kernel look up the path again, and repeat the opening.
        """
        place = (dataset.name,)
        pinned = self._open_files.pin(dataset, place)
        table = self._tables.acquire(pinned.name, _table_identity(pinned))
        if table is None:
            self._open_files.unpin(place)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        with self._lock:
            keep_cache = self._kernel_cached.get(pinned.name) == pinned
            self._kernel_cached[pinned.name] = pinned
        handle = FdHandle(
            table.fd, table.size, keep_cache=keep_cache, release=lambda: self._tables.release(table)
        )
        return PinnedHandle(handle, self._open_files, place)


@dataclass(frozen=True, slots=True)
class OneTableFile(File):
    """The file of a cache table in the root: ``sessions.pqt`` or ``datasets.pqt``."""

    folder: OneApiFolder
    dataset: Dataset

    def node(self) -> Node:
        shown = self.folder.effective_dataset(self.dataset)
        return Node(NodeKind.FILE, inode_of_path("table", shown.name), shown.size, shown.mtime)

    def open(self) -> Handle:
        return self.folder.open(self.dataset)

    def xattrs(self) -> dict[str, str]:
        return {"state": "cached"}


def _table_dataset(table: OpenTable) -> Dataset:
    """Return a table in the form of a dataset without a session."""
    ino, size, mtime_ns = table.identity
    # ``md5`` is not a hash here
    return Dataset(
        table.name, "", table.name, size=size, md5=f"{ino}.{mtime_ns}", mtime=table.mtime
    )


def _table_identity(dataset: Dataset) -> tuple[int, int, int]:
    ino, _, mtime_ns = dataset.md5.partition(".")
    return int(ino), dataset.size or 0, int(mtime_ns)


def _table_layout(pair: Mapping[str, OpenTable]) -> SessionLayout:
    return SessionLayout({(): {name: _table_dataset(table) for name, table in pair.items()}})

"""What files hold, for one call of ``load``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from onefs.metadata.terms import nearest
from onefs.one import columns, readers
from onefs.one.warn import warn


class NoColumn(Exception):
    """A table that cannot give the column that is wanted; the message says why."""


class Contents:
    """Reads files, each table once. Not thread-safe."""

    def __init__(self, *, download_only: bool, mmap: bool) -> None:
        self._download_only, self._mmap = download_only, mmap
        self._tables: dict[Path, Any] = {}
        self._columns: dict[Path, list[str]] = defaultdict(list)

    def of(self, file: Path) -> Any:
        """What a file holds; its path when that is wanted, or it cannot be read (a warning)."""
        try:
            return self._read(file)
        except readers.Unreadable as error:
            warn(f"{file} cannot be read, so its path is given: {error}")
            return file

    def of_column(self, file: Path, wanted: str) -> Any:
        """The column of a table that a dataset type names; the table's path when that is wanted.

        Raises NoColumn.
        """
        attribute = wanted.partition(".")[2]
        try:
            table = self._tables[file] if file in self._tables else self._read(file)
        except readers.Unreadable as error:
            raise NoColumn(f"{file} cannot be read: {error}") from error
        self._tables[file] = table
        found = file if isinstance(table, Path) else columns.column(table, attribute)
        if found is None:
            known = nearest(attribute, columns.names(table))
            raise NoColumn(f"{file} has no column {attribute!r}{known}")
        self._columns[file].append(wanted)
        return found

    def tell(self) -> None:
        """Warn of what was taken from tables, in one line for each table."""
        for file, wanted in self._columns.items():
            names = ", ".join(wanted)
            warn(f"taken from the table {file}: {names}")

    def _read(self, file: Path) -> Any:
        return file if self._download_only else readers.read(file, mmap=self._mmap)

"""What files hold, for one call of ``load``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from onefs.one import file_formats, table_columns
from onefs.one.warn import warn
from onefs.search.vocabulary import nearest_name_hint


class MissingColumn(Exception):
    """A table that cannot give the column that is wanted; the message says why."""


class FileReader:
    """Reads files, each table once. Not thread-safe."""

    def __init__(self, *, download_only: bool, mmap: bool) -> None:
        self._download_only, self._mmap = download_only, mmap
        self._table_cache: dict[Path, Any] = {}
        self._columns_taken: dict[Path, list[str]] = defaultdict(list)

    def read(self, file: Path) -> Any:
        """What a file holds; its path when that is wanted, or it cannot be read (a warning)."""
        try:
            return self._load_file(file)
        except file_formats.UnreadableFile as error:
            warn(f"{file} cannot be read, so its path is given: {error}")
            return file

    def read_column(self, file: Path, wanted: str) -> Any:
        """The column of a table that a dataset type names; the table's path when that is wanted.

        Raises MissingColumn.
        """
        attribute = wanted.partition(".")[2]
        try:
            table = self._table_cache[file] if file in self._table_cache else self._load_file(file)
        except file_formats.UnreadableFile as error:
            raise MissingColumn(f"{file} cannot be read: {error}") from error
        self._table_cache[file] = table
        found = file if isinstance(table, Path) else table_columns.column_array(table, attribute)
        if found is None:
            known = nearest_name_hint(attribute, table_columns.attribute_names(table))
            raise MissingColumn(f"{file} has no column {attribute!r}{known}")
        self._columns_taken[file].append(wanted)
        return found

    def warn_of_columns(self) -> None:
        """Warn of what was taken from tables, in one line for each table."""
        for file, wanted in self._columns_taken.items():
            names = ", ".join(wanted)
            warn(f"taken from the table {file}: {names}")

    def _load_file(self, file: Path) -> Any:
        return file if self._download_only else file_formats.read_file(file, mmap=self._mmap)

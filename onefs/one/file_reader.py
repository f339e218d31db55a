"""Reading of the files for one call of ``load``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from onefs.errors import MissingLibrary
from onefs.one import file_formats, table_columns
from onefs.one.warn import warn
from onefs.search.vocabulary import nearest_name_hint


class MissingColumn(Exception):
    """The requested column cannot be read from a table. The message says why."""


class FileReader:
    """Reads files. Reads each table only once for all its columns. Not thread-safe.

    - ``download_only``: whether to return paths instead of content.
    - ``mmap``: whether to map arrays into memory.
    - ``needs_libraries``: whether to raise MissingLibrary if a table needs a library that is not
      installed. Otherwise the paths of tables are returned, with one warning for all tables.
    """

    def __init__(self, *, download_only: bool, mmap: bool, needs_libraries: bool) -> None:
        self._download_only, self._mmap = download_only, mmap
        self._needs_libraries = needs_libraries
        self._library_warned = False
        self._table_cache: dict[Path, Any] = {}
        self._columns_read: dict[Path, list[str]] = defaultdict(list)

    def read(self, file: Path, column_type: str = "") -> Any:
        """Return the content of a file. With ``column_type``, return that column of a table.

        ``column_type`` is the column's dataset type, for example ``trials.choice``. If a whole file
        cannot be read, return its path, and warn. Raises MissingColumn if the column cannot be
        read. Raises MissingLibrary for a table if pandas is not installed, and CacheError if the
        disk fails.
        """
        if column_type:
            return self._read_column(file, column_type)
        try:
            return self._load_file(file)
        except file_formats.UnreadableFile as error:
            warn(f"the file {file} cannot be read, so its path is returned: {error}")
        except MissingLibrary as error:
            if self._needs_libraries:
                raise
            if not self._library_warned:
                warn(f"the paths of tables are returned, not the tables: {error}")
            self._library_warned = True
        return file

    def _read_column(self, file: Path, column_type: str) -> Any:
        attribute = column_type.partition(".")[2]
        try:
            table = self._table_cache[file] if file in self._table_cache else self._load_file(file)
        except file_formats.UnreadableFile as error:
            raise MissingColumn(f"{file} cannot be read: {error}") from error
        self._table_cache[file] = table
        column = file if isinstance(table, Path) else table_columns.column_array(table, attribute)
        if column is None:
            hint = nearest_name_hint(attribute, table_columns.attribute_names(table))
            raise MissingColumn(f"{file} has no column {attribute!r}{hint}")
        self._columns_read[file].append(column_type)
        return column

    def warn_of_columns(self) -> None:
        """Warn, once for each table, which columns were read from the table."""
        # the user asked for dataset types, and may not know that a table has them
        for file, column_types in self._columns_read.items():
            warn(f"these columns were read from the table {file}: {', '.join(column_types)}")

    def _load_file(self, file: Path) -> Any:
        return file if self._download_only else file_formats.read_file(file, mmap=self._mmap)

"""The store's SQLite index: rows in, rows out. Decides nothing (see ``index.sql``).

It is a copy of the records beside the files, and may lack any of them: a disk that is full or
cannot be written costs time, not files. A row is struck out or the caller is told.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from onefs.cache.records import CacheEntry, values_of
from onefs.errors import CacheError
from onefs.lowlevel.sqlite_connection import is_corrupt
from onefs.lowlevel.sqlite_file import SqliteFile

log = logging.getLogger(__name__)

SCHEMA_VERSION = 2
#: seconds between two log lines that it cannot be written
WARNING_INTERVAL_SECONDS = 600.0

_ACCEPTED = "SELECT * FROM entries WHERE state = 'accepted'"


class CacheIndex:
    """Thread-safe, and safe beside other processes of the same host. Raises CacheError.

    A file that turns out to be damaged is moved aside and begun anew.
    """

    def __init__(self, path: Path) -> None:
        schema = Path(__file__).with_name("index.sql").read_text("utf-8")
        self._file = SqliteFile(path, schema, SCHEMA_VERSION, "the cache index")
        self._next_warning_at = 0.0

    def close(self) -> None:
        self._file.close()

    def get(self, dataset_id: str) -> CacheEntry | None:
        found = self._execute("SELECT * FROM entries WHERE dataset_id = ?", dataset_id)
        return CacheEntry(*found[0]) if found else None

    def put(self, entry: CacheEntry) -> None:
        """Write a row, if that is possible: the record is what counts."""
        self._execute_if_possible(
            f"REPLACE INTO entries VALUES ({', '.join('?' * 14)})", *values_of(entry)
        )

    def update_existing(self, entry: CacheEntry) -> None:
        """Bring a row up to date if there is one, and that is possible.

        An old one would vouch for a new file of the same size and date, should it get the same
        inode.
        """
        try:
            if self.get(entry.dataset_id) is not None:
                self.put(entry)
        except CacheError as error:
            self._log_failure(error)

    def forget(self, dataset_id: str) -> None:
        """Strike out a row, if that is possible: one without its file says nothing."""
        self._execute_if_possible("DELETE FROM entries WHERE dataset_id = ?", dataset_id)

    def touch(self, dataset_id: str, now: float) -> None:
        """Note a use, if that is possible."""
        self._execute_if_possible(
            "UPDATE entries SET used_at = ? WHERE dataset_id = ?", now, dataset_id
        )

    def accepted_entries(self) -> list[CacheEntry]:
        """What the user has accepted although the database claims otherwise."""
        return [CacheEntry(*row) for row in self._execute(_ACCEPTED)]

    def _execute_if_possible(self, statement: str, *values: object) -> None:
        try:
            self._execute(statement, *values)
        except CacheError as error:
            self._log_failure(error)

    def _log_failure(self, error: CacheError) -> None:
        if time.monotonic() > self._next_warning_at:
            self._next_warning_at = time.monotonic() + WARNING_INTERVAL_SECONDS
            log.warning("%s; what is cached is looked up in the cache folder meanwhile", error)

    def _execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._file.fetch_rows(statement, *values)
        except CacheError as error:
            if not is_corrupt(error.__cause__):
                raise
        return self._file.fetch_rows(statement, *values)  # of the file that has taken its place

"""Small tables of names in Alyx (users, labs, projects, ...).

The rows of the tables are stored, for use while Alyx is unreachable.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from onefs.alyx.client import AlyxClient
from onefs.alyx.parsing import Row
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.errors import CacheError, DeadlineExceeded, NoAlyx, OnefsError, Throttled, Unreachable
from onefs.lowlevel.lazy import Lazy

log = logging.getLogger(__name__)

#: if a request to Alyx raises one of these errors, the catalogue answers instead
UNAVAILABLE_ERRORS = (Unreachable, DeadlineExceeded, Throttled)
#: seconds for which the stored rows of a table are used without a request to Alyx
TABLE_TTL_SECONDS = 3600.0
#: the tables that a user can list: by name of the table, the endpoint in Alyx, and the column that
#: contains the names
NAME_TABLES = {
    "dataset-types": ("dataset-types", "name"),
    "users": ("users", "username"),
    "subjects": ("subjects", "nickname"),
    "labs": ("labs", "name"),
}
#: by search term, the table with all values of the term: the endpoint in Alyx, and the column that
#: contains the names
_TABLE_BY_TERM = {
    "users": ("users", "username"),
    "lab": ("labs", "name"),
    "location": ("locations", "name"),
    "project": ("projects", "name"),
    "dataset_types": ("dataset-types", "name"),
}


class NameTables:
    """The tables of names in one Alyx database. Thread-safe.

    The catalogue's file is opened when it is needed.
    """

    def __init__(
        self,
        alyx: AlyxClient,
        database: Lazy[CatalogueDatabase],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._alyx = alyx
        self._database = database
        self._clock = clock

    def list_table(self, what: str) -> list[Row]:
        """Return the rows of the table ``what``, which is one of :data:`NAME_TABLES`.

        The rows are at most an hour old, and newer than the last ``onefs refresh``. While Alyx is
        unreachable, the result is older stored rows, or rows made from the names in the catalogue.
        If there are none, raises the error of the request.
        """
        endpoint, column = NAME_TABLES[what]
        try:
            return self._fetch_table(endpoint, column)
        except UNAVAILABLE_ERRORS as error:
            names = self._names_in_catalogue(what)
            if not names:
                raise
            level = logging.INFO if isinstance(error, NoAlyx) else logging.WARNING
            log.log(
                level,
                "the names are from the catalogue, and may be incomplete, because of an error: %s",
                error,
            )
            return [{column: name} for name in names]

    def revisions(self) -> list[Row]:
        """Return the rows of all revisions in Alyx, which are stored as other tables are.

        Raises the error of the request if no rows are stored.
        """
        return self._fetch_table("revisions", "name")

    def _fetch_table(self, endpoint: str, column: str) -> list[Row]:
        """Return the rows of a table from Alyx, or the stored rows if they are fresh.

        Fresh rows are at most an hour old, and newer than the last ``onefs refresh``. While Alyx is
        unreachable, return stored rows of any age. Without stored rows, raises the error of the
        request.
        """
        key = f"table/{endpoint}"
        stored = self._stored_rows(key)
        if stored is not None and self._is_fresh(stored[1]):
            return stored[0]
        try:
            rows = self._alyx.table_rows(endpoint, column)
        except UNAVAILABLE_ERRORS as error:
            if stored is None:
                raise
            log.warning("names that were stored before are used, because of an error: %s", error)
            return stored[0]
        with self._ignore_cache_errors():
            self._database().store_answer(key, json.dumps(rows), self._clock())
        return rows

    def _is_fresh(self, fetched_at: float) -> bool:
        invalidated_at = max(self._database().invalidations().values(), default=0.0)
        return fetched_at >= invalidated_at and self._clock() - fetched_at < TABLE_TTL_SECONDS

    def _names_in_catalogue(self, what: str) -> list[str]:
        """Return the names for the table ``what`` from the listings and cache tables.

        Return an empty list for users, because the catalogue has no names of users.
        """
        database = self._database()
        if what == "dataset-types":
            return database.dataset_types()
        labs = {*database.labs(), *database.distinct_values("sessions", "lab")}
        if what == "subjects":
            return sorted({name for lab in labs for name in database.subjects(lab)})
        return sorted(labs) if what == "labs" else []

    def _names_of_term(self, term: str) -> list[str] | None:
        """Return all values that Alyx has for a search term.

        Return None if Alyx has no table of these values, or if the table cannot be fetched.
        """
        if term not in _TABLE_BY_TERM:
            return None
        endpoint, column = _TABLE_BY_TERM[term]
        try:
            return _names_in_column(self._fetch_table(endpoint, column), column)
        except OnefsError as error:
            log.info("the names of %s cannot be listed: %s", term, error)
            return None

    def _stored_rows(self, key: str) -> tuple[list[Row], float] | None:
        """Return the rows of the answer that is stored under ``key``, and the time of the answer.

        The time is in seconds since the epoch. Return None if no valid answer is stored.
        """
        try:
            body, fetched_at = self._database().stored_answer(key) or ("null", 0.0)
            rows = json.loads(body)
        except (CacheError, ValueError, RecursionError) as error:
            log.warning("a stored answer cannot be read: %s", error)
            return None
        return (rows, fetched_at) if isinstance(rows, list) else None

    @contextmanager
    def _ignore_cache_errors(self) -> Iterator[None]:
        """Log a warning if an answer of Alyx cannot be stored.

        No error is raised, because the answer itself can still be returned to the caller.
        """
        try:
            yield
        except CacheError as error:
            log.warning("the answer cannot be stored for use while Alyx is unreachable: %s", error)


def names_in_table(what: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names in ``rows`` of the table ``what``, without duplicates, sorted."""
    return _names_in_column(rows, NAME_TABLES[what][1])


def _names_in_column(rows: Sequence[Mapping[str, Any]], column: str) -> list[str]:
    return sorted({str(row[column]) for row in rows if row.get(column)})

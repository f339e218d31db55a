"""Searches for sessions: in Alyx, or in the catalogue while Alyx is unreachable."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from urllib.parse import urlencode

from onefs import alf
from onefs.alyx import parsing
from onefs.alyx.parsing import Row
from onefs.errors import (
    NoAlyx,
    NotFound,
    OnefsError,
    TablesLoading,
    Throttled,
    Unreachable,
    UsageError,
)
from onefs.model import Session
from onefs.search import offline
from onefs.search.alyx_search import SearchHit, search_alyx
from onefs.search.name_tables import UNAVAILABLE_ERRORS, NameTables
from onefs.search.vocabulary import Query

log = logging.getLogger(__name__)

#: largest number of rows in an answer that is stored for use while the server is unreachable
MAX_STORED_ROWS = 1000
#: terms that either all sessions with the same subject, day and number match, or none of these
#: sessions matches
_SESSION_NUMBER_TERMS = frozenset({"lab", "subject", "date_range", "number"})


class FoundSessions:
    """The sessions that a search has found, the latest first.

    - ``eids`` are the eids of these sessions.
    - ``read_hits`` returns the sessions with their rows. It is called on first use.
    - ``has_complete_numbers`` is True if the search cannot have missed a session that has the same
      subject, day and number as a found session.
    """

    def __init__(
        self,
        eids: list[str],
        read_hits: Callable[[], Iterable[SearchHit]],
        *,
        has_complete_numbers: bool = False,
    ) -> None:
        self.eids = eids
        self.has_complete_numbers = has_complete_numbers
        #: a suggestion if the search found nothing
        self.hint = ""
        self._read_hits = read_hits

    @cached_property
    def hits(self) -> list[SearchHit]:
        """The found sessions with their rows."""
        return list(self._read_hits())

    @property
    def rows(self) -> list[Row]:
        """The rows of the found sessions, in the form of rows from Alyx."""
        return [hit.row for hit in self.hits]

    def sessions(self) -> Iterator[Session]:
        """Return the found sessions that have a folder: a lab, subject, date and number."""
        return (hit.session for hit in self.hits if hit.session.has_folder)


class SessionQueries(NameTables):
    """Searches in one Alyx database. Thread-safe.

    Methods raise UsageError, and the errors of requests to Alyx. While Alyx is unreachable, the
    catalogue answers if it can. If it cannot, methods raise Unreachable or Throttled. Throttled has
    the time to wait.
    """

    def search(self, query: Query, limit: int | None = None) -> FoundSessions:
        """Return the sessions that match every term. Return at most ``limit`` sessions, the latest.

        Raises UsageError if the query has no term and ``limit`` is None.
        """
        if not query.values and limit is None:
            raise UsageError(
                "a search without any term would find every session: give a term, or a limit to "
                "get the latest sessions"
            )
        key = f"search/{query}" + (f" limit {limit}" if limit else "")
        self._database.start()  # open the file during the request
        try:
            rows = search_alyx(self._alyx, query, limit)
        except UNAVAILABLE_ERRORS as error:
            return self._search_catalogue(query, limit, key, error)
        self._store_result(key, rows)
        return FoundSessions(
            list(rows),
            lambda: map(SearchHit.from_row, rows.values()),
            has_complete_numbers=limit is None and _has_number_terms_only(query),
        )

    def search_insertions(self, filters: Mapping[str, str]) -> list[Row]:
        """Return Alyx's rows of the probe insertions that match all filters of ``/insertions``.

        The rows have the order of Alyx: the latest session first, and then by name. While Alyx is
        unreachable, the same search's last rows are returned, or rows from the catalogue.
        """
        from onefs.search import insertions  # few commands need it

        key = f"insertions/{urlencode(sorted(filters.items()))}"
        self._database.start()
        asked = self._clock()
        try:
            rows = insertions.matching_rows(self._alyx.insertion_rows(filters), filters)
        except UNAVAILABLE_ERRORS as error:
            stored = self._stored_rows(key)
            if stored is not None:
                log.warning(
                    "the insertions that were found on %s by the same search are returned, because "
                    "of an error: %s",
                    _shown_time(stored[1]),
                    error,
                )
                return stored[0]
            unknown = sorted(insertions.unknown_offline(filters))
            if unknown or isinstance(error, NoAlyx):
                raise _unanswered_error(
                    error,
                    "without Alyx, onefs cannot search probe insertions"
                    + (f" by {', '.join(unknown)}" if unknown else ""),
                ) from error
            rows = insertions.search_catalogue(self._database(), filters)
            if not rows:
                raise _unanswered_error(
                    error, "no probe insertion in the catalogue matches the search"
                ) from error
            log.warning(
                "the insertions are from the catalogue, and may be incomplete, because of an "
                "error: %s",
                error,
            )
            return rows
        with self._ignore_cache_errors():
            insertions.store_rows(self._database(), rows, asked)
            if len(rows) <= MAX_STORED_ROWS:
                self._database().store_answer(key, json.dumps(rows), asked)
        return rows

    def stored_insertions(self) -> list[Row]:
        """Return Alyx's rows of all stored insertions. Sends no request."""
        database = self._database()
        eids = database.sessions_with_insertions()
        return [json.loads(each.record) for each in database.insertions_of(eids)]

    def session_of_dataset(self, dataset_id: str) -> str:
        """Return the eid of a dataset's session, from the catalogue or else from Alyx.

        Raises NotFound if Alyx does not have the dataset. Also raises the errors of requests.
        """
        eid = self._database().session_of_dataset(dataset_id)
        return eid or self._alyx.session_id_of_dataset(dataset_id)

    def saved_searches(self) -> dict[str, str]:
        """Return the saved searches: the text of each query, by name of the search."""
        return self._database().facts("search/")

    def save_search(self, name: str, query: Query) -> None:
        """Save a search under a name. Replace the older search with this name.

        Raises UsageError if the name is invalid.
        """
        if not name or name != alf.path_component(name) or name.startswith(".") or "=" in name:
            raise UsageError(
                f"{name!a} cannot be the name of a search, which is the name of a folder: it must "
                "not be empty, begin with a dot, or hold a slash, an equals sign or a control "
                "character"
            )
        self._database().set_fact(f"search/{name}", str(query))

    def delete_saved_search(self, name: str) -> None:
        """Delete a saved search. Raises NotFound if there is no search with this name."""
        if name not in self.saved_searches():
            raise NotFound(f"there is no saved search {name!a}")
        self._database().drop_fact(f"search/{name}")

    def suggest_names(self, query: Query) -> str:
        """Return a sentence about an unknown name in a query that found nothing.

        The sentence suggests a similar name, if there is one. Return '' if no name is unknown.
        """
        return offline.suggest_names(self._database(), query, self._names_of_term)

    def _store_result(self, key: str, rows: Mapping[str, Row]) -> None:
        with self._ignore_cache_errors():
            self._database().store_search_results(map(parsing.parse_session, rows.values()))
            if len(rows) <= MAX_STORED_ROWS:
                self._database().store_answer(key, json.dumps(list(rows.values())), self._clock())

    def _search_catalogue(
        self, query: Query, limit: int | None, key: str, trouble: Exception
    ) -> FoundSessions:
        """Return the stored answer to this query, or else search the catalogue.

        ``trouble`` is the error of the request to Alyx. If the catalogue has no answer, raises
        Throttled if ``trouble`` is Throttled, else Unreachable.
        """
        stored = self._stored_rows(key)
        if stored is not None:
            log.warning(
                "the sessions that were found on %s by the same search are returned, because of an "
                "error: %s",
                _shown_time(stored[1]),
                trouble,
            )
            hits = parsing.parse_rows(stored[0], SearchHit.from_row, "sessions of a stored search")
            return FoundSessions([hit.session.eid for hit in hits], lambda: hits)
        unknown = [name for name, _ in query.values if name not in offline.OFFLINE_TERMS]
        if unknown:
            raise _unanswered_error(
                trouble,
                f"without Alyx, onefs cannot search by {', '.join(unknown)}: it can search by "
                f"{', '.join(offline.OFFLINE_TERMS)}, or repeat an earlier search",
            ) from trouble
        if isinstance(trouble, TablesLoading):
            raise trouble
        database = self._database()
        eids = offline.search_catalogue(database, query, limit)
        is_complete = isinstance(trouble, NoAlyx) and database.has_complete_tables()
        is_guess = "dataset_types" in query and database.tables_version() is not None
        if not eids and (is_guess or not is_complete):  # an error, since there may be such sessions
            raise _unanswered_error(
                trouble, "no session in the catalogue matches the search"
            ) from trouble
        if not is_complete:
            log.warning(
                "the search result is from the catalogue, and may be incomplete, because of an "
                "error: %s",
                trouble,
            )
        if is_guess:
            log.warning(
                "the cache tables have no dataset types: the types were guessed from file names"
            )
        return FoundSessions(
            eids,
            lambda: self._hits_in_catalogue(eids),
            has_complete_numbers=is_complete and limit is None and _has_number_terms_only(query),
        )

    def _hits_in_catalogue(self, eids: Sequence[str]) -> Iterator[SearchHit]:
        for session in self._database().sessions_by_eid(eids):
            yield SearchHit(
                offline.row_of_session(session, self._alyx.url), session, session.number >= 0
            )


def _shown_time(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def _has_number_terms_only(query: Query) -> bool:
    return all(name in _SESSION_NUMBER_TERMS for name, _ in query.values)


def _unanswered_error(trouble: Exception, reason: str) -> OnefsError:
    """Return the error for a search that neither Alyx nor the catalogue can answer.

    ``trouble`` is the error of the request to Alyx. ``reason`` says why the catalogue cannot
    answer.
    """
    if isinstance(trouble, Throttled):
        return Throttled(f"{trouble}; {reason}", trouble.retry_after)
    return Unreachable(f"{trouble}; {reason}")

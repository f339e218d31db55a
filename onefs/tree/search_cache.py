"""Cache the results of searches in memory, with the paths of the sessions that a search found."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from cachetools import TTLCache

from onefs import alf
from onefs.catalogue.catalogue import Catalogue
from onefs.errors import NotFound, UsageError
from onefs.lowlevel.single_flight import SingleFlight
from onefs.model import Session
from onefs.tree.layout_cache import LayoutCache
from onefs.tree.session_paths import session_paths_or_cached

if TYPE_CHECKING:
    from onefs.search.queries import SessionQueries
    from onefs.search.vocabulary import Query

log = logging.getLogger(__name__)

SEARCH = ".search"
EIDS = ".eids"
PATHS = ".paths"

#: seconds for which a result is shown without asking the database again
RESULT_TTL_SECONDS = 60.0
#: longest time in seconds that a search may take, including all its pages
SEARCH_TIMEOUT_SECONDS = 60.0
#: most results kept in memory
MAX_CACHED_RESULTS = 256

#: the key of a result: the value of ``_generation`` when the search began, and the query as text
_CacheKey = tuple[int, str]


@dataclass(slots=True)
class SearchResult:
    """The sessions that a search found."""

    #: the sessions that have a folder, by ref; a mark is added if two sessions have the same ref
    sessions: Mapping[str, Session]
    #: the eids of all sessions that the search found
    eids: tuple[str, ...]
    #: see :class:`onefs.search.queries.FoundSessions`
    has_complete_numbers: bool
    #: the sessions' paths in the order of ``sessions``; None until they are looked up
    paths: tuple[str, ...] | None = None
    #: the lines of tables about the sessions, by name of the table, once they were read
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict)


class SearchCache:
    """A cache of the results of searches. Thread-safe.

    If several threads need the same result at the same time, only one search is made.
    """

    def __init__(self, open_queries: Callable[[], SessionQueries]) -> None:
        self._open_queries = open_queries
        #: the error for the last name that was not a valid search; '' if there was no such name
        self.last_error = ""
        self._single_flight: SingleFlight[SearchResult] = SingleFlight("onefs-search", workers=4)
        self._path_single_flight: SingleFlight[tuple[str, ...]] = SingleFlight(
            "onefs-search-paths", workers=2
        )
        self._lock = threading.Lock()
        self._results: TTLCache[_CacheKey, SearchResult] = TTLCache(
            MAX_CACHED_RESULTS, RESULT_TTL_SECONDS
        )
        #: how often results were dropped; later searches do not use results of earlier generations
        self._generation = 0

    @property
    def queries(self) -> SessionQueries:
        """What searches in Alyx and in the catalogue. It is opened with the first search."""
        return self._open_queries()

    def parse_name(self, name: str) -> Query:
        """Return the query that a folder's name in ``.search`` describes.

        ``name`` is the name of a saved search, or has terms like ``users=olivier``. If the terms
        are invalid, stores the error in :attr:`last_error` and raises NotFound.
        """
        # slow to import, and few commands search in a tree
        from onefs.search.vocabulary import parse_text

        try:
            saved = self.queries.saved_searches().get(name)
            return parse_text(saved or name)
        except UsageError as error:
            self.last_error = f"{alf.valid_text(name)}: {error}"
            log.warning("%s/%s", SEARCH, self.last_error)
            raise NotFound(f"{SEARCH}/{self.last_error}") from error

    def get_result(self, query: Query) -> SearchResult:
        """Return the result of a search. The result is cached for :data:`RESULT_TTL_SECONDS`.

        An empty result means that no session matches. Raises the error of a failed request to Alyx.
        """
        key = (self._generation, str(query))
        with self._lock:
            result = self._results.get(key)
        if result is not None:
            return result
        return self._single_flight.wait(
            key, partial(self._run_query, query, key), SEARCH_TIMEOUT_SECONDS, f"search {query}"
        )

    def drop_results(self) -> None:
        """Remove all cached results, so that the next read of each search asks Alyx."""
        with self._lock:
            self._generation += 1
            self._results.clear()

    def session_paths(
        self, query: Query, catalogue: Catalogue, layouts: LayoutCache
    ) -> tuple[str, ...]:
        """Return the paths of the sessions that a search found, and cache the paths.

        Raises the errors of :meth:`get_result`.
        """
        key, result = (self._generation, str(query)), self.get_result(query)
        if result.paths is not None:
            return result.paths

        # A path depends on the sessions with the same subject, date and number. If the search may
        # have missed some of these, the sessions of the subject are listed.
        def look_up() -> tuple[str, ...]:
            places = session_paths_or_cached(
                catalogue,
                layouts,
                result.sessions.values(),
                has_complete_numbers=result.has_complete_numbers,
            )
            result.paths = tuple("/".join(place) for place in places.values())
            return result.paths

        return self._path_single_flight.wait(
            key, look_up, SEARCH_TIMEOUT_SECONDS, f"paths of search {query}"
        )

    def table_lines(
        self, query: Query, name: str, make: Callable[[SearchResult], str]
    ) -> tuple[str, ...]:
        """Return the lines of a table about the sessions that a search found, and cache them.

        ``make`` returns the text of the table. Raises its errors, and those of
        :meth:`get_result`.
        """
        key, result = (self._generation, f"{query} {name}"), self.get_result(query)
        known = result.tables.get(name)
        if known is not None:
            return known

        def make_lines() -> tuple[str, ...]:
            result.tables[name] = tuple(make(result).splitlines())
            return result.tables[name]

        return self._path_single_flight.wait(
            key, make_lines, SEARCH_TIMEOUT_SECONDS, f"{name} of search {query}"
        )

    def close(self) -> None:
        """Raise Stopping in all threads that wait for a search."""
        self._single_flight.close()
        self._path_single_flight.close()

    def _run_query(self, query: Query, key: _CacheKey) -> SearchResult:
        matches = self.queries.search(replace(query, limit=None), query.limit)
        sessions = list(matches.sessions())
        # sorted by eid: if two sessions have the same ref, the mark is added to the same session
        # here and in the subject's folder
        by_eid = sorted(sessions, key=lambda each: each.eid)
        named = ((alf.path_component(each.ref), each.eid, each.eid) for each in by_eid)
        names = {eid: name for name, eid in alf.unique_names(named, taken=(EIDS, PATHS))}
        result = SearchResult(
            {names[each.eid]: each for each in sessions},
            tuple(matches.eids),
            matches.has_complete_numbers,
        )
        with self._lock:
            self._results[key] = result
        return result

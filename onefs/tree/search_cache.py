"""The results of searches, kept in memory, and the paths of the sessions found."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from cachetools import TTLCache

from onefs import alf
from onefs.catalogue.catalogue import Catalogue
from onefs.errors import NotFound, UsageError
from onefs.lowlevel.single_flight import SingleFlight
from onefs.model import Session
from onefs.search.queries import SessionQueries
from onefs.search.vocabulary import Query, parse_text
from onefs.tree.layout_cache import LayoutCache
from onefs.tree.session_paths import session_paths_or_cached

log = logging.getLogger(__name__)

SEARCH = ".search"
EIDS = ".eids"
PATHS = ".paths"

#: seconds for which a result is shown without asking the database again
RESULT_TTL_SECONDS = 60.0
#: longest time in seconds that a search may take, all its pages included
SEARCH_TIMEOUT_SECONDS = 60.0
#: results kept in memory
MAX_CACHED_RESULTS = 256

#: how often results had been dropped when the search began, and its query
_CacheKey = tuple[int, str]


@dataclass(slots=True)
class SearchResult:
    """The sessions that a search found."""

    #: those that have a folder, by ref; with a mark where two share a ref
    sessions: Mapping[str, Session]
    #: the eids of all sessions found
    eids: tuple[str, ...]
    #: see :class:`onefs.search.queries.FoundSessions`
    has_complete_numbers: bool
    #: the sessions' paths in the order of ``sessions``; None until they are looked up
    paths: tuple[str, ...] | None = None


class SearchCache:
    """Results of searches; readers that ask for one at the same time share it. Thread-safe."""

    def __init__(self, queries: SessionQueries) -> None:
        self.queries = queries
        #: the error of the last name that was not a valid search; '' if there was none
        self.last_error = ""
        self._single_flight: SingleFlight[SearchResult] = SingleFlight("onefs-search", workers=4)
        self._path_single_flight: SingleFlight[tuple[str, ...]] = SingleFlight(
            "onefs-search-paths", workers=2
        )
        self._lock = threading.Lock()
        self._results: TTLCache[_CacheKey, SearchResult] = TTLCache(
            MAX_CACHED_RESULTS, RESULT_TTL_SECONDS
        )
        #: how often results were dropped: a search that began earlier is not used afterwards
        self._generation = 0

    def parse_name(self, name: str) -> Query:
        """Return the query that a folder's name stands for: a saved search, or terms.

        Raises NotFound for an invalid search, after setting :attr:`last_error`.
        """
        try:
            saved = self.queries.saved_searches().get(name)
            return parse_text(saved or name)
        except UsageError as error:
            self.last_error = f"{alf.valid_text(name)}: {error}"
            log.warning("%s/%s", SEARCH, self.last_error)
            raise NotFound(f"{SEARCH}/{self.last_error}") from error

    def get_result(self, query: Query) -> SearchResult:
        """Return the result of a search, cached for :data:`RESULT_TTL_SECONDS`.

        Raises what asking Alyx raises: an empty result means that there is no such session.
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
        """Drop all results, so that the next look at each search asks Alyx."""
        with self._lock:
            self._generation += 1
            self._results.clear()

    def session_paths(
        self, query: Query, catalogue: Catalogue, layouts: LayoutCache
    ) -> tuple[str, ...]:
        """Return the paths of the sessions found, looked up once for each result.

        The path of a session depends on the other sessions of its subject, which are listed for
        it. Raises as :meth:`get_result` does.
        """
        key, result = (self._generation, str(query)), self.get_result(query)
        if result.paths is not None:
            return result.paths

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

    def close(self) -> None:
        """Wake all waiting readers, with Stopping."""
        self._single_flight.close()
        self._path_single_flight.close()

    def _run_query(self, query: Query, key: _CacheKey) -> SearchResult:
        matches = self.queries.search(replace(query, limit=None), query.limit)
        sessions = list(matches.sessions())
        # in the order of eids, so that of two sessions with one ref the same one gets the mark
        # here as in its subject's folder
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

"""``.search``: searches as folders.

``.search/users=olivier&date_range=2018-08-24,2018-08-24/`` holds a link for each session found, by
its ref, and two texts: ``.eids`` and ``.paths``. Looking the name up only parses it; the query runs
when the folder is read, or something in it is looked up. ``.search`` itself lists the searches that
were saved.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from cachetools import LRUCache

from onefs import alf
from onefs.catalogue.catalogue import Catalogue
from onefs.dates import file_mtime
from onefs.errors import NotFound, UsageError
from onefs.lowlevel.single_flight import SingleFlight
from onefs.model import Session
from onefs.search.queries import SessionQueries
from onefs.search.vocabulary import Query, parse_text
from onefs.tree.layout_cache import LayoutCache
from onefs.tree.nodes import Handle, Node, NodeKind, inode_of_path
from onefs.tree.session_paths import session_path, session_paths_or_cached
from onefs.tree.text_handle import TextHandle

log = logging.getLogger(__name__)

SEARCH = ".search"
EIDS = ".eids"
PATHS = ".paths"

#: seconds for which an answer is shown without asking again
RESULT_TTL_SECONDS = 60.0
#: seconds that a search may take in all, its pages included
SEARCH_TIMEOUT_SECONDS = 60.0
#: answers in memory
MAX_CACHED_RESULTS = 256

#: a query, and how often answers had been dropped when it was asked
_CacheKey = tuple[int, str]


@dataclass(frozen=True, slots=True)
class SearchFolderContent:
    """What a search has found."""

    #: the sessions that have a folder, by ref; with a mark where two share a ref
    sessions: Mapping[str, Session]
    #: the eids of all that were found
    eids: tuple[str, ...]
    #: as of :class:`onefs.search.queries.Found`
    has_complete_numbers: bool


class SearchCache:
    """The answers to searches, each asked for once by however many readers. Thread-safe."""

    def __init__(self, queries: SessionQueries) -> None:
        self.queries = queries
        #: why the last name that was looked up is no search; '' when none was wrong
        self.last_error = ""
        self._single_flight: SingleFlight[SearchFolderContent] = SingleFlight(
            "onefs-search", workers=4
        )
        self._path_single_flight: SingleFlight[tuple[str, ...]] = SingleFlight(
            "onefs-search-paths", workers=2
        )
        self._lock = threading.Lock()
        self._results: LRUCache[_CacheKey, tuple[float, SearchFolderContent]] = LRUCache(
            MAX_CACHED_RESULTS
        )
        #: the paths of an answer's sessions, with the answer
        self._session_paths: LRUCache[_CacheKey, tuple[SearchFolderContent, tuple[str, ...]]] = (
            LRUCache(MAX_CACHED_RESULTS)
        )
        #: how often answers were dropped: one that was asked for before is of no use afterwards
        self._generation = 0

    def parse_name(self, name: str) -> Query:
        """The query of a folder's name, saved or spelt out. Raises NotFound, and remembers why."""
        try:
            saved = self.queries.saved_searches().get(name)
            return parse_text(saved or name)
        except UsageError as error:
            self.last_error = f"{alf.valid_text(name)}: {error}"
            log.warning("%s/%s", SEARCH, self.last_error)
            raise NotFound(f"{SEARCH}/{self.last_error}") from error

    def get_content(self, query: Query) -> SearchFolderContent:
        """What a search has found.

        Raises what asking Alyx raises: an empty answer means that there is none.
        """
        key = (self._generation, str(query))
        with self._lock:
            known = self._results.get(key)
        if known is not None and time.monotonic() - known[0] < RESULT_TTL_SECONDS:
            return known[1]
        return self._single_flight.wait(
            key, partial(self._run_query, query, key), SEARCH_TIMEOUT_SECONDS, f"search {query}"
        )

    def drop_results(self) -> None:
        """Ask again for each search when it is next looked at."""
        with self._lock:
            self._generation += 1
            self._results.clear()
            self._session_paths.clear()

    def session_paths(
        self, query: Query, catalogue: Catalogue, layouts: LayoutCache
    ) -> tuple[str, ...]:
        """The paths of the sessions found, looked up once for each answer. Raises as :meth:`found`.

        Where a session is depends on the others of its subject, which have to be listed.
        """
        key, answer = (self._generation, str(query)), self.get_content(query)
        with self._lock:
            known = self._session_paths.get(key)
        if known is not None and known[0] is answer:
            return known[1]

        def look_up() -> tuple[str, ...]:
            sessions, whole = answer.sessions.values(), answer.has_complete_numbers
            places = session_paths_or_cached(
                catalogue, layouts, sessions, has_complete_numbers=whole
            )
            paths = tuple("/".join(place) for place in places.values())
            with self._lock:
                self._session_paths[key] = (answer, paths)
            return paths

        return self._path_single_flight.wait(
            key, look_up, SEARCH_TIMEOUT_SECONDS, f"paths of search {query}"
        )

    def close(self) -> None:
        """Wake who waits, with Stopping."""
        self._single_flight.close()
        self._path_single_flight.close()

    def _run_query(self, query: Query, key: _CacheKey) -> SearchFolderContent:
        found = self.queries.search(replace(query, limit=None), query.limit)
        sessions = list(found.sessions())
        # of two on one ref the one is marked whose folder is, whatever order they came in
        by_eid = sorted(sessions, key=lambda each: each.eid)
        named = ((alf.path_component(each.ref), each.eid, each.eid) for each in by_eid)
        names = {eid: name for name, eid in alf.unique_names(named, taken=(EIDS, PATHS))}
        answer = SearchFolderContent(
            {names[each.eid]: each for each in sessions},
            tuple(found.eids),
            found.has_complete_numbers,
        )
        with self._lock:
            self._results[key] = (time.monotonic(), answer)
        return answer


class SearchContext(Protocol):
    """What searches need of the tree's rooms."""

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue."""

    @property
    def layouts(self) -> LayoutCache:
        """Shapes that were built already."""

    @property
    def searches(self) -> SearchCache:
        """The searches."""


@dataclass(frozen=True, slots=True)
class SessionLink:
    """A link to a session, which is followed when it is read."""

    context: SearchContext
    session: Session

    def node(self) -> Node:
        ino = inode_of_path(SEARCH, self.session.eid)
        return Node(NodeKind.LINK, ino, 0, self.context.catalogue.created)

    def read_target(self) -> str:
        """The session's folder, seen from a folder in ``.search``."""
        place = session_path(self.context.catalogue, self.context.layouts, self.session)
        return "../../" + "/".join(place)

    def xattrs(self) -> dict[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class SearchTextFile:
    """``.eids`` or ``.paths``: a line for each session."""

    context: SearchContext
    name: str
    eids: tuple[str, ...]
    lines: Callable[[], tuple[str, ...]]

    def listed_node(self) -> Node:
        """The node as the folder lists it: without a size, for which lines would be looked up."""
        ino = inode_of_path(SEARCH, self.name, *self.eids)
        return Node(NodeKind.FILE, ino, None, self.context.catalogue.created)

    def node(self) -> Node:
        text = self._encode_lines()
        return replace(self.listed_node(), size=len(text), mtime=file_mtime("", text))

    def open(self) -> Handle:
        return TextHandle(self._encode_lines())

    def xattrs(self) -> dict[str, str]:
        return {}

    def _encode_lines(self) -> bytes:
        return "".join(f"{line}\n" for line in self.lines()).encode()


@dataclass(frozen=True, slots=True)
class SearchFolder:
    """One search."""

    context: SearchContext
    name: str
    query: Query

    def node(self) -> Node:
        return _search_folder_node(self.context, self.name)

    def child(self, name: str) -> SessionLink | SearchTextFile:
        found = self.context.searches.get_content(self.query)
        if name in found.sessions:
            return SessionLink(self.context, found.sessions[name])
        texts = self._text_files(found)
        if name in texts:
            return texts[name]
        raise NotFound(f"search {self.name} has not found {name}")

    def children(self) -> list[tuple[str, Node]]:
        found = self.context.searches.get_content(self.query)
        texts = [(name, text.listed_node()) for name, text in self._text_files(found).items()]
        links = (
            (name, SessionLink(self.context, each).node()) for name, each in found.sessions.items()
        )
        return [*texts, *links]

    def xattrs(self) -> dict[str, str]:
        return {"user.onefs.query": str(self.query)}

    def _text_files(self, found: SearchFolderContent) -> dict[str, SearchTextFile]:
        rooms = self.context
        paths = partial(rooms.searches.session_paths, self.query, rooms.catalogue, rooms.layouts)
        return {
            EIDS: SearchTextFile(rooms, EIDS, found.eids, lambda: found.eids),
            PATHS: SearchTextFile(rooms, PATHS, found.eids, paths),
        }


@dataclass(frozen=True, slots=True)
class SearchRoot:
    """``.search``: lists the saved searches, and has a folder for every search."""

    context: SearchContext

    def node(self) -> Node:
        return _search_folder_node(self.context)

    def child(self, name: str) -> SearchFolder:
        return SearchFolder(self.context, name, self.context.searches.parse_name(name))

    def children(self) -> list[tuple[str, Node]]:
        saved = self.context.searches.queries.saved_searches()
        return [(name, _search_folder_node(self.context, name)) for name in saved]

    def xattrs(self) -> dict[str, str]:
        error = self.context.searches.last_error
        return {"user.onefs.error": error} if error else {}


def _search_folder_node(context: SearchContext, *name: str) -> Node:
    return Node(NodeKind.DIRECTORY, inode_of_path(SEARCH, *name), 0, context.catalogue.created)

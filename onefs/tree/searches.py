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
from onefs.dates import file_time
from onefs.errors import NotFound, UsageError
from onefs.flights import Flights
from onefs.metadata.catalogue import Catalogue
from onefs.metadata.queries import Queries
from onefs.metadata.terms import Query, parse_text
from onefs.model import Session
from onefs.tree.nodes import Handle, Kind, Node, inode_of_path
from onefs.tree.shapes import Shapes
from onefs.tree.text import TextHandle
from onefs.tree.ways import likely_places, session_place

log = logging.getLogger(__name__)

SEARCH = ".search"
EIDS = ".eids"
PATHS = ".paths"

#: seconds for which an answer is shown without asking again
AGE = 60.0
#: seconds that a search may take in all, its pages included
DEADLINE = 60.0
#: answers in memory
KEPT = 256

#: a query, and how often answers had been dropped when it was asked
_Key = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search has found."""

    #: the sessions that have a folder, by ref; with a mark where two share a ref
    sessions: Mapping[str, Session]
    #: the eids of all that were found
    eids: tuple[str, ...]
    #: as of :class:`onefs.metadata.queries.Found`
    numbers_whole: bool


class Searches:
    """The answers to searches, each asked for once by however many readers. Thread-safe."""

    def __init__(self, queries: Queries) -> None:
        self.queries = queries
        #: why the last name that was looked up is no search; '' when none was wrong
        self.error = ""
        self._flights: Flights[Answer] = Flights("onefs-search", workers=4)
        self._path_flights: Flights[tuple[str, ...]] = Flights("onefs-search-paths", workers=2)
        self._lock = threading.Lock()
        self._answers: LRUCache[_Key, tuple[float, Answer]] = LRUCache(KEPT)
        #: the paths of an answer's sessions, with the answer
        self._paths: LRUCache[_Key, tuple[Answer, tuple[str, ...]]] = LRUCache(KEPT)
        #: how often answers were dropped: one that was asked for before is of no use afterwards
        self._dropped = 0

    def parsed(self, name: str) -> Query:
        """The query of a folder's name, saved or spelt out. Raises NotFound, and remembers why."""
        try:
            saved = self.queries.saved().get(name)
            return parse_text(saved or name)
        except UsageError as error:
            self.error = f"{alf.valid_text(name)}: {error}"
            log.warning("%s/%s", SEARCH, self.error)
            raise NotFound(f"{SEARCH}/{self.error}") from error

    def found(self, query: Query) -> Answer:
        """What a search has found.

        Raises what asking Alyx raises: an empty answer means that there is none.
        """
        key = (self._dropped, str(query))
        with self._lock:
            known = self._answers.get(key)
        if known is not None and time.monotonic() - known[0] < AGE:
            return known[1]
        return self._flights.wait(key, partial(self._ask, query, key), DEADLINE, f"search {query}")

    def drop(self) -> None:
        """Ask again for each search when it is next looked at."""
        with self._lock:
            self._dropped += 1
            self._answers.clear()
            self._paths.clear()

    def paths(self, query: Query, catalogue: Catalogue, shapes: Shapes) -> tuple[str, ...]:
        """The paths of the sessions found, looked up once for each answer. Raises as :meth:`found`.

        Where a session is depends on the others of its subject, which have to be listed.
        """
        key, answer = (self._dropped, str(query)), self.found(query)
        with self._lock:
            known = self._paths.get(key)
        if known is not None and known[0] is answer:
            return known[1]

        def look_up() -> tuple[str, ...]:
            sessions, whole = answer.sessions.values(), answer.numbers_whole
            places = likely_places(catalogue, shapes, sessions, numbers_whole=whole)
            paths = tuple("/".join(place) for place in places.values())
            with self._lock:
                self._paths[key] = (answer, paths)
            return paths

        return self._path_flights.wait(key, look_up, DEADLINE, f"paths of search {query}")

    def close(self) -> None:
        """Wake who waits, with Stopping."""
        self._flights.close()
        self._path_flights.close()

    def _ask(self, query: Query, key: _Key) -> Answer:
        found = self.queries.search(replace(query, limit=None), query.limit)
        sessions = list(found.sessions())
        # of two on one ref the one is marked whose folder is, whatever order they came in
        by_eid = sorted(sessions, key=lambda each: each.eid)
        named = ((alf.component(each.ref), each.eid, each.eid) for each in by_eid)
        names = {eid: name for name, eid in alf.distinct(named, taken=(EIDS, PATHS))}
        answer = Answer(
            {names[each.eid]: each for each in sessions}, tuple(found.eids), found.numbers_whole
        )
        with self._lock:
            self._answers[key] = (time.monotonic(), answer)
        return answer


class Room(Protocol):
    """What searches need of the tree's rooms."""

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue."""

    @property
    def shapes(self) -> Shapes:
        """Shapes that were built already."""

    @property
    def searches(self) -> Searches:
        """The searches."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a session, which is followed when it is read."""

    rooms: Room
    session: Session

    def node(self) -> Node:
        ino = inode_of_path(SEARCH, self.session.eid)
        return Node(Kind.LINK, ino, 0, self.rooms.catalogue.created)

    def follow(self) -> str:
        """The session's folder, seen from a folder in ``.search``."""
        place = session_place(self.rooms.catalogue, self.rooms.shapes, self.session)
        return "../../" + "/".join(place)

    def xattrs(self) -> dict[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class Text:
    """``.eids`` or ``.paths``: a line for each session."""

    rooms: Room
    name: str
    eids: tuple[str, ...]
    lines: Callable[[], tuple[str, ...]]

    def listed(self) -> Node:
        """The node as the folder lists it: without a size, for which lines would be looked up."""
        ino = inode_of_path(SEARCH, self.name, *self.eids)
        return Node(Kind.FILE, ino, None, self.rooms.catalogue.created)

    def node(self) -> Node:
        text = self._bytes()
        return replace(self.listed(), size=len(text), mtime=file_time("", text))

    def open(self) -> Handle:
        return TextHandle(self._bytes())

    def xattrs(self) -> dict[str, str]:
        return {}

    def _bytes(self) -> bytes:
        return "".join(f"{line}\n" for line in self.lines()).encode()


@dataclass(frozen=True, slots=True)
class SearchFolder:
    """One search."""

    rooms: Room
    name: str
    query: Query

    def node(self) -> Node:
        return _folder_node(self.rooms, self.name)

    def child(self, name: str) -> Link | Text:
        found = self.rooms.searches.found(self.query)
        if name in found.sessions:
            return Link(self.rooms, found.sessions[name])
        texts = self._texts(found)
        if name in texts:
            return texts[name]
        raise NotFound(f"search {self.name} has not found {name}")

    def children(self) -> list[tuple[str, Node]]:
        found = self.rooms.searches.found(self.query)
        texts = [(name, text.listed()) for name, text in self._texts(found).items()]
        links = ((name, Link(self.rooms, each).node()) for name, each in found.sessions.items())
        return [*texts, *links]

    def xattrs(self) -> dict[str, str]:
        return {"user.onefs.query": str(self.query)}

    def _texts(self, found: Answer) -> dict[str, Text]:
        rooms = self.rooms
        paths = partial(rooms.searches.paths, self.query, rooms.catalogue, rooms.shapes)
        return {
            EIDS: Text(rooms, EIDS, found.eids, lambda: found.eids),
            PATHS: Text(rooms, PATHS, found.eids, paths),
        }


@dataclass(frozen=True, slots=True)
class SearchRoot:
    """``.search``: lists the saved searches, and has a folder for every search."""

    rooms: Room

    def node(self) -> Node:
        return _folder_node(self.rooms)

    def child(self, name: str) -> SearchFolder:
        return SearchFolder(self.rooms, name, self.rooms.searches.parsed(name))

    def children(self) -> list[tuple[str, Node]]:
        saved = self.rooms.searches.queries.saved()
        return [(name, _folder_node(self.rooms, name)) for name in saved]

    def xattrs(self) -> dict[str, str]:
        error = self.rooms.searches.error
        return {"user.onefs.error": error} if error else {}


def _folder_node(rooms: Room, *name: str) -> Node:
    return Node(Kind.DIRECTORY, inode_of_path(SEARCH, *name), 0, rooms.catalogue.created)

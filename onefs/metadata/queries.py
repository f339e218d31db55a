"""Searches: asked of Alyx, checked here, and answered from the catalogue when Alyx is away."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice, product
from typing import Any, NamedTuple
from urllib.parse import urlencode

from onefs import alf
from onefs.errors import (
    CacheError,
    DeadlineExceeded,
    NotFound,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
    UsageError,
)
from onefs.metadata import known, rows
from onefs.metadata.alyx import Alyx
from onefs.metadata.database import Database
from onefs.metadata.rows import Row
from onefs.metadata.terms import VOCABULARY, Query, Several
from onefs.model import Session
from onefs.once import Once

log = logging.getLogger(__name__)

#: what asking Alyx ends with when the catalogue is to answer
_AWAY = (Unreachable, DeadlineExceeded, Throttled)
#: rows of an answer that is kept for when the server is away
MOST_KEPT = 1000
#: queries that one search may be
MOST_QUERIES = 100
#: UUIDs in one look-up: gunicorn reads request lines of 4094 bytes
MOST_IDS = 80
#: characters of a query that leave room for the rest of such a line
LONGEST_QUERY = 3800
#: seconds for which a small table is not asked for again
TABLE_AGE = 3600.0
#: terms for which Alyx repeats a session, once for each project, dataset or trajectory that fits
_REPEATING = frozenset({"project", "dataset_qc_lte", "atlas_acronym", "atlas_name", "atlas_id"})
#: terms that hold for all sessions of one subject, day and number, or for none of them
_OF_NUMBERS = frozenset({"lab", "subject", "date_range", "number"})
#: a look-up that every session passes: with any, Alyx makes its answer distinct
_EVERY = "id__isnull,False"
#: what each of our terms is called by Alyx, where it is another word
_PARAMETERS = {"dataset_names": "datasets"}
#: the small tables that can be listed, by what they are called, and the column of their names
TABLES = {
    "dataset-types": ("dataset-types", "name"),
    "users": ("users", "username"),
    "subjects": ("subjects", "nickname"),
    "labs": ("labs", "name"),
}
#: small tables that have all names of a search term, and the column of them
_SUGGESTED = {
    "users": ("users", "username"),
    "lab": ("labs", "name"),
    "location": ("locations", "name"),
    "project": ("projects", "name"),
    "dataset_types": ("dataset-types", "name"),
}


class Hit(NamedTuple):
    """One session of an answer."""

    row: Row
    session: Session
    #: a session without number has no folder
    numbered: bool

    @classmethod
    def of(cls, row: Row) -> Hit:
        """A row, read."""
        return cls(row, *rows.session(row))


class Found:
    """What a search found, in the server's order: the latest first.

    ``read`` gives the sessions, of which the eids are known already. ``numbers_whole``: of each day
    and number of a subject either all sessions were found or none.
    """

    def __init__(
        self, eids: list[str], read: Callable[[], Iterable[Hit]], *, numbers_whole: bool = False
    ) -> None:
        self.eids = eids
        self.numbers_whole = numbers_whole
        #: what a search that found nothing may have meant
        self.hint = ""
        self._read = read

    @cached_property
    def hits(self) -> list[Hit]:
        """The sessions found."""
        return list(self._read())

    @property
    def rows(self) -> list[Row]:
        """Alyx's own rows."""
        return [hit.row for hit in self.hits]

    def sessions(self) -> Iterator[Session]:
        """The sessions that have a folder."""
        return (hit.session for hit in self.hits if hit.session.has_folder)


class Queries:
    """Searches over one database. Thread-safe. The catalogue's file is opened when it is needed.

    Methods raise UsageError, and what asking Alyx raises; Unreachable when it is away, or
    Throttled when it asks to wait, and the catalogue cannot tell.
    """

    def __init__(
        self, alyx: Alyx, database: Once[Database], clock: Callable[[], float] = time.time
    ) -> None:
        self._alyx = alyx
        self._database = database
        self._clock = clock

    def search(self, query: Query, limit: int | None = None) -> Found:
        """The sessions that fulfil every term; at most ``limit``, the latest."""
        if not query.values and limit is None:
            raise UsageError(
                "a search without any term is the whole table: give a term, or a limit to have "
                "the latest sessions"
            )
        key = f"search/{query}" + (f" limit {limit}" if limit else "")
        self._database.begin()  # while Alyx is at it
        try:
            found = self._ask(query, limit)
        except _AWAY as error:
            return self._remembered(query, limit, key, error)
        self._keep(key, found)
        whole = limit is None and all(name in _OF_NUMBERS for name, _ in query.values)
        return Found(list(found), lambda: map(Hit.of, found.values()), numbers_whole=whole)

    def table(self, what: str) -> list[Row]:
        """The rows of one of :data:`TABLES`, at most an hour old while Alyx is there, and not
        older than the wish to have everything anew.

        While it is away those that were kept; else the names that the catalogue has, as rows.
        """
        endpoint, column = TABLES[what]
        try:
            return self._small_table(endpoint, column)
        except _AWAY as error:
            names = self._known_names(what)
            if not names:
                raise
            log.warning("%s; this is what the catalogue knows, which may not be all", error)
            return [{column: name} for name in names]

    def _small_table(self, endpoint: str, column: str) -> list[Row]:
        """The rows of a small table: kept ones, while they are fresh or Alyx is away."""
        key = f"table/{endpoint}"
        kept = self._kept_answer(key)
        if kept is not None and self._is_fresh(kept[1]):
            return kept[0]
        try:
            found = self._alyx.table(endpoint, column)
        except _AWAY as error:
            if kept is None:
                raise
            log.warning("%s; what was known is given", error)
            return kept[0]
        with self._as_far_as_it_goes():
            self._database().store_answer(key, json.dumps(found), self._clock())
        return found

    def _kept_answer(self, key: str) -> tuple[list[Row], float] | None:
        """The rows of a kept answer and when it was given; None when it cannot be read either."""
        try:
            kept = self._database().answer(key)
            found = json.loads(kept[0]) if kept is not None else None
        except (CacheError, ValueError, RecursionError) as error:
            log.warning("the answer that was kept cannot be read: %s", error)
            return None
        return (found, kept[1]) if kept is not None and isinstance(found, list) else None

    def _is_fresh(self, fetched_at: float) -> bool:
        """Whether a small table of that age need not be asked for."""
        wanted_anew = max(self._database().forced().values(), default=0.0)
        return fetched_at >= wanted_anew and self._clock() - fetched_at < TABLE_AGE

    def _known_names(self, what: str) -> list[str]:
        """The names of one of :data:`TABLES` that listings and cache tables have brought."""
        database = self._database()
        if what == "dataset-types":
            return database.dataset_types()
        labs = {*database.labs(), *database.distinct("sessions", "lab")}
        if what == "subjects":
            return sorted({name for lab in labs for name in database.subjects(lab)})
        return sorted(labs) if what == "labs" else []

    def session_of_dataset(self, dataset_id: str) -> str:
        """The eid of a dataset's session; Alyx is asked unless it is known. Raises NotFound."""
        known = self._database().session_of_dataset(dataset_id)
        return known or self._alyx.session_of_dataset(dataset_id)

    def saved(self) -> dict[str, str]:
        """The saved searches: their names, and their queries as texts."""
        return self._database().facts("search/")

    def save(self, name: str, query: Query) -> None:
        """Save a search under a name, in place of one that has it. Raises UsageError."""
        if not name or name != alf.component(name) or name.startswith(".") or "=" in name:
            raise UsageError(
                f"{name!a} is no name for a search: it would be a folder, and must not begin "
                "with a dot or hold a slash, an equals sign or a control character"
            )
        self._database().set_fact(f"search/{name}", str(query))

    def forget(self, name: str) -> None:
        """Forget a saved search. Raises NotFound."""
        if name not in self.saved():
            raise NotFound(f"there is no saved search {name!a}")
        self._database().drop_fact(f"search/{name}")

    def suggest(self, query: Query) -> str:
        """What a search that found nothing may have meant; '' when every name is known."""
        return known.suggestion(self._database(), query, self._all_names)

    def _all_names(self, term: str) -> list[str] | None:
        """All names of a term, where a small table has them and can be had; else None."""
        if term not in _SUGGESTED:
            return None
        endpoint, column = _SUGGESTED[term]
        try:
            return names_in(self._small_table(endpoint, column), column)
        except OnefsError as error:
            log.info("the names of %s cannot be listed: %s", term, error)
            return None

    # -- asking Alyx

    def _ask(self, query: Query, limit: int | None) -> dict[str, Row]:
        try:
            found, cut = self._checked(query, limit)
            if limit is not None and cut and len(found) < limit:
                found, _ = self._checked(query, None)  # what the check dropped left room
        except ServerError as error:
            raise _clear(error, query) from error
        return dict(islice(found.items(), limit))

    def _checked(self, query: Query, limit: int | None) -> tuple[dict[str, Row], bool]:
        """The rows of all queries that a search is, by eid, checked against the terms; and
        whether a query may have had more of them than ``limit``."""
        branches = list(_branches(query))
        if len(branches) > MOST_QUERIES:
            raise UsageError(
                f"the search is {len(branches)} queries, more than {MOST_QUERIES}: give fewer names"
            )
        found: dict[str, Row] = {}
        cut = False
        for branch in branches:
            answer = self._one(branch, limit)
            cut = cut or len(answer) == limit
            for hit in rows.readable(answer, Hit.of, "a search"):
                if known.agrees(hit.row, query):
                    found.setdefault(hit.session.eid, hit.row)
        if len(branches) > 1:
            by_start = sorted(found.items(), key=lambda item: _start(item[1]), reverse=True)
            found = dict(by_start)
        return found, cut

    def _one(self, branch: Mapping[str, str], limit: int | None) -> list[Row]:
        """The rows of one query.

        Alyx counts the users over whatever else is joined, so users are asked for apart from
        terms that join (users=a,b&project=p finds sessions of one of them: docs/ONE-SEMANTICS.md).
        """
        if len(urlencode(_parameters(branch))) > LONGEST_QUERY:
            raise UsageError("the search does not fit into a request: give fewer or shorter names")
        joined = {name for name in branch if VOCABULARY[name].joins}
        if "users" not in branch or not joined:
            return self._alyx.select(_distinct(_parameters(branch)), limit)
        plain = {name: value for name, value in branch.items() if name not in joined}
        owned = {rows.identifier(row) for row in self._alyx.select(_parameters(plain))}
        if not owned:
            return []
        others = _parameters({name: v for name, v in branch.items() if name != "users"})
        if len(owned) <= MOST_IDS and "django" not in others:
            others["django"] = _ids(owned)  # the join is dear: let it be over these only
        found = self._alyx.select(_distinct(others))
        return [row for row in found if rows.identifier(row) in owned]

    # -- remembering

    def _keep(self, key: str, found: Mapping[str, Row]) -> None:
        with self._as_far_as_it_goes():
            self._database().store_found([rows.session(row) for row in found.values()])
            if len(found) <= MOST_KEPT:
                self._database().store_answer(key, json.dumps(list(found.values())), self._clock())

    @contextmanager
    def _as_far_as_it_goes(self) -> Iterator[None]:
        """Store an answer, if that is possible: it is given all the same."""
        try:
            yield
        except CacheError as error:
            log.warning("the answer is not kept for when Alyx is away: %s", error)

    def _remembered(self, query: Query, limit: int | None, key: str, trouble: Exception) -> Found:
        """The catalogue's answer, and a warning that it is one."""
        kept = self._kept_answer(key)
        if kept is not None:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept[1]))
            log.warning("%s; this is what the search found on %s", trouble, when)
            hits = rows.readable(kept[0], Hit.of, "a search that was kept")
            return Found([hit.session.eid for hit in hits], lambda: hits)
        unknown = [name for name, _ in query.values if name not in known.TERMS]
        if unknown:
            raise _without_answer(
                trouble,
                f"the catalogue cannot answer {', '.join(unknown)} by itself, only "
                f"{', '.join(known.TERMS)}, and searches made before",
            ) from trouble
        eids = known.search(self._database(), query, limit)
        if not eids:  # nothing known is not nothing there
            raise _without_answer(trouble, "the catalogue knows no such session") from trouble
        log.warning("%s; this is what the catalogue knows, which may not be all", trouble)
        if "dataset_types" in query and self._database().tables_version() is not None:
            log.warning("the cache tables have no dataset types: file names stood for them")
        return Found(eids, lambda: self._known(eids))

    def _known(self, eids: Sequence[str]) -> Iterator[Hit]:
        for session in self._database().sessions_of(eids):
            yield Hit(known.row(session, self._alyx.url), session, session.number >= 0)


def _branches(query: Query) -> Iterator[dict[str, str]]:
    """One query for each choice among the values of terms of which a session has one."""
    single = {
        name: ",".join(values)
        for name, values in query.values
        if VOCABULARY[name].several is not Several.ANY
    }
    several = [(name, v) for name, v in query.values if VOCABULARY[name].several is Several.ANY]
    for choice in product(*(values for _, values in several)):
        yield {**single, **dict(zip((name for name, _ in several), choice, strict=True))}


def _parameters(branch: Mapping[str, str]) -> dict[str, str]:
    """Alyx's own parameters."""
    found = {_PARAMETERS.get(name, name): value for name, value in branch.items()}
    if "probe" in found:
        # Alyx has no such filter
        probe = f"probe_insertion__name,{found.pop('probe')}"
        found["django"] = f"{probe},{found['django']}" if "django" in found else probe
    return found


def _distinct(parameters: dict[str, str]) -> dict[str, str]:
    """The query with each session once: repeated ones fill pages, and cross their borders, where
    nobody can tell them from rows that pages without order lose."""
    if "django" in parameters or _REPEATING.isdisjoint(parameters):
        return parameters
    return {**parameters, "django": _EVERY}


def _start(row: Row) -> str:
    return str(row.get("start_time"))


def _ids(eids: Iterable[str]) -> str:
    """The look-up of sessions by their eids."""
    return "id__in,[" + ",".join(f"'{eid}'" for eid in eids) + "]"


def _without_answer(trouble: Exception, why: str) -> OnefsError:
    """That neither Alyx nor the catalogue answers; after a 429 still when Alyx will."""
    if isinstance(trouble, Throttled):
        return Throttled(f"{trouble}; {why}", trouble.retry_after)
    return Unreachable(f"{trouble}; {why}")


def _clear(error: ServerError, query: Query) -> ServerError:
    """The server's failure as a sentence that helps."""
    asked = [name for name in ("performance_gte", "performance_lte") if name in query]
    if asked and "division by zero" in error.detail:
        return ServerError(
            f"Alyx cannot answer {' and '.join(asked)}: some session in its database has 0 trials, "
            "over which it divides. Leave the term out, and look at n_trials and "
            "n_correct_trials of what is found",
            error.status,
            error.detail,
        )
    if error.status in (400, 500) and "django" in query:
        return ServerError(
            f"Alyx cannot answer django={query.get('django')[0]!r}: {error.detail or error}",
            error.status,
            error.detail,
        )
    return error


def names_of(what: str, found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names in the rows of one of :data:`TABLES`, each once, sorted."""
    return names_in(found, TABLES[what][1])


def names_in(found: Sequence[Mapping[str, Any]], column: str) -> list[str]:
    """The names in a column of rows, each once, sorted."""
    return sorted({str(row[column]) for row in found if row.get(column)})

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
from onefs.alyx import parsing
from onefs.alyx.client import AlyxClient
from onefs.alyx.parsing import Row
from onefs.catalogue.storage.database import CatalogueDatabase
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
from onefs.lowlevel.lazy import Lazy
from onefs.model import Session
from onefs.search import offline
from onefs.search.vocabulary import VOCABULARY, MultipleValues, Query

log = logging.getLogger(__name__)

#: what asking Alyx ends with when the catalogue is to answer
_UNAVAILABLE_ERRORS = (Unreachable, DeadlineExceeded, Throttled)
#: rows of an answer that is kept for when the server is away
MAX_STORED_ROWS = 1000
#: queries that one search may be
MAX_QUERIES_PER_SEARCH = 100
#: UUIDs in one look-up: gunicorn reads request lines of 4094 bytes
MAX_IDS_PER_LOOKUP = 80
#: characters of a query that leave room for the rest of such a line
MAX_QUERY_CHARACTERS = 3800
#: seconds for which a small table is not asked for again
TABLE_TTL_SECONDS = 3600.0
#: terms for which Alyx repeats a session, once for each project, dataset or trajectory that fits
_REPEATING_TERMS = frozenset(
    {"project", "dataset_qc_lte", "atlas_acronym", "atlas_name", "atlas_id"}
)
#: terms that hold for all sessions of one subject, day and number, or for none of them
_SESSION_NUMBER_TERMS = frozenset({"lab", "subject", "date_range", "number"})
#: a look-up that every session passes: with any, Alyx makes its answer distinct
_MATCH_ALL_LOOKUP = "id__isnull,False"
#: what each of our terms is called by Alyx, where it is another word
_ALYX_PARAMETER_NAMES = {"dataset_names": "datasets"}
#: the small tables that can be listed, by what they are called, and the column of their names
NAME_TABLES = {
    "dataset-types": ("dataset-types", "name"),
    "users": ("users", "username"),
    "subjects": ("subjects", "nickname"),
    "labs": ("labs", "name"),
}
#: small tables that have all names of a search term, and the column of them
_TABLE_BY_TERM = {
    "users": ("users", "username"),
    "lab": ("labs", "name"),
    "location": ("locations", "name"),
    "project": ("projects", "name"),
    "dataset_types": ("dataset-types", "name"),
}


class SearchHit(NamedTuple):
    """One session of an answer."""

    row: Row
    session: Session
    #: a session without number has no folder
    is_numbered: bool

    @classmethod
    def from_row(cls, row: Row) -> SearchHit:
        """A row, read."""
        return cls(row, *parsing.parse_session(row))


class FoundSessions:
    """What a search found, in the server's order: the latest first.

    ``read`` gives the sessions, of which the eids are known already. ``has_complete_numbers``: of
    each day and number of a subject either all sessions were found or none.
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
        #: what a search that found nothing may have meant
        self.hint = ""
        self._read_hits = read_hits

    @cached_property
    def hits(self) -> list[SearchHit]:
        """The sessions found."""
        return list(self._read_hits())

    @property
    def rows(self) -> list[Row]:
        """Alyx's own rows."""
        return [hit.row for hit in self.hits]

    def sessions(self) -> Iterator[Session]:
        """The sessions that have a folder."""
        return (hit.session for hit in self.hits if hit.session.has_folder)


class SessionQueries:
    """Searches over one database. Thread-safe. The catalogue's file is opened when it is needed.

    Methods raise UsageError, and what asking Alyx raises; Unreachable when it is away, or
    Throttled when it asks to wait, and the catalogue cannot tell.
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

    def search(self, query: Query, limit: int | None = None) -> FoundSessions:
        """The sessions that fulfil every term; at most ``limit``, the latest."""
        if not query.values and limit is None:
            raise UsageError(
                "a search without any term is the whole table: give a term, or a limit to have "
                "the latest sessions"
            )
        key = f"search/{query}" + (f" limit {limit}" if limit else "")
        self._database.start()  # while Alyx is at it
        try:
            found = self._search_alyx(query, limit)
        except _UNAVAILABLE_ERRORS as error:
            return self._search_catalogue(query, limit, key, error)
        self._store_result(key, found)
        whole = limit is None and all(name in _SESSION_NUMBER_TERMS for name, _ in query.values)
        return FoundSessions(
            list(found), lambda: map(SearchHit.from_row, found.values()), has_complete_numbers=whole
        )

    def list_table(self, what: str) -> list[Row]:
        """The rows of one of :data:`TABLES`, at most an hour old while Alyx is there, and not
        older than the wish to have everything anew.

        While it is away those that were kept; else the names that the catalogue has, as rows.
        """
        endpoint, column = NAME_TABLES[what]
        try:
            return self._fetch_table(endpoint, column)
        except _UNAVAILABLE_ERRORS as error:
            names = self._names_in_catalogue(what)
            if not names:
                raise
            log.warning("%s; this is what the catalogue knows, which may not be all", error)
            return [{column: name} for name in names]

    def _fetch_table(self, endpoint: str, column: str) -> list[Row]:
        """The rows of a small table: kept ones, while they are fresh or Alyx is away."""
        key = f"table/{endpoint}"
        kept = self._stored_answer(key)
        if kept is not None and self._is_fresh(kept[1]):
            return kept[0]
        try:
            found = self._alyx.table_rows(endpoint, column)
        except _UNAVAILABLE_ERRORS as error:
            if kept is None:
                raise
            log.warning("%s; what was known is given", error)
            return kept[0]
        with self._ignore_cache_errors():
            self._database().store_answer(key, json.dumps(found), self._clock())
        return found

    def _stored_answer(self, key: str) -> tuple[list[Row], float] | None:
        """The rows of a kept answer and when it was given; None when it cannot be read either."""
        try:
            kept = self._database().stored_answer(key)
            found = json.loads(kept[0]) if kept is not None else None
        except (CacheError, ValueError, RecursionError) as error:
            log.warning("the answer that was kept cannot be read: %s", error)
            return None
        return (found, kept[1]) if kept is not None and isinstance(found, list) else None

    def _is_fresh(self, fetched_at: float) -> bool:
        """Whether a small table of that age need not be asked for."""
        wanted_anew = max(self._database().invalidations().values(), default=0.0)
        return fetched_at >= wanted_anew and self._clock() - fetched_at < TABLE_TTL_SECONDS

    def _names_in_catalogue(self, what: str) -> list[str]:
        """The names of one of :data:`TABLES` that listings and cache tables have brought."""
        database = self._database()
        if what == "dataset-types":
            return database.dataset_types()
        labs = {*database.labs(), *database.distinct_values("sessions", "lab")}
        if what == "subjects":
            return sorted({name for lab in labs for name in database.subjects(lab)})
        return sorted(labs) if what == "labs" else []

    def session_of_dataset(self, dataset_id: str) -> str:
        """The eid of a dataset's session; Alyx is asked unless it is known. Raises NotFound."""
        known = self._database().session_of_dataset(dataset_id)
        return known or self._alyx.session_id_of_dataset(dataset_id)

    def saved_searches(self) -> dict[str, str]:
        """The saved searches: their names, and their queries as texts."""
        return self._database().facts("search/")

    def save_search(self, name: str, query: Query) -> None:
        """Save a search under a name, in place of one that has it. Raises UsageError."""
        if not name or name != alf.path_component(name) or name.startswith(".") or "=" in name:
            raise UsageError(
                f"{name!a} is no name for a search: it would be a folder, and must not begin "
                "with a dot or hold a slash, an equals sign or a control character"
            )
        self._database().set_fact(f"search/{name}", str(query))

    def delete_saved_search(self, name: str) -> None:
        """Forget a saved search. Raises NotFound."""
        if name not in self.saved_searches():
            raise NotFound(f"there is no saved search {name!a}")
        self._database().drop_fact(f"search/{name}")

    def suggest_names(self, query: Query) -> str:
        """What a search that found nothing may have meant; '' when every name is known."""
        return offline.suggest_names(self._database(), query, self._names_in_table)

    def _names_in_table(self, term: str) -> list[str] | None:
        """All names of a term, where a small table has them and can be had; else None."""
        if term not in _TABLE_BY_TERM:
            return None
        endpoint, column = _TABLE_BY_TERM[term]
        try:
            return names_in_column(self._fetch_table(endpoint, column), column)
        except OnefsError as error:
            log.info("the names of %s cannot be listed: %s", term, error)
            return None

    # -- asking Alyx

    def _search_alyx(self, query: Query, limit: int | None) -> dict[str, Row]:
        try:
            found, cut = self._fetch_checked_rows(query, limit)
            if limit is not None and cut and len(found) < limit:
                found, _ = self._fetch_checked_rows(query, None)  # what the check dropped left room
        except ServerError as error:
            raise _explain_error(error, query) from error
        return dict(islice(found.items(), limit))

    def _fetch_checked_rows(self, query: Query, limit: int | None) -> tuple[dict[str, Row], bool]:
        """The rows of all queries that a search is, by eid, checked against the terms; and
        whether a query may have had more of them than ``limit``."""
        branches = list(_branches(query))
        if len(branches) > MAX_QUERIES_PER_SEARCH:
            raise UsageError(
                f"the search is {len(branches)} queries, more than {MAX_QUERIES_PER_SEARCH}: "
                "give fewer names"
            )
        found: dict[str, Row] = {}
        cut = False
        for branch in branches:
            answer = self._fetch_branch(branch, limit)
            cut = cut or len(answer) == limit
            for hit in parsing.parse_rows(answer, SearchHit.from_row, "a search"):
                if offline.is_match(hit.row, query):
                    found.setdefault(hit.session.eid, hit.row)
        if len(branches) > 1:
            by_start = sorted(found.items(), key=lambda item: _start_time(item[1]), reverse=True)
            found = dict(by_start)
        return found, cut

    def _fetch_branch(self, branch: Mapping[str, str], limit: int | None) -> list[Row]:
        """The rows of one query.

        Alyx counts the users over whatever else is joined, so users are asked for apart from
        terms that join (users=a,b&project=p finds sessions of one of them: docs/ONE-SEMANTICS.md).
        """
        if len(urlencode(_alyx_parameters(branch))) > MAX_QUERY_CHARACTERS:
            raise UsageError("the search does not fit into a request: give fewer or shorter names")
        joined = {name for name in branch if VOCABULARY[name].needs_join}
        if "users" not in branch or not joined:
            return self._alyx.select_sessions(
                _with_distinct_sessions(_alyx_parameters(branch)), limit
            )
        plain = {name: value for name, value in branch.items() if name not in joined}
        owned = {
            parsing.uuid_of(row) for row in self._alyx.select_sessions(_alyx_parameters(plain))
        }
        if not owned:
            return []
        others = _alyx_parameters({name: v for name, v in branch.items() if name != "users"})
        if len(owned) <= MAX_IDS_PER_LOOKUP and "django" not in others:
            others["django"] = _ids_lookup(owned)  # the join is dear: let it be over these only
        found = self._alyx.select_sessions(_with_distinct_sessions(others))
        return [row for row in found if parsing.uuid_of(row) in owned]

    # -- remembering

    def _store_result(self, key: str, found: Mapping[str, Row]) -> None:
        with self._ignore_cache_errors():
            self._database().store_search_results(
                [parsing.parse_session(row) for row in found.values()]
            )
            if len(found) <= MAX_STORED_ROWS:
                self._database().store_answer(key, json.dumps(list(found.values())), self._clock())

    @contextmanager
    def _ignore_cache_errors(self) -> Iterator[None]:
        """Store an answer, if that is possible: it is given all the same."""
        try:
            yield
        except CacheError as error:
            log.warning("the answer is not kept for when Alyx is away: %s", error)

    def _search_catalogue(
        self, query: Query, limit: int | None, key: str, trouble: Exception
    ) -> FoundSessions:
        """The catalogue's answer, and a warning that it is one."""
        kept = self._stored_answer(key)
        if kept is not None:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept[1]))
            log.warning("%s; this is what the search found on %s", trouble, when)
            hits = parsing.parse_rows(kept[0], SearchHit.from_row, "a search that was kept")
            return FoundSessions([hit.session.eid for hit in hits], lambda: hits)
        unknown = [name for name, _ in query.values if name not in offline.OFFLINE_TERMS]
        if unknown:
            raise _unanswered_error(
                trouble,
                f"the catalogue cannot answer {', '.join(unknown)} by itself, only "
                f"{', '.join(offline.OFFLINE_TERMS)}, and searches made before",
            ) from trouble
        eids = offline.search_catalogue(self._database(), query, limit)
        if not eids:  # nothing known is not nothing there
            raise _unanswered_error(trouble, "the catalogue knows no such session") from trouble
        log.warning("%s; this is what the catalogue knows, which may not be all", trouble)
        if "dataset_types" in query and self._database().tables_version() is not None:
            log.warning("the cache tables have no dataset types: file names stood for them")
        return FoundSessions(eids, lambda: self._hits_in_catalogue(eids))

    def _hits_in_catalogue(self, eids: Sequence[str]) -> Iterator[SearchHit]:
        for session in self._database().sessions_by_eid(eids):
            yield SearchHit(
                offline.row_of_session(session, self._alyx.url), session, session.number >= 0
            )


def _branches(query: Query) -> Iterator[dict[str, str]]:
    """One query for each choice among the values of terms of which a session has one."""
    single = {
        name: ",".join(values)
        for name, values in query.values
        if VOCABULARY[name].multiple_values is not MultipleValues.ANY
    }
    several = [
        (name, v)
        for name, v in query.values
        if VOCABULARY[name].multiple_values is MultipleValues.ANY
    ]
    for choice in product(*(values for _, values in several)):
        yield {**single, **dict(zip((name for name, _ in several), choice, strict=True))}


def _alyx_parameters(branch: Mapping[str, str]) -> dict[str, str]:
    """Alyx's own parameters."""
    found = {_ALYX_PARAMETER_NAMES.get(name, name): value for name, value in branch.items()}
    if "probe" in found:
        # Alyx has no such filter
        probe = f"probe_insertion__name,{found.pop('probe')}"
        found["django"] = f"{probe},{found['django']}" if "django" in found else probe
    return found


def _with_distinct_sessions(parameters: dict[str, str]) -> dict[str, str]:
    """The query with each session once: repeated ones fill pages, and cross their borders, where
    nobody can tell them from rows that pages without order lose."""
    if "django" in parameters or _REPEATING_TERMS.isdisjoint(parameters):
        return parameters
    return {**parameters, "django": _MATCH_ALL_LOOKUP}


def _start_time(row: Row) -> str:
    return str(row.get("start_time"))


def _ids_lookup(eids: Iterable[str]) -> str:
    """The look-up of sessions by their eids."""
    return "id__in,[" + ",".join(f"'{eid}'" for eid in eids) + "]"


def _unanswered_error(trouble: Exception, why: str) -> OnefsError:
    """That neither Alyx nor the catalogue answers; after a 429 still when Alyx will."""
    if isinstance(trouble, Throttled):
        return Throttled(f"{trouble}; {why}", trouble.retry_after)
    return Unreachable(f"{trouble}; {why}")


def _explain_error(error: ServerError, query: Query) -> ServerError:
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


def names_in_table(what: str, found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names in the rows of one of :data:`TABLES`, each once, sorted."""
    return names_in_column(found, NAME_TABLES[what][1])


def names_in_column(found: Sequence[Mapping[str, Any]], column: str) -> list[str]:
    """The names in a column of rows, each once, sorted."""
    return sorted({str(row[column]) for row in found if row.get(column)})

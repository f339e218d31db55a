"""Searches in Alyx: the requests for a query, and the check of the answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, product
from typing import NamedTuple
from urllib.parse import urlencode

from onefs.alyx import parsing
from onefs.alyx.client import AlyxClient
from onefs.alyx.parsing import Row
from onefs.errors import ServerError, UsageError
from onefs.model import Session
from onefs.search import offline
from onefs.search.vocabulary import VOCABULARY, MultipleValues, Query

#: largest number of requests for one search
MAX_QUERIES_PER_SEARCH = 100
#: largest number of UUIDs in one look-up: gunicorn accepts request lines of at most 4094 bytes
MAX_IDS_PER_LOOKUP = 80
#: largest number of characters in a query string; the rest of the 4094 bytes is for the other parts
#: of the request line
MAX_QUERY_CHARACTERS = 3800
#: terms for which Alyx sends a session several times: once for each matching project, dataset or
#: trajectory
_REPEATING_TERMS = frozenset(
    {"project", "dataset_qc_lte", "atlas_acronym", "atlas_name", "atlas_id"}
)
#: a look-up that every session matches, because with any look-up Alyx sends each session only once
_MATCH_ALL_LOOKUP = "id__isnull,False"
#: by term of onefs, the name of the term in Alyx, if the two names differ
_ALYX_PARAMETER_NAMES = {"dataset_names": "datasets"}


class SearchHit(NamedTuple):
    """One session in the answer to a search."""

    #: the row from Alyx. While Alyx is unreachable, a row made from the catalogue
    row: Row
    session: Session
    #: whether the session has a number; a session without a number has no folder
    is_numbered: bool

    @classmethod
    def from_row(cls, row: Row) -> SearchHit:
        """Return the session in a row of Alyx's list of sessions.

        Raises the errors of :func:`parsing.parse_session`.
        """
        return cls(row, *parsing.parse_session(row))


def search_alyx(alyx: AlyxClient, query: Query, limit: int | None) -> dict[str, Row]:
    """Return the rows of the sessions that match every term, the latest session first.

    The result is a dictionary by eid, with at most ``limit`` rows. Raises UsageError if the query
    needs more than MAX_QUERIES_PER_SEARCH requests, or if a request is too long. Also raises the
    errors of requests to Alyx.
    """
    try:
        rows, is_cut = _fetch_checked_rows(alyx, query, limit)
        if limit is not None and is_cut and len(rows) < limit:
            rows, _ = _fetch_checked_rows(alyx, query, None)  # the check has removed some rows
    except ServerError as error:
        raise _explain_error(error, query) from error
    return dict(islice(rows.items(), limit))


def _fetch_checked_rows(
    alyx: AlyxClient, query: Query, limit: int | None
) -> tuple[dict[str, Row], bool]:
    """Return the rows that match a query, by eid, and whether Alyx may have more rows."""
    branches = list(_branches(query))
    if len(branches) > MAX_QUERIES_PER_SEARCH:
        raise UsageError(
            f"the search needs {len(branches)} queries, more than {MAX_QUERIES_PER_SEARCH}: "
            "give fewer names"
        )
    rows: dict[str, Row] = {}
    is_cut = False
    for branch in branches:
        answer = _fetch_branch(alyx, branch, limit)
        # Alyx may have more rows if an answer has ``limit`` rows
        is_cut = is_cut or len(answer) == limit
        for hit in parsing.parse_rows(answer, SearchHit.from_row, "found sessions"):
            if offline.is_match(hit.row, query):
                rows.setdefault(hit.session.eid, hit.row)
    if len(branches) > 1:
        by_start = sorted(
            rows.items(), key=lambda item: str(item[1].get("start_time")), reverse=True
        )
        rows = dict(by_start)
    return rows, is_cut


def _fetch_branch(alyx: AlyxClient, branch: Mapping[str, str], limit: int | None) -> list[Row]:
    """Return the rows for one branch. A branch is the terms of one request (see :func:`_branches`).

    Raises UsageError if the request would be too long.
    """
    if len(urlencode(_alyx_parameters(branch))) > MAX_QUERY_CHARACTERS:
        raise UsageError("the search does not fit into a request: give fewer or shorter names")
    joined = {name for name in branch if VOCABULARY[name].needs_join}
    if "users" not in branch or not joined:
        return alyx.select_sessions(_with_distinct_sessions(_alyx_parameters(branch)), limit)
    # a term that needs an SQL join makes Alyx's filter ``users`` wrong: ``users=a,b&project=p``
    # finds sessions of only one of the two users (docs/ONE-SEMANTICS.md). So send two requests
    plain = {name: value for name, value in branch.items() if name not in joined}
    owned = {parsing.uuid_of(row) for row in alyx.select_sessions(_alyx_parameters(plain))}
    if not owned:
        return []
    others = _alyx_parameters({name: v for name, v in branch.items() if name != "users"})
    if len(owned) <= MAX_IDS_PER_LOOKUP and "django" not in others:
        others["django"] = _ids_lookup(owned)  # restricts the slow join to the users' sessions
    rows = alyx.select_sessions(_with_distinct_sessions(others))
    return [row for row in rows if parsing.uuid_of(row) in owned]


def _branches(query: Query) -> Iterator[dict[str, str]]:
    """Yield the branches of a query. A branch is the terms of one request, with their values.

    If a session may have any of several values of a term, each value gets its own branch.
    """
    single: dict[str, str] = {}
    choices: list[list[tuple[str, str]]] = []
    for name, values in query.values:
        if VOCABULARY[name].multiple_values is MultipleValues.ANY:
            choices.append([(name, value) for value in values])
        else:
            single[name] = ",".join(values)
    for combination in product(*choices):
        yield {**single, **dict(combination)}


def _alyx_parameters(branch: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of Alyx's ``/sessions`` endpoint for the terms of one request."""
    parameters = {_ALYX_PARAMETER_NAMES.get(name, name): value for name, value in branch.items()}
    if "probe" in parameters:
        # Alyx has no filter for probes, but has look-ups. It evaluates a value that looks like a
        # number, None or a list, but not such a name in a list.
        probe = f"probe_insertion__name__in,[{parameters.pop('probe')!r}]"
        django = parameters.get("django")
        parameters["django"] = f"{probe},{django}" if django else probe
    return parameters


def _with_distinct_sessions(parameters: dict[str, str]) -> dict[str, str]:
    """Return the parameters, changed so that Alyx sends each session only once."""
    # otherwise a page may have the same session many times, and a session on two pages is treated
    # as a sign that Alyx has lost other rows
    if "django" in parameters or _REPEATING_TERMS.isdisjoint(parameters):
        return parameters
    return {**parameters, "django": _MATCH_ALL_LOOKUP}


def _ids_lookup(eids: Iterable[str]) -> str:
    """Return the Django look-up that finds sessions by their eids."""
    return "id__in,[" + ",".join(f"'{eid}'" for eid in eids) + "]"


def _explain_error(error: ServerError, query: Query) -> ServerError:
    """Return an error with a message that names the search term which probably causes ``error``.

    Return ``error`` itself if the cause is unknown.
    """
    message = ""
    performance = [name for name in ("performance_gte", "performance_lte") if name in query]
    if performance and "division by zero" in error.detail:
        message = (
            f"Alyx cannot answer {' and '.join(performance)}: some session in its database has 0 "
            "trials, over which it divides. Leave the term out, and look at n_trials and "
            "n_correct_trials of the sessions that are found"
        )
    elif error.status in (400, 500) and "django" in query:
        message = f"Alyx cannot answer django={query.get('django')[0]!r}: {error.detail or error}"
    return ServerError(message, error.status, error.detail) if message else error

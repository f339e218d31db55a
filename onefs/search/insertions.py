"""Searches for probe insertions: the check of Alyx's answers, and searches in the catalogue."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from onefs.alyx.parsing import Row, parse_insertion
from onefs.catalogue.insertions import store_rows
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.model import Insertion, Session
from onefs.search import offline
from onefs.search.vocabulary import Query, parse_terms

__all__ = [
    "find_in_sessions",
    "matching_rows",
    "search_catalogue",
    "store_rows",
    "unknown_offline",
]

#: terms of a search for sessions that also select among the insertions of a session
ATLAS_TERMS = ("atlas_acronym", "atlas_name", "atlas_id")
#: by filter of ``/insertions``, the term of a search for sessions that means the same
SESSION_TERMS = {
    "subject": "subject",
    "lab": "lab",
    "experiment_number": "number",
    "date": "date_range",
    "task_protocol": "task_protocol",
    "project": "project",
}


class InsertionSearch(Protocol):
    """What searches for insertions by Alyx's filters, such as ``SessionQueries``."""

    def search_insertions(self, filters: Mapping[str, str]) -> list[Row]:
        """Return Alyx's rows of the insertions that match all filters."""


class SessionInsertions(Protocol):
    """What knows the insertions of sessions, such as ``onefs.catalogue.insertions``."""

    def of_sessions(self, sessions: Sequence[Session]) -> list[Insertion]:
        """Return the insertions of sessions, in the order of the sessions."""


def find_in_sessions(
    queries: InsertionSearch,
    insertions: SessionInsertions,
    query: Query,
    sessions: Sequence[Session],
) -> list[Insertion]:
    """Return the insertions that a search for sessions means, in the order of the sessions.

    ``sessions`` are those that ``query`` has found. Of their insertions, only those are returned
    that have the probe's name and are in the brain region, if the query names these.
    """
    name = dict(query.values).get("probe", ("",))[0]
    if not sessions:
        return []
    atlas = {term: query.get(term)[0] for term in ATLAS_TERMS if term in query}
    if not atlas:
        return [each for each in insertions.of_sessions(sessions) if name in ("", each.name)]
    filters = {**atlas, **({"name": name} if name else {})}
    for term in ("lab", "subject"):  # fewer rows than those of the whole database
        names = {str(getattr(session, term)) for session in sessions}
        if len(names) == 1:
            filters[term] = names.pop()
    order = {session.eid: at for at, session in enumerate(sessions)}
    found = [parse_insertion(row) for row in queries.search_insertions(filters)]
    of_sessions = [each for each in found if each.eid in order]
    return sorted(of_sessions, key=lambda each: (order[each.eid], each.name))


def matching_rows(rows: Sequence[Row], filters: Mapping[str, str]) -> list[Row]:
    """Return the rows that match all filters that can be checked with the columns of a row."""
    # a server of another version ignores filters that it does not know
    return [row for row in rows if all(_matches(row, name, filters[name]) for name in filters)]


def unknown_offline(filters: Mapping[str, str]) -> set[str]:
    """Return the names of the filters by which the catalogue cannot search."""
    return set(filters) - set(SESSION_TERMS) - set(_ROW_TESTS)


def search_catalogue(database: CatalogueDatabase, filters: Mapping[str, str]) -> list[Row]:
    """Return the rows of the stored insertions that match all filters.

    The order is that of Alyx: the latest session first, and then by name.
    """
    terms: dict[str, Any] = {
        SESSION_TERMS[name]: value for name, value in filters.items() if name in SESSION_TERMS
    }
    stored = set(database.sessions_with_insertions())
    eids = offline.search_catalogue(database, parse_terms(terms)) if terms else _latest(database)
    insertions = database.insertions_of([eid for eid in eids if eid in stored])
    return matching_rows([json.loads(each.record) for each in insertions], filters)


def _latest(database: CatalogueDatabase) -> list[str]:
    return [eid for _, _, eid in database.find_sessions("1", [])]


def _matches(row: Row, name: str, value: str) -> bool:
    test = _ROW_TESTS.get(name)
    return test is None or test(row, value)


def _info(row: Row, column: str) -> str:
    info = row.get("session_info")
    return str(info.get(column)).casefold() if isinstance(info, dict) and column in info else ""


def _info_test(column: str) -> Callable[[Row, str], bool]:
    """Return a test of a column of the row's session. A row without the column matches."""
    return lambda row, value: _info(row, column) in ("", value.strip().casefold())


_ROW_TESTS: Mapping[str, Callable[[Row, str], bool]] = {
    "id": lambda row, value: row.get("id") == value.strip().lower(),
    "session": lambda row, value: row.get("session") == value.strip().lower(),
    "name": lambda row, value: row.get("name") == value.strip(),
    "serial": lambda row, value: row.get("serial") == value.strip(),
    "lab": _info_test("lab"),
    "subject": _info_test("subject"),
}

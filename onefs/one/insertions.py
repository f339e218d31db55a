"""Probe insertions of a laboratory: the work of ONE-api's methods that search and name them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

from onefs import alf
from onefs.errors import NotFound, UsageError
from onefs.model import Insertion
from onefs.one.arguments import check_query_type
from onefs.one.name_conversions import NameConversions
from onefs.qc import QC
from onefs.search import vocabulary
from onefs.search.insertions import find_in_sessions
from onefs.tree.tsv import insertion_cells

if TYPE_CHECKING:
    from onefs.alyx.parsing import Row
    from onefs.one.laboratory import Laboratory
    from onefs.one.resolver import SessionResolver
    from onefs.search.queries import FoundSessions

log = logging.getLogger(__name__)

#: the filters of Alyx's list of insertions
FILTERS = (
    "atlas_acronym", "atlas_id", "atlas_name", "auto_datetime", "chronic_insertion",
    "dataset_qc_lte", "dataset_types", "datasets", "date", "django", "experiment_number", "id",
    "lab", "limit", "model", "name", "project", "serial", "session", "subject", "tag",
    "task_protocol",
)  # fmt: skip
#: terms of ONE-api that are no filters of Alyx
ONE_TERMS = ("dataset", "laboratory", "number")
#: a term of ONE-api's ``search``, which is taken here too. It is not completed: ``proj`` is
#: ``project``
_PROJECTS = "projects"
#: the filter of each term that has another name
_FILTER_OF_TERM = {"laboratory": "lab", "number": "experiment_number", "projects": "project"}
#: terms of a search among the stored insertions that select by a column of the insertion
_STORED_COLUMNS = ("name", "model", "serial")
#: terms of a search among the stored insertions that select by a column of the session
_SESSION_COLUMNS = {
    "subject": "subject",
    "lab": "lab",
    "laboratory": "lab",
    "task_protocol": "task_protocol",
    "project": "projects",
    "projects": "projects",
}
#: all terms of a search among the stored insertions
_STORED_TERMS = (*_STORED_COLUMNS, *_SESSION_COLUMNS, "number", "session")
#: the outcomes of quality control, by Alyx's numbers of them
_QC_NAMES = {str(each.value): each.name for each in QC}


def is_local(query_type: str | None) -> bool:
    """Whether a query type means that Alyx is not asked. Raises UsageError for an invalid one."""
    check_query_type(query_type)
    return query_type == "local"


def terms_of_search(*, local: bool) -> list[str]:
    """Return the terms of ``search_insertions``, or of a search among the stored insertions."""
    return list(_STORED_TERMS if local else (*FILTERS, *ONE_TERMS))


def session_of_pid(
    laboratory: Laboratory, pid: str | UUID, local: bool
) -> tuple[str, str] | tuple[None, None]:
    """Return the eid and the label of an insertion. Return (None, None) if there is none."""
    key = str(pid).strip().lower() if isinstance(pid, (str, UUID)) else ""
    insertions = laboratory.catalogue.insertions
    found: Insertion | None = None
    if alf.is_uuid(key):
        try:
            found = insertions.stored(key) if local else insertions.get(key)
        except NotFound:
            found = None
    if found is None:
        log.error("there is no probe insertion %s", ascii(key)[:80])
        return None, None
    return found.eid, found.name


def rows_of_session(
    laboratory: Laboratory,
    resolver: SessionResolver,
    name: Any,
    terms: Mapping[str, object],
    local: bool,
) -> list[Row]:
    """Return Alyx's rows of a session's insertions that match the terms, sorted by label.

    Return [] if there is no such session.
    """
    filters = _parse_filters(terms)
    insertions = laboratory.catalogue.insertions
    if isinstance(name, Mapping):
        name = NameConversions(laboratory, resolver, None, offline=local).to_eid(name)
    if name is None:
        return []
    try:
        if local:
            found = insertions.stored_of(resolver.eid(name))
        else:
            session = resolver.any_session(name)
            if set(filters) - {"name", "session"}:
                return laboratory.queries.search_insertions({**filters, "session": session.eid})
            found = insertions.of_session(session).value
    except NotFound:
        return []
    return [json.loads(each.record) for each in found if filters.get("name") in (None, each.name)]


def search(laboratory: Laboratory, terms: Mapping[str, object]) -> list[Row]:
    """Return Alyx's rows of the insertions that match all terms of ``search_insertions``."""
    return laboratory.queries.search_insertions(_parse_filters(terms))


def search_stored(laboratory: Laboratory, terms: Mapping[str, object], *, regex: bool) -> list[Row]:
    """Return the rows of the stored insertions that match all terms, as ONE-api does offline.

    The latest session comes first. Each value is a part of a name, or with ``regex`` a regular
    expression, or a list of these. Raises UsageError for a term that needs Alyx.
    """
    tests = []
    for term, value in terms.items():
        name = _complete(term, _STORED_TERMS)
        values = [_as_text(name, each) for each in _as_list(name, value)]
        if name not in ("number", "session"):
            values = ["|".join(values if regex else map(re.escape, values))]
            _check_pattern(name, values[0])
        tests.append((name, values))
    rows = laboratory.queries.stored_insertions()
    found = [row for row in rows if all(_has(row, name, values) for name, values in tests)]
    return sorted(found, key=_sort_key, reverse=True)


def table_of(
    laboratory: Laboratory, found: FoundSessions, terms: Mapping[str, object]
) -> list[Row]:
    """Return a row of ``.insertions.tsv`` for each insertion of sessions that a search has found.

    ``terms`` are those of the search.
    """
    by_eid = {session.eid: session for session in found.sessions()}
    insertions = find_in_sessions(
        laboratory.queries,
        laboratory.catalogue.insertions,
        vocabulary.parse_terms(terms),
        list(by_eid.values()),
    )
    return [insertion_cells(each, by_eid[each.eid]) for each in insertions]


def _parse_filters(terms: Mapping[str, object]) -> dict[str, str]:
    """Return Alyx's filters for the terms of ``search_insertions``. Raises UsageError."""
    filters: dict[str, str] = {}
    for given, value in terms.items():
        if given == "django" and isinstance(value, (str, type(None))) and not value:
            continue
        name = _complete(given, (*FILTERS, *ONE_TERMS))
        if name == "limit":  # the size of a page, which does not change the result
            continue
        text = _filter_text(name, value)
        if name == "dataset":
            name, text = "django", f"datasets__name__icontains,{text}"
        name = _FILTER_OF_TERM.get(name, name)
        if name in filters and name != "django":
            raise UsageError(f"{given}: the term {name} is given twice")
        filters[name] = f"{filters[name]},{text}" if name in filters else text
    return filters


def _filter_text(name: str, value: object) -> str:
    if name == "dataset" and not isinstance(value, str):
        raise UsageError('the term "dataset" is one text: give "datasets" for a list')
    if name == "dataset_qc_lte":
        outcome = _as_text(name, getattr(value, "name", value)).upper()
        return _QC_NAMES.get(outcome, outcome)
    text = ",".join(_as_text(name, each) for each in _as_list(name, value) if each is not None)
    if not text.strip(" ,"):
        raise UsageError(f"the search term {name} is empty, which would match every insertion")
    return text


def _as_text(name: str, value: object) -> str:
    """Return a value of the term ``name`` as text. Raises UsageError if it is no name."""
    try:
        text = str(value).strip()
    except Exception as error:  # an object of the caller may raise anything
        raise UsageError(f"the value of the search term {name} is not a text") from error
    if not text.isprintable() or len(text) > vocabulary.MAX_VALUE_CHARACTERS:
        raise UsageError(
            f"{name}: {ascii(text)[:80]} is too long, or contains characters that are invalid in "
            "names"
        )
    return text


def _complete(given: str, terms: Iterable[str]) -> str:
    """Return the term that begins with ``given``, as ONE-api completes the names of terms."""
    name = given.lower()
    if name == _PROJECTS:
        return name
    matching = [term for term in terms if term.startswith(name) and term != _PROJECTS]
    if name in matching:
        return name
    if len(matching) != 1:
        meaning = f"could be {', '.join(matching)}" if matching else "is unknown"
        raise UsageError(f"the term {given!a} of a search for insertions {meaning}")
    return matching[0]


def _as_list(name: str, value: object) -> list[object]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        return [value]
    most = vocabulary.MAX_VALUES_PER_TERM
    try:
        values = list(islice(value, most + 1))
    except Exception as error:  # an object of the caller may raise anything
        raise UsageError(f"the value of the search term {name} is not a list") from error
    if len(values) > most:
        raise UsageError(f"the search term {name} has more than {most} values")
    return values


def _has(row: Row, name: str, values: list[str]) -> bool:
    info = row.get("session_info") or {}
    if name == "session":
        return str(row.get("session")) in [value.lower() for value in values]
    if name == "number":
        return str(info.get("number")) in values
    value = row.get(name) if name in _STORED_COLUMNS else info.get(_SESSION_COLUMNS[name])
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value or "")
    return re.search(values[0], text) is not None


def _check_pattern(name: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{name}: {ascii(pattern)[:80]} is not a pattern: {error}") from error


def _sort_key(row: Row) -> tuple[str, str, int, str]:
    info = row.get("session_info") or {}
    day, subject = str(info.get("start_time"))[:10], str(info.get("subject"))
    return day, subject, int(info.get("number") or 0), str(row.get("name"))

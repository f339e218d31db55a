"""Answers to queries of Alyx's REST interface from the catalogue, or from another user's mount."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onefs import alf
from onefs.errors import NotFound, OnefsError, UsageError
from onefs.model import Dataset, Session
from onefs.one.dataset_records import rel_path
from onefs.one.laboratory import Laboratory
from onefs.one.resolver import SessionResolver
from onefs.one.rest_query import RestQuery
from onefs.search.name_tables import NAME_TABLES
from onefs.search.vocabulary import Query, parse_terms

Row = Mapping[str, Any]

#: filters of lists that select no rows
_PAGE_FILTERS = ("limit", "offset")
#: by filter of ``/sessions``, the search term that the catalogue can answer
_SESSION_TERMS = {
    **{name: name for name in ("subject", "lab", "number", "task_protocol", "dataset_types")},
    "nickname": "subject",
    "project": "project",
    "projects": "project",
    "date_range": "date_range",
    "datasets": "dataset_names",
}
#: the look-ups that select rows by their ids
_ID_LOOKUPS = ("pk", "id", "pk__in", "id__in")
#: the look-ups that select datasets by their session
_SESSION_LOOKUPS = ("session", "session__id", "session__in")
#: largest number of sessions
_NO_LIMIT = 2**31 - 1


def known_answer(
    laboratory: Laboratory, resolver: SessionResolver, url: str, query: RestQuery
) -> Any:
    """Return the answer to a query in Alyx's form. Return None if it is not known.

    ``url`` is Alyx's address. Raises NotFound if it is known that there is no such record.
    """
    endpoint, _, name = query.path.partition("/")
    answers: dict[str, Callable[[], Any]] = {
        "sessions": lambda: (
            _session(laboratory, resolver, name) if name else _sessions(laboratory, query, url)
        ),
        "datasets": lambda: None if name else _datasets(resolver, query, url),
    }
    if endpoint in NAME_TABLES:
        answers[endpoint] = lambda: _table(laboratory, endpoint, name, query)
    answer = answers.get(endpoint)
    try:
        found = None if answer is None else answer()
    except NotFound:
        raise
    except OnefsError:  # what is not known here is not an answer
        return None
    return found


def _session(laboratory: Laboratory, resolver: SessionResolver, eid: str) -> Any:
    session = resolver.any_session(eid)
    return json.loads(laboratory.catalogue.record(session).value)


def _sessions(laboratory: Laboratory, query: RestQuery, url: str) -> Any:
    filters = _filters(query)
    ids = _ids(filters.pop("id", None), filters.pop("django", None), _ID_LOOKUPS)
    if ids is None or not filters.keys() <= _SESSION_TERMS.keys():
        return None
    if ids:
        if filters:
            return None
        from onefs.search.offline import row_of_session

        sessions = [_any_session(laboratory, eid) for eid in ids]
        return _answer([row_of_session(each, url) for each in sessions if each is not None])
    terms = {_SESSION_TERMS[name]: value for name, value in filters.items()}
    searched = parse_terms(terms) if terms else Query(())
    return _answer(laboratory.queries.search(searched, None if terms else _NO_LIMIT).rows)


def _any_session(laboratory: Laboratory, eid: str) -> Session | None:
    try:
        return laboratory.catalogue.any_session(eid.lower())
    except NotFound:
        return None


def _datasets(resolver: SessionResolver, query: RestQuery, url: str) -> Any:
    filters = _filters(query)
    eids = _ids(filters.pop("session", None), filters.pop("django", None), _SESSION_LOOKUPS)
    if not eids:
        return None
    rows = []
    for eid in eids:
        session = resolver.session(eid)
        datasets = [each for _, each in resolver.datasets(session)]
        datasets += resolver.paths.unserved_datasets(session)
        rows += [_dataset_row(each, url) for each in datasets]
    return _answer(_matching(rows, filters))


def _dataset_row(dataset: Dataset, url: str) -> Row:
    """Return a dataset in the form of a row of Alyx's list of datasets, as far as it is known."""
    return {
        # another user's mount does not say the id of a dataset that is on no server
        "id": dataset.uuid or None,
        "url": f"{url}/datasets/{dataset.uuid}" if dataset.uuid else None,
        "name": dataset.name,
        "dataset_type": dataset.dataset_type,
        "collection": dataset.collection,
        "session": f"{url}/sessions/{dataset.eid}",
        "file_size": dataset.size,
        "hash": dataset.md5,
        "revision": dataset.revision or None,
        "default_dataset": dataset.default,
        "qc": dataset.qc,
        "file_records": [
            {
                "data_repository": replica.repository,
                "relative_path": rel_path(dataset),
                "data_url": replica.url,
                "exists": True,
            }
            for replica in dataset.replicas
        ],
    }


def _table(laboratory: Laboratory, endpoint: str, name: str, query: RestQuery) -> Any:
    column = NAME_TABLES[endpoint][1]
    rows = laboratory.queries.list_table(endpoint)
    if not name:
        return _answer(_matching(rows, _filters(query)))
    for row in rows:
        if row.get(column) == name:
            return row
    raise NotFound(f"the list of {endpoint} that was stored before has no {name!a}")


def _matching(rows: Sequence[Row], filters: Mapping[str, str]) -> list[Row]:
    """Return the rows with these values. Raises UsageError if a row lacks one of the columns."""
    if any(name not in row for row in rows for name in filters):
        raise UsageError("the stored rows lack columns of the filters")
    return [
        row
        for row in rows
        if all(_text(row[name]) == value.lower() for name, value in filters.items())
    ]


def _text(value: object) -> str:
    return "" if value is None else str(value).lower()


def _filters(query: RestQuery) -> dict[str, str]:
    return {
        name: value
        for name, value in query.filters.items()
        if name not in _PAGE_FILTERS and value != ""
    }


def _ids(given: str | None, django: str | None, lookups: Sequence[str]) -> list[str] | None:
    """Return the UUIDs that a filter and a Django look-up select. Return None for other look-ups.

    Return [] if there is neither a filter nor a look-up.
    """
    if django is None:
        return [] if given is None else [given]
    name, _, text = django.partition(",")
    if given is not None or name not in lookups:
        return None
    if text.startswith(("[", "(")):
        try:
            values = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return None
    else:
        values = [text]
    return list(values) if all(isinstance(v, str) and alf.is_uuid(v) for v in values) else None


def _answer(rows: Sequence[Row]) -> dict[str, Any]:
    return {"count": len(rows), "next": None, "previous": None, "results": list(rows)}

"""Searches in the catalogue while Alyx is unreachable, and the check of Alyx's answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Literal

from onefs.alyx.parsing import Row
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.model import Session
from onefs.search.vocabulary import Query, nearest_name_hint

RowTest = Callable[[Row, tuple[str, ...]], bool]

#: the terms for which the catalogue can search
OFFLINE_TERMS = (
    "dataset_types", "date_range", "lab", "number", "subject", "task_protocol", "project",
    "dataset_names",
)  # fmt: skip

#: terms whose value may be only a part of a name
_SUBSTRING_TERMS = frozenset({"location", "project"})


def is_match(row: Row, query: Query) -> bool:
    """Whether a row matches all terms that can be checked with the columns of the row."""
    # a server of another version ignores filters that it does not know
    return all(
        _ROW_TESTS[name](row, values)
        for name, values in query.values
        if name in _ROW_TESTS and _is_visible_in(name, row)
    )


def search_catalogue(
    database: CatalogueDatabase, query: Query, limit: int | None = None
) -> list[str]:
    """Return the eids of the sessions in the catalogue that match the query, the latest first.

    At most ``limit`` eids are returned. The query may only have terms in :data:`OFFLINE_TERMS`.
    """
    conditions, values = ["1"], list[object]()
    having: list[tuple[Literal["dataset_type", "name"], str]] = []
    for name, wanted in query.values:
        if (column := _DATASET_COLUMNS.get(name)) is not None:
            having.extend((column, value) for value in wanted)
            continue
        condition, parameters = _SQL_CONDITIONS[name](database, wanted)
        conditions.append(condition)
        values.extend(parameters)
    sessions = database.find_sessions(" AND ".join(conditions), values, having)
    return [eid for _, _, eid in sessions[:limit]]


def row_of_session(session: Session, url: str) -> Row:
    """Return a session from the catalogue in the form of a row of Alyx's list of sessions."""
    moment = datetime.fromtimestamp(session.start_time, timezone.utc).replace(tzinfo=None)
    return {
        "id": session.eid,
        "subject": session.subject,
        "start_time": moment.isoformat() if session.start_time else f"{session.date}T00:00:00",
        "number": session.number if session.number >= 0 else None,
        "lab": session.lab,
        "projects": list(session.projects),
        "url": f"{url}/sessions/{session.eid}",
        "task_protocol": session.task_protocol,
    }


def suggest_names(
    database: CatalogueDatabase,
    query: Query,
    tables: Callable[[str], Sequence[str] | None] = lambda _: None,
) -> str:
    """Return a sentence about the first unknown name in a query that found nothing.

    The sentence suggests a similar name, or says that the name is a dataset type. Return '' if no
    name is unknown.

    ``tables`` returns all names for a term, or None. None means that the names in the catalogue are
    used.
    """
    for name, values in query.values:
        if name == "dataset_names":
            for value in set(values) & set(database.dataset_types()):
                return f"{value!r} is a dataset type, not the name of a file: use dataset_types"
        complete = tables(name)
        names = _names_in_catalogue(database, name) if complete is None else complete
        matches = _has_any_of if name in _SUBSTRING_TERMS else _is_any_of
        for value in values:
            if (complete is None and not names) or any(matches(each, (value,)) for each in names):
                continue
            hint = nearest_name_hint(value, names)
            # the catalogue may lack names: without a similar name, the name may exist
            if hint or complete is not None:
                return f"{name} {value!r} is not known{hint}"
    return ""


def _names_in_catalogue(database: CatalogueDatabase, term: str) -> list[str]:
    """Return the values of a search term that are in the catalogue.

    Return an empty list for terms other than lab, subject and dataset_types.
    """
    if term in ("lab", "subject"):
        return database.distinct_values("sessions", term)
    return database.distinct_values("datasets", "dataset_type") if term == "dataset_types" else []


def _is_visible_in(name: str, row: Mapping[str, Any]) -> bool:
    """Whether a row has a column for the term ``name``.

    The columns depend on the server's version.
    """
    columns = {
        "lab": ("lab",),
        "project": ("projects", "project"),
        "task_protocol": ("task_protocol",),
    }
    return name not in columns or any(column in row for column in columns[name])


def _is_any_of(text: str, wanted: tuple[str, ...]) -> bool:
    """Whether ``text`` equals one of the names in ``wanted``. Case is ignored, as in Alyx."""
    return text.casefold() in map(str.casefold, wanted)


def _text_in_column(row: Row, column: str) -> str:
    value = row.get(column)
    return value if isinstance(value, str) else ""


def _has_any_of(text: str, wanted: tuple[str, ...]) -> bool:
    return any(part.casefold() in text.casefold() for part in wanted)


def _project_names(row: Row) -> list[str]:
    projects = row.get("projects", row.get("project"))
    return [str(each) for each in projects] if isinstance(projects, list) else [str(projects)]


_ROW_TESTS: Mapping[str, RowTest] = {
    "lab": lambda row, wanted: _is_any_of(_text_in_column(row, "lab"), wanted),
    "subject": lambda row, wanted: _is_any_of(_text_in_column(row, "subject"), wanted),
    "number": lambda row, wanted: str(row.get("number")) in wanted,
    "date_range": lambda row, wanted: (
        wanted[0] <= _text_in_column(row, "start_time")[:10] <= wanted[1]
    ),
    "task_protocol": lambda row, wanted: _has_any_of(_text_in_column(row, "task_protocol"), wanted),
    "project": lambda row, wanted: any(_has_any_of(name, wanted) for name in _project_names(row)),
}

#: the terms that the columns of a row decide
ROW_TERMS = frozenset(_ROW_TESTS)

SqlCondition = Callable[[CatalogueDatabase, tuple[str, ...]], tuple[str, list[object]]]


def _distinct_value_condition(
    column: str, matches: Callable[[str, tuple[str, ...]], bool]
) -> SqlCondition:
    """Return a function that makes the SQL condition of a search term.

    ``column`` is the term's column, which has few distinct values. ``matches`` compares each of
    them with the values of the search, as Alyx does.
    """

    def make(database: CatalogueDatabase, wanted: tuple[str, ...]) -> tuple[str, list[object]]:
        values = database.distinct_values("sessions", column)
        matching = [text for text in values if matches(text, wanted)]
        return f"{column} IN (SELECT value FROM json_each(?))", [json.dumps(matching)]

    return make


#: by term about datasets, the column of ``datasets``; a session must have a dataset for each value
_DATASET_COLUMNS: Mapping[str, Literal["dataset_type", "name"]] = {
    "dataset_types": "dataset_type",
    "dataset_names": "name",
}
_SQL_CONDITIONS: Mapping[str, SqlCondition] = {
    "lab": _distinct_value_condition("lab", _is_any_of),
    "subject": _distinct_value_condition("subject", _is_any_of),
    "task_protocol": _distinct_value_condition("task_protocol", _has_any_of),
    "project": _distinct_value_condition(
        "projects", lambda text, wanted: any(_has_any_of(name, wanted) for name in text.split(","))
    ),
    "number": lambda _, wanted: (
        f"number IN ({', '.join('?' * len(wanted))})",
        [int(value) for value in wanted],
    ),
    "date_range": lambda _, wanted: ("date BETWEEN ? AND ?", list(wanted)),
}

"""What the catalogue alone can say of a search: the check of an answer, and an answer offline."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Literal

from onefs.metadata.database import Database
from onefs.metadata.rows import Row
from onefs.metadata.terms import Query, nearest
from onefs.model import Session

Test = Callable[[Row, tuple[str, ...]], bool]

#: the terms that the catalogue can answer by itself
TERMS = (
    "dataset_types", "date_range", "lab", "number", "subject", "task_protocol", "project",
    "dataset_names",
)  # fmt: skip

#: terms of which a part of the name is enough
_PARTS = frozenset({"location", "project"})


def agrees(row: Row, query: Query) -> bool:
    """Whether a row fulfils the terms that can be seen in it.

    Servers of another age know fewer filters, and ignore those that they do not know.
    """
    return all(
        _CHECKS[name](row, values)
        for name, values in query.values
        if name in _CHECKS and _is_shown(name, row)
    )


def search(database: Database, query: Query, limit: int | None = None) -> list[str]:
    """The eids of known sessions that fulfil a query of :data:`TERMS` only; latest first."""
    conditions, values = ["1"], list[object]()
    having: list[tuple[Literal["dataset_type", "name"], str]] = []
    for name, wanted in query.values:
        if (column := _DATASETS.get(name)) is not None:
            having.extend((column, value) for value in wanted)
            continue
        condition, given = _CONDITIONS[name](database, wanted)
        conditions.append(condition)
        values.extend(given)
    found = database.found_where(" AND ".join(conditions), values, having)
    return [eid for _, _, eid in found[:limit]]


def row(session: Session, url: str) -> Row:
    """A known session as Alyx would show it in a list."""
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


def suggestion(
    database: Database, query: Query, tables: Callable[[str], Sequence[str] | None] = lambda _: None
) -> str:
    """What a search that found nothing may have meant; '' when every name is known.

    ``tables`` gives all names of a term, or None where they cannot be had; then the names that the
    catalogue has met are all that is compared, which says nothing of a name without a near one.
    """
    for name, values in query.values:
        if name == "dataset_names":
            for value in set(values) & set(database.dataset_types()):
                return f"{value!r} is a dataset type, not the name of a file: use dataset_types"
        complete = tables(name)
        names = _names(database, name) if complete is None else complete
        holds = _holds if name in _PARTS else _is_same
        for value in values:
            if (complete is None and not names) or any(holds(each, (value,)) for each in names):
                continue
            near = nearest(value, names)
            if near or complete is not None:
                return f"{name} {value!r} is not known{near}"
    return ""


def _names(database: Database, term: str) -> list[str]:
    """The names of a term that the catalogue has met."""
    if term in ("lab", "subject"):
        return database.distinct("sessions", term)
    return database.distinct("datasets", "dataset_type") if term == "dataset_types" else []


def _is_shown(name: str, row: Mapping[str, Any]) -> bool:
    """Whether rows of this server's age have what the term is about."""
    columns = {
        "lab": ("lab",),
        "project": ("projects", "project"),
        "task_protocol": ("task_protocol",),
    }
    return name not in columns or any(column in row for column in columns[name])


def _is_same(text: str, wanted: tuple[str, ...]) -> bool:
    """The whole text, in any case, as Alyx compares names."""
    return text.casefold() in map(str.casefold, wanted)


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    return value if isinstance(value, str) else ""


def _holds(text: str, wanted: tuple[str, ...]) -> bool:
    return any(part.casefold() in text.casefold() for part in wanted)


def _projects(row: Row) -> list[str]:
    found = row.get("projects", row.get("project"))
    return [str(each) for each in found] if isinstance(found, list) else [str(found)]


_CHECKS: Mapping[str, Test] = {
    "lab": lambda row, wanted: _is_same(_text(row, "lab"), wanted),
    "subject": lambda row, wanted: _is_same(_text(row, "subject"), wanted),
    "number": lambda row, wanted: str(row.get("number")) in wanted,
    "date_range": lambda row, wanted: wanted[0] <= _text(row, "start_time")[:10] <= wanted[1],
    "task_protocol": lambda row, wanted: _holds(_text(row, "task_protocol"), wanted),
    "project": lambda row, wanted: any(_holds(name, wanted) for name in _projects(row)),
}

Condition = Callable[[Database, tuple[str, ...]], tuple[str, list[object]]]


def _among(column: str, holds: Callable[[str, tuple[str, ...]], bool]) -> Condition:
    """A column has few values: which of them will do is found out first, as Alyx compares."""

    def make(database: Database, wanted: tuple[str, ...]) -> tuple[str, list[object]]:
        known = [text for text in database.distinct("sessions", column) if holds(text, wanted)]
        return f"{column} IN (SELECT value FROM json_each(?))", [json.dumps(known)]

    return make


#: terms about the datasets of a session, all of which it has, and their columns
_DATASETS: Mapping[str, Literal["dataset_type", "name"]] = {
    "dataset_types": "dataset_type",
    "dataset_names": "name",
}
_CONDITIONS: Mapping[str, Condition] = {
    "lab": _among("lab", _is_same),
    "subject": _among("subject", _is_same),
    "task_protocol": _among("task_protocol", _holds),
    "project": _among(
        "projects", lambda text, wanted: any(_holds(name, wanted) for name in text.split(","))
    ),
    "number": lambda _, wanted: (
        f"number IN ({', '.join('?' * len(wanted))})",
        [int(value) for value in wanted],
    ),
    "date_range": lambda _, wanted: ("date BETWEEN ? AND ?", list(wanted)),
}

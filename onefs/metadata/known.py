"""What the catalogue alone can say of a search: the check of an answer, and an answer offline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from onefs.metadata import rows
from onefs.metadata.database import Database
from onefs.metadata.rows import Row
from onefs.metadata.terms import Query, nearest
from onefs.model import Session

Test = Callable[[Session, tuple[str, ...]], bool]

#: the terms that the catalogue can answer by itself
TERMS = (
    "dataset_types", "date_range", "lab", "number", "subject", "task_protocol", "project",
    "dataset_names",
)  # fmt: skip


def agrees(row: Row, query: Query) -> bool:
    """Whether a row fulfils the terms that can be seen in it.

    Servers of another age know fewer filters, and ignore those that they do not know.
    """
    session, _ = rows.session(row)
    return all(
        _CHECKS[name](session, values)
        for name, values in query.values
        if name in _CHECKS and _is_shown(name, row)
    )


def search(database: Database, query: Query) -> list[Session]:
    """The known sessions that fulfil a query of :data:`TERMS` only; latest first."""
    conditions, values = ["1"], []
    for name, wanted in query.values:
        condition, given = _CONDITIONS[name](wanted)
        conditions.append(condition)
        values.extend(given)
    found = database.sessions_where(" AND ".join(conditions), values)
    checks = [(_CHECKS[name], wanted) for name, wanted in query.values if name in _CHECKS]
    return [session for session in found if all(test(session, wanted) for test, wanted in checks)]


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


def suggestion(database: Database, query: Query) -> str:
    """What a search that found nothing may have meant; '' when nothing known is near."""
    for name, values in query.values:
        names = _names(database, name)
        for value in values:
            if names and value not in names and (near := nearest(value, names)):
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


def _is_one(column: Callable[[Session], str]) -> Test:
    """The whole text, in any case, as Alyx compares names."""
    return lambda session, wanted: column(session).casefold() in map(str.casefold, wanted)


def _holds(session_text: str, wanted: tuple[str, ...]) -> bool:
    return any(part.casefold() in session_text.casefold() for part in wanted)


_CHECKS: Mapping[str, Test] = {
    "lab": _is_one(lambda session: session.lab),
    "subject": _is_one(lambda session: session.subject),
    "number": lambda session, wanted: str(session.number) in wanted,
    "date_range": lambda session, wanted: wanted[0] <= session.date <= wanted[1],
    "task_protocol": lambda session, wanted: _holds(session.task_protocol, wanted),
    "project": lambda session, wanted: any(_holds(name, wanted) for name in session.projects),
}

Condition = tuple[str, list[object]]


def _same(column: str) -> Callable[[tuple[str, ...]], Condition]:
    """A condition that holds at least where the check does: SQLite folds ASCII only."""

    def make(wanted: tuple[str, ...]) -> Condition:
        if not all(value.isascii() for value in wanted):
            return "1", []
        places = ", ".join("?" * len(wanted))
        return f"{column} COLLATE NOCASE IN ({places})", list(wanted)

    return make


def _part(column: str) -> Callable[[tuple[str, ...]], Condition]:
    def make(wanted: tuple[str, ...]) -> Condition:
        if not all(value.isascii() for value in wanted):
            return "1", []
        escaped = (
            value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") for value in wanted
        )
        condition = " OR ".join([f"{column} LIKE ? ESCAPE '\\'"] * len(wanted))
        return f"({condition})", [f"%{value}%" for value in escaped]

    return make


def _datasets(column: str) -> Callable[[tuple[str, ...]], Condition]:
    """Sessions that have all of them, as far as their datasets were ever listed."""

    def make(wanted: tuple[str, ...]) -> Condition:
        one = f"eid IN (SELECT eid FROM datasets WHERE {column} = ?)"
        return " AND ".join([one] * len(wanted)), list(wanted)

    return make


_CONDITIONS: Mapping[str, Callable[[tuple[str, ...]], Condition]] = {
    "lab": _same("lab"),
    "subject": _same("subject"),
    "number": lambda wanted: (
        f"number IN ({', '.join('?' * len(wanted))})",
        [int(value) for value in wanted],
    ),
    "date_range": lambda wanted: ("date BETWEEN ? AND ?", list(wanted)),
    "task_protocol": _part("task_protocol"),
    "project": _part("projects"),
    "dataset_types": _datasets("dataset_type"),
    "dataset_names": _datasets("name"),
}

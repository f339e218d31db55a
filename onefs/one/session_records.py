"""Records of sessions and datasets as pandas Series, which ONE-api's methods take and return."""

from __future__ import annotations

from datetime import date
from typing import Any
from uuid import UUID

from onefs.errors import UsageError
from onefs.model import Dataset, Session
from onefs.one.dataset_listing import session_records
from onefs.one.dataset_records import import_pandas, make_record, to_frame, to_series
from onefs.one.resolver import SessionResolver


def session_record(session: Session) -> Any:
    """Return a session's row of ONE-api's table. Its name is the eid.

    Raises MissingLibrary if pandas is missing.
    """
    fields = {
        "lab": session.lab,
        "subject": session.subject,
        "date": date.fromisoformat(session.date),
        "number": session.number,
        "task_protocol": session.task_protocol,
        "projects": ",".join(session.projects),
    }
    return import_pandas("a record").Series(fields, name=session.eid, dtype=object)


def full_record(resolver: SessionResolver, session: Session) -> Any:
    """Return a DataFrame of a session's datasets, in which each row has the session's fields, too.

    Raises MissingLibrary if pandas is missing.
    """
    table = to_frame(session_records(resolver, session), as_table=True, keep_eid=True)
    fields = session_record(session)
    columns = {name: [value] * len(table) for name, value in fields.items()}
    return table.assign(**columns).astype({"number": "uint16"})


def dataset_record(dataset: Dataset, *, as_table: bool) -> Any:
    """Return a dataset's row of ONE-api's table. Its name has the eid and the dataset's id.

    ``as_table``: whether the columns are in the order of cache tables, and not of Alyx's answers.
    Raises MissingLibrary if pandas is missing.
    """
    return to_series(make_record(dataset, ()), as_table=as_table)


def rows_of(record: Any) -> list[Any] | None:
    """Return the rows of a DataFrame, or None for a single record."""
    return [row for _, row in record.iterrows()] if hasattr(record, "iterrows") else None


def check_record(record: Any) -> None:
    """Raise UsageError if a value is not a row of a table, such as a Series."""
    if not hasattr(record, "name") or not hasattr(record, "get"):
        raise UsageError(f"{type(record).__name__} is not a record: give a row of a DataFrame")


def ids_of(record: Any) -> tuple[str | None, str]:
    """Return the eid and the id of a dataset's record. The eid is None if the record lacks it.

    Raises UsageError if the record has no id.
    """
    name = record.name
    if isinstance(name, tuple) and len(name) == 2:
        return str(name[0]), str(name[1])
    if isinstance(name, (str, UUID)):
        return None, str(name)
    raise UsageError(f"the record's name is {ascii(name)[:80]}: it must have the eid and the id")

"""Records of sessions and datasets as pandas Series, which ONE-api's methods take and return."""

from __future__ import annotations

from datetime import date
from typing import Any
from uuid import UUID

from onefs.errors import MissingLibrary, UsageError
from onefs.model import Dataset, Session
from onefs.one.name_conversions import rel_path


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
    return _pandas().Series(fields, name=session.eid, dtype=object)


def dataset_record(dataset: Dataset) -> Any:
    """Return a dataset's row of ONE-api's table. Its name has the eid and the dataset's id.

    Raises MissingLibrary if pandas is missing.
    """
    pandas = _pandas()
    fields = {
        "file_size": pandas.NA if dataset.size is None else dataset.size,
        "hash": dataset.md5,
        "exists": True,
        "rel_path": rel_path(dataset),
        "default_revision": dataset.default,
        "qc": dataset.qc,
    }
    return pandas.Series(fields, name=(dataset.eid, dataset.uuid), dtype=object)


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


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingLibrary(
            'a record is a row of a table, for which pandas is needed: pip install "onefs[pandas]"'
        ) from error
    return pandas

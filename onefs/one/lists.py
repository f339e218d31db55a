"""The results of ``ONE.list``."""

from __future__ import annotations

import json
from typing import Any

from onefs.errors import UsageError
from onefs.model import Session
from onefs.one.info import SessionDataInfo
from onefs.one.laboratory import Laboratory
from onefs.one.loader import Loader, has_datasets
from onefs.search.name_tables import NAME_TABLES, names_in_table
from onefs.search.vocabulary import nearest_name_hint

#: the name of the session's field, for keywords of ``list`` that differ from this name
_FIELD_OF_KEYWORD = {"subjects": "subject", "labs": "lab", "user": "users", "project": "projects"}
#: keywords of ``list`` that mean the dataset types, without a plural s
_TYPE_KEYWORDS = ("dataset-type", "dataset_type", "dataset")


def is_type_keyword(keyword: str) -> bool:
    """Whether a keyword of ``list`` means the dataset types."""
    return keyword.removesuffix("s") in _TYPE_KEYWORDS


def list_names(laboratory: Laboratory, keyword: str, details: bool) -> Any:
    """Return all names of one kind in the database, for example all subjects.

    With ``details``, return ``(names, rows)``, where ``rows`` are Alyx's rows for these names.
    Raises UsageError for an unknown keyword.
    """
    table = _table_of_keyword(keyword)
    if table is None:
        raise UsageError(
            f"list(None, {keyword!r}): the keyword must be one of "
            f"{', '.join(map(repr, NAME_TABLES))}"
            f"{nearest_name_hint(keyword, NAME_TABLES)}"
        )
    rows = laboratory.queries.list_table(table)
    names = names_in_table(table, rows)
    return (names, rows) if details else names


def list_types(loader: Loader, session: Session, details: bool) -> list[str] | SessionDataInfo:
    """Return the dataset types of a session, sorted.

    With ``details``, return the session's datasets as a SessionDataInfo. For a session without a
    folder, warn, and return an empty result.
    """
    if not has_datasets(session):
        return SessionDataInfo() if details else []
    return loader.info(session) if details else loader.dataset_types(session)


def list_field(laboratory: Laboratory, session: Session, keyword: str, details: bool) -> Any:
    """Return a field from Alyx's record of a session. With ``details``, return (value, record).

    For the keyword ``all``, return ``[record]``. Raises UsageError for an unknown field.
    """
    record = json.loads(laboratory.catalogue.record(session).value)
    if keyword == "all":
        return [record]
    field = _FIELD_OF_KEYWORD.get(keyword, keyword)
    if field not in record:
        raise UsageError(
            f"a session has no field {keyword!r}{nearest_name_hint(keyword, record)}: "
            "list(eid) gives its dataset types, list(eid, 'all') every field"
        )
    return (record[field], record) if details else record[field]


def _table_of_keyword(keyword: str) -> str | None:
    if is_type_keyword(keyword):
        return "dataset-types"
    return next((name for name in NAME_TABLES if keyword in (name, name.removesuffix("s"))), None)

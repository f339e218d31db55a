"""The endpoints of small tables, such as labs, subjects and users."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from onefs.demo.rest import pagination, query_values
from onefs.demo.rest.database import DemoDatabase, Row
from onefs.demo.rest.endpoints import Endpoint, unchanged
from onefs.demo.rest.errors import failure
from onefs.demo.rest.filters import Filter, accept_all, select_rows
from onefs.demo.rest.lookups import Test
from onefs.demo.rest.serializers import Link

#: columns that are in the detail of a subject but not in the list
_DETAILS_OF_SUBJECT = ("weighings", "water_administrations")


def _table(
    name: str,
    title: str,
    filters: Mapping[str, Filter],
    *,
    order: str = "",
    django: bool = False,
    **more: Any,
) -> Endpoint:
    """Return the endpoint of a small table.

    The rows are sorted by the column ``order``. If ``order`` is '', the rows have no fixed order.
    """

    def select(db: DemoDatabase, args: Mapping[str, str]) -> list[Row]:
        rows = select_rows(name, filters, db, args, django=django)
        return sorted(rows, key=lambda row: str(row[order])) if order else rows

    return Endpoint(
        name,
        title,
        select,
        filters=(*filters, "django") if django else tuple(filters),
        find=partial(_find, name, title),
        key="name",
        cut=pagination.ordered if order else pagination.unordered,
        **{"row": unchanged, **more},
    )


def _find(table: str, title: str, db: DemoDatabase, name: str) -> Row | None:
    """Return the row with the name ``name``, or None if no row has the name.

    Raises ApiError 500 if several rows have the name.
    """
    rows = [row for row in db.table(table) if row.get(db.key_of(table)) == name]
    if len(rows) > 1:
        raise failure(f"get() returned more than one {title} -- it returned {len(rows)}!")
    return rows[0] if rows else None


def _exact(db: DemoDatabase, name: str, value: str) -> Test:
    return lambda row: bool(row.get(name) == value)


def _flag(db: DemoDatabase, name: str, value: str) -> Test:
    flag = query_values.boolean(name, value)
    return accept_all if flag is None else lambda row: row.get(name) is flag


def _projects(db: DemoDatabase, name: str, value: str) -> Test:
    query_values.key(name, value)
    raise query_values.unknown_choice(name)


def _project(db: DemoDatabase, name: str, value: str) -> Test:
    return lambda row: value in row.get("projects", ())


def _subject_row(_: DemoDatabase, row: Row, link: Link) -> dict[str, Any]:
    shown = {name: value for name, value in row.items() if name not in _DETAILS_OF_SUBJECT}
    return {**shown, "url": link(f"/subjects/{row['nickname']}")}


def _subject_detail(db: DemoDatabase, row: Row, link: Link) -> dict[str, Any]:
    details = {name: row.get(name, []) for name in _DETAILS_OF_SUBJECT}
    return {**_subject_row(db, row, link), **details}


_BY_NAME: Mapping[str, Filter] = {"name": _exact}

ENDPOINTS = (
    _table("labs", "Lab", _BY_NAME, django=True),
    _table(
        "subjects",
        "Subject",
        {
            **dict.fromkeys(("nickname", "lab", "responsible_user", "id"), _exact),
            "alive": _flag,
            "projects": _projects,
            "project": _project,
        },
        order="nickname",
        django=True,
        row=_subject_row,
        detail=_subject_detail,
    ),
    _table(
        "users",
        "User",
        {"username": _exact, "email": _exact},
        order="username",
        django=True,
        model="LabMember",
    ),
    _table("projects", "Project", {}),
    _table("dataset-types", "Dataset Type", {}, order="name"),
    _table("data-formats", "Data Format", {}),
    _table("data-repository", "Data Repository", {**_BY_NAME, "globus_is_personal": _flag}),
    _table("revisions", "Revision", _BY_NAME),
    _table("locations", "Lab Location", {}),
    _table("tags", "Tag", _BY_NAME, order="name"),
)

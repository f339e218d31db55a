"""The small tables: labs, subjects, users and the like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onefs.demo.rest import query_values
from onefs.demo.rest.database import DemoDatabase, Row
from onefs.demo.rest.errors import failure
from onefs.demo.rest.filters import django_tests
from onefs.demo.rest.serializers import Link

_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class SmallTable:
    """How one endpoint lists and finds its rows. Names are as in Alyx."""

    endpoint: str
    model: str
    #: what a row is looked up by in a path
    key: str = "name"
    #: what its list is sorted by; None for a list without order
    order: str | None = None
    #: keys that a filter of the same name compares, in their own case
    exact: tuple[str, ...] = ()
    #: keys that a filter of the same name compares with True or False
    flags: tuple[str, ...] = ()
    #: whether the list takes ``django=``
    django: bool = True
    #: whether Alyx gives each row its own address
    has_url: bool = False
    #: keys that the detail adds
    detail_adds: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What the browsable page calls a row."""
        return "User" if self.endpoint == "users" else _CAPITAL.sub(" ", self.model)

    @property
    def filters(self) -> tuple[str, ...]:
        """Every filter's name."""
        return (*self.exact, *self.flags, *(("django",) if self.django else ()))


TABLES = (
    SmallTable("labs", "Lab", exact=("name",)),
    SmallTable(
        "subjects",
        "Subject",
        key="nickname",
        order="nickname",
        exact=("nickname", "lab", "responsible_user", "id"),
        flags=("alive",),
        has_url=True,
        detail_adds=("weighings", "water_administrations"),
    ),
    SmallTable("users", "LabMember", key="username", order="username", exact=("username", "email")),
    SmallTable("projects", "Project", django=False),
    SmallTable("dataset-types", "DatasetType", order="name", django=False),
    SmallTable("data-formats", "DataFormat", django=False),
    SmallTable(
        "data-repository",
        "DataRepository",
        exact=("name",),
        flags=("globus_is_personal",),
        django=False,
    ),
    SmallTable("revisions", "Revision", exact=("name",), django=False),
    SmallTable("locations", "LabLocation", django=False),
    SmallTable("tags", "Tag", order="name", exact=("name",), django=False),
)


def select_rows(table: SmallTable, db: DemoDatabase, args: Mapping[str, str]) -> list[Row]:
    """The rows of a table that ``args`` leave, in its order where it has one."""
    rows = list(db.table(table.endpoint))
    for name in table.exact:
        if name in args:
            rows = [row for row in rows if row.get(name) == args[name]]
    for name in table.flags:
        wanted = query_values.boolean(name, args.get(name, ""))
        if wanted is not None:
            rows = [row for row in rows if row.get(name) is wanted]
    if table.endpoint == "subjects":
        rows = _by_project(rows, args)
    if table.django:
        tests = django_tests(db, table.endpoint, args)
        rows = [row for row in rows if all(test(row) for test in tests)]
    order = table.order
    if order is not None:
        rows.sort(key=lambda row: str(row[order]))
    return rows


def _by_project(rows: list[Row], args: Mapping[str, str]) -> list[Row]:
    if "projects" in args:
        query_values.key("projects", args["projects"])
        raise query_values.unknown_choice("projects")
    if "project" not in args:
        return rows
    return [row for row in rows if args["project"] in row.get("projects", ())]


def find_row(table: SmallTable, db: DemoDatabase, name: str) -> Row | None:
    """Return the row of a name, None for an unknown one. Raises ApiError when two have it."""
    rows = [row for row in db.table(table.endpoint) if row.get(table.key) == name]
    if len(rows) > 1:
        raise failure(f"get() returned more than one {table.model} -- it returned {len(rows)}!")
    return rows[0] if rows else None


def table_row(table: SmallTable, _: DemoDatabase, row: Row, link: Link) -> dict[str, Any]:
    """A row of a table's list."""
    shown = {name: value for name, value in row.items() if name not in table.detail_adds}
    if table.has_url:
        shown["url"] = link(f"/{table.endpoint}/{row[table.key]}")
    return shown


def table_detail(table: SmallTable, db: DemoDatabase, row: Row, link: Link) -> dict[str, Any]:
    """A row by itself."""
    return {
        **table_row(table, db, row, link),
        **{name: row.get(name, []) for name in table.detail_adds},
    }

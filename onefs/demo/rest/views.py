"""The endpoints that read the database: a list and a detail for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from onefs.demo.rest import pagination, probe_filters, serializers, small_tables
from onefs.demo.rest.database import DemoDatabase, Row
from onefs.demo.rest.dataset_filters import (
    DATASET_FILTERS,
    FILE_FILTERS,
    find_file,
    select_datasets,
    select_files,
)
from onefs.demo.rest.errors import not_found
from onefs.demo.rest.request import ApiRequest
from onefs.demo.rest.serializers import Link
from onefs.demo.rest.session_filters import SESSION_FILTERS, select_sessions

LIST_METHODS = ("GET", "POST", "HEAD", "OPTIONS")
DETAIL_METHODS = ("GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
READ_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class View:
    """One route: its path, its name in the browsable page, and what GET answers."""

    rule: str
    title: str
    get: Callable[..., Any]
    allow: tuple[str, ...] = LIST_METHODS
    filters: tuple[str, ...] = ()
    #: whether OPTIONS fails, as it does in Alyx where a serializer has none of its own
    options_fail: bool = False
    #: whether HEAD fails, as it does for the list of sessions
    head_fails: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A list of rows, and the detail of each."""

    #: the path without its slash
    name: str
    #: what the browsable page calls a row
    title: str
    #: returns the rows that a query's filters leave
    select: Callable[[DemoDatabase, Mapping[str, str]], Sequence[Any]]
    #: returns a row as JSON, in the list
    row: Callable[[DemoDatabase, Any, Link], Any]
    filters: tuple[str, ...] = ()
    #: returns a row as JSON, by itself; None: as in the list
    detail: Callable[[DemoDatabase, Any, Link], Any] | None = None
    #: returns the row of a key, None for an unknown one; None: the row of the table ``name``
    find: Callable[[DemoDatabase, Any], Any] | None = None
    #: the name of a row in the error for an unknown key; '': the title without blanks
    model: str = ""
    #: the variable of the detail's path, with its converter
    key: str = "key:row_id"
    #: cuts a page out of the rows
    cut: Callable[..., Sequence[Any]] = pagination.unordered
    list_methods: tuple[str, ...] = LIST_METHODS
    detail_methods: tuple[str, ...] = DETAIL_METHODS
    #: see :class:`View`; of the list and of the detail
    options_fail: tuple[bool, bool] = (False, False)
    head_fails: bool = False

    def views(self) -> Iterator[View]:
        """The list's route and the detail's."""
        yield View(
            f"/{self.name}",
            f"{self.title} List",
            self._list,
            self.list_methods,
            self.filters,
            self.options_fail[0],
            self.head_fails,
        )
        yield View(
            f"/{self.name}/<{self.key}>",
            f"{self.title} Detail",
            self._read,
            self.detail_methods,
            options_fail=self.options_fail[1],
        )

    def _list(self, call: ApiRequest) -> Any:
        rows = self.select(call.db, call.args)
        return call.paginate(rows, lambda row: self.row(call.db, row, call.link), self.cut)

    def _read(self, call: ApiRequest, **keys: Any) -> Any:
        (key,) = keys.values()
        row = self.find(call.db, key) if self.find else call.db.row(self.name, key)
        if row is None:
            raise not_found(self.model or self.title.replace(" ", ""))
        return (self.detail or self.row)(call.db, row, call.link)


def _unchanged(db: DemoDatabase, row: Row, link: Link) -> Row:
    return row


def _no_rows(db: DemoDatabase, args: Mapping[str, str]) -> Sequence[Row]:
    return ()


def _table_endpoint(table: small_tables.SmallTable) -> Endpoint:
    return Endpoint(
        table.endpoint,
        table.title,
        partial(small_tables.select_rows, table),
        partial(small_tables.table_row, table),
        table.filters,
        partial(small_tables.table_detail, table),
        partial(small_tables.find_row, table),
        model=table.model,
        key="name",
        cut=pagination.unordered if table.order is None else pagination.ordered,
    )


_ENDPOINTS = (
    Endpoint(
        "sessions",
        "Session Api",
        select_sessions,
        serializers.session_row,
        SESSION_FILTERS,
        serializers.session_detail,
        DemoDatabase.session,
        model="Session",
        key="key:eid",
        cut=partial(pagination.partly_ordered, key=lambda session: session.start_time),
        options_fail=(True, True),
        head_fails=True,
    ),
    Endpoint(
        "datasets",
        "Dataset",
        select_datasets,
        serializers.dataset_row,
        DATASET_FILTERS,
        serializers.dataset_detail,
        DemoDatabase.dataset,
        key="key:dataset_id",
        options_fail=(True, False),
    ),
    Endpoint(
        "files",
        "File Record",
        select_files,
        serializers.file_row,
        FILE_FILTERS,
        find=find_file,
        key="key:file_id",
    ),
    Endpoint(
        "insertions",
        "Probe Insertion",
        probe_filters.select_insertions,
        serializers.insertion_row,
        probe_filters.INSERTION_FILTERS,
        serializers.insertion_detail,
        key="key:pid",
        cut=pagination.ordered,
    ),
    Endpoint(
        "trajectories",
        "Trajectory Estimate",
        probe_filters.select_trajectories,
        serializers.trajectory_row,
        probe_filters.TRAJECTORY_FILTERS,
    ),
    Endpoint(
        "channels",
        "Channel",
        probe_filters.select_channels,
        _unchanged,
        probe_filters.CHANNEL_FILTERS,
    ),
    Endpoint("notes", "Note", probe_filters.select_notes, _unchanged, probe_filters.NOTE_FILTERS),
    Endpoint(
        "brain-regions",
        "Brain Region",
        probe_filters.select_regions,
        _unchanged,
        probe_filters.REGION_FILTERS,
        key="int:row_id",
        cut=pagination.ordered,
        # regions are neither made nor deleted
        list_methods=READ_METHODS,
        detail_methods=("GET", "PUT", "PATCH", "HEAD", "OPTIONS"),
    ),
    # lists of what no laboratory of the demo has
    Endpoint("chronic-insertions", "Chronic Insertion", _no_rows, _unchanged),
    Endpoint("fields-of-view", "FOV", _no_rows, _unchanged),
    Endpoint("surgeries", "Surgery", _no_rows, _unchanged),
    Endpoint("water-administrations", "Water Administration", _no_rows, _unchanged),
    Endpoint("weighings", "Weighing", _no_rows, _unchanged),
    *map(_table_endpoint, small_tables.TABLES),
)
VIEWS = tuple(view for endpoint in _ENDPOINTS for view in endpoint.views())

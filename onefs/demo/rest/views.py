"""The endpoints that read the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onefs.demo.rest import pagination, probe_filters, serializers
from onefs.demo.rest.database import DemoDatabase, Row
from onefs.demo.rest.dataset_filters import (
    DATASET_FILTERS,
    FILE_FILTERS,
    find_file,
    select_datasets,
    select_files,
)
from onefs.demo.rest.errors import failure, not_found
from onefs.demo.rest.request import ApiRequest
from onefs.demo.rest.session_filters import SESSION_FILTERS, select_sessions
from onefs.demo.rest.small_tables import (
    TABLES,
    SmallTable,
    select_rows,
    table_detail,
    table_row,
)

LIST_METHODS = ("GET", "POST", "HEAD", "OPTIONS")
DETAIL_METHODS = ("GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
#: lists of what no laboratory of the demo has, and what Alyx calls a row of them
_EMPTY = (
    ("chronic-insertions", "Chronic Insertion"),
    ("fields-of-view", "FOV"),
    ("surgeries", "Surgery"),
    ("water-administrations", "Water Administration"),
    ("weighings", "Weighing"),
)
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


def list_sessions(call: ApiRequest) -> Any:
    """``/sessions``: latest first, ties in any order."""
    return call.paginate(
        select_sessions(call.db, call.args),
        lambda session: serializers.session_row(session, call.link),
        lambda found, page: pagination.partly_ordered(found, page, lambda s: s.start_time),
    )


def read_session(call: ApiRequest, eid: str) -> Any:
    """``/sessions/{eid}``."""
    session = call.db.session(eid)
    if session is None:
        raise not_found("Session")
    return serializers.session_detail(call.db, session, call.link)


def list_datasets(call: ApiRequest) -> Any:
    """``/datasets``: no order."""
    return call.paginate(
        select_datasets(call.db, call.args),
        lambda dataset: serializers.dataset_row(call.db, dataset, call.link),
        pagination.unordered,
    )


def read_dataset(call: ApiRequest, dataset_id: str) -> Any:
    """``/datasets/{id}``."""
    dataset = call.db.dataset(dataset_id)
    if dataset is None:
        raise not_found("Dataset")
    return serializers.dataset_detail(call.db, dataset, call.link)


def list_files(call: ApiRequest) -> Any:
    """``/files``: no order."""
    return call.paginate(
        select_files(call.db, call.args),
        lambda copy: serializers.file_row(*copy, call.link),
        pagination.unordered,
    )


def read_file(call: ApiRequest, file_id: str) -> Any:
    """``/files/{id}``."""
    copy = find_file(call.db, file_id)
    if copy is None:
        raise not_found("FileRecord")
    return serializers.file_row(*copy, call.link)


def list_insertions(call: ApiRequest) -> Any:
    """``/insertions``: latest session first, then by name."""
    return call.paginate(
        probe_filters.select_insertions(call.db, call.args),
        lambda row: serializers.insertion_row(call.db, row, call.link),
        pagination.ordered,
    )


def read_insertion(call: ApiRequest, pid: str) -> Any:
    """``/insertions/{pid}``."""
    row = call.db.row("insertions", pid)
    if row is None:
        raise not_found("ProbeInsertion")
    return serializers.insertion_detail(call.db, row, call.link)


def _trajectory(call: ApiRequest, row: Row) -> Any:
    return serializers.trajectory_row(call.db, row, call.link)


def _unchanged_row(call: ApiRequest, row: Row) -> Any:
    return row


def _no_rows(db: DemoDatabase, args: Mapping[str, str]) -> Sequence[Row]:
    return ()


def _simple_views(
    endpoint: str,
    model: str,
    select: Callable[[DemoDatabase, Mapping[str, str]], Sequence[Row]],
    filters: tuple[str, ...],
    *,
    show: Callable[[ApiRequest, Row], Any] = _unchanged_row,
    key: str = "key",
    cut: Callable[..., Sequence[Row]] = pagination.unordered,
    allow: tuple[tuple[str, ...], tuple[str, ...]] = (LIST_METHODS, DETAIL_METHODS),
) -> list[View]:
    """The list and the detail of a table whose detail shows what the list does."""

    def list_rows(call: ApiRequest) -> Any:
        return call.paginate(select(call.db, call.args), lambda row: show(call, row), cut)

    def read_row(call: ApiRequest, row_id: str | int) -> Any:
        row = call.db.row(endpoint, row_id)
        if row is None:
            raise not_found(model.replace(" ", ""))
        return show(call, row)

    return [
        View(f"/{endpoint}", f"{model} List", list_rows, allow[0], filters),
        View(f"/{endpoint}/<{key}:row_id>", f"{model} Detail", read_row, allow[1]),
    ]


def _table_views(table: SmallTable) -> list[View]:
    def list_rows(call: ApiRequest) -> Any:
        return call.paginate(
            select_rows(call.db, table, call.args),
            lambda row: table_row(table, row, call.link),
            pagination.unordered if table.order is None else pagination.ordered,
        )

    def read_row(call: ApiRequest, name: str) -> Any:
        found = [row for row in call.db.table(table.endpoint) if row.get(table.key) == name]
        if not found:
            raise not_found(table.model)
        if len(found) > 1:
            raise failure(
                f"get() returned more than one {table.model} -- it returned {len(found)}!"
            )
        return table_detail(table, found[0], call.link)

    path = f"/{table.endpoint}"
    return [
        View(path, f"{table.title} List", list_rows, filters=table.filters),
        View(f"{path}/<name>", f"{table.title} Detail", read_row, DETAIL_METHODS),
    ]


VIEWS = (
    View(
        "/sessions",
        "Session Api List",
        list_sessions,
        filters=SESSION_FILTERS,
        options_fail=True,
        head_fails=True,
    ),
    View(
        "/sessions/<key:eid>",
        "Session Api Detail",
        read_session,
        DETAIL_METHODS,
        options_fail=True,
    ),
    View("/datasets", "Dataset List", list_datasets, filters=DATASET_FILTERS, options_fail=True),
    View("/datasets/<key:dataset_id>", "Dataset Detail", read_dataset, DETAIL_METHODS),
    View("/files", "File Record List", list_files, filters=FILE_FILTERS),
    View("/files/<key:file_id>", "File Record Detail", read_file, DETAIL_METHODS),
    View(
        "/insertions",
        "Probe Insertion List",
        list_insertions,
        filters=probe_filters.INSERTION_FILTERS,
    ),
    View("/insertions/<key:pid>", "Probe Insertion Detail", read_insertion, DETAIL_METHODS),
    *_simple_views(
        "trajectories",
        "Trajectory Estimate",
        probe_filters.select_trajectories,
        probe_filters.TRAJECTORY_FILTERS,
        show=_trajectory,
    ),
    *_simple_views(
        "channels", "Channel", probe_filters.select_channels, probe_filters.CHANNEL_FILTERS
    ),
    *_simple_views("notes", "Note", probe_filters.select_notes, probe_filters.NOTE_FILTERS),
    *_simple_views(
        "brain-regions",
        "Brain Region",
        probe_filters.select_regions,
        probe_filters.REGION_FILTERS,
        key="int",
        cut=pagination.ordered,
        # regions are neither made nor deleted
        allow=(READ_METHODS, ("GET", "PUT", "PATCH", "HEAD", "OPTIONS")),
    ),
    *(view for name, model in _EMPTY for view in _simple_views(name, model, _no_rows, ())),
    *(view for table in TABLES for view in _table_views(table)),
)

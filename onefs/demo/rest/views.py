"""The endpoints that read the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onefs.demo.rest import paging, probes, rows
from onefs.demo.rest.call import Call
from onefs.demo.rest.database import Database, Row
from onefs.demo.rest.datasets import (
    DATASET_FILTERS,
    FILE_FILTERS,
    find_file,
    select_datasets,
    select_files,
)
from onefs.demo.rest.errors import failure, not_found
from onefs.demo.rest.sessions import SESSION_FILTERS, select_sessions
from onefs.demo.rest.tables import (
    TABLES,
    Table,
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


def list_sessions(call: Call) -> Any:
    """``/sessions``: latest first, ties in any order."""
    return call.listed(
        select_sessions(call.db, call.args),
        lambda session: rows.session_row(session, call.link),
        lambda found, page: paging.partly_ordered(found, page, lambda s: s.start_time),
    )


def read_session(call: Call, eid: str) -> Any:
    """``/sessions/{eid}``."""
    session = call.db.session(eid)
    if session is None:
        raise not_found("Session")
    return rows.session_detail(call.db, session, call.link)


def list_datasets(call: Call) -> Any:
    """``/datasets``: no order."""
    return call.listed(
        select_datasets(call.db, call.args),
        lambda dataset: rows.dataset_row(call.db, dataset, call.link),
        paging.unordered,
    )


def read_dataset(call: Call, dataset_id: str) -> Any:
    """``/datasets/{id}``."""
    dataset = call.db.dataset(dataset_id)
    if dataset is None:
        raise not_found("Dataset")
    return rows.dataset_detail(call.db, dataset, call.link)


def list_files(call: Call) -> Any:
    """``/files``: no order."""
    return call.listed(
        select_files(call.db, call.args),
        lambda copy: rows.file_row(*copy, call.link),
        paging.unordered,
    )


def read_file(call: Call, file_id: str) -> Any:
    """``/files/{id}``."""
    copy = find_file(call.db, file_id)
    if copy is None:
        raise not_found("FileRecord")
    return rows.file_row(*copy, call.link)


def list_insertions(call: Call) -> Any:
    """``/insertions``: latest session first, then by name."""
    return call.listed(
        probes.select_insertions(call.db, call.args),
        lambda row: rows.insertion_row(call.db, row, call.link),
        paging.ordered,
    )


def read_insertion(call: Call, pid: str) -> Any:
    """``/insertions/{pid}``."""
    row = call.db.row("insertions", pid)
    if row is None:
        raise not_found("ProbeInsertion")
    return rows.insertion_detail(call.db, row, call.link)


def _trajectory(call: Call, row: Row) -> Any:
    return probes.trajectory_row(call.db, row, call.link)


def _as_it_is(call: Call, row: Row) -> Any:
    return row


def _no_rows(db: Database, args: Mapping[str, str]) -> Sequence[Row]:
    return ()


def _simple_views(
    endpoint: str,
    model: str,
    select: Callable[[Database, Mapping[str, str]], Sequence[Row]],
    filters: tuple[str, ...],
    *,
    show: Callable[[Call, Row], Any] = _as_it_is,
    key: str = "key",
    cut: Callable[..., Sequence[Row]] = paging.unordered,
    allow: tuple[tuple[str, ...], tuple[str, ...]] = (LIST_METHODS, DETAIL_METHODS),
) -> list[View]:
    """The list and the detail of a table whose detail shows what the list does."""

    def list_rows(call: Call) -> Any:
        return call.listed(select(call.db, call.args), lambda row: show(call, row), cut)

    def read_row(call: Call, row_id: str | int) -> Any:
        row = call.db.row(endpoint, row_id)
        if row is None:
            raise not_found(model.replace(" ", ""))
        return show(call, row)

    return [
        View(f"/{endpoint}", f"{model} List", list_rows, allow[0], filters),
        View(f"/{endpoint}/<{key}:row_id>", f"{model} Detail", read_row, allow[1]),
    ]


def _table_views(table: Table) -> list[View]:
    def list_rows(call: Call) -> Any:
        return call.listed(
            select_rows(call.db, table, call.args),
            lambda row: table_row(table, row, call.link),
            paging.unordered if table.order is None else paging.ordered,
        )

    def read_row(call: Call, name: str) -> Any:
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
    View("/insertions", "Probe Insertion List", list_insertions, filters=probes.INSERTION_FILTERS),
    View("/insertions/<key:pid>", "Probe Insertion Detail", read_insertion, DETAIL_METHODS),
    *_simple_views(
        "trajectories",
        "Trajectory Estimate",
        probes.select_trajectories,
        probes.TRAJECTORY_FILTERS,
        show=_trajectory,
    ),
    *_simple_views("channels", "Channel", probes.select_channels, probes.CHANNEL_FILTERS),
    *_simple_views("notes", "Note", probes.select_notes, probes.NOTE_FILTERS),
    *_simple_views(
        "brain-regions",
        "Brain Region",
        probes.select_regions,
        probes.REGION_FILTERS,
        key="int",
        cut=paging.ordered,
        # regions are neither made nor deleted
        allow=(READ_METHODS, ("GET", "PUT", "PATCH", "HEAD", "OPTIONS")),
    ),
    *(view for name, model in _EMPTY for view in _simple_views(name, model, _no_rows, ())),
    *(view for table in TABLES for view in _table_views(table)),
)

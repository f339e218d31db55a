"""The fields that ``django=`` can name, and the rows that they lead to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onefs.demo.records import DatasetRecord, FileRecord, SessionRecord
from onefs.demo.rest.database import DemoDatabase
from onefs.demo.rest.query_values import PROVENANCES, QC


@dataclass(frozen=True, slots=True)
class Leaf:
    """A column. ``kind`` is one of ``text number bool uuid datetime json``."""

    kind: str
    get: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Relation:
    """A way to rows of another model, of which there may be none or many."""

    model: str
    get: Callable[[DemoDatabase, Any], Sequence[Any]]


Field = Leaf | Relation


def attribute(kind: str, name: str) -> Leaf:
    """A field of a record."""
    return Leaf(kind, lambda record: getattr(record, name))


def column(kind: str, name: str) -> Leaf:
    """A key of a row."""
    return Leaf(kind, lambda row: row.get(name))


def _named(table: str, value: Callable[[Any], str | None]) -> Relation:
    """The row of a small table that a record names; a bare one where the table lacks it."""

    def get(db: DemoDatabase, record: Any) -> Sequence[Any]:
        name = value(record)
        return [db.row(table, name) or {"name": name}] if name else []

    return Relation(table, get)


def _all_named(table: str, values: Callable[[Any], Sequence[str]]) -> Relation:
    def get(db: DemoDatabase, record: Any) -> Sequence[Any]:
        return [db.row(table, name) or {"name": name} for name in values(record)]

    return Relation(table, get)


def _people(db: DemoDatabase, names: Sequence[str]) -> Sequence[Any]:
    return [db.row("users", name) or {"username": name} for name in names]


def _subject(db: DemoDatabase, session: SessionRecord) -> Sequence[Any]:
    row = db.row("subjects", session.subject)
    if row is None or row.get("lab") != session.lab:
        same = [r for r in db.table("subjects") if r.get("nickname") == session.subject]
        row = next((r for r in same if r.get("lab") == session.lab), None)
    return [row or {"nickname": session.subject, "lab": session.lab}]


def _session(db: DemoDatabase, eid: str | None) -> Sequence[SessionRecord]:
    session = db.session(eid)
    return [session] if session is not None else []


def _insertions(db: DemoDatabase, session: SessionRecord) -> Sequence[Any]:
    return [row for row in db.table("insertions") if row.get("session") == session.eid]


def _datasets_of_insertion(db: DemoDatabase, row: Any) -> Sequence[DatasetRecord]:
    found = (db.dataset(dataset_id) for dataset_id in row.get("datasets", ()))
    return [dataset for dataset in found if dataset is not None]


def _row_of(table: str, key: str) -> Relation:
    """The row of a table whose id is the value of ``key``."""

    def get(db: DemoDatabase, row: Any) -> Sequence[Any]:
        found = db.row(table, row.get(key))
        return [found] if found is not None else []

    return Relation(table, get)


def _pointing_here(table: str, key: str) -> Relation:
    """The rows of a table whose ``key`` is the id of the row at hand."""
    return Relation(
        table, lambda db, row: [each for each in db.table(table) if each.get(key) == row["id"]]
    )


def _texts(*names: str) -> dict[str, Field]:
    return {name: column("text", name) for name in names}


_SESSION: dict[str, Field] = {
    "id": attribute("uuid", "eid"),
    "subject": Relation("subjects", _subject),
    "lab": _named("labs", lambda s: s.lab),
    "users": Relation("users", lambda db, s: _people(db, s.users)),
    "projects": _all_named("projects", lambda s: s.projects),
    "procedures": _all_named("procedures", lambda s: s.procedures),
    "location": _named("locations", lambda s: s.location),
    "parent_session": Relation("session", lambda db, s: _session(db, s.parent_session)),
    "data_dataset_session_related": Relation("dataset", lambda db, s: db.datasets(s.eid)),
    "probe_insertion": Relation("insertions", _insertions),
    "qc": Leaf("number", lambda s: QC.get(s.qc, 0)),
    **{
        name: attribute(kind, name)
        for name, kind in {
            "start_time": "datetime",
            "end_time": "datetime",
            "auto_datetime": "datetime",
            "number": "number",
            "n_trials": "number",
            "n_correct_trials": "number",
            "task_protocol": "text",
            "type": "text",
            "narrative": "text",
            "extended_qc": "json",
            "json": "json",
        }.items()
    },
}

_DATASET: dict[str, Field] = {
    "id": attribute("uuid", "id"),
    "session": Relation("session", lambda db, d: _session(db, d.eid)),
    "dataset_type": _named("dataset-types", lambda d: d.dataset_type),
    "data_format": _named("data-formats", lambda d: d.data_format),
    "revision": _named("revisions", lambda d: d.revision),
    "created_by": Relation(
        "users", lambda db, d: _people(db, [d.created_by] if d.created_by else [])
    ),
    "tags": _all_named("tags", lambda d: d.tags),
    "file_records": Relation("file", lambda db, d: [(d, record) for record in d.file_records]),
    "qc": Leaf("number", lambda d: QC.get(d.qc, 0)),
    **{
        name: attribute(kind, name)
        for name, kind in {
            "name": "text",
            "collection": "text",
            "hash": "text",
            "version": "text",
            "file_size": "number",
            "default_dataset": "bool",
            "created_datetime": "datetime",
            "auto_datetime": "datetime",
            "json": "json",
        }.items()
    },
}

_Copy = tuple[DatasetRecord, FileRecord]


def _copy_dataset(_: DemoDatabase, copy: _Copy) -> Sequence[DatasetRecord]:
    return [copy[0]]


_FILE: dict[str, Field] = {
    "id": Leaf("uuid", lambda copy: copy[1].id),
    "dataset": Relation("dataset", _copy_dataset),
    "data_repository": _named("data-repository", lambda copy: copy[1].repository),
    "relative_path": Leaf("text", lambda copy: copy[1].relative_path),
    "exists": Leaf("bool", lambda copy: copy[1].exists),
}

_NAMED: dict[str, Field] = {"id": column("uuid", "id"), "name": column("text", "name")}

#: every model by name; those of small tables are named as their endpoints
MODELS: Mapping[str, Mapping[str, Field]] = {
    "session": _SESSION,
    "dataset": _DATASET,
    "file": _FILE,
    "labs": {
        "id": column("uuid", "id"),
        **_texts("name", "institution", "address", "timezone"),
        "repositories": _all_named("data-repository", lambda row: row.get("repositories", ())),
        "json": column("json", "json"),
    },
    "subjects": {
        "id": column("uuid", "id"),
        **_texts("nickname", "sex", "description"),
        "lab": _named("labs", lambda row: row.get("lab")),
        "projects": _all_named("projects", lambda row: row.get("projects", ())),
        "responsible_user": Relation(
            "users",
            lambda db, row: _people(
                db, [row["responsible_user"]] if row.get("responsible_user") else []
            ),
        ),
        "birth_date": column("datetime", "birth_date"),
        "death_date": column("datetime", "death_date"),
        "json": column("json", "json"),
    },
    "users": {
        "id": column("uuid", "id"),
        **_texts("username", "email"),
        "lab": _all_named("labs", lambda row: row.get("lab", ())),
    },
    "data-repository": {
        **_NAMED,
        **_texts("timezone", "globus_path", "hostname", "data_url"),
        "globus_is_personal": column("bool", "globus_is_personal"),
        "globus_endpoint_id": column("uuid", "globus_endpoint_id"),
        "json": column("json", "json"),
    },
    "insertions": {
        **_NAMED,
        **_texts("serial"),
        "session": Relation("session", lambda db, row: _session(db, row.get("session"))),
        "datasets": Relation("dataset", _datasets_of_insertion),
        "trajectory_estimate": _pointing_here("trajectories", "probe_insertion"),
        "auto_datetime": column("datetime", "auto_datetime"),
        "json": column("json", "json"),
    },
    "trajectories": {
        "id": column("uuid", "id"),
        "probe_insertion": _row_of("insertions", "probe_insertion"),
        "channels": _pointing_here("channels", "trajectory_estimate"),
        "provenance": Leaf("number", lambda row: PROVENANCES.get(row.get("provenance", ""))),
        "datetime": column("datetime", "datetime"),
        "json": column("json", "json"),
        **{name: column("number", name) for name in ("x", "y", "z", "depth", "theta", "phi")},
        "roll": column("number", "roll"),
    },
    "channels": {
        **_NAMED,
        "trajectory_estimate": _row_of("trajectories", "trajectory_estimate"),
        "brain_region": _row_of("brain-regions", "brain_region"),
        "json": column("json", "json"),
        **{name: column("number", name) for name in ("axial", "lateral", "x", "y", "z")},
    },
    "brain-regions": {
        "id": column("number", "id"),
        **_texts("acronym", "name", "description"),
        "parent": _row_of("brain-regions", "parent"),
        "channels": _pointing_here("channels", "brain_region"),
    },
    "notes": {
        "id": column("uuid", "id"),
        "user": _named("users", lambda row: row.get("user")),
        "date_time": column("datetime", "date_time"),
        "object_id": column("uuid", "object_id"),
        "text": column("text", "text"),
        "json": column("json", "json"),
    },
    "projects": {**_NAMED, **_texts("description")},
    "dataset-types": {**_NAMED, **_texts("description", "filename_pattern")},
    "data-formats": {**_NAMED, **_texts("description", "file_extension")},
    "revisions": {**_NAMED, **_texts("description")},
    "tags": {
        **_NAMED,
        **_texts("description", "hash"),
        "protected": column("bool", "protected"),
        "public": column("bool", "public"),
    },
    "procedures": _NAMED,
    "locations": _NAMED,
}

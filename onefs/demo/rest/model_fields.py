"""The fields that ``django=`` can name, and the related rows that the fields lead to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from onefs.demo.records import DatasetRecord, FileRecord, SessionRecord
from onefs.demo.rest.database import DemoDatabase
from onefs.demo.rest.query_values import PROVENANCES, QC


@dataclass(frozen=True, slots=True)
class Leaf:
    """A column. ``kind`` is ``text``, ``number``, ``bool``, ``uuid``, ``datetime`` or ``json``."""

    kind: str
    get: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Relation:
    """A field that leads to related rows of ``model``. There may be none or many rows."""

    model: str
    get: Callable[[DemoDatabase, Any], Sequence[Any]]


Field = Leaf | Relation


def _value(record: Any, name: str) -> Any:
    """Return the attribute ``name`` of a record, or the value for the key ``name`` of a row."""
    return record.get(name) if isinstance(record, Mapping) else getattr(record, name)


def _columns(**names: str) -> dict[str, Field]:
    """Return the columns whose names are in the arguments.

    For example, ``text="name path"`` gives two columns of the kind ``text``.
    """
    # the name of a column is also the name of the attribute or key that holds the value
    return {
        name: Leaf(kind, partial(_value, name=name))
        for kind, joined in names.items()
        for name in joined.split()
    }


def _named(table: str, field: str) -> Relation:
    """Return the relation to the rows of ``table`` whose names are in ``field``."""

    def get(db: DemoDatabase, record: Any) -> Sequence[Any]:
        value = _value(record, field) or ()
        names = (value,) if isinstance(value, str) else value
        # an unknown name gives a new row that has only the name
        return [db.row(table, name) or {db.key_of(table): name} for name in names]

    return Relation(table, get)


def _subject(db: DemoDatabase, session: SessionRecord) -> Sequence[Any]:
    row = db.row("subjects", session.subject)
    if row is None or row.get("lab") != session.lab:
        same = [r for r in db.table("subjects") if r.get("nickname") == session.subject]
        row = next((r for r in same if r.get("lab") == session.lab), None)
    return [row or {"nickname": session.subject, "lab": session.lab}]


def _one_or_none(row: Any) -> Sequence[Any]:
    return [] if row is None else [row]


def _session(field: str) -> Relation:
    """Return the relation to the session whose eid is in ``field``."""
    return Relation("session", lambda db, row: _one_or_none(db.session(_value(row, field))))


def _row_of(table: str, field: str) -> Relation:
    """Return the relation to the row of ``table`` whose id is in ``field``."""
    return Relation(table, lambda db, row: _one_or_none(db.row(table, row.get(field))))


def _pointing_at(key: str, table: str, field: str) -> Relation:
    """Return the relation to the rows of ``table`` whose ``field`` equals this row's ``key``."""
    return Relation(
        table,
        lambda db, row: [each for each in db.table(table) if each.get(field) == _value(row, key)],
    )


def _datasets_of_insertion(db: DemoDatabase, row: Any) -> Sequence[DatasetRecord]:
    datasets = (db.dataset(dataset_id) for dataset_id in row.get("datasets", ()))
    return [dataset for dataset in datasets if dataset is not None]


_QC = Leaf("number", lambda record: QC.get(record.qc, 0))

_SESSION: dict[str, Field] = {
    "id": Leaf("uuid", lambda session: session.eid),
    "subject": Relation("subjects", _subject),
    "lab": _named("labs", "lab"),
    "users": _named("users", "users"),
    "projects": _named("projects", "projects"),
    "procedures": _named("procedures", "procedures"),
    "location": _named("locations", "location"),
    "parent_session": _session("parent_session"),
    "data_dataset_session_related": Relation("dataset", lambda db, s: db.datasets(s.eid)),
    "probe_insertion": _pointing_at("eid", "insertions", "session"),
    "qc": _QC,
    **_columns(
        datetime="start_time end_time auto_datetime",
        number="number n_trials n_correct_trials",
        text="task_protocol type narrative",
        json="extended_qc json",
    ),
}

_DATASET: dict[str, Field] = {
    "session": _session("eid"),
    "dataset_type": _named("dataset-types", "dataset_type"),
    "data_format": _named("data-formats", "data_format"),
    "revision": _named("revisions", "revision"),
    "created_by": _named("users", "created_by"),
    "tags": _named("tags", "tags"),
    "file_records": Relation("file", lambda db, d: [(d, record) for record in d.file_records]),
    "qc": _QC,
    **_columns(
        uuid="id",
        text="name collection hash version",
        number="file_size",
        bool="default_dataset",
        datetime="created_datetime auto_datetime",
        json="json",
    ),
}

#: a row of ``/files``: a dataset and one of its file records
File = tuple[DatasetRecord, FileRecord]


def _dataset_of_file(_: DemoDatabase, file: File) -> Sequence[DatasetRecord]:
    return [file[0]]


def _repository_of_file(db: DemoDatabase, file: File) -> Sequence[Any]:
    return [db.repository(file[1]) or {"name": file[1].repository}]


_FILE: dict[str, Field] = {
    "id": Leaf("uuid", lambda file: file[1].id),
    "dataset": Relation("dataset", _dataset_of_file),
    "data_repository": Relation("data-repository", _repository_of_file),
    "relative_path": Leaf("text", lambda file: file[1].relative_path),
    "exists": Leaf("bool", lambda file: file[1].exists),
}

#: the fields of each model. The model of a small table has the same name as its endpoint
MODELS: Mapping[str, Mapping[str, Field]] = {
    "session": _SESSION,
    "dataset": _DATASET,
    "file": _FILE,
    "labs": {
        **_columns(uuid="id", text="name institution address timezone", json="json"),
        "repositories": _named("data-repository", "repositories"),
    },
    "subjects": {
        **_columns(uuid="id", text="nickname sex description", datetime="birth_date death_date"),
        **_columns(json="json"),
        "lab": _named("labs", "lab"),
        "projects": _named("projects", "projects"),
        "responsible_user": _named("users", "responsible_user"),
    },
    "users": {**_columns(uuid="id", text="username email"), "lab": _named("labs", "lab")},
    "data-repository": _columns(
        uuid="id globus_endpoint_id",
        text="name timezone globus_path hostname data_url",
        bool="globus_is_personal",
        json="json",
    ),
    "insertions": {
        **_columns(uuid="id", text="name serial", datetime="auto_datetime", json="json"),
        "session": _session("session"),
        "datasets": Relation("dataset", _datasets_of_insertion),
        "trajectory_estimate": _pointing_at("id", "trajectories", "probe_insertion"),
    },
    "trajectories": {
        **_columns(
            uuid="id", number="x y z depth theta phi roll", datetime="datetime", json="json"
        ),
        "probe_insertion": _row_of("insertions", "probe_insertion"),
        "channels": _pointing_at("id", "channels", "trajectory_estimate"),
        "provenance": Leaf("number", lambda row: PROVENANCES.get(row.get("provenance", ""))),
    },
    "channels": {
        **_columns(uuid="id", text="name", number="axial lateral x y z", json="json"),
        "trajectory_estimate": _row_of("trajectories", "trajectory_estimate"),
        "brain_region": _row_of("brain-regions", "brain_region"),
    },
    "brain-regions": {
        **_columns(number="id", text="acronym name description"),
        "parent": _row_of("brain-regions", "parent"),
        "channels": _pointing_at("id", "channels", "brain_region"),
    },
    "notes": {
        **_columns(uuid="id object_id", text="text", datetime="date_time", json="json"),
        "user": _named("users", "user"),
    },
    "projects": _columns(uuid="id", text="name description"),
    "dataset-types": _columns(uuid="id", text="name description filename_pattern"),
    "data-formats": _columns(uuid="id", text="name description file_extension"),
    "revisions": _columns(uuid="id", text="name description"),
    "tags": _columns(uuid="id", text="name description hash", bool="protected public"),
    "procedures": _columns(uuid="id", text="name"),
    "locations": _columns(uuid="id", text="name"),
}

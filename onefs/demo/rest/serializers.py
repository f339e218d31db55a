"""The JSON of records, as in Alyx."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from onefs.demo.records import DatasetRecord, FileRecord, SessionRecord
from onefs.demo.rest.database import DemoDatabase, Row
from onefs.demo.rest.model_fields import File
from onefs.demo.rest.query_values import QC

#: returns the address for a path on the server
Link = Callable[[str], str]
#: keys of a session's detail that are empty lists if the Source does not have them
_RELATED = ("wateradmin_session_related", "field_of_view", "notes")


def session_row(_: DemoDatabase, session: SessionRecord, link: Link) -> dict[str, Any]:
    """Return a row of ``/sessions``."""
    columns = ("subject", "start_time", "number", "lab", "projects", "task_protocol")
    return {
        "id": session.eid,
        **_columns(session, *columns),
        "url": link(f"/sessions/{session.eid}"),
    }


def session_detail(db: DemoDatabase, session: SessionRecord, link: Link) -> dict[str, Any]:
    """Return the JSON of ``/sessions/{eid}``, with the datasets that Alyx shows in it.

    These are the datasets that :meth:`DemoDatabase.reachable` accepts.
    """
    row = _columns(session)
    eid, parent, related = row.pop("eid"), row.pop("parent_session"), row.pop("related")
    datasets = [d for d in db.datasets(eid) if db.reachable(d)]
    probes = [row for row in db.table("insertions") if row.get("session") == eid]
    return {
        **row,
        "id": eid,
        "url": link(f"/sessions/{eid}"),
        "parent_session": link(f"/sessions/{parent}") if parent else None,
        "data_dataset_session_related": [_dataset_of_session(db, d, link) for d in datasets],
        **{name: related.get(name, []) for name in _RELATED},
        "probe_insertion": related.get("probe_insertion")
        or [insertion_row(db, probe, link) for probe in probes],
    }


def _columns(record: SessionRecord | DatasetRecord, *names: str) -> dict[str, Any]:
    """Return the named fields of a record, or all fields if no names are given."""
    names = names or tuple(field.name for field in fields(record))
    return {name: getattr(record, name) for name in names}


def _dataset_of_session(db: DemoDatabase, dataset: DatasetRecord, link: Link) -> dict[str, Any]:
    """Return the JSON of a dataset in the detail of a session."""
    # unlike in ``/datasets``, the revision is a UUID, and ``default_revision`` is a text
    columns = ("id", "name", "dataset_type", "file_size", "hash", "version", "collection", "qc")
    return {
        **_columns(dataset, *columns),
        "data_url": db.best_url(dataset),
        "url": link(f"/datasets/{dataset.id}"),
        "revision": db.revision(dataset.revision).get("id", ""),
        "default_revision": str(dataset.default_dataset),
    }


def dataset_row(db: DemoDatabase, dataset: DatasetRecord, link: Link) -> dict[str, Any]:
    """Return a row of ``/datasets``."""
    row = _columns(dataset)
    dataset_id, eid = row.pop("id"), row.pop("eid")
    session = db.session(eid)
    if row["experiment_number"] is None and session is not None:
        row["experiment_number"] = session.number
    return {
        **row,
        "url": link(f"/datasets/{dataset_id}"),
        "session": link(f"/sessions/{eid}") if eid else None,
        "file_records": [_file_of_dataset(db, dataset, r) for r in dataset.file_records],
    }


def dataset_detail(db: DemoDatabase, dataset: DatasetRecord, link: Link) -> dict[str, Any]:
    """Return the JSON of ``/datasets/{id}``.

    It is a row of ``/datasets`` without ``protected`` and ``public``.
    """
    row = dataset_row(db, dataset, link)
    return {name: value for name, value in row.items() if name not in ("protected", "public")}


def _file_of_dataset(
    db: DemoDatabase, dataset: DatasetRecord, record: FileRecord
) -> dict[str, Any]:
    return {
        "id": record.id,
        "data_repository": record.repository,
        "data_repository_path": db.repository(record).get("globus_path"),
        "relative_path": record.relative_path,
        "data_url": db.file_url(dataset, record),
        "exists": record.exists,
    }


def file_row(_: DemoDatabase, file: File, link: Link) -> dict[str, Any]:
    """Return a row of ``/files``."""
    dataset, record = file
    return {
        "url": link(f"/files/{record.id}"),
        "dataset": link(f"/datasets/{dataset.id}"),
        "data_repository": record.repository,
        "name": "",
        "json": None,
        "relative_path": record.relative_path,
        "exists": record.exists,
    }


def insertion_row(db: DemoDatabase, insertion: Row, link: Link) -> dict[str, Any]:
    """Return a row of ``/insertions``.

    Its field ``session_info`` is the session's row without ``url``.
    """
    session = db.session(insertion.get("session"))
    info = {} if session is None else _session_info(db, session, link)
    defaults: dict[str, Any] = {
        "model": "",
        "json": None,
        "serial": "",
        "auto_datetime": "",
        "chronic_insertion": None,
        "datasets": [],
    }
    return {**defaults, "session_info": info, **insertion}


def insertion_detail(db: DemoDatabase, insertion: Row, link: Link) -> dict[str, Any]:
    """Return the JSON of ``/insertions/{pid}``, with a row for each dataset.

    In these rows ``qc`` is a number, not a name.
    """
    row = insertion_row(db, insertion, link)
    datasets = map(db.dataset, row["datasets"])
    shown = [_dataset_of_insertion(db, d, link) for d in datasets if d is not None]
    return {**row, "datasets": shown}


def trajectory_row(db: DemoDatabase, row: Row, link: Link) -> dict[str, Any]:
    """Return a row of ``/trajectories``, with the session and the name of the probe."""
    insertion = db.row("insertions", row.get("probe_insertion")) or {}
    session = db.session(insertion.get("session"))
    return {
        **row,
        "session": None if session is None else _session_info(db, session, link),
        "probe_name": insertion.get("name"),
    }


def _session_info(db: DemoDatabase, session: SessionRecord, link: Link) -> dict[str, Any]:
    return {k: v for k, v in session_row(db, session, link).items() if k != "url"}


def _dataset_of_insertion(
    db: DemoDatabase, dataset: DatasetRecord, link: Link
) -> Mapping[str, Any]:
    row = _dataset_of_session(db, dataset, link)
    row.pop("revision")
    row.pop("default_revision")
    row["qc"] = QC.get(dataset.qc, 0)
    return row

"""Records as Alyx shows them in JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onefs.demo.records import DatasetRecord, FileRecord, SessionRecord
from onefs.demo.rest.database import DemoDatabase, Row
from onefs.demo.rest.model_fields import File
from onefs.demo.rest.query_values import QC

#: returns the address of a path of the server
Link = Callable[[str], str]
#: keys of a session's detail that a Source need not have
_RELATED = ("wateradmin_session_related", "probe_insertion", "field_of_view", "notes")


def session_row(_: DemoDatabase, session: SessionRecord, link: Link) -> dict[str, Any]:
    """Return a row of ``/sessions``."""
    return {
        "id": session.eid,
        "subject": session.subject,
        "start_time": session.start_time,
        "number": session.number,
        "lab": session.lab,
        "projects": list(session.projects),
        "url": link(f"/sessions/{session.eid}"),
        "task_protocol": session.task_protocol,
    }


def session_detail(db: DemoDatabase, session: SessionRecord, link: Link) -> dict[str, Any]:
    """Return ``/sessions/{eid}``, with the datasets that exist on a server."""
    parent = session.parent_session
    datasets = [d for d in db.datasets(session.eid) if db.reachable(d)]
    related: dict[str, Any] = {name: session.related.get(name, []) for name in _RELATED}
    if not related["probe_insertion"]:
        related["probe_insertion"] = [
            insertion_row(db, row, link)
            for row in db.table("insertions")
            if row.get("session") == session.eid
        ]
    return {
        "subject": session.subject,
        "users": list(session.users),
        "location": session.location,
        "procedures": list(session.procedures),
        "lab": session.lab,
        "projects": list(session.projects),
        "type": session.type,
        "task_protocol": session.task_protocol,
        "number": session.number,
        "start_time": session.start_time,
        "end_time": session.end_time,
        "narrative": session.narrative,
        "parent_session": link(f"/sessions/{parent}") if parent else None,
        "n_correct_trials": session.n_correct_trials,
        "n_trials": session.n_trials,
        "url": link(f"/sessions/{session.eid}"),
        "extended_qc": session.extended_qc,
        "qc": session.qc,
        "data_dataset_session_related": [_dataset_of_session(db, d, link) for d in datasets],
        "auto_datetime": session.auto_datetime,
        "id": session.eid,
        "json": session.json,
        **related,
    }


def _dataset_of_session(db: DemoDatabase, dataset: DatasetRecord, link: Link) -> dict[str, Any]:
    """Unlike a row of ``/datasets`` it has the revision's UUID, and the default as a text."""
    revision = db.revision(dataset.revision)
    return {
        "id": dataset.id,
        "name": dataset.name,
        "dataset_type": dataset.dataset_type,
        "data_url": db.best_url(dataset),
        "url": link(f"/datasets/{dataset.id}"),
        "file_size": dataset.file_size,
        "hash": dataset.hash,
        "version": dataset.version,
        "collection": dataset.collection,
        "revision": revision.get("id", ""),
        "default_revision": str(dataset.default_dataset),
        "qc": dataset.qc,
    }


def dataset_detail(db: DemoDatabase, dataset: DatasetRecord, link: Link) -> dict[str, Any]:
    """Return ``/datasets/{id}``."""
    session = db.session(dataset.eid)
    number = dataset.experiment_number
    if number is None and session is not None:
        number = session.number
    return {
        "url": link(f"/datasets/{dataset.id}"),
        "name": dataset.name,
        "created_by": dataset.created_by,
        "created_datetime": dataset.created_datetime,
        "dataset_type": dataset.dataset_type,
        "data_format": dataset.data_format,
        "collection": dataset.collection,
        "session": link(f"/sessions/{dataset.eid}") if dataset.eid else None,
        "file_size": dataset.file_size,
        "hash": dataset.hash,
        "version": dataset.version,
        "experiment_number": number,
        "file_records": [_file_of_dataset(db, dataset, r) for r in dataset.file_records],
        "auto_datetime": dataset.auto_datetime,
        "revision": dataset.revision,
        "default_dataset": dataset.default_dataset,
        "tags": list(dataset.tags),
        "qc": dataset.qc,
        "json": dataset.json,
    }


def dataset_row(db: DemoDatabase, dataset: DatasetRecord, link: Link) -> dict[str, Any]:
    """Return a row of ``/datasets``: the detail and two more keys."""
    row = dataset_detail(db, dataset, link)
    return {**row, "protected": dataset.protected, "public": dataset.public}


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
    """Return a row of ``/insertions``; ``session_info`` is the session's row."""
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
    """Return ``/insertions/{pid}``: its datasets in full, their qc as a number."""
    row = insertion_row(db, insertion, link)
    datasets = map(db.dataset, row["datasets"])
    shown = [_dataset_of_insertion(db, d, link) for d in datasets if d is not None]
    return {**row, "datasets": shown}


def trajectory_row(db: DemoDatabase, row: Row, link: Link) -> dict[str, Any]:
    """Return a row of ``/trajectories``; ``session`` and ``probe_name`` are the insertion's."""
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

"""``/cache/info/`` and ``/cache.zip``: ONE's cache tables, made from the database's rows.

The tables need pyarrow, which is imported at the first request. Without pyarrow the status is 404.
"""

from __future__ import annotations

import importlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import PurePosixPath
from typing import Any

from flask import Response

from onefs.demo.records import DatasetRecord, SessionRecord
from onefs.demo.rest.database import DemoDatabase
from onefs.demo.rest.endpoints import READ_METHODS, View
from onefs.demo.rest.errors import ApiError
from onefs.demo.rest.request import ApiRequest

_MIN_API_VERSION = "2.10"
_QC = ("NOT_SET", "PASS", "WARNING", "FAIL", "CRITICAL")
#: kind of a column -> the column's types in pandas and numpy
_PANDAS_TYPES = {
    "string": ("unicode", "object"),
    "date32": ("date", "object"),
    "uint16": ("uint16", "uint16"),
    "uint64": ("uint64", "UInt64"),
    "bool_": ("bool", "bool"),
    "category": ("categorical", "int8"),
}
#: a column of a table: name, kind (a type of pyarrow, or ``category``), values
Column = tuple[str, str, list[Any]]
#: how the name of a repository must start so that its datasets are in the tables
_SERVERS = ("flatiron", "aws")


@dataclass(frozen=True, slots=True)
class _BuiltTables:
    """ONE's cache tables: of all sessions, or only of the datasets with one tag."""

    info: dict[str, Any]
    files: dict[str, bytes]


class CacheTables:
    """ONE's cache tables of all sessions, and of the datasets with each tag. Thread-safe.

    They are built at the first request, and again after the database has changed.
    """

    def __init__(self) -> None:
        self._db: DemoDatabase | None = None
        self._created = ""
        self._built: dict[str | None, _BuiltTables] = {}
        self._lock = threading.Lock()

    def get(self, db: DemoDatabase, tag: str | None = None) -> _BuiltTables:
        """Return the tables of the datasets with the tag ``tag``, or of all sessions for None.

        Raises ApiError 404 if pyarrow is not installed.
        """
        with self._lock:
            if db is not self._db:
                self._db = db
                self._created = datetime.now().strftime("%Y-%m-%d %H:%M")
                self._built.clear()
            if tag not in self._built:
                self._built[tag] = self._build(db, tag)
            return self._built[tag]

    def zip(self, db: DemoDatabase, tag: str | None = None) -> bytes:
        """Return the bytes of ``cache.zip``, with the tables that :meth:`get` returns."""
        buffer = io.BytesIO()
        tables = self.get(db, tag)
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in tables.files.items():
                archive.writestr(name, data)
            archive.writestr("cache_info.json", json.dumps(tables.info))
        return buffer.getvalue()

    def _build(self, db: DemoDatabase, tag: str | None) -> _BuiltTables:
        sessions, datasets = _rows(db, tag)
        info: dict[str, Any] = {
            "date_created": self._created,
            "origin": "alyx",
            "min_api_version": _MIN_API_VERSION,
        }
        if tag is not None:
            info["database_tags"] = [tag]
        try:
            files = {
                "sessions.pqt": _parquet(_session_columns(sessions), ["id"], info),
                "datasets.pqt": _parquet(_dataset_columns(datasets), ["eid", "id"], info),
            }
        except ModuleNotFoundError:
            raise ApiError(404, {"detail": "Not found."}) from None
        counts = {"sessions": len(sessions), "datasets": len(datasets)}
        info["tables"] = {
            name: {"nrecs": count, "size": len(files[f"{name}.pqt"])}
            for name, count in counts.items()
        }
        return _BuiltTables(info, files)


def _rows(db: DemoDatabase, tag: str | None) -> tuple[list[SessionRecord], list[DatasetRecord]]:
    sessions: list[SessionRecord] = []
    datasets: list[DatasetRecord] = []
    for session in db.sessions:
        rows = [d for d in db.datasets(session.eid) if _is_listed(d, tag)]
        if session.number is not None and (rows or tag is None):
            sessions.append(session)
            datasets += rows
    return (
        sorted(sessions, key=lambda session: session.eid),
        sorted(datasets, key=lambda dataset: (dataset.eid or "", dataset.id)),
    )


def cache_views(bucket_url: str = "") -> Iterator[View]:
    """Yield the views of ``/cache/info/`` and ``/cache.zip``.

    With ``bucket_url``, the description of a release names its archive in this bucket.
    """
    tables = CacheTables()

    def info(call: ApiRequest) -> Any:
        return tables.get(call.db).info

    def info_of_tag(call: ApiRequest, tag: str) -> Any:
        if call.db.row("tags", tag) is None:
            text = "Tag matching query does not exist."
            return Response(text, 404, content_type="text/html; charset=utf-8")
        info = tables.get(call.db, tag).info
        if not bucket_url:
            return info
        return {**info, "location": f"{bucket_url}/caches/openalyx/{tag}/cache.zip"}

    def archive(call: ApiRequest) -> Any:
        headers = {"Content-Disposition": 'inline; filename="cache.zip"'}
        return Response(tables.zip(call.db), 200, headers, content_type="application/zip")

    yield View("/cache/info/", "Cache Version", info, READ_METHODS)
    yield View("/cache/info/<word:tag>/", "Cache Version", info_of_tag, READ_METHODS)
    yield View("/cache.zip", "Cache Download", archive, READ_METHODS)


def _is_listed(dataset: DatasetRecord, tag: str | None) -> bool:
    on_server = any(r.exists and r.repository.startswith(_SERVERS) for r in dataset.file_records)
    return on_server and (tag is None or tag in dataset.tags)


def _session_columns(sessions: Sequence[SessionRecord]) -> list[Column]:
    return [
        ("id", "string", [s.eid for s in sessions]),
        ("lab", "string", [s.lab for s in sessions]),
        ("subject", "string", [s.subject for s in sessions]),
        ("date", "date32", [date.fromisoformat(s.start_time[:10]) for s in sessions]),
        ("number", "uint16", [s.number for s in sessions]),
        ("task_protocol", "string", [s.task_protocol for s in sessions]),
        ("projects", "string", [",".join(s.projects) for s in sessions]),
    ]


def _dataset_columns(datasets: Sequence[DatasetRecord]) -> list[Column]:
    return [
        ("eid", "string", [d.eid for d in datasets]),
        ("id", "string", [d.id for d in datasets]),
        ("file_size", "uint64", [d.file_size for d in datasets]),
        ("hash", "string", [d.hash for d in datasets]),
        ("default_revision", "bool_", [d.default_dataset for d in datasets]),
        ("qc", "category", [d.qc for d in datasets]),
        ("exists", "bool_", [True for _ in datasets]),
        ("rel_path", "string", [_relative(d) for d in datasets]),
    ]


def _relative(dataset: DatasetRecord) -> str:
    revision = f"#{dataset.revision}#" if dataset.revision else ""
    return str(PurePosixPath(dataset.collection, revision, dataset.name))


def _parquet(columns: Sequence[Column], index: list[str], info: dict[str, Any]) -> bytes:
    """Return a Parquet file like one that pandas writes, with ONE's metadata in ``info``.

    Raises ModuleNotFoundError if pyarrow is not installed.
    """
    pyarrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    arrays = {}
    for name, kind, column in columns:
        if kind == "category":
            order = pyarrow.array(_QC)
            codes = pyarrow.array([_QC.index(text) for text in column], pyarrow.int8())
            arrays[name] = pyarrow.DictionaryArray.from_arrays(codes, order, ordered=True)
        else:
            arrays[name] = pyarrow.array(column, getattr(pyarrow, kind)())
    table = pyarrow.table(arrays)
    pandas_note = {"index_columns": index, "column_indexes": [], "columns": _notes(columns)}
    table = table.replace_schema_metadata(
        {"pandas": json.dumps(pandas_note), "one_metadata": json.dumps(info)}
    )
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def _notes(columns: Sequence[Column]) -> list[dict[str, Any]]:
    categories = {"num_categories": len(_QC), "ordered": True}
    return [
        {
            "name": name,
            "field_name": name,
            "metadata": categories if kind == "category" else None,
            "pandas_type": _PANDAS_TYPES[kind][0],
            "numpy_type": _PANDAS_TYPES[kind][1],
        }
        for name, kind, _ in columns
    ]

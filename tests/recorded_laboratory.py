"""A laboratory of the recorded rows: a :class:`onefs.demo.records.Source`."""

from __future__ import annotations

import functools
import hashlib
import re
import threading
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onefs.demo.records import DatasetRecord, FileRecord, Login, SessionRecord
from tests.recorded_datasets import dataset_records
from tests.recorded_sessions import session_records
from tests.recordings import FILES, bodies, manifest, results

#: the accounts of the recordings
LOGIN = Login(
    data_username="iblmember",
    data_password="fixture",
    others={"intbrainlab": "international", "michele": "pw-michele"},
)
#: the size that the one huge file is cut to where hashes are true, in bytes
BIG = 24 * 1024 * 1024
#: content of a file whose size the database lacks
_UNKNOWN_SIZE = 4784
_WRONG_SIZE_BY = 17
_TRUNCATED_BY = 100
#: larger files of recorded size are sparse ones on disk
_IN_MEMORY = 64 * 1024 * 1024

_TABLES = {
    "labs": "labs",
    "subjects": "subjects",
    "users": "users",
    "projects": "projects",
    "data-repository": "data_repository",
    "dataset-types": "dataset_types",
    "data-formats": "data_formats",
    "revisions": "revisions",
    "tags": "tags",
    "notes": "notes",
    "trajectories": "trajectories",
    "channels": "channels",
    "brain-regions": "brain_regions",
}
_UUID = re.compile(r"\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?=\.|$)")


@functools.cache
def trap_kinds() -> Mapping[str, frozenset[str]]:
    """The manifest's traps: the kinds of each planted dataset."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for trap in manifest()["traps"]:
        kinds[trap["dataset"]].add(trap["kind"])
    return {dataset: frozenset(found) for dataset, found in kinds.items()}


class RecordedSource:
    """The recorded laboratory.

    The recorded files themselves are not kept, only their sizes: their bytes are made here, from
    the dataset's UUID. By default every row's hash is that of its made bytes and the one huge file
    is cut to :data:`BIG`, so that all is true but for what a trap of the manifest makes false.
    With ``as_recorded`` rows are as they were recorded, hashes and sizes too (the hashes then fit
    no file). ``folder`` is where files too large for memory are made. ``empty_session``: one
    session has 0 trials, as when the last recordings of /sessions were made.
    """

    def __init__(
        self, *, as_recorded: bool = False, folder: Path | None = None, empty_session: bool = False
    ) -> None:
        self._as_recorded = as_recorded
        self._folder = folder
        self._sessions = session_records(empty_session=empty_session)
        self._records = dict(dataset_records())
        if not as_recorded:
            self._records.update(_cut(self._records))
        self._by_session: dict[str | None, list[str]] = defaultdict(list)
        for record in self._records.values():
            self._by_session[record.eid].append(record.id)
        self._true: dict[str, DatasetRecord] = {}
        self._lock = threading.Lock()

    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The recorded small tables."""
        tables: dict[str, Sequence[Mapping[str, Any]]] = {
            name: results(f"other/{file}.json") for name, file in _TABLES.items()
        }
        tables["data-repository"] = [_with_data(row) for row in tables["data-repository"]]
        tables["subjects"] = _subjects()
        tables["insertions"] = _insertions(self._sessions)
        return tables

    def sessions(self) -> Sequence[SessionRecord]:
        """All 40 sessions, latest first."""
        return self._sessions

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """The datasets of one session."""
        return [self._row(key) for key in self._by_session.get(eid, ())]

    def dataset(self, dataset_id: str) -> DatasetRecord | None:
        """One dataset."""
        return self._row(dataset_id) if dataset_id in self._records else None

    def aggregates(self) -> Sequence[DatasetRecord]:
        """The one dataset without session."""
        return [self._row(key) for key in self._by_session[None]]

    def file(self, path: str) -> Path | bytes | None:
        """Return the file at ``path`` on the file server; None for a stale or missing replica."""
        match = _UUID.search(path.rpartition("/")[2])
        record = self._records.get(match.group(1)) if match else None
        if record is None or path not in self._paths(record):
            return None
        kinds = trap_kinds().get(record.id, frozenset())
        if "stale_exists_true_404" in kinds:
            return None
        if "empty_on_server" in kinds:
            return b""
        size = _true_size(record, kinds)
        if self._folder is not None and size > _IN_MEMORY:
            return _sparse(self._folder / record.id, size)
        data = made_bytes(record, size)
        return data[:-_TRUNCATED_BY] if "truncated_on_server" in kinds else data

    def _paths(self, record: DatasetRecord) -> list[str]:
        """Return the paths of a dataset's replicas on the file server."""
        found = []
        for copy in record.file_records:
            root = _served_roots().get(copy.repository)
            if root is not None and copy.exists:
                found.append(root + _with_uuid(copy, record.id))
        return found

    def _row(self, key: str) -> DatasetRecord:
        record = self._records[key]
        kinds = trap_kinds().get(key, frozenset())
        if self._as_recorded or kinds & {"wrong_hash", "no_hash_no_size"}:
            return record
        with self._lock:
            if key not in self._true:
                data = made_bytes(record, _true_size(record, kinds))
                self._true[key] = replace(record, hash=hashlib.md5(data).hexdigest())
            return self._true[key]


def made_bytes(record: DatasetRecord, size: int) -> bytes:
    """Return the content of a dataset: an array for .npy, else arbitrary bytes."""
    rng = np.random.default_rng(int(record.id[:8], 16))
    if not record.name.endswith(".npy") or size < 128:
        return rng.bytes(size)
    count, rest = divmod(size - 128, 8)
    kind, shape = ("<f8", count) if rest == 0 else ("|u1", size - 128)
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape},), }}"
    head = b"\x93NUMPY\x01\x00\x76\x00" + header.ljust(117).encode() + b"\n"
    values = np.cumsum(rng.random(count)).tobytes() if rest == 0 else rng.bytes(size - 128)
    return head + values


def _true_size(record: DatasetRecord, kinds: frozenset[str]) -> int:
    size = _UNKNOWN_SIZE if record.file_size is None else record.file_size
    return size - _WRONG_SIZE_BY if "wrong_size" in kinds else size


def _cut(records: Mapping[str, DatasetRecord]) -> dict[str, DatasetRecord]:
    key = manifest()["big"]
    return {key: replace(records[key], file_size=BIG)}


def _sparse(path: Path, size: int) -> Path:
    with path.open("ab") as file:
        file.truncate(size)
    return path


def _with_data(row: Mapping[str, Any]) -> Mapping[str, Any]:
    address = row["data_url"]
    return {**row, "data_url": address.replace(FILES, "{data}") if address else address}


@functools.cache
def _served_roots() -> Mapping[str, str]:
    """URL paths of the repositories on the recorded file server."""
    rows = results("other/data_repository.json")
    return {
        row["name"]: row["data_url"].removeprefix(FILES)
        for row in rows
        if (row["data_url"] or "").startswith(FILES)
    }


def _with_uuid(copy: FileRecord, key: str) -> str:
    stem, dot, suffix = copy.relative_path.rpartition(".")
    return f"{stem}.{key}{dot}{suffix}"


def _subjects() -> list[Mapping[str, Any]]:
    """The rows of the list; those whose detail is recorded with what that adds."""
    details = {
        found["id"]: found
        for file, found in bodies("other")
        if file.startswith("other/subject_detail") and "id" in found
    }
    return [details.get(row["id"], row) for row in results("other/subjects.json")]


def _insertions(sessions: Sequence[SessionRecord]) -> list[Mapping[str, Any]]:
    """The insertions: those that some recorded list or session shows, and one for every other
    folder of a probe, of which 19 are recorded as ``count`` only."""
    found: dict[str, Mapping[str, Any]] = {}
    for file, recorded in bodies("other"):
        if file.startswith("other/insertions"):
            found.update({row["id"]: row for row in recorded["results"]})
    for _, recorded in bodies("session_detail"):
        found.update({row["id"]: row for row in recorded.get("probe_insertion", ())})
    shown = {(row["session"], row["name"]) for row in found.values()}
    probes: dict[tuple[str, str], list[str]] = defaultdict(list)
    known = {session.eid for session in sessions}
    for record in dataset_records().values():
        folder, _, probe = record.collection.rpartition("/")
        if record.eid in known and folder == "alf" and probe.startswith("probe"):
            probes[record.eid, probe].append(record.id)
    made = [
        {
            "id": str(uuid.uuid5(uuid.UUID(eid), probe)),
            "session": eid,
            "model": "3A",
            "name": probe,
            "json": None,
            "serial": "",
            "auto_datetime": "",
            "chronic_insertion": None,
            "datasets": datasets,
        }
        for (eid, probe), datasets in probes.items()
        if (eid, probe) not in shown
    ]
    return [*found.values(), *made]

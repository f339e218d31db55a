"""Ids, file names on the file server, and rows of Alyx's tables, for all demo laboratories.

The rows have the same columns as in a recorded Alyx 3.6.1 (``tests/data/recorded``). File names
follow the same rules as in the recorded Alyx.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from onefs import alf
from onefs.demo.records import DatasetRecord, FileRecord

#: the UUID namespace of every id in the demo
NAMESPACE = UUID("6f2a1c34-9a0e-5d53-8a44-0c1d6b8e7f21")

#: the latest time that a datetime can hold, in microseconds since the epoch
_LATEST_MICROSECONDS = 253_402_300_799_000_000
#: extension -> the name of Alyx's data format
_FORMATS = {
    ".bin": "bin", ".cbin": "cbin", ".ch": "ch", ".csv": "csv", ".htsv": "htsv", ".json": "json",
    ".jsonable": "jsonable", ".log": "log", ".mat": "mat", ".meta": "meta", ".mp4": "mp4",
    ".npy": "npy", ".npz": "npz", ".pqt": "parquet", ".ssv": "ssv", ".tar": "tar", ".tif": "tif",
    ".tsv": "tsv", ".yaml": "yaml", ".yml": "yml", ".zip": "zip",
}  # fmt: skip
_LOADERS = {".npy": "numpy.load", ".csv": "pandas.read_csv", ".tsv": "pandas.read_csv"}

Row = dict[str, Any]


def make_id(*parts: str) -> str:
    """Return a UUID that is computed from ``parts``. Equal parts always give the same UUID."""
    # the parts need not be UTF-8
    name = os.fsencode("/".join(parts))
    # marked as version 4, because ONE-api accepts no other version
    return str(UUID(bytes=hashlib.sha1(NAMESPACE.bytes + name).digest()[:16], version=4))


def format_timestamp(nanoseconds: int) -> str:
    """Return a time as Alyx writes times: in UTC, with microseconds and without time zone.

    ``nanoseconds`` is the time since the epoch. A negative time becomes the epoch.
    """
    microseconds = min(max(nanoseconds // 1000, 0), _LATEST_MICROSECONDS)
    moment = datetime(1970, 1, 1) + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds")


def with_uuid(path: str, uuid: str) -> str:
    """Return ``path`` with the UUID before the extension, as the file server names files.

    For example, ``alf/spikes.times.npy`` becomes ``alf/spikes.times.<uuid>.npy``.
    """
    stem, extension = posixpath.splitext(path)
    return f"{stem}.{uuid}{extension}"


def without_uuid(path: str) -> Iterable[tuple[str, str]]:
    """Yield pairs ``(path without UUID, uuid)`` for ``path``, a path on the file server.

    The more likely pair comes first. A path without UUID gives no pair.
    """
    folder, slash, name = path.rpartition("/")
    parts = name.split(".")
    # two pairs are possible, because the original name may also hold a UUID
    for index in (len(parts) - 2, len(parts) - 1):
        if index > 0 and alf.is_uuid(parts[index]):
            plain = ".".join(parts[:index] + parts[index + 1 :])
            yield folder + slash + plain, parts[index]


def split_path(path: str) -> tuple[str, str, str]:
    """Return ``(collection, revision, name)`` of a path inside a session.

    A last folder in the form ``#name#`` is the revision. A missing collection or revision is ''.
    """
    folder, _, name = path.rpartition("/")
    collection, _, last = folder.rpartition("/")
    if len(last) > 2 and last.startswith("#") and last.endswith("#"):
        return collection, last[1:-1], name
    return folder, "", name


def format_of(name: str) -> str:
    """Return Alyx's data format for a file name, or ``unknown`` if its extension has no format."""
    return _FORMATS.get(posixpath.splitext(name)[1], "unknown")


def flatiron_repository(lab: str) -> str:
    """Return the name of the repository that serves a lab's files."""
    return f"flatiron_{lab}"


def public_path(lab: str) -> str:
    """Return the path of a lab's subjects on the file server, with a slash at both ends."""
    return f"/public/{lab}/Subjects/"


def file_records_of(dataset_id: str, lab: str, relative_path: str) -> tuple[FileRecord, FileRecord]:
    """Return two replicas of a dataset: on the file server, and on the lab's own computer.

    A dataset of a real laboratory also has these two replicas.
    """
    return (
        FileRecord(make_id(dataset_id, "flatiron"), flatiron_repository(lab), relative_path),
        FileRecord(make_id(dataset_id, "rig"), f"{lab}_SR", relative_path),
    )


def dataset_record(identity: str, lab: str, relative_path: str, **columns: Any) -> DatasetRecord:
    """Return the record for a dataset, with the values that are read from ``relative_path``.

    ``relative_path`` is ``subject/date/number/...``, as in the rows of ``/files``. ``columns`` has
    further columns. A value in ``columns`` replaces a value that is read from the path.
    """
    collection, revision, name = split_path(relative_path.split("/", 3)[3])
    from_path = {
        "name": name,
        "dataset_type": alf.dataset_type(name),
        "collection": collection,
        "revision": revision,
        "data_format": format_of(name),
        "file_records": file_records_of(identity, lab, relative_path),
    }
    return DatasetRecord(id=identity, **{**from_path, **columns})


def repository_rows(labs: Iterable[str], timezones: Mapping[str, str]) -> list[Row]:
    """Return the rows of ``/data-repository``: two rows for each lab.

    The first repository is on the file server. The second is on the lab's own computer.
    """
    return [
        _repository(lab, timezones.get(lab, "UTC"), personal=personal)
        for lab in labs
        for personal in (False, True)
    ]


def _repository(lab: str, zone: str, *, personal: bool) -> Row:
    name = f"{lab}_SR" if personal else flatiron_repository(lab)
    return {
        "name": name,
        "timezone": zone,
        "globus_path": "/mnt/s0/Data/Subjects/" if personal else public_path(lab),
        "hostname": f"{lab}-sr.local" if personal else "127.0.0.1",
        "data_url": None if personal else "{data}" + public_path(lab),
        "repository_type": "Fileserver",
        "globus_endpoint_id": make_id("globus", name) if personal else None,
        "globus_is_personal": personal,
        "json": None,
    }


def lab_row(name: str, institution: str = "", address: str = "", timezone: str = "UTC") -> Row:
    """Return one row of ``/labs``."""
    return {
        "name": name,
        "institution": institution,
        "address": address,
        "timezone": timezone,
        "repositories": [flatiron_repository(name), f"{name}_SR"],
        "reference_weight_pct": 0.8,
        "zscore_weight_pct": 0.0,
        "json": None,
    }


def subject_row(
    nickname: str, lab: str, responsible: str, projects: Iterable[str] = (), **columns: Any
) -> Row:
    """Return one row of ``/subjects``. ``columns`` are further fields, such as ``sex``."""
    row: Row = {
        "nickname": nickname, "id": make_id("subject", lab, nickname),
        "responsible_user": responsible, "birth_date": None, "age_weeks": 0, "death_date": None,
        "species": "Laboratory mouse", "sex": "U", "litter": None, "strain": None, "source": None,
        "line": None, "projects": sorted(projects), "session_projects": sorted(projects),
        "lab": lab, "genotype": [], "description": "", "alive": True, "reference_weight": 0.0,
        "last_water_restriction": None, "expected_water": 0.0, "remaining_water": 0.0,
        "json": None,
    }  # fmt: skip
    return {**row, **columns}


def user_row(username: str, labs: Iterable[str] = (), subjects: Iterable[str] = ()) -> Row:
    """Return one row of ``/users``."""
    return {
        "id": make_id("user", username),
        "username": username,
        "email": f"{username}@example.org",
        "subjects_responsible": list(subjects),
        "lab": list(labs),
        "allowed_users": [],
        "is_stock_manager": False,
    }


def project_row(name: str, users: Iterable[str]) -> Row:
    """Return one row of ``/projects``."""
    return {"name": name, "description": name.replace("_", " "), "users": list(users)}


def dataset_type_rows(types: Iterable[str], descriptions: Mapping[str, str]) -> list[Row]:
    """Return the rows of ``/dataset-types``, sorted by name."""
    return [
        {
            "id": make_id("dataset-type", name),
            "name": name,
            "created_by": None,
            "description": descriptions.get(name, ""),
            "filename_pattern": "" if name == "unknown" else f"*{name}*",
        }
        for name in sorted(set(types))
    ]


def insertion_row(eid: str, name: str, datasets: Sequence[str]) -> Row:
    """Return the row of ``/insertions`` (inserted probes) for one probe of a session.

    The row has the session, the probe's name and the ids of the datasets. All other columns are
    empty.
    """
    return {
        "id": make_id("insertion", eid, name),
        "session": eid,
        "model": None,
        "name": name,
        "json": {},
        "serial": "",
        "auto_datetime": "",
        "chronic_insertion": None,
        "datasets": list(datasets),
    }


def data_format_rows() -> list[Row]:
    """Return the rows of ``/data-formats``: each format with a file extension, and ``unknown``."""
    known = {name: extension for extension, name in _FORMATS.items()}
    return [
        {
            "id": make_id("data-format", name),
            "json": None,
            "name": name,
            "description": "" if name == "unknown" else f"{name} file",
            "file_extension": extension,
            "matlab_loader_function": "",
            "python_loader_function": _LOADERS.get(extension, "unknown"),
        }
        for name, extension in sorted({**known, "unknown": ""}.items())
    ]


def revision_rows(names: Iterable[str]) -> list[Row]:
    """Return the rows of ``/revisions``, sorted by name."""
    return [
        {
            "id": make_id("revision", name),
            "json": None,
            "name": name,
            "description": f"spike sorting {name}" if alf.is_date(name) else name,
            "created_datetime": f"{name if alf.is_date(name) else '2020-01-01'}T00:00:00",
        }
        for name in sorted(set(names))
    ]


def tag_row(name: str, *, protected: bool, public: bool) -> Row:
    """Return one row of ``/tags``."""
    return {
        "id": make_id("tag", name), "json": None, "name": name, "description": name,
        "protected": protected, "public": public, "hash": None,
    }  # fmt: skip

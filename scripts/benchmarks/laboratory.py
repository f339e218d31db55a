"""A laboratory whose files stand on the benchmark's own file servers.

Each *lab* of it is one file server: the same nginx, seen directly or through the slow proxy.
Files are hard links to a few originals, so that a thousand cold files cost no disk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onefs import alf
from onefs.demo import alyx_rows
from onefs.demo.records import DatasetRecord, FileRecord, Login, SessionRecord

#: the lab whose files are in a bucket of the same name, and the keys of this bucket
BUCKET = "bucket"
ACCESS_KEY, SECRET_KEY = "AKIABENCHMARK0000001", "SecretOfTheBenchmarks/abcdefghijklmnop01"
_DATE = "2024-01-01"
_SUBJECT = "bench"
_WHEN = "2024-01-02T00:00:00"
_PART = 16 << 20
_S3 = f"aws_{BUCKET}"


@dataclass(frozen=True, slots=True)
class Original:
    """Bytes that were made once."""

    path: Path
    size: int
    md5: str


@dataclass(frozen=True, slots=True)
class Served:
    """An original as one dataset of the laboratory."""

    original: Original
    lab: str
    #: ``bench/2024-01-01/001/alf/x.c000.npy``
    inside: str
    uuid: str

    @property
    def in_mount(self) -> str:
        """Its path in a mount of onefs."""
        return f"{self.lab}/{self.inside}"

    @property
    def on_server(self) -> str:
        """Its path on the file server, without a slash in front; in a bucket, bucket and key."""
        return f"{self.lab}/Subjects/{alyx_rows.with_uuid(self.inside, self.uuid)}"

    @property
    def repository(self) -> str:
        """The name of the repository that has it."""
        return _S3 if self.lab == BUCKET else alyx_rows.flatiron_repository(self.lab)


def make_original(folder: Path, name: str, size: int, seed: int) -> Original:
    """A file of ``size`` random bytes."""
    path = folder / name
    chance = np.random.default_rng(seed)
    with path.open("wb") as file:
        for start in range(0, size, _PART):
            file.write(chance.bytes(min(_PART, size - start)))
    return Original(path, size, md5_of(path))


def make_array(folder: Path, name: str, size: int, seed: int) -> Original:
    """An ``.npy`` file of about ``size`` bytes: one column of random float64."""
    path = folder / name
    with path.open("wb") as file:
        np.save(file, np.random.default_rng(seed).random(size // 8))
    return Original(path, path.stat().st_size, md5_of(path))


def md5_of(path: Path) -> str:
    """The md5 sum of a file, in hex."""
    digest = hashlib.md5()
    with path.open("rb") as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()


class BenchLaboratory:
    """A Source (see ``onefs.demo.records``); ``servers`` are the labs and their file servers."""

    def __init__(self, root: Path, servers: Mapping[str, str]) -> None:
        self._root = root
        self._servers = dict(servers)
        self._sessions: list[SessionRecord] = []
        self._datasets: dict[str, list[DatasetRecord]] = {}

    def add_session(self, lab: str, originals: Sequence[Original]) -> list[Served]:
        """A new session with one dataset an original, on the file server of ``lab``."""
        number = len(self._sessions) + 1
        eid = alyx_rows.make_id("session", lab, str(number))
        served = []
        for index, original in enumerate(originals):
            # with its UUID under 50 characters: nginx cuts longer ones short in its listings, and
            # httpdirfs then takes no notice of them
            name = f"x.c{index:03}.npy"
            inside = f"{_SUBJECT}/{_DATE}/{number:03}/alf/{name}"
            each = Served(original, lab, inside, alyx_rows.make_id(lab, inside))
            target = self._root / each.on_server
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(original.path, target)
            served.append(each)
        self._datasets[eid] = [self._row(eid, number, each) for each in served]
        start = f"{_DATE}T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}"
        self._sessions = [SessionRecord(eid, lab, _SUBJECT, start, number), *self._sessions]
        return served

    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """See :class:`onefs.demo.records.Source`."""
        repositories = alyx_rows.repository_rows(self._servers, {})
        for row in repositories:
            if row["data_url"] is not None:
                lab = row["name"].removeprefix("flatiron_")
                row["data_url"] = f"{self._servers[lab]}/{lab}/Subjects/"
        if BUCKET in self._servers:
            repositories.append(_bucket_row(repositories[0]))
        return {
            "labs": [alyx_rows.lab_row(lab) for lab in self._servers],
            "subjects": [
                alyx_rows.subject_row(_SUBJECT, lab, Login().username) for lab in self._servers
            ],
            "users": [alyx_rows.user_row(Login().username, list(self._servers))],
            "data-repository": repositories,
            "dataset-types": alyx_rows.dataset_type_rows(["unknown", "x.c000"], {}),
            "data-formats": alyx_rows.data_format_rows(),
        }

    def sessions(self) -> Sequence[SessionRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return self._sessions

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return self._datasets.get(eid, ())

    def dataset(self, dataset_id: str) -> DatasetRecord | None:
        """See :class:`onefs.demo.records.Source`."""
        everything = (row for found in self._datasets.values() for row in found)
        return next((row for row in everything if row.id == dataset_id), None)

    def aggregates(self) -> Sequence[DatasetRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return ()

    def file(self, path: str) -> Path | bytes | None:
        """See :class:`onefs.demo.records.Source`: nginx has the files."""
        return None

    def _row(self, eid: str, number: int, served: Served) -> DatasetRecord:
        name = served.inside.rpartition("/")[2]
        copy = FileRecord(
            alyx_rows.make_id(served.uuid, "file"),
            served.repository,
            served.inside,
        )
        return DatasetRecord(
            id=served.uuid,
            eid=eid,
            name=name,
            dataset_type=alf.dataset_type(name),
            collection="alf",
            file_size=served.original.size,
            hash=served.original.md5,
            created_datetime=_WHEN,
            auto_datetime=_WHEN,
            data_format=alyx_rows.format_of(name),
            experiment_number=number,
            file_records=(copy,),
        )


def _bucket_row(like: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **like,
        "name": _S3,
        "data_url": None,
        "globus_path": "Subjects/",
        "json": {
            "bucket_name": BUCKET,
            "region_name": "us-east-1",
            "Access key ID": ACCESS_KEY,
            "Secret access key": SECRET_KEY,
        },
    }

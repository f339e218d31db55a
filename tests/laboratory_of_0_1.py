"""The laboratory of ``tests/data/made_by_0.1``: the same rows and bytes whatever version serves it.

Its UUIDs are written here, so that they do not depend on how the embedded laboratory makes its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onefs.demo import alyx_rows
from onefs.demo.records import DatasetRecord, FileRecord, Login, SessionRecord
from tests.running import run

EID = "0b1c7a5e-52a4-4a51-9d0e-6f1f7b0c2d01"
LAB, SUBJECT = "keptlab", "kept01"
#: the session's folder in the mount
SESSION = f"{LAB}/{SUBJECT}/2021-03-04/001"
BLOCK = 512 * 1024
#: files of more bytes than this are stored as blocks
SMALL_FILE = 2**20
#: blocks of the large file that were read
READ_BLOCKS = (0, 3)


@dataclass(frozen=True)
class CachedDataset:
    """A dataset, and what is done with it when the folder is made."""

    id: str
    #: from the session folder on
    path: str
    size: int
    #: whether the database has an md5 of it, and whether that is its own
    has_md5: bool = True
    agrees_with_md5: bool = True

    def content(self) -> bytes:
        """Return bytes that differ from block to block, and compress well."""
        blocks = range(-(-self.size // BLOCK))
        lines = (f"{self.path} {block}\n".encode() for block in blocks)
        return b"".join((line * (BLOCK // len(line) + 1))[:BLOCK] for line in lines)[: self.size]

    def md5(self) -> str:
        """Return the record of the database."""
        told = self.content() if self.agrees_with_md5 else b"other bytes"
        return hashlib.md5(told).hexdigest() if self.has_md5 else ""


COMPLETE = CachedDataset("0b1c7a5e-52a4-4a51-9d0e-6f1f7b0c2d11", "alf/spikes.times.npy", 3000)
PINNED = CachedDataset("0b1c7a5e-52a4-4a51-9d0e-6f1f7b0c2d12", "alf/spikes.depths.npy", 4000)
ACCEPTED = CachedDataset(
    "0b1c7a5e-52a4-4a51-9d0e-6f1f7b0c2d13", "alf/licks.times.npy", 500, agrees_with_md5=False
)
UNVERIFIED = CachedDataset("0b1c7a5e-52a4-4a51-9d0e-6f1f7b0c2d14", "notes.md", 600, has_md5=False)
PARTIAL = CachedDataset(
    "0b1c7a5e-52a4-4a51-9d0e-6f1f7b0c2d15", "raw/probe00/kept.ap.cbin", 6 * BLOCK + 77
)
#: read by the block to its end
WHOLE = CachedDataset(
    "0b1c7a5e-52a4-4a51-9d0e-6f1f7b0c2d16", "raw/probe01/kept.ap.cbin", 3 * BLOCK + 5
)
#: never read
UNREAD = CachedDataset("0b1c7a5e-52a4-4a51-9d0e-6f1f7b0c2d17", "alf/wheel.position.npy", 700)
ALL = (COMPLETE, PINNED, ACCEPTED, UNVERIFIED, PARTIAL, WHOLE, UNREAD)

_ARCHIVE = Path(__file__).parent / "data" / "made_by_0.1" / "home.tar.gz"


def unpack(home: Path, ports: Mapping[str, str]) -> None:
    """Unpack the home folder of a user of onefs 0.1 below ``home``, with these servers' ports."""
    run(["tar", "xzf", _ARCHIVE, "-C", home], timeout=60)
    for path in sorted(home.rglob("*"), reverse=True):  # a folder's contents before the folder
        if path.suffix == ".json":
            path.write_text(_replace_ports(path.read_text("utf-8"), ports), "utf-8")
        if "@" in path.name:
            path.rename(path.with_name(_replace_ports(path.name, ports)))
    for record in home.glob("cache/onefs/*/.onefs/files/*.json"):
        _write_inode(record)


def _write_inode(record: Path) -> None:
    """Write the inode of an unpacked file into its record, as version 0.1 would have done."""
    entry = json.loads(record.read_text("utf-8"))
    entry["inode"] = (record.parents[2] / entry["path"]).stat().st_ino
    record.write_text(json.dumps(entry), "utf-8")


def _replace_ports(text: str, ports: Mapping[str, str]) -> str:
    for name, port in ports.items():
        text = text.replace(f"@{name}@", port)
    return text


class LaboratoryOf01:
    """The laboratory, as a :class:`onefs.demo.records.Source`."""

    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """See :class:`onefs.demo.records.Source`."""
        user = Login().username
        return {
            "labs": [alyx_rows.lab_row(LAB)],
            "subjects": [alyx_rows.subject_row(SUBJECT, LAB, user)],
            "users": [alyx_rows.user_row(user, [LAB])],
            "data-repository": alyx_rows.repository_rows([LAB], {}),
            "dataset-types": alyx_rows.dataset_type_rows(["unknown"], {}),
            "data-formats": alyx_rows.data_format_rows(),
        }

    def sessions(self) -> Sequence[SessionRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return _SESSIONS

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return _DATASETS if eid == EID else ()

    def dataset(self, dataset_id: str) -> DatasetRecord | None:
        """See :class:`onefs.demo.records.Source`."""
        return next((record for record in _DATASETS if record.id == dataset_id), None)

    def aggregates(self) -> Sequence[DatasetRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return ()

    def file(self, path: str) -> Path | bytes | None:
        """See :class:`onefs.demo.records.Source`."""
        return next((kept.content() for kept in ALL if kept.id in path), None)


def _record(kept: CachedDataset) -> DatasetRecord:
    collection, _, name = kept.path.rpartition("/")
    relative = f"{SESSION.partition('/')[2]}/{kept.path}"
    return DatasetRecord(
        id=kept.id,
        eid=EID,
        name=name,
        dataset_type="unknown",
        collection=collection,
        file_size=kept.size,
        hash=kept.md5(),
        created_datetime="2021-03-05T10:00:00",
        auto_datetime="2021-03-05T10:00:00",
        file_records=(FileRecord(kept.id, alyx_rows.flatiron_repository(LAB), relative),),
    )


_DATASETS = tuple(map(_record, ALL))
_SESSIONS = (
    SessionRecord(
        EID, LAB, SUBJECT, "2021-03-04T11:22:33", 1, auto_datetime="2021-03-05T10:00:00.000000"
    ),
)

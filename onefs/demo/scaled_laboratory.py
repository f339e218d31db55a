"""A large laboratory for measurements, with up to a million sessions and a fast start.

Rows of datasets are computed on request. The bytes come from a pool of a few hundred prepared
files, so that the size and md5 in every row are correct.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from itertools import count, islice
from pathlib import Path
from typing import Any
from uuid import UUID

from onefs import alf
from onefs.demo import alyx_rows
from onefs.demo.digests import md5_of
from onefs.demo.records import DatasetRecord, SessionRecord
from onefs.demo.synthetic.laboratory import SyntheticLaboratory
from onefs.demo.synthetic.plan import SessionKind, SessionPlan
from onefs.demo.synthetic.session_rows import encoded_files
from onefs.errors import UsageError

#: the number of sessions per lab, and per subject
SESSIONS_PER_LAB = 1000
SESSIONS_PER_SUBJECT = 50
#: the number of sessions in the pool. Each session has about 45 files
_POOL_SESSIONS = 10
_PROBE = "alf/probe00/"
_USERS = ("anne", "ines", "nate", "valeria")
_PROJECT = "ibl_neuropixel_brainwide_01"
_FIRST_DAY = date(2021, 1, 4)


@dataclass(frozen=True, slots=True)
class _PooledFile:
    """One of the prepared files that all added sessions share, with its md5 in hex digits."""

    content: bytes
    md5: str


class ScaledLaboratory:
    """The synthetic laboratory with added sessions, so that it has ``sessions`` sessions in total.

    Each added session has ``datasets`` datasets. Raises UsageError if one of the two numbers is out
    of range.
    """

    def __init__(self, sessions: int, datasets: int) -> None:
        if not 0 < sessions <= 1_000_000:
            raise UsageError(f"--sessions is {sessions}: choose 1 to 1,000,000")
        if not 0 < datasets <= 5_000:
            raise UsageError(f"--datasets is {datasets}: choose 1 to 5,000")
        self._synthetic = SyntheticLaboratory()
        self._pool = _make_pool()
        self._paths = _dataset_paths(self._pool, datasets)
        # an added lab has at most 1,000 sessions, an added subject at most 50
        grown = [_session(index) for index in range(sessions - len(self._synthetic.sessions()))]
        self._index = {session.eid: index for index, session in enumerate(grown)}
        self._grown = grown
        self._sessions = tuple(
            sorted([*self._synthetic.sessions(), *grown], key=lambda s: s.start_time, reverse=True)
        )
        self._tables = self._make_tables()
        self.datasets = lru_cache(maxsize=256)(self._datasets)

    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return the rows of each small table (see :class:`onefs.demo.records.Source`)."""
        return self._tables

    def sessions(self) -> Sequence[SessionRecord]:
        """Return all sessions, latest first (see :class:`onefs.demo.records.Source`)."""
        return self._sessions

    def _datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """Return a session's datasets (see :class:`onefs.demo.records.Source`)."""
        index = self._index.get(eid)
        if index is None:
            return self._synthetic.datasets(eid)
        return tuple(self._row(index, position) for position in range(len(self._paths)))

    def dataset(self, dataset_id: str) -> DatasetRecord | None:
        """Return one dataset by its UUID (see :class:`onefs.demo.records.Source`)."""
        place = self._find(dataset_id)
        return self._synthetic.dataset(dataset_id) if place is None else self._row(*place)

    def aggregates(self) -> Sequence[DatasetRecord]:
        """Return an empty sequence, because each dataset belongs to a session."""
        return ()

    def file(self, path: str) -> Path | bytes | None:
        """Return the served file at ``path`` (see :class:`onefs.demo.records.Source`)."""
        for plain, uuid in alyx_rows.without_uuid(path):
            place = self._find(uuid)
            if place is not None:
                session, inside = self._grown[place[0]], self._paths[place[1]][0]
                if plain == alyx_rows.public_path(session.lab) + _relative(session, inside):
                    return self._pooled(*place).content
        return self._synthetic.file(path)

    def _find(self, dataset_id: str) -> tuple[int, int] | None:
        """Return (session index, dataset index) for the id of a dataset.

        Return None if no added session has the dataset.
        """
        if not alf.is_uuid(dataset_id):
            return None
        index, position = int(dataset_id[24:32], 16), int(dataset_id[32:], 16)
        if index >= len(self._grown) or position >= len(self._paths):
            return None
        return (index, position) if _dataset_id(index, position) == dataset_id else None

    def _pooled(self, index: int, position: int) -> _PooledFile:
        return self._pool[index % _POOL_SESSIONS][self._paths[position][1]]

    def _row(self, index: int, position: int) -> DatasetRecord:
        session = self._grown[index]
        path = self._paths[position][0]
        pooled = self._pooled(index, position)
        return alyx_rows.dataset_record(
            _dataset_id(index, position),
            session.lab,
            _relative(session, path),
            eid=session.eid,
            file_size=len(pooled.content),
            hash=pooled.md5,
            created_by=session.users[0],
            created_datetime=session.auto_datetime[:19],
            auto_datetime=session.auto_datetime,
            version="2.25.0",
            experiment_number=session.number,
            qc="PASS",
        )

    def _make_tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        tables = dict(self._synthetic.tables())
        labs = sorted({session.lab for session in self._grown})
        subjects = sorted({(session.subject, session.lab) for session in self._grown})
        more = {
            "labs": [alyx_rows.lab_row(lab) for lab in labs],
            "subjects": [
                alyx_rows.subject_row(name, lab, _USERS[0], [_PROJECT]) for name, lab in subjects
            ],
            "data-repository": alyx_rows.repository_rows(labs, {}),
        }
        known = {row["name"] for row in tables["dataset-types"]}
        types = {alf.dataset_type(path.rpartition("/")[2]) for path, _ in self._paths}
        more["dataset-types"] = alyx_rows.dataset_type_rows(types - known, {})
        return {**tables, **{name: [*tables[name], *added] for name, added in more.items()}}


def _make_pool() -> list[dict[str, _PooledFile]]:
    """Return the files of each session of the pool, by path inside the session.

    All added sessions share these files.
    """
    pool = []
    for variant in range(_POOL_SESSIONS):
        # each session has one probe
        plan = SessionPlan(
            None, "pool", f"pool{variant}", "2021-01-01", 1, 12, SessionKind.PASSIVE, ("anne",),
            probes=("probe00",), eye=True,
        )  # fmt: skip
        contents = encoded_files(plan).items()
        pool.append({path: _PooledFile(content, md5_of(content)) for path, content in contents})
    return pool


def _dataset_paths(
    pool: Sequence[Mapping[str, _PooledFile]], datasets: int
) -> list[tuple[str, str]]:
    """Return (path in the session, path of a pool file) for each dataset of an added session."""
    # files outside probe folders come first, then the files of probe00, probe01 and so on
    own = [path for path in pool[0] if not path.startswith(_PROBE)]
    probe = [path for path in pool[0] if path.startswith(_PROBE)]
    more = (
        (f"alf/probe{number:02d}/{path[len(_PROBE) :]}", path)
        for number in count()
        for path in probe
    )
    return [*zip(own, own, strict=True), *islice(more, max(0, datasets - len(own)))][:datasets]


def _lab(index: int) -> str:
    return f"lab{index // SESSIONS_PER_LAB:02d}"


def _relative(session: SessionRecord, path: str) -> str:
    return f"{session.subject}/{session.start_time[:10]}/{session.number:03d}/{path}"


def _dataset_id(index: int, position: int) -> str:
    """Return the id of the dataset number ``position`` of the added session number ``index``."""
    # The last 12 hex digits are the two numbers, so that no table is needed. The other digits are a
    # hash, so that a wrong id is not found. The version is 4, as in ``alyx_rows.make_id``.
    digest = hashlib.sha1(f"grown/{index}/{position}".encode()).digest()
    numbers = index.to_bytes(4, "big") + position.to_bytes(2, "big")
    return str(UUID(bytes=digest[:10] + numbers, version=4))


def _session(index: int) -> SessionRecord:
    lab = _lab(index)
    subject = f"{lab}_{index % SESSIONS_PER_LAB // SESSIONS_PER_SUBJECT:03d}"
    # two sessions per day, so that numbers other than 1 occur. Subjects start on different days
    day = _FIRST_DAY + timedelta(
        days=index % SESSIONS_PER_SUBJECT // 2 + index // SESSIONS_PER_SUBJECT % 700
    )
    number = index % 2 + 1
    start = f"{day.isoformat()}T{8 + 4 * number:02d}:{index % 60:02d}:{index % 47:02d}"
    return SessionRecord(
        eid=alyx_rows.make_id("grown", lab, subject, day.isoformat(), str(number)),
        lab=lab,
        subject=subject,
        start_time=start,
        number=number,
        task_protocol="_iblrig_tasks_passiveChoiceWorld6.4.2",
        projects=(_PROJECT,),
        users=(_USERS[index % len(_USERS)],),
        location=f"_iblrig_{lab}_ephys_0",
        procedures=("Ephys recording with acute probe(s)",),
        qc="PASS",
        auto_datetime=f"{(day + timedelta(days=1)).isoformat()}T03:00:00.000000",
        json={},
    )

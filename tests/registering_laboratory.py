"""A laboratory in which sessions are registered while it is served."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from onefs.demo import alyx_rows
from onefs.demo.records import DatasetRecord, FileRecord, Login, SessionRecord
from tests.laboratories import AlteredLaboratory
from tests.laboratory_of_0_1 import LaboratoryOf01

#: registration time of the first sessions
LONG_AGO = "2022-02-01T03:00:00.000000"


class RegisteringLaboratory(AlteredLaboratory):
    """A laboratory of small sessions, each with one dataset; begins with those of ``places``
    (lab, subject, date, number)."""

    def __init__(self, *places: tuple[str, str, str, int]) -> None:
        super().__init__(LaboratoryOf01())
        self._lock = threading.Lock()
        self._all: dict[str, SessionRecord] = {}
        self._sessions: Sequence[SessionRecord] = ()
        for place in places:
            self.register(*place, at=LONG_AGO)

    def register(self, lab: str, subject: str, date: str, number: int, *, at: str = "") -> str:
        """Add a session, registered now or ``at`` another time, and return its eid."""
        eid = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{lab}/{subject}/{date}/{number}"))
        self._put(SessionRecord(eid, lab, subject, f"{date}T11:22:33", number, auto_datetime=at))
        return eid

    def change(self, eid: str, **values: Any) -> None:
        """Change fields of a session's record."""
        self._put(replace(self._all[eid], **values, auto_datetime=""))

    def _put(self, session: SessionRecord) -> None:
        now = datetime.now().isoformat(timespec="microseconds")
        kept = replace(session, auto_datetime=session.auto_datetime or now)
        with self._lock:
            self._all[session.eid] = kept
            self._sessions = sorted(
                self._all.values(), key=lambda each: each.start_time, reverse=True
            )

    def sessions(self) -> Sequence[SessionRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return self._sessions

    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """See :class:`onefs.demo.records.Source`."""
        places = sorted({(each.lab, each.subject) for each in self._sessions})
        labs = sorted({lab for lab, _ in places})
        user = Login().username
        more: dict[str, Sequence[Mapping[str, Any]]] = {
            "labs": [alyx_rows.lab_row(lab) for lab in labs],
            "subjects": [alyx_rows.subject_row(subject, lab, user) for lab, subject in places],
            "data-repository": alyx_rows.repository_rows(labs, {}),
        }
        return {**self._source.tables(), **more}

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """See :class:`onefs.demo.records.Source`."""
        session = self._all.get(eid)
        if session is None:
            return ()
        place = f"{session.subject}/{session.start_time[:10]}/{session.number:03d}/a.values.npy"
        copy = FileRecord(eid, alyx_rows.flatiron_repository(session.lab), place)
        identity = str(uuid.uuid5(uuid.UUID(eid), "a.values.npy"))
        return (
            DatasetRecord(
                identity, eid, "a.values.npy", "unknown", file_size=10, file_records=(copy,)
            ),
        )

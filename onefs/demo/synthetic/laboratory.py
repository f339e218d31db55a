"""The synthetic laboratory, as the ``Source`` that servers read.

Each row has the true size and md5 of the file.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cachetools import LRUCache

from onefs.demo import alyx_rows
from onefs.demo.records import DatasetRecord, SessionRecord, Source
from onefs.demo.synthetic import aggregates
from onefs.demo.synthetic.dataset_rows import dataset_rows
from onefs.demo.synthetic.plan import all_sessions
from onefs.demo.synthetic.session_rows import (
    dataset_id,
    encoded_files,
    public_path,
    session_files,
    session_id,
    session_row,
)
from onefs.demo.synthetic.tables import make_tables

#: the number of bytes of synthetic files that stay in memory. Files that are no longer in memory
#: are computed again at the next request
CONTENT_CACHE_BYTES = 96 * 2**20


class SyntheticLaboratory(Source):
    """A laboratory of four labs and 50 invented sessions. Each restart gives the same sessions.

    The first listing or reading of a session's datasets computes their arrays. Contents stay in
    memory up to ``keep`` bytes in total.
    """

    def __init__(self, keep: int = CONTENT_CACHE_BYTES) -> None:
        self._plans = {session_id(plan): plan for plan in all_sessions()}
        self._sessions = tuple(
            sorted(map(session_row, self._plans.values()), key=lambda s: s.start_time, reverse=True)
        )
        #: dataset id -> (eid, path inside the session)
        self._paths = {
            dataset_id(plan, path): (eid, path)
            for eid, plan in self._plans.items()
            for path in session_files(plan)
        }
        # sizes and md5 sums stay in memory
        self._listed: dict[str, tuple[DatasetRecord, ...]] = {}
        self._contents_cache: LRUCache[str, dict[str, bytes]] = LRUCache(keep, getsizeof=_total)
        self._lock = threading.Lock()
        self._session_locks = {eid: threading.Lock() for eid in self._plans}
        self._tables = make_tables(self._plans, self._sessions)

    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return the rows of each small table (see :class:`onefs.demo.records.Source`)."""
        return self._tables

    def sessions(self) -> Sequence[SessionRecord]:
        """Return all sessions, latest first (see :class:`onefs.demo.records.Source`)."""
        return self._sessions

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """Return a session's datasets (see :class:`onefs.demo.records.Source`)."""
        if eid in self._plans and eid not in self._listed:
            self._contents(eid)
        return self._listed.get(eid, ())

    def dataset(self, dataset_id: str) -> DatasetRecord | None:
        """Return one dataset by its UUID (see :class:`onefs.demo.records.Source`)."""
        eid, _ = self._paths.get(dataset_id, ("", ""))
        rows = self.datasets(eid) if eid else self.aggregates()
        return next((row for row in rows if row.id == dataset_id), None)

    def aggregates(self) -> Sequence[DatasetRecord]:
        """Return the dataset that belongs to no session."""
        return (aggregates.known_aggregate(),)

    def file(self, path: str) -> Path | bytes | None:
        """Return the served file at ``path`` (see :class:`onefs.demo.records.Source`)."""
        if path.startswith(aggregates.FOLDER):
            return aggregates.aggregate_file(path)
        for plain, uuid in alyx_rows.without_uuid(path):
            eid, inside = self._paths.get(uuid, ("", ""))
            if eid and plain == public_path(self._plans[eid], inside):
                return self._contents(eid)[inside]
        return None

    def _contents(self, eid: str) -> dict[str, bytes]:
        """Return a session's files by path. Compute the files if they are not in memory."""
        with self._session_locks[eid]:
            with self._lock:
                contents = self._contents_cache.get(eid)
            if contents is None:
                contents = encoded_files(self._plans[eid])
                with self._lock:
                    if _total(contents) <= self._contents_cache.maxsize:
                        self._contents_cache[eid] = contents
            if eid not in self._listed:
                self._listed[eid] = dataset_rows(self._plans[eid], eid, contents)
            return contents


def _total(contents: Mapping[str, bytes]) -> int:
    return sum(map(len, contents.values()))

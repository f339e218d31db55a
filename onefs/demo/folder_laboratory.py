"""A folder of sessions as a laboratory: ``<lab>/Subjects/<subject>/<yyyy-mm-dd>/<number>/...``.

A lab without Alyx can try onefs with its own folder. The ``Subjects`` folder may be left out. The
folder is never written to. Files and sessions may be added, removed or changed while the laboratory
runs, and these changes are found.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from onefs import alf
from onefs.demo import alyx_rows, check_not_inside_lab, demo_identity
from onefs.demo.digests import Digests
from onefs.demo.folder_scan import Scan, ScannedFile, ScannedSession, files_below, is_inside
from onefs.demo.records import DatasetRecord, Login, SessionRecord, Source
from onefs.errors import UsageError

#: the shortest time in seconds between the end of one scan and the start of the next
RESCAN_SECONDS = 3.0
#: the pause after a scan is at least this many times the duration of the scan, so that a slow disk
#: is scanned less often
_RESCAN_PAUSE_FACTOR = 10
#: longest time in seconds that a request waits for a scan in the background
SCAN_WAIT_SECONDS = 2.0
#: matches the folder of a probe in a path that starts at the session's folder
_PROBE = re.compile(r"(?:alf|raw_ephys_data)/(probe[^/]*)/")

Tables = Mapping[str, Sequence[Mapping[str, Any]]]


class FolderLaboratory(Source):
    """A laboratory (a ``Source``) made from a folder. Sizes, dates and md5 sums are those on disk.

    - Ids are computed from paths in the folder, and stay the same after a restart.
    - md5 sums are computed when a session is first listed. They are stored in ``state_dir``.
    - While a large file is hashed in the background, its md5 is ''.
    - During a new scan of the folder, the results of the last scan are served.
    - ``clock`` returns seconds.
    """

    # A folder may be large and its disk slow. So no request waits long for a scan. The tables of
    # dataset types, revisions and insertions need a list of every file, so they are complete later
    # than the other tables.
    def __init__(
        self,
        path: Path,
        state_dir: Path | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Scan ``path``.

        Raises UsageError if ``path`` is no folder, is the folder of only one lab, or holds no
        session.
        """
        if not path.is_dir():
            raise UsageError(f"there is no folder {path}: name a folder that holds lab folders")
        check_not_inside_lab(path)
        self._root = os.path.realpath(path)
        database = state_dir / f"{demo_identity(path)}-md5.sqlite" if state_dir else None
        self._digests = Digests(database)
        self._clock = clock
        self._lock = threading.Lock()
        self._scanning = False
        began = clock()
        self._scan = Scan(self._root)
        self._schedule_rescan(began)
        if not self._scan.places:
            raise UsageError(
                f"the folder {path} holds no session: expected "
                "<lab>/Subjects/<subject>/<yyyy-mm-dd>/<number>/ in it"
            )
        self._types: set[str] = set()
        self._revisions: set[str] = set()
        #: eid -> probe name -> the ids of the probe's datasets
        self._probes: dict[str, dict[str, list[str]]] = {}
        self._publish()
        self._run_in_thread(self._index_all)

    def tables(self) -> Tables:
        """Return the rows of each small table (see :class:`onefs.demo.records.Source`)."""
        self._current_scan()
        return self._tables

    def sessions(self) -> Sequence[SessionRecord]:
        """Return all sessions, latest first (see :class:`onefs.demo.records.Source`)."""
        self._current_scan()
        return self._sessions

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """Return a session's datasets (see :class:`onefs.demo.records.Source`)."""
        place = self._current_scan().places.get(eid)
        if place is None:
            return ()
        files = list(files_below(place.path, self._root))
        self._index_session(eid, files)
        newest = _newest_revisions(files)
        return [self._row(eid, place, file, newest) for file in files]

    def dataset(self, dataset_id: str) -> DatasetRecord | None:
        """Return one dataset by its UUID, or None for an unknown UUID.

        May be slow, because sessions are searched one after another.
        """
        for eid, place in self._current_scan().places.items():
            files = files_below(place.path, self._root)
            if any(dataset_id in self._ids(file.path, file.stat) for file in files):
                # only the files of this session are hashed
                return next((row for row in self.datasets(eid) if row.id == dataset_id), None)
        return None

    def file(self, path: str) -> Path | bytes | None:
        """Return the served file at ``path`` (see :class:`onefs.demo.records.Source`)."""
        labs = self._current_scan().labs
        for plain, uuid in alyx_rows.without_uuid(path):
            file = self._locate(labs, plain.split("/"))
            if file is not None and uuid in self._ids(file, os.stat(file)):
                return Path(file)
        return None

    def _locate(self, labs: Mapping[str, str], parts: Sequence[str]) -> str | None:
        """Return the path on disk of a file that is on the file server.

        ``parts`` is the path on the file server, split at the slashes. Return None if there is no
        such file.
        """
        # the path must start with ``/public/<lab>/Subjects/``
        if len(parts) < 8 or parts[:2] != ["", "public"] or parts[3] != alf.SUBJECTS:
            return None
        if parts[2] not in labs or any(part in ("", ".", "..") for part in parts[4:]):
            return None
        path = "/".join([labs[parts[2]], *parts[4:]])
        return path if os.path.isfile(path) and is_inside(path, self._root) else None

    def _current_scan(self) -> Scan:
        """Return the last scan.

        If a new scan is due, start it first, and wait at most SCAN_WAIT_SECONDS for its end.
        """
        with self._lock:
            due = not self._scanning and self._clock() >= self._scan_at
            self._scanning = self._scanning or due
        if due:
            self._run_in_thread(self._rescan)
        return self._scan

    def _rescan(self) -> None:
        began = self._clock()
        try:
            fresh = Scan(self._root)
            with self._lock:
                if fresh.places != self._scan.places:
                    self._scan = fresh
                    self._publish()
        finally:
            with self._lock:
                self._schedule_rescan(began)
                self._scanning = False

    def _schedule_rescan(self, began: float) -> None:
        """Set the time of the next scan, after a scan that started at the time ``began``."""
        now = self._clock()
        self._scan_at = now + max(RESCAN_SECONDS, _RESCAN_PAUSE_FACTOR * (now - began))

    def _index_all(self) -> None:
        for eid, place in self._scan.places.items():
            self._index_session(eid, list(files_below(place.path, self._root)))

    @staticmethod
    def _run_in_thread(work: Callable[[], None]) -> None:
        """Run ``work`` in a new thread. Wait at most SCAN_WAIT_SECONDS until ``work`` ends."""
        thread = threading.Thread(target=work, name="demo-folder", daemon=True)
        thread.start()
        thread.join(SCAN_WAIT_SECONDS)

    def _publish(self) -> None:
        """Replace the lists of sessions and tables, so that the servers notice new contents."""
        self._sessions: Sequence[SessionRecord] = list(self._scan.sessions)
        self._tables: Tables = self._make_tables()

    def _index_session(self, eid: str, files: Sequence[ScannedFile]) -> None:
        """Add the dataset types, revisions and probes of a session's files to the tables.

        Publish new rows if this changes the tables.
        """
        split = [alyx_rows.split_path(file.inside) for file in files]
        types = {alf.dataset_type(name) for _, _, name in split}
        revisions = {revision for _, revision, _ in split if revision}
        probes = self._probes_of(files)
        with self._lock:
            if (
                types <= self._types
                and revisions <= self._revisions
                and probes == self._probes.get(eid, {})
            ):
                return
            self._probes[eid] = probes
            self._types |= types
            self._revisions |= revisions
            self._publish()

    def _make_tables(self) -> Tables:
        subjects: defaultdict[str, set[str]] = defaultdict(set)
        for place in self._scan.places.values():
            subjects[place.lab].add(place.subject)
        user = Login().username
        return {
            "labs": [alyx_rows.lab_row(lab) for lab in sorted(subjects)],
            "subjects": [
                alyx_rows.subject_row(subject, lab, user)
                for lab in sorted(subjects)
                for subject in sorted(subjects[lab])
            ],
            "users": [alyx_rows.user_row(user, sorted(subjects))],
            "data-repository": alyx_rows.repository_rows(sorted(subjects), {}),
            "dataset-types": alyx_rows.dataset_type_rows({*self._types, "unknown"}, {}),
            "data-formats": alyx_rows.data_format_rows(),
            "revisions": alyx_rows.revision_rows(self._revisions),
            "insertions": [
                alyx_rows.insertion_row(eid, name, datasets)
                for eid, probes in self._probes.items()
                if eid in self._scan.places
                for name, datasets in probes.items()
            ],
        }

    def _probes_of(self, files: Iterable[ScannedFile]) -> dict[str, list[str]]:
        """Return the ids of the datasets in each probe's folder, by probe name."""
        probes: defaultdict[str, list[str]] = defaultdict(list)
        for file in files:
            probe = _PROBE.match(file.inside)
            if probe is not None:
                probes[probe[1]].append(self._ids(file.path, file.stat)[0])
        return dict(probes)

    def _ids(self, path: str, stat: os.stat_result) -> tuple[str, str]:
        """Return two dataset ids for a file: from its path alone, and from its path and version."""
        # The second id is used for a changed large file until its md5 is known, so that a client
        # does not use cached bytes of the old version.
        relative = os.path.relpath(path, self._root)
        version = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        return alyx_rows.make_id(relative), alyx_rows.make_id(relative, *map(str, version))

    def _row(
        self,
        eid: str,
        place: ScannedSession,
        file: ScannedFile,
        newest: Mapping[tuple[str, str], str],
    ) -> DatasetRecord:
        collection, revision, name = alyx_rows.split_path(file.inside)
        path = Path(file.path)
        digest = self._digests.md5(path, file.stat)
        identity, interim = self._ids(file.path, file.stat)
        if not digest and self._digests.has_changed(path, file.stat):
            identity = interim
        relative = f"{place.subject}/{place.date}/{place.number}/{file.inside}"
        modified = alyx_rows.format_timestamp(file.stat.st_mtime_ns)
        return alyx_rows.dataset_record(
            identity,
            place.lab,
            relative,
            eid=eid,
            default_dataset=newest[collection, name] == revision,
            file_size=file.stat.st_size,
            hash=digest,
            created_datetime=modified,
            auto_datetime=modified,
            experiment_number=int(place.number),
            # only the replica on FlatIron, because the lab's own computer does not exist here
            file_records=alyx_rows.file_records_of(identity, place.lab, relative)[:1],
        )


def _newest_revisions(files: Iterable[ScannedFile]) -> dict[tuple[str, str], str]:
    """Return the default revision for each pair (collection, name) of a session's files.

    As in ONE, this is the last revision in alphabetical order, or '' if there is none.
    """
    newest: dict[tuple[str, str], str] = {}
    for file in files:
        collection, revision, name = alyx_rows.split_path(file.inside)
        newest[collection, name] = max(revision, newest.get((collection, name), ""))
    return newest

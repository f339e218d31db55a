"""Batch prefetcher: one request for many listings, for walks and for stale listings.

A program makes a walk when it lists one session after another. One request fetches the datasets of
as many sessions as fit in one page of Alyx's answer (25 sessions if each has 40 datasets), or the
sessions of a whole lab. Such a request is a batch. It never raises an error in its caller. If a
batch does not fetch a listing, this listing is requested by a separate request when it is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from threading import Event, Lock
from typing import NamedTuple

from onefs import alf
from onefs.alyx.client import MAX_IDS_PER_REQUEST, AlyxClient
from onefs.alyx.pagination import PAGE_ROWS
from onefs.alyx.parsing import DatasetRow
from onefs.catalogue.listing import Batch
from onefs.catalogue.listing_cache import ListingCache
from onefs.catalogue.prefetch.bulk import BatchBisection
from onefs.catalogue.prefetch.leases import LabLeases
from onefs.catalogue.prefetch.walk_detector import WALK_TIMEOUT_SECONDS, WalkDetector
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.errors import (
    DeadlineExceeded,
    NotFound,
    OnefsError,
    Stopping,
    Throttled,
    Unreachable,
)
from onefs.model import Session

log = logging.getLogger(__name__)

#: seconds for which a request has low priority if a caller waits for the batch
LOW_PRIORITY_SECONDS = 2.0
#: seconds to wait for the sessions of a whole lab before one subject's sessions are requested
#: separately: a short time, because the lab may have thousands of sessions
LAB_LISTING_WAIT_SECONDS = 0.5
#: seconds for which stale listings are collected before one request for all these listings
STALE_COLLECTION_SECONDS = 0.3
#: number of sessions of a lab from which the number of sessions per page is estimated
_SAMPLE_SESSIONS = 30
#: most sessions that a walk has fetched and not used, so that their use continues the walk
_MAX_UNUSED_SESSIONS = 1000
#: usual number of datasets of a session in the International Brain Laboratory's database
_TYPICAL_DATASETS_PER_SESSION = 40
#: the fraction of the deadline that one request of a batch may take
_REQUEST_DEADLINE_FRACTION = 0.6
#: the fraction of the deadline to wait for a batch of another process. The wait is long enough for
#: a slow server or a busy machine, so that the processes do not all send the same request
_LEASE_DEADLINE_FRACTION = 0.3


def datasets_key(eid: str) -> str:
    """Return the key of the listing of a session's datasets."""
    return f"datasets/{eid}"


def sessions_key(lab: str, subject: str) -> str:
    """Return the key of the listing of a subject's sessions."""
    return f"sessions/{lab}/{subject}"


class _WalkBatch(NamedTuple):
    """A batch that a walk has fetched: when it is first used, the next batch is requested."""

    lab: str
    eids: tuple[str, ...]
    #: see ``since`` and ``all_subjects`` of :meth:`CatalogueDatabase.unlisted_neighbours`
    floor: float
    across_subjects: bool


class BatchPrefetcher:
    """Plans and sends the batches of one catalogue. Thread-safe."""

    def __init__(
        self,
        database: CatalogueDatabase,
        alyx: AlyxClient,
        listings: ListingCache,
        deadline: float,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._interactive_alyx = alyx.low_priority(
            LOW_PRIORITY_SECONDS, deadline * _REQUEST_DEADLINE_FRACTION
        )
        self._background_alyx = alyx.low_priority()
        self._bulk_alyx = alyx.low_priority(LOW_PRIORITY_SECONDS)
        self._listings = listings
        self._clock = clock
        self._walk_detector = WalkDetector(clock)
        self._lock = Lock()
        self._stale_sessions: dict[str, Session] = {}
        #: the sessions whose stale datasets are being requested
        self._refreshing_eids: frozenset[str] = frozenset()
        #: batches of which no session was used since they were fetched, by the eid of each session
        self._unused_batches: dict[str, _WalkBatch] = {}
        #: when the datasets of any session were last used, by ``clock``
        self._last_use_at = 0.0
        self._closed = Event()
        folder = database.path.with_name(f"{database.path.name}-claims")
        self._leases = LabLeases(folder, deadline * _LEASE_DEADLINE_FRACTION, self._closed)

    def close(self) -> None:
        """Start no more requests for many sessions. End the waits before such requests."""
        self._closed.set()

    def plan_datasets(self, session: Session, scope: tuple[str, ...]) -> Batch | None:
        """Return a batch that fetches the datasets of ``session`` and of other sessions near it.

        Call this if the datasets of ``session`` are not stored. ``scope`` is the path of the
        session's folder from the lab down. Return None if the caller is to request only the
        datasets of ``session``.
        """
        step = self._walk_detector.note_session_miss(session)
        if step.session_count == 1:
            return None
        floor = self._listings.invalidations.time_of(scope)
        coming = self._listings.pending_keys()
        most = step.session_count + len(coming)
        nearby = self._database.unlisted_neighbours(session, most, floor, step.across_subjects)
        eids = [eid for eid in nearby if datasets_key(eid) not in coming][: step.session_count]
        if len(eids) == 1:
            return None
        return self._make_batch(_WalkBatch(session.lab, tuple(eids), floor, step.across_subjects))

    def continue_walk(self, session: Session) -> None:
        """Request the next sessions in the background if a walk has fetched ``session``.

        Call this when the datasets of ``session`` are used. So a walk waits for Alyx while it lists
        the sessions that it has, and not after that.
        """
        last_use_at, self._last_use_at = self._last_use_at, self._clock()
        if session.eid not in self._unused_batches:
            return
        with self._lock:
            used = self._unused_batches.get(session.eid)
            for eid in used.eids if used else ():
                self._unused_batches.pop(eid, None)
        is_walk = self._last_use_at - last_use_at <= WALK_TIMEOUT_SECONDS
        if used is not None and is_walk:
            with suppress(OnefsError):  # then the next sessions are requested when they are used
                self._request_after(used)

    def _request_after(self, used: _WalkBatch) -> None:
        self._walk_detector.note_progress(used.lab)
        count = self._walk_detector.sessions_per_page(used.lab)
        last = self._database.session(used.eids[-1])
        if count == 1 or last is None:
            return
        coming = self._listings.pending_keys()
        most = count + len(coming) + 1
        nearby = self._database.unlisted_neighbours(last, most, used.floor, used.across_subjects)
        # the first one is ``last``
        eids = [eid for eid in nearby[1:] if datasets_key(eid) not in coming][:count]
        if eids:
            following = _WalkBatch(used.lab, tuple(eids), used.floor, used.across_subjects)
            self._listings.start_batch(self._make_batch(following))

    def _make_batch(self, batch: _WalkBatch) -> Batch:
        keys = tuple(map(datasets_key, batch.eids))
        return Batch(keys, lambda: self._fetch_interactive(batch))

    def plan_sessions(self, lab: str, subject: str) -> Batch | None:
        """Return a batch that fetches the sessions of all other subjects of a lab.

        Call this if the sessions of ``subject`` are not stored; the caller requests these. Return
        None unless a program has listed several subjects of the lab, or if the batch would be
        empty.
        """
        if not self._walk_detector.note_subject_miss(lab, subject):
            return None
        floor = self._listings.invalidations.time_of(
            (alf.lab_folder(lab), alf.subject_folder(subject))
        )
        unlisted = self._database.unlisted_subjects(lab)
        # without ``subject``: the caller requests its sessions at the same time, because the batch
        # may be slow: a lab may have thousands of sessions
        names = [
            name for name in unlisted or self._invalidated_subjects(lab, floor) if name != subject
        ]
        if not names:
            return None
        keys = tuple(sessions_key(lab, name) for name in names)
        return Batch(keys, lambda: self._fetch_lab_sessions(lab, names, keys, floor))

    def _invalidated_subjects(self, lab: str, floor: float) -> list[str]:
        """Return the subjects of a lab whose sessions Alyx has not listed since the time ``floor``.

        ``floor`` is in seconds since the epoch. For 0, return [].
        """
        names = self._database.subjects(lab) if floor else []
        fetched_at = self._database.fetched_at
        return [name for name in names if (fetched_at(sessions_key(lab, name)) or 0.0) < floor]

    def note_listed_session(self, session: Session, rows: Sequence[DatasetRow]) -> None:
        """Record how many datasets a session has, after a request for this session alone.

        The number is used to estimate how many sessions fit in a page.
        """
        self._walk_detector.note_dataset_count(session.lab, len(rows))

    def schedule_refresh(self, session: Session) -> None:
        """Refresh a session's datasets in the background, together with other stale sessions."""
        with self._lock:
            if session.eid in self._refreshing_eids:
                return
            self._stale_sessions[session.eid] = session
        self._listings.start_batch(Batch(("stale datasets",), self._refresh_stale))

    def fetch_missing_datasets(self, sessions: Sequence[Session]) -> dict[str, OnefsError]:
        """Fetch the datasets of those ``sessions`` whose datasets Alyx has not listed yet.

        Return, by eid, an error for each session that could not be fetched. Raises Stopping.
        """
        eids_by_lab: dict[str, list[str]] = {}
        for session in sessions:
            eids_by_lab.setdefault(session.lab, []).append(session.eid)
        for lab, eids in eids_by_lab.items():
            for eid in filter(self._is_from_tables, eids[:_SAMPLE_SESSIONS]):
                self._walk_detector.note_dataset_count(lab, len(self._database.datasets(eid)))
        return self._run_bisection(eids_by_lab)

    def preload_sessions(
        self, eids: Sequence[str], note_session: Callable[[Session], None]
    ) -> None:
        """Fetch what the catalogue lacks for the sessions ``eids``, with few requests.

        Requests the sessions that are not stored, and the datasets that Alyx has not listed yet.
        ``note_session`` is called with each fetched session. Raises CacheError and the errors of
        :class:`AlyxClient`.
        """
        unknown = [eid for eid in eids if self._database.session(eid) is None]
        for begin in range(0, len(unknown), MAX_IDS_PER_REQUEST):
            asked = self._clock()
            some = unknown[begin : begin + MAX_IDS_PER_REQUEST]
            for session, numbered in self._bulk_alyx.sessions_by_eid(some):
                self._database.store_session(session, numbered, asked)
                note_session(session)
        known = [session.eid for session in self._database.sessions_by_eid(eids)]
        wanted = self._eids_to_list(known)
        if len(wanted) > 1:
            self._walk_detector.note_dataset_count("", _TYPICAL_DATASETS_PER_SESSION)
            self._run_bisection({"": wanted})

    def _run_bisection(self, eids_by_lab: Mapping[str, Sequence[str]]) -> dict[str, OnefsError]:
        return BatchBisection(
            eids_by_lab, self._fetch_in_bulk, self._walk_detector.sessions_per_page
        ).run()

    def _eids_to_list(self, eids: Sequence[str]) -> list[str]:
        """Return the eids, among ``eids``, of sessions whose datasets Alyx has not listed yet."""
        unlisted = set(self._database.filter_unlisted(eids, 0.0))
        return [eid for eid in eids if eid in unlisted or self._is_from_tables(eid)]

    def _is_from_tables(self, eid: str) -> bool:
        return self._database.is_from_tables(datasets_key(eid))

    def _fetch_in_bulk(self, lab: str, eids: Sequence[str]) -> Set[str]:
        if self._closed.is_set():
            raise Stopping("onefs is being stopped")
        # another process may have fetched some of these sessions since
        wanted = self._eids_to_list(eids)
        done = set(eids) - set(wanted)
        try:
            return done | self._fetch_datasets(self._bulk_alyx, lab, wanted) if wanted else done
        except OnefsError as error:
            self._listings.record_outcome((), error)
            raise

    def _fetch_interactive(self, batch: _WalkBatch) -> None:
        lab = batch.lab
        requested: Set[str] = frozenset()
        try:
            with self._leases.hold(lab):
                # another process may have fetched some of these sessions since
                if wanted := self._database.filter_unlisted(batch.eids, batch.floor):
                    requested = self._fetch_datasets(self._interactive_alyx, lab, wanted)
        except OnefsError as error:
            # record no failure for the listings: each is requested separately when it is needed
            self._handle_failure(lab, (), error)
        # only a walk fetches a whole page
        eids = tuple(eid for eid in batch.eids if eid in requested)
        if eids and len(eids) >= self._walk_detector.sessions_per_page(lab):
            with self._lock:
                if len(self._unused_batches) > _MAX_UNUSED_SESSIONS:
                    self._unused_batches.clear()
                self._unused_batches.update(dict.fromkeys(eids, batch._replace(eids=eids)))

    def _fetch_lab_sessions(
        self, lab: str, names: Sequence[str], keys: Sequence[str], floor: float
    ) -> None:
        try:
            # a separate lease, so that datasets can be fetched at the same time
            with self._leases.hold(f"{lab}/sessions"):
                if (self._database.fetched_at(keys[-1]) or -1.0) >= floor:
                    return  # another process has fetched the lab's sessions
                asked = self._clock()
                sessions = self._interactive_alyx.sessions_of_lab(lab)
                self._database.store_lab_sessions(lab, names, sessions, asked)
        except OnefsError as error:
            self._handle_failure(lab, (), error)
        else:
            self._listings.record_outcome([*keys, f"subjects/{lab}"], None)

    def _refresh_stale(self) -> None:
        self._wait_for_full_page()
        while not self._closed.is_set() and (sessions := self._take_stale_sessions()):
            lab, eids = sessions[0].lab, [session.eid for session in sessions]
            try:
                self._fetch_datasets(self._background_alyx, lab, eids)
            except OnefsError as error:
                self._handle_failure(lab, map(datasets_key, eids), error)
                with self._lock:
                    self._stale_sessions.clear()  # each is scheduled again at its next use
            finally:
                with self._lock:
                    self._refreshing_eids = frozenset()
            self._wait_for_full_page()

    def _wait_for_full_page(self) -> None:
        """Wait 0.3 seconds for more stale sessions, unless those in the queue fill a page."""
        # no caller waits for this, because stale listings are returned at once
        with self._lock:
            lab = next((session.lab for session in self._stale_sessions.values()), None)
            count = len(self._stale_sessions)
        if lab is None or count < self._walk_detector.sessions_per_page(lab):
            self._closed.wait(STALE_COLLECTION_SECONDS)

    def _fetch_datasets(self, alyx: AlyxClient, lab: str, eids: Sequence[str]) -> Set[str]:
        """Fetch and store the datasets of the first sessions in ``eids``, as many as fit in a page.

        Return the eids of the sessions that were requested. Raises the errors of
        :class:`AlyxClient`.
        """
        began = self._clock()
        while (rows_by_eid := _request_datasets(alyx, eids)) is None:
            self._walk_detector.note_dataset_count(lab, PAGE_ROWS // len(eids) + 1)
            eids = eids[: len(eids) // 2]
        requested = frozenset(rows_by_eid)
        for eid in [eid for eid, rows in rows_by_eid.items() if not rows]:
            if len(requested) > 1 and self._database.datasets(eid):
                # the session had datasets: only the answer to a request for this session alone may
                # make its folder empty
                try:
                    rows_by_eid[eid] = alyx.datasets(eid)
                except NotFound as error:  # the datasets of the other sessions are valid
                    del rows_by_eid[eid]
                    self._listings.record_outcome([datasets_key(eid)], error)
        self._database.store_datasets_by_eid(rows_by_eid, began)
        for rows in rows_by_eid.values():
            self._walk_detector.note_dataset_count(lab, len(rows))
        self._listings.record_outcome(map(datasets_key, rows_by_eid), None)
        return requested

    def _take_stale_sessions(self) -> list[Session]:
        """Take stale sessions of one lab from the queue, as many as fit in a page of an answer.

        Return [] if no stale session is waiting.
        """
        with self._lock:
            if not self._stale_sessions:
                return []
            lab = next(iter(self._stale_sessions.values())).lab
            chosen = [session for session in self._stale_sessions.values() if session.lab == lab]
            chosen = chosen[: self._walk_detector.sessions_per_page(lab)]
            for session in chosen:
                del self._stale_sessions[session.eid]
            self._refreshing_eids = frozenset(session.eid for session in chosen)
            return chosen

    def _handle_failure(self, lab: str, keys: Iterable[str], error: OnefsError) -> None:
        """Record that a batch has failed.

        If separate requests for the same listings may succeed, no batches are sent for this lab for
        some time.
        """
        if not isinstance(error, (Unreachable, DeadlineExceeded, Throttled, NotFound, Stopping)):
            self._walk_detector.suspend_batches(lab)
        log.info("a request for many listings of lab %s failed: %s", lab, error)
        self._listings.record_outcome(keys, error)


def _request_datasets(alyx: AlyxClient, eids: Sequence[str]) -> dict[str, list[DatasetRow]] | None:
    """Return the datasets of these sessions by eid.

    Return None if the datasets of several sessions do not fit in a page.
    """
    if len(eids) == 1:
        return {eids[0]: alyx.datasets(eids[0])}
    return alyx.datasets_of_sessions(eids)

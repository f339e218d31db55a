"""Asking for many listings at once: the next sessions of a walk, and what has grown stale.

One request brings the datasets of as many sessions as fit in a page (25 of 40 datasets), one
list the sessions of a whole lab. What a batch does not bring is asked for alone by whoever wants
it: a batch never is the reason for an error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence, Set
from threading import Event, Lock

from onefs import alf
from onefs.alyx.client import MAX_IDS_PER_REQUEST, AlyxClient
from onefs.alyx.pagination import PAGE_ROWS
from onefs.alyx.parsing import DatasetRow
from onefs.catalogue.listing_cache import Batch, ListingCache
from onefs.catalogue.prefetch.bulk import BatchBisection
from onefs.catalogue.prefetch.leases import LabLeases
from onefs.catalogue.prefetch.walk_detector import WalkDetector
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

#: seconds for which a batch that somebody waits for leaves the budget's reserve alone
LOW_PRIORITY_SECONDS = 2.0
#: seconds that a subject's listing waits for that of the whole lab, which takes many where it has
#: thousands of sessions, before it is asked for alone
LAB_LISTING_WAIT_SECONDS = 0.5
#: seconds for which stale listings are gathered before they are asked for together
STALE_COLLECTION_SECONDS = 0.3
#: sessions of a lab that tell how many fit in a page
_SAMPLE_SESSIONS = 30
#: datasets of a session in the International Brain Laboratory's database
_TYPICAL_DATASETS_PER_SESSION = 40
#: the part of the deadline that one request of a batch may take
_REQUEST_DEADLINE_FRACTION = 0.6
#: the part of the deadline for which a batch of another process is waited for: a slow server, or
#: a busy machine, takes longer for a batch, and this must not make each process ask for it
_LEASE_DEADLINE_FRACTION = 0.3


def datasets_key(eid: str) -> str:
    """The key of a session's datasets."""
    return f"datasets/{eid}"


def _sessions_key(lab: str, subject: str) -> str:
    return f"sessions/{lab}/{subject}"


class BatchPrefetcher:
    """The batches of one catalogue. Thread-safe."""

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
        #: the stale sessions that are being asked for
        self._refreshing_eids: frozenset[str] = frozenset()
        self._closed = Event()
        folder = database.path.with_name(f"{database.path.name}-claims")
        self._leases = LabLeases(folder, deadline * _LEASE_DEADLINE_FRACTION, self._closed)

    def close(self) -> None:
        """Begin no further request."""
        self._closed.set()

    def plan_datasets(self, session: Session, scope: tuple[str, ...]) -> Batch | None:
        """What to ask for when a session's datasets are not known; None: those alone."""
        step = self._walk_detector.note_session_miss(session)
        if step.session_count == 1:
            return None
        floor = self._listings.invalidations.time_of(scope)
        coming = self._listings.pending_keys()
        most = step.session_count + len(coming)
        found = self._database.unlisted_neighbours(session, most, floor, step.across_subjects)
        eids = [eid for eid in found if datasets_key(eid) not in coming][: step.session_count]
        if len(eids) == 1:
            return None
        return Batch(
            tuple(map(datasets_key, eids)),
            lambda: self._fetch_interactive(session.lab, eids, floor),
        )

    def plan_sessions(self, lab: str, subject: str) -> Batch | None:
        """What to ask for besides when a subject's sessions are not known; None: nothing.

        The subject's own are asked for alone at the same time: a lab may have thousands.
        """
        if not self._walk_detector.note_subject_miss(lab, subject):
            return None
        floor = self._listings.invalidations.time_of(
            (alf.lab_folder(lab), alf.subject_folder(subject))
        )
        unlisted = self._database.unlisted_subjects(lab)
        names = [
            name for name in unlisted or self._invalidated_subjects(lab, floor) if name != subject
        ]
        if not names:
            return None
        keys = tuple(_sessions_key(lab, name) for name in names)
        return Batch(keys, lambda: self._fetch_lab_sessions(lab, names, keys, floor))

    def _invalidated_subjects(self, lab: str, floor: float) -> list[str]:
        """The subjects of a lab that are wanted anew: listed before ``floor``."""
        names = self._database.subjects(lab) if floor else []
        age = self._database.fetched_at
        return [name for name in names if (age(_sessions_key(lab, name)) or 0.0) < floor]

    def note_listed_session(self, session: Session, found: Sequence[DatasetRow]) -> None:
        """A session has been listed alone."""
        self._walk_detector.note_dataset_count(session.lab, len(found))

    def schedule_refresh(self, session: Session) -> None:
        """Ask for a session's datasets behind, together with whatever else is stale by then."""
        with self._lock:
            if session.eid in self._refreshing_eids:
                return
            self._stale_sessions[session.eid] = session
        self._listings.start_batch(Batch(("stale datasets",), self._refresh_stale))

    def fetch_missing_datasets(self, sessions: Sequence[Session]) -> dict[str, OnefsError]:
        """Ask for the datasets of sessions that are not listed, or only by cache tables; see
        :meth:`BatchBisection.run`."""
        of_lab: dict[str, list[str]] = {}
        for session in sessions:
            of_lab.setdefault(session.lab, []).append(session.eid)
        for lab, eids in of_lab.items():
            for eid in filter(self._is_from_tables, eids[:_SAMPLE_SESSIONS]):
                self._walk_detector.note_dataset_count(lab, len(self._database.datasets(eid)))
        return BatchBisection(
            of_lab, self._fetch_in_bulk, self._walk_detector.sessions_per_page
        ).run()

    def preload_sessions(
        self, eids: Sequence[str], note_session: Callable[[Session], None]
    ) -> None:
        """Ask for sessions that are not known and for datasets that are not listed, many with a
        request.

        ``met`` is called with each session that was not known. Errors are those of
        :class:`AlyxClient` and of the catalogue's file; what was not brought can be asked for
        alone.
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
            BatchBisection(
                {"": wanted}, self._fetch_in_bulk, self._walk_detector.sessions_per_page
            ).run()

    def _eids_to_list(self, eids: Sequence[str]) -> list[str]:
        """Those of some sessions that are not listed, or only by cache tables."""
        unlisted = set(self._database.filter_unlisted(eids, 0.0))
        return [eid for eid in eids if eid in unlisted or self._is_from_tables(eid)]

    def _is_from_tables(self, eid: str) -> bool:
        return self._database.is_from_tables(datasets_key(eid))

    def _fetch_in_bulk(self, lab: str, eids: Sequence[str]) -> Set[str]:
        if self._closed.is_set():
            raise Stopping("onefs is being stopped")
        # what another process has brought meanwhile need not be asked for
        wanted = self._eids_to_list(eids)
        try:
            found = (
                self._fetch_datasets(self._bulk_alyx, lab, wanted) if wanted else frozenset[str]()
            )
        except OnefsError as error:
            self._listings.record_outcome((), error)
            raise
        return found | (set(eids) - set(wanted))

    def _fetch_interactive(self, lab: str, eids: Sequence[str], floor: float) -> None:
        try:
            with self._leases.hold(lab):
                # what another process has brought meanwhile need not be asked for
                if wanted := self._database.filter_unlisted(eids, floor):
                    self._fetch_datasets(self._interactive_alyx, lab, wanted)
        except OnefsError as error:
            # the listings themselves have not failed: who wants one asks for it alone
            self._handle_failure(lab, (), error)

    def _fetch_lab_sessions(
        self, lab: str, names: Sequence[str], keys: Sequence[str], floor: float
    ) -> None:
        try:
            # a claim of its own: datasets are asked for meanwhile
            with self._leases.hold(f"{lab}/sessions"):
                if (self._database.fetched_at(keys[-1]) or -1.0) >= floor:
                    return  # by another process, meanwhile
                asked = self._clock()
                found = self._interactive_alyx.sessions_of_lab(lab)
                self._database.store_lab_sessions(lab, names, found, asked)
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
                    self._stale_sessions.clear()  # they are stale still, and come again
            finally:
                with self._lock:
                    self._refreshing_eids = frozenset()
            self._wait_for_full_page()

    def _wait_for_full_page(self) -> None:
        """Let less than a page of stale sessions grow: nobody waits for them, and a slow walk's
        next sessions are better asked for with them."""
        with self._lock:
            lab = next((session.lab for session in self._stale_sessions.values()), None)
            waiting = len(self._stale_sessions)
        if lab is None or waiting < self._walk_detector.sessions_per_page(lab):
            self._closed.wait(STALE_COLLECTION_SECONDS)

    def _fetch_datasets(self, alyx: AlyxClient, lab: str, eids: Sequence[str]) -> Set[str]:
        """Ask for the datasets of these sessions, or of the first of them when they are too many
        for a page, and store them. Gives those that were asked for. Raises as Alyx does."""
        began = self._clock()
        while (found := _request_datasets(alyx, eids)) is None:
            self._walk_detector.note_dataset_count(lab, PAGE_ROWS // len(eids) + 1)
            eids = eids[: len(eids) // 2]
        asked = frozenset(found)
        for eid in [eid for eid, rows in found.items() if not rows]:
            if len(asked) > 1 and self._database.datasets(eid):
                # a session that had datasets: an empty folder needs Alyx's word on it alone
                try:
                    found[eid] = alyx.datasets(eid)
                except NotFound as error:  # the others' datasets have come all the same
                    del found[eid]
                    self._listings.record_outcome([datasets_key(eid)], error)
        self._database.store_datasets_by_eid(found, began)
        for rows in found.values():
            self._walk_detector.note_dataset_count(lab, len(rows))
        self._listings.record_outcome(map(datasets_key, found), None)
        return asked

    def _take_stale_sessions(self) -> list[Session]:
        """As many stale sessions of one lab as fit in a page, taken off the list."""
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
        """A batch has failed: a server that answers and does not like it is left in peace."""
        if not isinstance(error, (Unreachable, DeadlineExceeded, Throttled, NotFound, Stopping)):
            self._walk_detector.suspend_batches(lab)
        log.info("a batch for lab %s failed: %s", lab, error)
        self._listings.record_outcome(keys, error)


def _request_datasets(alyx: AlyxClient, eids: Sequence[str]) -> dict[str, list[DatasetRow]] | None:
    """The datasets of these sessions; None when they are too many for a page."""
    if len(eids) == 1:
        return {eids[0]: alyx.datasets(eids[0])}
    return alyx.datasets_of_sessions(eids)

"""Probe insertions: the probes of each session, as the catalogue knows them.

The insertions of a session are one listing. A program that asks for the insertions of one session
after another makes a walk: then those of a whole lab are requested at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import wait as wait_for
from contextlib import suppress
from threading import Lock

from onefs import alf
from onefs.alyx import parsing
from onefs.alyx.client import MAX_IDS_PER_REQUEST, AlyxClient
from onefs.alyx.parsing import Row
from onefs.catalogue.availability import ServerAvailability
from onefs.catalogue.listing import Batch, Listing, ListingRequest
from onefs.catalogue.listing_cache import ListingCache
from onefs.catalogue.prefetch.batches import LOW_PRIORITY_SECONDS
from onefs.catalogue.prefetch.walk_detector import WALK_TIMEOUT_SECONDS
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.catalogue.ttl import OLD_TTL_SECONDS, RECENT_TTL_SECONDS, session_ttl_seconds
from onefs.errors import (
    CacheError,
    DeadlineExceeded,
    NotFound,
    OnefsError,
    ServerError,
    Stopping,
    Throttled,
    Unreachable,
)
from onefs.model import Insertion, Session

log = logging.getLogger(__name__)

#: the fraction of the deadline to wait for a lab's insertions, after those of one session
LAB_WAIT_FRACTION = 0.2


class Insertions:
    """The probe insertions of one database. Thread-safe. Raises the errors of the catalogue.

    ``note_session`` is called with each session that is newly known from a row of an insertion.
    ``deadline`` is the longest wait for Alyx in seconds.
    """

    def __init__(
        self,
        database: CatalogueDatabase,
        alyx: AlyxClient,
        listings: ListingCache,
        availability: ServerAvailability,
        note_session: Callable[[Session], None],
        deadline: float,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._lab_wait_seconds = deadline * LAB_WAIT_FRACTION
        self._bulk_alyx = alyx.low_priority(LOW_PRIORITY_SECONDS)
        self._listings = listings
        self._availability = availability
        self._note_session = note_session
        self._clock = clock
        self._lock = Lock()
        #: by lab, when insertions that were not stored were last requested
        self._last_misses: dict[str, float] = {}
        #: by lab, when the request for the insertions of the whole lab last failed
        self._failed_at: dict[str, float] = {}
        #: by lab, when the insertions of the whole lab were last requested
        self._fetched_at: dict[str, float] = {}

    def of_session(self, session: Session) -> Listing[list[Insertion]]:
        """Return the insertions of a session, sorted by name."""
        return self._listings.get(self._session_request(session))

    def get(self, pid: str) -> Insertion:
        """Return the insertion with this pid. Raises NotFound if Alyx has no such insertion."""
        stored = None
        with suppress(CacheError):  # a row that cannot be read is requested again
            stored = self._database.insertion(pid)
        if stored is not None and self._is_valid(*stored):
            return stored[0]
        try:
            found = self._listings.force_refresh(self._pid_request(pid)).value
        except (Unreachable, DeadlineExceeded, Throttled, ServerError):
            if stored is None:
                raise
            return stored[0]
        if found is None:
            raise NotFound(f"Alyx has no probe insertion {pid}")
        with suppress(CacheError):
            self._continue_walk(found)
        return found

    def stored(self, pid: str) -> Insertion | None:
        """Return the stored insertion with this pid, or None. Sends no request."""
        stored = self._database.insertion(pid)
        return stored[0] if stored is not None else None

    def stored_of(self, eid: str) -> list[Insertion]:
        """Return a session's stored insertions, sorted by name. Sends no request."""
        return self._database.insertions(eid)

    def of_sessions(self, sessions: Sequence[Session]) -> list[Insertion]:
        """Return the insertions of sessions, in the order of the sessions, with few requests."""
        self.prefetch(sessions)
        eids = [session.eid for session in sessions]
        missing = set(self._database.without_insertions(eids, 0.0))
        for session in sessions:
            if session.eid in missing:
                self.of_session(session)
        return self._database.insertions_of(eids)

    def prefetch(self, sessions: Sequence[Session]) -> None:
        """Request the insertions of those sessions whose insertions are not stored, or are old.

        If a request fails, each session is requested when it is needed. Raises only Stopping.
        """
        if not self._availability.can_ask():
            return
        lab_of = {session.eid: session.lab for session in sessions}
        oldest = max(self._listings.invalidations.time_of(None), self._clock() - OLD_TTL_SECONDS)
        missing = self._database.without_insertions(list(lab_of), oldest)
        if len(missing) < 2:
            return
        labs = {lab_of[eid] for eid in missing}
        if len(labs) * MAX_IDS_PER_REQUEST < len(missing) and "" not in labs:
            for lab in labs:
                self._fetch_lab(lab, [eid for eid in missing if lab_of[eid] == lab])
            return
        for begin in range(0, len(missing), MAX_IDS_PER_REQUEST):
            some = missing[begin : begin + MAX_IDS_PER_REQUEST]
            names = ",".join(f"'{eid}'" for eid in some)
            if not self._try_fetch({"django": f"session__in,[{names}]"}, some, only_these=True):
                return

    # -- requests

    def _session_request(self, session: Session) -> ListingRequest[list[Insertion]]:
        eid = session.eid
        return ListingRequest(
            f"insertions/{eid}",
            session_ttl_seconds(session, self._clock()),
            fetch=lambda alyx: _of_sessions(alyx.insertion_rows({"session": eid}), [eid]),
            store=lambda database, rows, asked: self._store(database, rows, asked, [eid]),
            load=lambda database: database.insertions(eid),
            scope=alf.session_folder(session) if session.has_folder else None,
            plan_batch=lambda: self._plan_lab(session),
        )

    def _pid_request(self, pid: str) -> ListingRequest[Insertion | None]:
        """Return the request for all insertions of the session that has the insertion ``pid``."""

        def fetch(alyx: AlyxClient) -> list[Row]:
            query = {"django": f"session__probe_insertion__id,{pid}"}
            rows = alyx.insertion_rows(query)
            eids = [parsing.session_id_of(row) for row in rows if parsing.uuid_or_empty(row) == pid]
            if not eids:
                raise NotFound(f"Alyx has no probe insertion {pid}")
            return _of_sessions(rows, eids)

        def store(database: CatalogueDatabase, rows: list[Row], asked: float) -> None:
            self._store(database, rows, asked, {parsing.session_id_of(row) for row in rows})

        def load(database: CatalogueDatabase) -> Insertion | None:
            stored = database.insertion(pid)
            return stored[0] if stored is not None else None

        return ListingRequest(f"insertion/{pid}", OLD_TTL_SECONDS, fetch, store, load, scope=None)

    def _is_valid(self, insertion: Insertion, fetched_at: float) -> bool:
        """Whether a stored insertion is used without a request."""
        if not self._availability.can_ask():
            return True
        return (
            fetched_at >= self._listings.invalidations.time_of(None)
            and self._clock() - fetched_at < OLD_TTL_SECONDS
        )

    def _note_miss(self, lab: str) -> bool:
        """Record that insertions of a lab are not stored. Return True after another of the lab."""
        now = self._clock()
        with self._lock:
            last, self._last_misses[lab] = self._last_misses.get(lab), now
        return last is not None and now - last < WALK_TIMEOUT_SECONDS

    def _may_fetch(self, lab: str) -> bool:
        return bool(lab) and self._clock() - self._failed_at.get(lab, 0.0) > WALK_TIMEOUT_SECONDS

    def _continue_walk(self, insertion: Insertion) -> None:
        """Request the insertions of a lab if a program asks for one after another by their pids."""
        session = self._database.session(insertion.eid)
        if session is None or not self._note_miss(session.lab) or not self._may_fetch(session.lab):
            return
        # the next pid waits for them, but not for long
        batch = self._listings.start_batch(self._lab_batch(session.lab, session.eid))
        wait_for([batch], self._lab_wait_seconds)

    def _plan_lab(self, session: Session) -> Batch | None:
        """Return a batch for the whole lab if another session was requested a short time ago."""
        now, lab, eid = self._clock(), session.lab, session.eid
        fetched_at = self._fetched_at.get(lab, 0.0)
        oldest = max(now - RECENT_TTL_SECONDS, self._listings.invalidations.time_of(None))
        if fetched_at > oldest:
            # the session was not known then; the answer would have its insertions
            return Batch(
                (f"insertions/{eid}",), lambda: self._mark_without_insertions(eid, fetched_at)
            )
        with self._lock:
            is_walk = any(now - at < WALK_TIMEOUT_SECONDS for at in self._last_misses.values())
        self._note_miss(lab)
        if not is_walk or not self._may_fetch(lab):
            return None
        return self._lab_batch(lab, session.eid)

    def _mark_without_insertions(self, eid: str, fetched_at: float) -> None:
        """Store that a session had no insertion when its lab's insertions were requested."""
        with suppress(CacheError):
            if self._database.fetched_at(f"insertions/{eid}") is None:
                self._database.store_insertions((), fetched_at, [eid])

    def _lab_batch(self, lab: str, eid: str) -> Batch:
        """Return the batch that fetches a lab's insertions, among them those of session ``eid``."""
        keys = (f"insertions/{each}" for each in self._eids_of_lab(lab, [eid]))
        # the first key is that of the batch itself, so that a lab is not fetched twice at once
        return Batch((f"insertions of {lab}", *keys), lambda: self._fetch_lab(lab, [eid]))

    def _eids_of_lab(self, lab: str, first: Sequence[str]) -> list[str]:
        """Return the eids of the known sessions of a lab, ``first`` first."""
        eids = [eid for _, _, eid in self._database.find_sessions("lab = ?", [lab])]
        return list(dict.fromkeys([*first, *eids]))

    def _fetch_lab(self, lab: str, eids: Sequence[str]) -> None:
        """Request the insertions of all sessions of a lab, among them ``eids``. Never raises."""
        asked = self._clock()
        try:
            done = self._try_fetch({"lab": lab}, self._eids_of_lab(lab, eids))
        except OnefsError:  # the catalogue cannot be read, or it is being closed
            return
        (self._fetched_at if done else self._failed_at)[lab] = asked

    def _try_fetch(
        self, query: dict[str, str], eids: Sequence[str], *, only_these: bool = False
    ) -> bool:
        """Request and store the insertions of the sessions ``eids``.

        The answer may have other sessions, unless ``only_these`` is true. Return False after an
        error. Raises only Stopping.
        """
        asked = self._clock()
        try:
            rows = self._bulk_alyx.insertion_rows(query)
            if only_these:
                _of_sessions(rows, eids)
            whole = dict.fromkeys([*eids, *map(parsing.session_id_of, rows)])
            self._store(self._database, rows, asked, whole)
        except Stopping:
            raise
        except OnefsError as error:
            log.info("a request for the insertions of many sessions failed: %s", error)
            self._listings.record_outcome((), error)
            return False
        self._listings.record_outcome((f"insertions/{eid}" for eid in whole), None)
        return True

    def _store(
        self, database: CatalogueDatabase, rows: list[Row], asked: float, whole: Iterable[str]
    ) -> None:
        for session in store_rows(database, rows, asked, whole):
            with suppress(OnefsError):
                self._note_session(session)


def store_rows(
    database: CatalogueDatabase, rows: list[Row], asked: float, whole: Iterable[str] = ()
) -> list[Session]:
    """Store the insertions in rows of ``/insertions``, and their sessions.

    ``whole`` is described at :meth:`CatalogueDatabase.store_insertions`. Return the sessions that
    were not stored before.
    """
    insertions = parsing.parse_rows(rows, parsing.parse_insertion, "insertions")
    sessions = {item[0].eid: item for item in map(parsing.parse_session_of_insertion, rows) if item}
    known = {each.eid for each in database.sessions_by_eid(list(sessions))}
    new = [item for eid, item in sessions.items() if eid not in known]
    if new:  # so that no session needs a request of its own
        database.store_search_results(new)
    database.store_insertions(insertions, asked, filter(None, whole))
    return [session for session, _ in new]


def _of_sessions(rows: list[Row], eids: Sequence[str]) -> list[Row]:
    """Return the rows. Raises ServerError if a row is of another session than those."""
    # a server that does not know a filter sends the insertions of all sessions
    if any(parsing.session_id_of(row) not in eids for row in rows):
        raise ServerError("Alyx sent insertions of other sessions than requested")
    return rows

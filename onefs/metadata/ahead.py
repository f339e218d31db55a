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
from onefs.errors import (
    DeadlineExceeded,
    NotFound,
    OnefsError,
    Stopping,
    Throttled,
    Unreachable,
)
from onefs.metadata.alyx import MOST_IDS, Alyx
from onefs.metadata.bulk import Bulk
from onefs.metadata.claims import Claims
from onefs.metadata.database import Database
from onefs.metadata.listings import Batch, Listings
from onefs.metadata.pages import PAGE
from onefs.metadata.rows import DatasetRow
from onefs.metadata.walks import Walks
from onefs.model import Session

log = logging.getLogger(__name__)

#: seconds for which a batch that somebody waits for leaves the budget's reserve alone
MODEST_FOR = 2.0
#: seconds that a subject's listing waits for that of the whole lab, which takes many where it has
#: thousands of sessions, before it is asked for alone
LAB_WAIT = 0.5
#: seconds for which stale listings are gathered before they are asked for together
GATHER = 0.3
#: sessions of a lab that tell how many fit in a page
_SAMPLES = 30
#: datasets of a session in the International Brain Laboratory's database
_USUAL_DATASETS = 40
#: the part of the deadline that one request of a batch may take
_SHARE = 0.6
#: the part of the deadline for which a batch of another process is waited for: a slow server, or
#: a busy machine, takes longer for a batch, and this must not make each process ask for it
_CLAIM_SHARE = 0.3


def key_of(eid: str) -> str:
    """The key of a session's datasets."""
    return f"datasets/{eid}"


def _sessions_key(lab: str, subject: str) -> str:
    return f"sessions/{lab}/{subject}"


class Ahead:
    """The batches of one catalogue. Thread-safe."""

    def __init__(
        self,
        database: Database,
        alyx: Alyx,
        listings: Listings,
        deadline: float,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._awaited = alyx.modest(MODEST_FOR, deadline * _SHARE)
        self._background = alyx.modest()
        self._in_bulk = alyx.modest(MODEST_FOR)
        self._listings = listings
        self._clock = clock
        self._walks = Walks(clock)
        self._lock = Lock()
        self._stale: dict[str, Session] = {}
        #: the stale sessions that are being asked for
        self._asking: frozenset[str] = frozenset()
        self._closed = Event()
        folder = database.path.with_name(f"{database.path.name}-claims")
        self._claims = Claims(folder, deadline * _CLAIM_SHARE, self._closed)

    def close(self) -> None:
        """Begin no further request."""
        self._closed.set()

    def datasets(self, session: Session, scope: tuple[str, ...]) -> Batch | None:
        """What to ask for when a session's datasets are not known; None: those alone."""
        step = self._walks.unknown_session(session)
        if step.sessions == 1:
            return None
        floor = self._listings.forced.at(scope)
        coming = self._listings.under_way()
        most = step.sessions + len(coming)
        found = self._database.unlisted(session, most, floor, step.across_subjects)
        eids = [eid for eid in found if key_of(eid) not in coming][: step.sessions]
        if len(eids) == 1:
            return None
        return Batch(
            tuple(map(key_of, eids)), lambda: self._fetch_awaited(session.lab, eids, floor)
        )

    def sessions(self, lab: str, subject: str) -> Batch | None:
        """What to ask for besides when a subject's sessions are not known; None: nothing.

        The subject's own are asked for alone at the same time: a lab may have thousands.
        """
        if not self._walks.unknown_subject(lab, subject):
            return None
        floor = self._listings.forced.at((alf.lab_folder(lab), alf.subject_folder(subject)))
        unlisted = self._database.unlisted_subjects(lab)
        names = [name for name in unlisted or self._aged(lab, floor) if name != subject]
        if not names:
            return None
        keys = tuple(_sessions_key(lab, name) for name in names)
        return Batch(keys, lambda: self._fetch_sessions(lab, names, keys, floor))

    def _aged(self, lab: str, floor: float) -> list[str]:
        """The subjects of a lab that are wanted anew: listed before ``floor``."""
        names = self._database.subjects(lab) if floor else []
        age = self._database.fetched_at
        return [name for name in names if (age(_sessions_key(lab, name)) or 0.0) < floor]

    def learn(self, session: Session, found: Sequence[DatasetRow]) -> None:
        """A session has been listed alone."""
        self._walks.learn(session.lab, len(found))

    def refresh(self, session: Session) -> None:
        """Ask for a session's datasets behind, together with whatever else is stale by then."""
        with self._lock:
            if session.eid in self._asking:
                return
            self._stale[session.eid] = session
        self._listings.run(Batch(("stale datasets",), self._refresh_stale))

    def complete(self, sessions: Sequence[Session]) -> dict[str, OnefsError]:
        """Ask for the datasets of sessions that are not listed, or only by cache tables; see
        :meth:`Bulk.run`."""
        of_lab: dict[str, list[str]] = {}
        for session in sessions:
            of_lab.setdefault(session.lab, []).append(session.eid)
        for lab, eids in of_lab.items():
            for eid in filter(self._is_from_tables, eids[:_SAMPLES]):
                self._walks.learn(lab, len(self._database.datasets(eid)))
        return Bulk(of_lab, self._fetch_in_bulk, self._walks.room).run()

    def prepare(self, eids: Sequence[str], met: Callable[[Session], None]) -> None:
        """Ask for sessions that are not known and for datasets that are not listed, many with a
        request.

        ``met`` is called with each session that was not known. Errors are those of :class:`Alyx`
        and of the catalogue's file; what was not brought can be asked for alone.
        """
        unknown = [eid for eid in eids if self._database.session(eid) is None]
        for begin in range(0, len(unknown), MOST_IDS):
            asked = self._clock()
            some = unknown[begin : begin + MOST_IDS]
            for session, numbered in self._in_bulk.sessions_by_eid(some):
                self._database.store_session(session, numbered, asked)
                met(session)
        known = [session.eid for session in self._database.sessions_of(eids)]
        wanted = self._unlisted(known)
        if len(wanted) > 1:
            self._walks.learn("", _USUAL_DATASETS)
            Bulk({"": wanted}, self._fetch_in_bulk, self._walks.room).run()

    def _unlisted(self, eids: Sequence[str]) -> list[str]:
        """Those of some sessions that are not listed, or only by cache tables."""
        unlisted = set(self._database.not_listed(eids, 0.0))
        return [eid for eid in eids if eid in unlisted or self._is_from_tables(eid)]

    def _is_from_tables(self, eid: str) -> bool:
        return self._database.is_from_tables(key_of(eid))

    def _fetch_in_bulk(self, lab: str, eids: Sequence[str]) -> Set[str]:
        if self._closed.is_set():
            raise Stopping("onefs is being stopped")
        # what another process has brought meanwhile need not be asked for
        wanted = self._unlisted(eids)
        try:
            found = self._fetch(self._in_bulk, lab, wanted) if wanted else frozenset[str]()
        except OnefsError as error:
            self._listings.note((), error)
            raise
        return found | (set(eids) - set(wanted))

    def _fetch_awaited(self, lab: str, eids: Sequence[str], floor: float) -> None:
        try:
            with self._claims.of(lab):
                # what another process has brought meanwhile need not be asked for
                if wanted := self._database.not_listed(eids, floor):
                    self._fetch(self._awaited, lab, wanted)
        except OnefsError as error:
            # the listings themselves have not failed: who wants one asks for it alone
            self._failed(lab, (), error)

    def _fetch_sessions(
        self, lab: str, names: Sequence[str], keys: Sequence[str], floor: float
    ) -> None:
        try:
            # a claim of its own: datasets are asked for meanwhile
            with self._claims.of(f"{lab}/sessions"):
                if (self._database.fetched_at(keys[-1]) or -1.0) >= floor:
                    return  # by another process, meanwhile
                asked = self._clock()
                found = self._awaited.sessions_of_lab(lab)
                self._database.store_lab_sessions(lab, names, found, asked)
        except OnefsError as error:
            self._failed(lab, (), error)
        else:
            self._listings.note([*keys, f"subjects/{lab}"], None)

    def _refresh_stale(self) -> None:
        self._gather()
        while not self._closed.is_set() and (sessions := self._some_stale()):
            lab, eids = sessions[0].lab, [session.eid for session in sessions]
            try:
                self._fetch(self._background, lab, eids)
            except OnefsError as error:
                self._failed(lab, map(key_of, eids), error)
                with self._lock:
                    self._stale.clear()  # they are stale still, and come again
            finally:
                with self._lock:
                    self._asking = frozenset()
            self._gather()

    def _gather(self) -> None:
        """Let less than a page of stale sessions grow: nobody waits for them, and a slow walk's
        next sessions are better asked for with them."""
        with self._lock:
            lab = next((session.lab for session in self._stale.values()), None)
            waiting = len(self._stale)
        if lab is None or waiting < self._walks.room(lab):
            self._closed.wait(GATHER)

    def _fetch(self, alyx: Alyx, lab: str, eids: Sequence[str]) -> Set[str]:
        """Ask for the datasets of these sessions, or of the first of them when they are too many
        for a page, and store them. Gives those that were asked for. Raises as Alyx does."""
        began = self._clock()
        while (found := _ask(alyx, eids)) is None:
            self._walks.learn(lab, PAGE // len(eids) + 1)
            eids = eids[: len(eids) // 2]
        asked = frozenset(found)
        for eid in [eid for eid, rows in found.items() if not rows]:
            if len(asked) > 1 and self._database.datasets(eid):
                # a session that had datasets: an empty folder needs Alyx's word on it alone
                try:
                    found[eid] = alyx.datasets(eid)
                except NotFound as error:  # the others' datasets have come all the same
                    del found[eid]
                    self._listings.note([key_of(eid)], error)
        self._database.store_datasets_of(found, began)
        for rows in found.values():
            self._walks.learn(lab, len(rows))
        self._listings.note(map(key_of, found), None)
        return asked

    def _some_stale(self) -> list[Session]:
        """As many stale sessions of one lab as fit in a page, taken off the list."""
        with self._lock:
            if not self._stale:
                return []
            lab = next(iter(self._stale.values())).lab
            chosen = [session for session in self._stale.values() if session.lab == lab]
            chosen = chosen[: self._walks.room(lab)]
            for session in chosen:
                del self._stale[session.eid]
            self._asking = frozenset(session.eid for session in chosen)
            return chosen

    def _failed(self, lab: str, keys: Iterable[str], error: OnefsError) -> None:
        """A batch has failed: a server that answers and does not like it is left in peace."""
        if not isinstance(error, (Unreachable, DeadlineExceeded, Throttled, NotFound, Stopping)):
            self._walks.refused(lab)
        log.info("a batch for lab %s failed: %s", lab, error)
        self._listings.note(keys, error)


def _ask(alyx: Alyx, eids: Sequence[str]) -> dict[str, list[DatasetRow]] | None:
    """The datasets of these sessions; None when they are too many for a page."""
    if len(eids) == 1:
        return {eids[0]: alyx.datasets(eids[0])}
    return alyx.datasets_of(eids)

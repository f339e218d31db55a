"""The catalogue: the only one who decides whether to ask Alyx.

A listing is asked for whole, once, however many callers want it; kept in SQLite with the time it
was taken; served while it is fresh, and served stale while one refresh runs behind. A refresh
that fails changes nothing. Network trouble is an error of its own kind, never "not found".
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from threading import Lock
from typing import Any, Generic, TypeVar, cast

from cachetools import LRUCache

from onefs import alf
from onefs.errors import AlyxCredentials, DeadlineExceeded, NotFound, OnefsError, Unreachable
from onefs.flights import Flights
from onefs.metadata.alyx import Alyx
from onefs.metadata.database import Database
from onefs.metadata.rows import usable_copies
from onefs.model import Dataset, Repository, Session

log = logging.getLogger(__name__)

T = TypeVar("T")

#: seconds that a listing stays fresh (docs/SEMANTICS.md promises these)
LABS_AGE = 3600.0
SUBJECTS_AGE = 3600.0
REPOSITORIES_AGE = 86400.0
RECENT_AGE = 300.0
MONTH_AGE = 3600.0
OLD_AGE = 86400.0

#: seconds during which a listing that just failed is not asked for again
FAILURE_PAUSE = 2.0
#: listings kept in memory
HOT_LISTINGS = 4096


class Listing(Generic[T]):
    """A listing at one moment. Two reads that give the same object gave the same answer."""

    __slots__ = ("fetched_at", "value")

    def __init__(self, value: T, fetched_at: float) -> None:
        self.value = value
        self.fetched_at = fetched_at


class Catalogue:
    """What exists, by SQLite first and Alyx when need be. Thread-safe.

    ``deadline`` bounds, in seconds, how long any caller waits for Alyx. Methods raise NotFound
    only when Alyx or the catalogue has said so; otherwise Unreachable, DeadlineExceeded,
    AlyxCredentials, Throttled, ServerError, CacheError or Stopping.
    """

    def __init__(
        self,
        database: Database,
        alyx: Alyx,
        *,
        deadline: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._alyx = alyx
        self._deadline = deadline
        self._clock = clock
        self._flights: Flights[Listing[Any]] = Flights("onefs-list", workers=8)
        self._lock = Lock()
        self._hot: LRUCache[str, Listing[Any]] = LRUCache(HOT_LISTINGS)
        self._failed: LRUCache[str, tuple[float, OnefsError]] = LRUCache(HOT_LISTINGS)
        self._offline = False
        #: Alyx has refused us since it last answered
        self._refused = False
        if database.fact("created") is None:
            database.set_fact("created", repr(clock()))
        #: when this catalogue was begun, in seconds since the epoch: the date of what has none
        self.created = float(database.fact("created") or clock())
        if database.fact("alyx_url") != alyx.url:
            # the server has moved (the embedded one does at each start): its files with it
            database.forget("repositories")
            database.set_fact("alyx_url", alyx.url)

    @property
    def url(self) -> str:
        """The database's address."""
        return self._alyx.url

    @property
    def offline(self) -> bool:
        """Whether the last request to Alyx found no server."""
        return self._offline

    def close(self) -> None:
        """Wake who waits, with Stopping."""
        self._flights.close()

    def check(self) -> None:
        """Ask Alyx for the labs now: raises what stands in the way of asking it."""
        self._refresh("labs", lambda: self._fetch_labs("labs"))

    def is_empty(self) -> bool:
        """Whether nothing was ever listed, so that there is nothing to serve without a server."""
        return self._database.is_empty()

    def labs(self) -> Listing[list[str]]:
        """Names of all labs."""
        return self._listing("labs", LABS_AGE, self._fetch_labs, lambda: self._database.labs())

    def subjects(self, lab: str) -> Listing[list[str]]:
        """Nicknames of a lab's subjects."""

        def fetch(key: str) -> None:
            self._database.store_subjects(lab, self._alyx.subjects(lab), self._clock())

        return self._listing(
            f"subjects/{lab}", SUBJECTS_AGE, fetch, lambda: self._database.subjects(lab)
        )

    def sessions(self, lab: str, subject: str) -> Listing[list[Session]]:
        """A subject's sessions, by date and number. Those without a number are left out."""

        def fetch(key: str) -> None:
            found = self._alyx.sessions(lab, subject)
            self._database.store_sessions(lab, subject, found, self._clock())

        def load() -> list[Session]:
            return [s for s in self._database.sessions(lab, subject) if alf.is_date(s.date)]

        return self._listing(f"sessions/{lab}/{subject}", RECENT_AGE, fetch, load)

    def datasets(self, session: Session) -> Listing[list[Dataset]]:
        """The datasets of a session that can be fetched, in a stable order."""
        eid = session.eid
        repositories = self.repositories()

        def fetch(key: str) -> None:
            self._database.store_datasets(eid, self._alyx.datasets(eid), self._clock())

        def load() -> list[Dataset]:
            known = repositories.value
            found = (
                replace(row.dataset, copies=usable_copies(row.claimed, known))
                for row in self._database.datasets(eid)
            )
            return [dataset for dataset in found if dataset.copies]

        return self._listing(f"datasets/{eid}", self._session_age(session), fetch, load)

    def repositories(self) -> Listing[dict[str, Repository]]:
        """Every repository, by name."""

        def fetch(key: str) -> None:
            self._database.store_repositories(self._alyx.repositories(), self._clock())
            self._drop_hot("datasets/")  # their addresses may have changed

        return self._listing(
            "repositories", REPOSITORIES_AGE, fetch, lambda: self._database.repositories()
        )

    def session(self, eid: str) -> Session:
        """One session by its eid. Raises NotFound when Alyx has none, or it has no number."""

        def fetch(key: str) -> None:
            found, numbered = self._alyx.session(eid)
            self._database.store_session(found, numbered, self._clock())

        known = self._database.session(eid)
        if known is not None:
            return known
        found = self._listing(
            f"session/{eid}", RECENT_AGE, fetch, lambda: self._database.session(eid)
        )
        if found.value is None:
            raise NotFound(f"session {eid} has no number, so it has no folder")
        return found.value

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        """The sessions that a ref names: none, one, or one for each lab with that nickname."""

        def fetch(key: str) -> None:
            found = self._alyx.sessions_by_ref(ref.subject, ref.date, ref.number)
            self._database.store_by_ref(ref, found, self._clock())

        return self._listing(
            f"ref/{ref.date}_{ref.number}_{ref.subject}",
            RECENT_AGE,
            fetch,
            lambda: self._database.sessions_by_ref(ref),
        ).value

    def record(self, session: Session) -> Listing[str]:
        """The whole Alyx record of a session: JSON, sorted keys, indent 2, newline at the end."""
        eid = session.eid

        def fetch(key: str) -> None:
            body = json.dumps(
                self._alyx.session_record(eid), sort_keys=True, indent=2, ensure_ascii=False
            )
            self._database.store_record(eid, body + "\n", self._clock())

        return self._listing(
            f"record/{eid}",
            self._session_age(session),
            fetch,
            lambda: self._database.record(eid) or "",
        )

    def remember_size(self, dataset: Dataset, size: int) -> None:
        """Keep the size that a file server gave for a dataset whose size Alyx lacks."""
        self._database.store_probed(dataset.id, size)
        self._drop_hot(f"datasets/{dataset.eid}")

    # -- how a listing comes about

    def _listing(
        self, key: str, max_age: float, fetch: Callable[[str], None], load: Callable[[], T]
    ) -> Listing[T]:
        now = self._clock()
        listing = self._known(key, load, now)

        def refresh() -> Listing[Any]:
            return self._refresh(key, lambda: fetch(key), load)

        if listing is None:
            self._raise_recent_failure(key, now)
            return cast(
                "Listing[T]", self._flights.wait(key, refresh, self._deadline, f"listing {key}")
            )
        if now - listing.fetched_at > max_age and not self._failed_recently(key, now):
            self._flights.start(key, refresh)
        return listing

    def _known(self, key: str, load: Callable[[], T], now: float) -> Listing[T] | None:
        """The listing in memory, or else in SQLite, whatever its age."""
        with self._lock:
            hot = cast("Listing[T] | None", self._hot.get(key))
        if hot is not None and now - hot.fetched_at < RECENT_AGE:
            return hot
        fetched_at = self._database.fetched_at(key)
        if fetched_at is None:
            return None
        if hot is not None and hot.fetched_at == fetched_at:
            return hot
        return self._keep(key, Listing(load(), fetched_at))

    def _keep(self, key: str, listing: Listing[T]) -> Listing[T]:
        with self._lock:
            self._hot[key] = listing
        return listing

    def _refresh(
        self, key: str, fetch: Callable[[], None], load: Callable[[], T] | None = None
    ) -> Listing[Any]:
        """Ask Alyx, store, and give the new listing. Failures are remembered for a moment."""
        try:
            fetch()
        except OnefsError as error:
            self._note_failure(key, error)
            raise
        self._note_success(key)
        fetched_at = self._database.fetched_at(key) or self._clock()
        listing = Listing(load() if load else None, fetched_at)
        return self._keep(key, listing) if load else listing

    def _note_failure(self, key: str, error: OnefsError) -> None:
        with self._lock:
            self._failed[key] = (self._clock(), error)
        away = isinstance(error, (Unreachable, DeadlineExceeded))
        if away and not self._offline:
            self._offline = True
            log.warning("%s is away, what is known is still served: %s", self._alyx.url, error)
        elif isinstance(error, AlyxCredentials):
            if not self._refused:
                self._refused = True
                log.warning("%s (what is known is still served)", error)
        elif not away and not isinstance(error, NotFound):
            log.warning("listing %s failed: %s", key, error)

    def _note_success(self, key: str) -> None:
        with self._lock:
            self._failed.pop(key, None)
        self._refused = False
        if self._offline:
            self._offline = False
            log.info("%s answers again", self._alyx.url)

    def _failed_recently(self, key: str, now: float) -> OnefsError | None:
        with self._lock:
            failure = self._failed.get(key)
        if failure is None or now - failure[0] > FAILURE_PAUSE:
            return None
        return failure[1]

    def _raise_recent_failure(self, key: str, now: float) -> None:
        error = self._failed_recently(key, now)
        if error is not None:
            raise error.with_traceback(None)  # it is raised many times: let none pile up

    def _drop_hot(self, prefix: str) -> None:
        with self._lock:
            for key in [key for key in self._hot if key.startswith(prefix)]:
                del self._hot[key]

    def _fetch_labs(self, key: str) -> None:
        self._database.store_labs(self._alyx.labs(), self._clock())

    def _session_age(self, session: Session) -> float:
        """How long a session's listing stays fresh: the older the session, the longer."""
        today = date.fromtimestamp(self._clock())
        if session.date >= (today - timedelta(days=7)).isoformat():
            return RECENT_AGE
        if session.date >= (today - timedelta(days=31)).isoformat():
            return MONTH_AGE
        return OLD_AGE

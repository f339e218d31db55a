"""How a listing comes about: from memory, from SQLite, from Alyx; once for all who want it.

A listing is served while it is fresh, and served stale while one refresh runs behind. One that
is not known is waited for; one that the user wants anew (``onefs refresh``) too, and kept when
that fails. A refresh that fails changes nothing. An answer that cannot be stored, since the disk is
full or another process has the file locked, is served from memory and stored the next time; a
stored row that cannot be read makes its listing unknown, so that it is asked for anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sized
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic, TypeVar, cast

from cachetools import LRUCache

from onefs.errors import (
    AlyxCredentials,
    CacheError,
    DeadlineExceeded,
    NotFound,
    OnefsError,
    Stopping,
    Throttled,
    again,
    without_frames,
)
from onefs.flights import Flights
from onefs.metadata.alyx import Alyx
from onefs.metadata.database import Database
from onefs.metadata.forced import LOOK, Forced, Scope
from onefs.metadata.freshness import FAILURE_PAUSE, RECENT_AGE
from onefs.metadata.presence import Presence
from onefs.sqlite import MEMORY

log = logging.getLogger(__name__)
#: failures that the asker gets as errors, or that what is known stands in for
refreshes = logging.getLogger(f"{__name__}.refresh")

T = TypeVar("T")

#: stores an answer of Alyx in a database, with the time of the question: what has changed between
#: question and answer need not be in it
Store = Callable[[Database, float], None]

#: rows of listings kept in memory, all listings together
HOT_ROWS = 20_000
#: characters of a text that count as one row
_TEXT = 500
#: listings whose last failure is remembered
_FAILURES = 4096
#: seconds by which the clocks of those who write one catalogue may differ
_AHEAD = 60.0
#: seconds between two log lines that the catalogue's file cannot be used
_TOLD_EVERY = 600.0
#: the part of the deadline that a batch may take: the rest is for asking alone
_BATCH_SHARE = 0.6


class Listing(Generic[T]):
    """A listing at one moment. Two reads that give the same object gave the same answer."""

    __slots__ = ("checked", "fetched_at", "from_tables", "unstored", "value")

    def __init__(
        self, value: T, fetched_at: float, from_tables: bool = False, unstored: bool = False
    ) -> None:
        self.value = value
        self.fetched_at = fetched_at
        #: whether SQLite lacks it, since it could not be stored
        self.unstored = unstored
        #: whether it is what cache tables said
        self.from_tables = from_tables
        #: when SQLite was last found to have nothing newer (``time.monotonic``)
        self.checked = time.monotonic()

    def weight(self) -> int:
        """How much memory it takes, in rows."""
        if isinstance(self.value, str):
            return 1 + len(self.value) // _TEXT
        return 1 + len(self.value) if isinstance(self.value, Sized) else 1


@dataclass(frozen=True, slots=True)
class Batch:
    """One piece of work that brings several listings. It never raises: what it does not bring
    is asked for alone."""

    keys: tuple[str, ...]
    work: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Wanted(Generic[T]):
    """A listing, and what can be done to have it."""

    key: str
    #: seconds that it stays fresh
    max_age: float
    #: ask this Alyx, and give what stores the answer
    fetch: Callable[[Alyx], Store]
    #: take it from a database
    load: Callable[[Database], T]
    #: where it stands in the tree; None: nowhere, and every ``onefs refresh`` is for it
    scope: Scope | None = ()
    #: a batch that brings it along, when it is not known
    ahead: Callable[[], Batch | None] | None = None
    #: seconds that a batch which is under way is waited for, and one that begins not at all; None:
    #: as long as leaves time for asking alone
    batch_wait: float | None = None
    #: another way to refresh it behind
    later: Callable[[], None] | None = None
    #: seconds that it stays fresh as cache tables had it; None: no longer than otherwise
    tables_age: float | None = None

    def age(self, listing: Listing[T]) -> float:
        """Seconds that this listing stays fresh."""
        if listing.from_tables and self.tables_age is not None:
            return self.tables_age
        return self.max_age


class Listings:
    """The listings of one catalogue. Thread-safe; errors as :class:`Catalogue` says."""

    def __init__(
        self,
        database: Database,
        alyx: Alyx,
        presence: Presence,
        deadline: float,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._alyx = alyx
        self._presence = presence
        self._deadline = deadline
        self._clock = clock
        self.forced = Forced(database)
        self._tables_version = database.tables_version()
        self._flights: Flights[Listing[Any]] = Flights("onefs-list", workers=8)
        self._behind: Flights[Listing[Any]] = Flights("onefs-refresh", workers=2)
        self._batches: Flights[None] = Flights("onefs-batch", workers=4)
        self._lock = Lock()
        self._planning = Lock()
        self._expected: dict[str, Future[None]] = {}
        self._hot: LRUCache[str, Listing[Any]] = LRUCache(HOT_ROWS, getsizeof=Listing.weight)
        self._failed: LRUCache[str, tuple[float, OnefsError]] = LRUCache(_FAILURES)
        self._tells_at = 0.0
        self._closed = False

    def close(self) -> None:
        """Wake who waits, with Stopping."""
        self._closed = True
        for flights in (self._flights, self._behind, self._batches):
            flights.close()

    def look_again(self) -> None:
        """Read what is wanted anew, and forget failures: the next look may ask at once."""
        self._presence.forget_failure()
        with self._lock:
            self._failed.clear()
        self.forced.look()

    def get(self, wanted: Wanted[T]) -> Listing[T]:
        """The listing, as the module's text says."""
        self._notice_tables()
        now = self._clock()
        listing = self._known(wanted, now)
        if listing is None:
            return self._cold(wanted, now)
        if listing.fetched_at < self.forced.at(wanted.scope):
            return self._anew(wanted, now)
        if not _is_young(wanted, listing, now) and self._may_refresh(wanted.key, now):
            self._refresh_behind(wanted)
        return listing

    def ask(self, wanted: Wanted[T]) -> Listing[T]:
        """The listing as Alyx has it now. Raises what stands in the way of asking."""
        return self._refresh(wanted, self._alyx)

    def really(self, wanted: Wanted[T]) -> Listing[T]:
        """The listing as Alyx has it now, asked for once by all who come at the same time."""
        return self._once(wanted, lambda: self._refresh(wanted, self._alyx))

    def current(self, wanted: Wanted[T]) -> Listing[T]:
        """The listing, asked for and waited for when it has aged.

        When that fails, an older answer of Alyx stands; what cache tables said does not, since
        they cannot know what is newer.
        """
        listing = self._fresh(wanted)
        if listing is not None:
            return listing
        try:
            return self._once(
                wanted, lambda: self._fresh(wanted) or self._refresh(wanted, self._alyx)
            )
        except Stopping:
            raise
        except OnefsError:
            known = self._stored(wanted)
            if known is None or known.fetched_at <= self._database.tables_created():
                raise
            return known

    def is_fresh(self, wanted: Wanted[Any]) -> bool:
        """Whether the listing is known, and neither aged nor wanted anew."""
        return self._fresh(wanted) is not None

    def begin(self, wanted: Wanted[Any]) -> None:
        """Ask for a listing in the background; :meth:`current` waits for the same request."""
        self._flights.start(
            wanted.key, lambda: self._fresh(wanted) or self._refresh(wanted, self._alyx)
        )

    def _once(self, wanted: Wanted[T], ask: Callable[[], Listing[T]]) -> Listing[T]:
        """What ``ask`` gives, once for all who come at the same time."""
        failure = self._failed_recently(wanted.key, self._clock())
        if failure is not None:
            raise again(failure)
        what = f"listing {wanted.key}"
        patience = self._presence.patience(self._deadline, what)
        return cast("Listing[T]", self._flights.wait(wanted.key, ask, patience, what))

    def run(self, batch: Batch) -> Future[None]:
        """Begin a batch, unless the very same one is under way; who wants its keys waits for it."""
        future = self._batches.start(batch.keys[0], batch.work)
        with self._lock:
            for key in batch.keys:
                self._expected.setdefault(key, future)
        future.add_done_callback(lambda done: self._ended(batch.keys, done))
        return future

    def under_way(self) -> frozenset[str]:
        """The keys that batches are bringing."""
        with self._lock:
            return frozenset(self._expected)

    def note(self, keys: Iterable[str], error: OnefsError | None) -> None:
        """Remember how asking for these listings has ended."""
        now = self._clock()
        if error is not None:
            without_frames(error)
        with self._lock:
            for key in keys:
                if error is None:
                    self._hot.pop(key, None)
                    self._failed.pop(key, None)
                else:
                    self._failed[key] = (now, error)
        if error is None:
            self._presence.answered()
        else:
            self._presence.failed(error)

    def drop(self, key: str) -> None:
        """Take a listing from SQLite the next time."""
        with self._lock:
            self._hot.pop(key, None)

    def drop_unless(self, key: str, is_right: Callable[[Any], bool]) -> bool:
        """Take a listing from SQLite the next time, if what is in memory is not right; whether it
        was not."""
        with self._lock:
            hot = self._hot.get(key)
        if hot is None or is_right(hot.value):
            return False
        self.drop(key)
        return True

    def drop_all(self, prefix: str) -> None:
        """Take all listings whose key begins so from SQLite the next time."""
        with self._lock:
            for key in [key for key in self._hot if key.startswith(prefix)]:
                del self._hot[key]

    # -- what is known

    def _notice_tables(self) -> None:
        """Forget what is in memory when a sync has put other cache tables there."""
        version = self._database.tables_version()
        if version != self._tables_version:
            self._tables_version = version
            self.drop_all("")

    def _known(self, wanted: Wanted[T], now: float) -> Listing[T] | None:
        """The listing in memory, or else in SQLite, whatever its age."""
        hot = self._in_memory(wanted)
        if hot is not None and (
            now - hot.fetched_at < RECENT_AGE or time.monotonic() - hot.checked < LOOK
        ):
            return hot
        return self._stored(wanted)

    def _fresh(self, wanted: Wanted[T]) -> Listing[T] | None:
        """The listing that is known, if it has not aged and is not wanted anew."""
        now = self._clock()
        listing = self._known(wanted, now)
        if listing is None or listing.fetched_at < self.forced.at(wanted.scope):
            return None
        return listing if _is_young(wanted, listing, now) else None

    def _in_memory(self, wanted: Wanted[T]) -> Listing[T] | None:
        with self._lock:
            return cast("Listing[T] | None", self._hot.get(wanted.key))

    def _stored(self, wanted: Wanted[T]) -> Listing[T] | None:
        """The listing in SQLite; the one in memory where SQLite has nothing newer."""
        hot = self._in_memory(wanted)
        try:
            fetched_at = self._database.fetched_at(wanted.key)
            if hot is not None and (
                hot.fetched_at == fetched_at
                or (hot.unstored and hot.fetched_at > (fetched_at or 0.0))
            ):
                hot.checked = time.monotonic()
                return hot
            if fetched_at is None:
                return None
            told = self._database.is_from_tables(wanted.key)
            return self._keep(wanted.key, Listing(wanted.load(self._database), fetched_at, told))
        except (CacheError, ValueError, TypeError) as error:  # the latter: values we never wrote
            self._tell(error, "what the catalogue cannot give is asked for anew")
            return hot

    def _new_enough(self, wanted: Wanted[T]) -> Listing[T] | None:
        """What somebody else has brought meanwhile, unless the user wants it newer."""
        listing = self._stored(wanted)
        fresh = listing is not None and listing.fetched_at >= self.forced.at(wanted.scope)
        return listing if fresh else None

    def _keep(self, key: str, listing: Listing[T]) -> Listing[T]:
        if listing.weight() <= HOT_ROWS:
            with self._lock:
                self._hot[key] = listing
        return listing

    # -- what is asked for

    def _cold(self, wanted: Wanted[T], now: float) -> Listing[T]:
        """A listing that nobody has: by the batch that brings it, or alone."""
        failure = self._failed_recently(wanted.key, now)
        if failure is not None:
            raise again(failure)
        what = f"listing {wanted.key}"
        patience = self._presence.patience(self._deadline, what)
        end = time.monotonic() + patience
        try:
            return (
                self._new_enough(wanted)
                or self._from_batch(wanted, patience * _BATCH_SHARE)
                or self._alone(wanted, end, what)
            )
        except DeadlineExceeded:
            if patience < self._deadline:  # it has been away, and still is
                raise self._presence.away(what) from None
            raise

    def _alone(self, wanted: Wanted[T], end: float, what: str) -> Listing[T]:
        """What one request brings, by the one that is under way if it is new enough."""

        def ask() -> Listing[T]:
            return self._new_enough(wanted) or self._refresh(wanted, self._alyx)

        def wait() -> Listing[T]:
            patience = max(end - time.monotonic(), 0.05)
            return cast("Listing[T]", self._flights.wait(wanted.key, ask, patience, what))

        began, listing = self._clock(), wait()
        if listing.fetched_at < min(began, self.forced.at(wanted.scope)):
            # asked for by somebody else before it was wanted anew: the answer may be the old one
            listing = wait()
        return listing

    def _from_batch(self, wanted: Wanted[T], patience: float) -> Listing[T] | None:
        """What a batch under way, or a new one, brings in time."""
        if wanted.ahead is None:
            return None
        if wanted.batch_wait is not None:
            patience = min(patience, wanted.batch_wait)
        with self._planning:  # of many who come at once, one plans
            with self._lock:
                under_way = self._expected.get(wanted.key)
            if under_way is None:
                try:
                    batch = wanted.ahead()
                except CacheError:  # then it is asked for alone
                    return None
                if batch is None:
                    return None
                under_way = self.run(batch)
                if wanted.batch_wait is not None:
                    return None
        wait_for([under_way], timeout=patience)
        return self._new_enough(wanted)

    def _anew(self, wanted: Wanted[T], now: float) -> Listing[T]:
        """A listing that the user wants from the server; what is known when that fails."""
        listing = self._stored(wanted)
        try:
            return self._cold(wanted, now)
        except NotFound:
            raise
        except OnefsError:
            if listing is None:
                raise
            return listing

    def _refresh_behind(self, wanted: Wanted[Any]) -> None:
        if wanted.later is not None:
            wanted.later()
        else:
            self._behind.start(wanted.key, lambda: self._refresh(wanted, self._alyx.modest()))

    def _refresh(self, wanted: Wanted[T], alyx: Alyx) -> Listing[T]:
        """Ask Alyx, store, and give the new listing. Failures are remembered for a moment."""
        asked = self._clock()
        try:
            store = wanted.fetch(alyx)
        except OnefsError as error:
            self.note([wanted.key], error)
            said = isinstance(error, AlyxCredentials | NotFound)  # the first by the presence
            if not said and not self._presence.offline:
                expected = self._closed or isinstance(error, Throttled | Stopping)
                level = logging.INFO if expected else logging.WARNING
                refreshes.log(level, "listing %s failed: %s", wanted.key, error)
            raise
        self.note([wanted.key], None)
        return self._keep(wanted.key, self._answered(wanted, store, asked))

    def _answered(self, wanted: Wanted[T], store: Store, asked: float) -> Listing[T]:
        """What Alyx has answered: stored and read back, or by way of memory where that fails."""
        try:
            store(self._database, asked)
            fetched_at = self._database.fetched_at(wanted.key) or asked
            return Listing(wanted.load(self._database), fetched_at)
        except CacheError as error:
            self._tell(error, "what Alyx answers is kept in memory only")
        scratch = Database(MEMORY)
        try:
            store(scratch, asked)
            return Listing(wanted.load(scratch), asked, unstored=True)
        finally:
            scratch.close()

    def _tell(self, error: Exception, result: str) -> None:
        if time.monotonic() > self._tells_at:
            self._tells_at = time.monotonic() + _TOLD_EVERY
            log.warning("%s; %s", error, result)

    def _may_refresh(self, key: str, now: float) -> bool:
        return self._presence.may_ask() and self._failed_recently(key, now) is None

    def _failed_recently(self, key: str, now: float) -> OnefsError | None:
        with self._lock:
            failure = self._failed.get(key)
        if failure is None or now - failure[0] > FAILURE_PAUSE:
            return None
        return failure[1]

    def _ended(self, keys: tuple[str, ...], done: Future[None]) -> None:
        with self._lock:
            for key in keys:
                if self._expected.get(key) is done:
                    del self._expected[key]


def _is_young(wanted: Wanted[T], listing: Listing[T], now: float) -> bool:
    """Whether a listing has not aged; one of the future was taken before the clock was set back,
    and its age is not known."""
    return -_AHEAD <= now - listing.fetched_at <= wanted.age(listing)

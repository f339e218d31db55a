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

from onefs.alyx.client import AlyxClient
from onefs.catalogue.availability import ServerAvailability
from onefs.catalogue.invalidation import RELOAD_INTERVAL_SECONDS, Invalidations, TreePath
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.catalogue.ttl import FAILURE_PAUSE_SECONDS, RECENT_TTL_SECONDS
from onefs.errors import (
    AlyxCredentials,
    CacheError,
    DeadlineExceeded,
    NotFound,
    OnefsError,
    Stopping,
    Throttled,
    copy_error,
    strip_tracebacks,
)
from onefs.lowlevel.single_flight import SingleFlight
from onefs.lowlevel.sqlite_file import IN_MEMORY

log = logging.getLogger(__name__)
#: failures that the asker gets as errors, or that what is known stands in for
refresh_log = logging.getLogger(f"{__name__}.refresh")

T = TypeVar("T")

#: stores an answer of Alyx in a database, with the time of the question: what has changed between
#: question and answer need not be in it
StoreAnswer = Callable[[CatalogueDatabase, float], None]

#: rows of listings kept in memory, all listings together
MAX_MEMORY_ROWS = 20_000
#: characters of a text that count as one row
_CHARACTERS_PER_ROW = 500
#: listings whose last failure is remembered
_MAX_FAILURES = 4096
#: seconds by which the clocks of those who write one catalogue may differ
_MAX_CLOCK_SKEW_SECONDS = 60.0
#: seconds between two log lines that the catalogue's file cannot be used
_LOG_INTERVAL_SECONDS = 600.0
#: the part of the deadline that a batch may take: the rest is for asking alone
_BATCH_DEADLINE_SHARE = 0.6


class Listing(Generic[T]):
    """A listing at one moment. Two reads that give the same object gave the same answer."""

    __slots__ = ("checked_at", "fetched_at", "from_tables", "unstored", "value")

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
        self.checked_at = time.monotonic()

    def row_count(self) -> int:
        """How much memory it takes, in rows."""
        if isinstance(self.value, str):
            return 1 + len(self.value) // _CHARACTERS_PER_ROW
        return 1 + len(self.value) if isinstance(self.value, Sized) else 1


@dataclass(frozen=True, slots=True)
class Batch:
    """One piece of work that brings several listings. It never raises: what it does not bring
    is asked for alone."""

    keys: tuple[str, ...]
    work: Callable[[], None]


@dataclass(frozen=True, slots=True)
class ListingRequest(Generic[T]):
    """A listing, and what can be done to have it."""

    key: str
    #: seconds that it stays fresh
    ttl_seconds: float
    #: ask this Alyx, and give what stores the answer
    fetch: Callable[[AlyxClient], StoreAnswer]
    #: take it from a database
    load: Callable[[CatalogueDatabase], T]
    #: where it stands in the tree; None: nowhere, and every ``onefs refresh`` is for it
    scope: TreePath | None = ()
    #: a batch that brings it along, when it is not known
    plan_batch: Callable[[], Batch | None] | None = None
    #: seconds that a batch which is under way is waited for, and one that begins not at all; None:
    #: as long as leaves time for asking alone
    batch_wait_seconds: float | None = None
    #: another way to refresh it behind
    start_refresh: Callable[[], None] | None = None
    #: seconds that it stays fresh as cache tables had it; None: no longer than otherwise
    tables_ttl_seconds: float | None = None

    def ttl_of(self, listing: Listing[T]) -> float:
        """Seconds that this listing stays fresh."""
        if listing.from_tables and self.tables_ttl_seconds is not None:
            return self.tables_ttl_seconds
        return self.ttl_seconds


class ListingCache:
    """The listings of one catalogue. Thread-safe; errors as :class:`Catalogue` says."""

    def __init__(
        self,
        database: CatalogueDatabase,
        alyx: AlyxClient,
        presence: ServerAvailability,
        deadline: float,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._alyx = alyx
        self._availability = presence
        self._deadline = deadline
        self._clock = clock
        self.invalidations = Invalidations(database)
        self._tables_version = database.tables_version()
        self._flights: SingleFlight[Listing[Any]] = SingleFlight("onefs-list", workers=8)
        self._background_flights: SingleFlight[Listing[Any]] = SingleFlight(
            "onefs-refresh", workers=2
        )
        self._batches: SingleFlight[None] = SingleFlight("onefs-batch", workers=4)
        self._lock = Lock()
        self._planning_lock = Lock()
        self._pending_batches: dict[str, Future[None]] = {}
        self._memory: LRUCache[str, Listing[Any]] = LRUCache(
            MAX_MEMORY_ROWS, getsizeof=Listing.row_count
        )
        self._negative_cache: LRUCache[str, tuple[float, OnefsError]] = LRUCache(_MAX_FAILURES)
        self._next_log_at = 0.0
        self._closed = False

    def close(self) -> None:
        """Wake who waits, with Stopping."""
        self._closed = True
        for flights in (self._flights, self._background_flights, self._batches):
            flights.close()

    def reload_invalidations(self) -> None:
        """Read what is wanted anew, and forget failures: the next look may ask at once."""
        self._availability.clear_failure()
        with self._lock:
            self._negative_cache.clear()
        self.invalidations.reload()

    def get(self, wanted: ListingRequest[T]) -> Listing[T]:
        """The listing, as the module's text says."""
        self._check_tables_version()
        now = self._clock()
        listing = self._find(wanted, now)
        if listing is None:
            return self._fetch_missing(wanted, now)
        if listing.fetched_at < self.invalidations.time_of(wanted.scope):
            return self._refetch_invalidated(wanted, now)
        if not _is_within_ttl(wanted, listing, now) and self._can_refresh(wanted.key, now):
            self._refresh_in_background(wanted)
        return listing

    def fetch(self, wanted: ListingRequest[T]) -> Listing[T]:
        """The listing as Alyx has it now. Raises what stands in the way of asking."""
        return self._fetch_and_store(wanted, self._alyx)

    def force_refresh(self, wanted: ListingRequest[T]) -> Listing[T]:
        """The listing as Alyx has it now, asked for once by all who come at the same time."""
        return self._fetch_shared(wanted, lambda: self._fetch_and_store(wanted, self._alyx))

    def get_fresh(self, wanted: ListingRequest[T]) -> Listing[T]:
        """The listing, asked for and waited for when it has aged.

        When that fails, an older answer of Alyx stands; what cache tables said does not, since
        they cannot know what is newer.
        """
        listing = self._find_fresh(wanted)
        if listing is not None:
            return listing
        try:
            return self._fetch_shared(
                wanted,
                lambda: self._find_fresh(wanted) or self._fetch_and_store(wanted, self._alyx),
            )
        except Stopping:
            raise
        except OnefsError:
            known = self._load_stored(wanted)
            if known is None or known.fetched_at <= self._database.tables_created_at():
                raise
            return known

    def is_fresh(self, wanted: ListingRequest[Any]) -> bool:
        """Whether the listing is known, and neither aged nor wanted anew."""
        return self._find_fresh(wanted) is not None

    def start_fetch(self, wanted: ListingRequest[Any]) -> None:
        """Ask for a listing in the background; :meth:`current` waits for the same request."""
        self._flights.start(
            wanted.key,
            lambda: self._find_fresh(wanted) or self._fetch_and_store(wanted, self._alyx),
        )

    def _fetch_shared(self, wanted: ListingRequest[T], ask: Callable[[], Listing[T]]) -> Listing[T]:
        """What ``ask`` gives, once for all who come at the same time."""
        failure = self._recent_failure(wanted.key, self._clock())
        if failure is not None:
            raise copy_error(failure)
        what = f"listing {wanted.key}"
        patience = self._availability.wait_seconds(self._deadline, what)
        return cast("Listing[T]", self._flights.wait(wanted.key, ask, patience, what))

    def start_batch(self, batch: Batch) -> Future[None]:
        """Begin a batch, unless the very same one is under way; who wants its keys waits for it."""
        future = self._batches.start(batch.keys[0], batch.work)
        with self._lock:
            for key in batch.keys:
                self._pending_batches.setdefault(key, future)
        future.add_done_callback(lambda done: self._forget_batch(batch.keys, done))
        return future

    def pending_keys(self) -> frozenset[str]:
        """The keys that batches are bringing."""
        with self._lock:
            return frozenset(self._pending_batches)

    def record_outcome(self, keys: Iterable[str], error: OnefsError | None) -> None:
        """Remember how asking for these listings has ended."""
        now = self._clock()
        if error is not None:
            strip_tracebacks(error)
        with self._lock:
            for key in keys:
                if error is None:
                    self._memory.pop(key, None)
                    self._negative_cache.pop(key, None)
                else:
                    self._negative_cache[key] = (now, error)
        if error is None:
            self._availability.record_success()
        else:
            self._availability.record_failure(error)

    def drop_from_memory(self, key: str) -> None:
        """Take a listing from SQLite the next time."""
        with self._lock:
            self._memory.pop(key, None)

    def drop_from_memory_unless(self, key: str, is_right: Callable[[Any], bool]) -> bool:
        """Take a listing from SQLite the next time, if what is in memory is not right; whether it
        was not."""
        with self._lock:
            hot = self._memory.get(key)
        if hot is None or is_right(hot.value):
            return False
        self.drop_from_memory(key)
        return True

    def drop_prefix_from_memory(self, prefix: str) -> None:
        """Take all listings whose key begins so from SQLite the next time."""
        with self._lock:
            for key in [key for key in self._memory if key.startswith(prefix)]:
                del self._memory[key]

    # -- what is known

    def _check_tables_version(self) -> None:
        """Forget what is in memory when a sync has put other cache tables there."""
        version = self._database.tables_version()
        if version != self._tables_version:
            self._tables_version = version
            self.drop_prefix_from_memory("")

    def _find(self, wanted: ListingRequest[T], now: float) -> Listing[T] | None:
        """The listing in memory, or else in SQLite, whatever its age."""
        hot = self._in_memory(wanted)
        if hot is not None and (
            now - hot.fetched_at < RECENT_TTL_SECONDS
            or time.monotonic() - hot.checked_at < RELOAD_INTERVAL_SECONDS
        ):
            return hot
        return self._load_stored(wanted)

    def _find_fresh(self, wanted: ListingRequest[T]) -> Listing[T] | None:
        """The listing that is known, if it has not aged and is not wanted anew."""
        now = self._clock()
        listing = self._find(wanted, now)
        if listing is None or listing.fetched_at < self.invalidations.time_of(wanted.scope):
            return None
        return listing if _is_within_ttl(wanted, listing, now) else None

    def _in_memory(self, wanted: ListingRequest[T]) -> Listing[T] | None:
        with self._lock:
            return cast("Listing[T] | None", self._memory.get(wanted.key))

    def _load_stored(self, wanted: ListingRequest[T]) -> Listing[T] | None:
        """The listing in SQLite; the one in memory where SQLite has nothing newer."""
        hot = self._in_memory(wanted)
        try:
            fetched_at = self._database.fetched_at(wanted.key)
            if hot is not None and (
                hot.fetched_at == fetched_at
                or (hot.unstored and hot.fetched_at > (fetched_at or 0.0))
            ):
                hot.checked_at = time.monotonic()
                return hot
            if fetched_at is None:
                return None
            told = self._database.is_from_tables(wanted.key)
            return self._put_in_memory(
                wanted.key, Listing(wanted.load(self._database), fetched_at, told)
            )
        except (CacheError, ValueError, TypeError) as error:  # the latter: values we never wrote
            self._log_storage_error(error, "what the catalogue cannot give is asked for anew")
            return hot

    def _load_valid(self, wanted: ListingRequest[T]) -> Listing[T] | None:
        """What somebody else has brought meanwhile, unless the user wants it newer."""
        listing = self._load_stored(wanted)
        fresh = listing is not None and listing.fetched_at >= self.invalidations.time_of(
            wanted.scope
        )
        return listing if fresh else None

    def _put_in_memory(self, key: str, listing: Listing[T]) -> Listing[T]:
        if listing.row_count() <= MAX_MEMORY_ROWS:
            with self._lock:
                self._memory[key] = listing
        return listing

    # -- what is asked for

    def _fetch_missing(self, wanted: ListingRequest[T], now: float) -> Listing[T]:
        """A listing that nobody has: by the batch that brings it, or alone."""
        failure = self._recent_failure(wanted.key, now)
        if failure is not None:
            raise copy_error(failure)
        what = f"listing {wanted.key}"
        patience = self._availability.wait_seconds(self._deadline, what)
        end = time.monotonic() + patience
        try:
            return (
                self._load_valid(wanted)
                or self._fetch_by_batch(wanted, patience * _BATCH_DEADLINE_SHARE)
                or self._fetch_single(wanted, end, what)
            )
        except DeadlineExceeded:
            if patience < self._deadline:  # it has been away, and still is
                raise self._availability.unavailable_error(what) from None
            raise

    def _fetch_single(self, wanted: ListingRequest[T], end: float, what: str) -> Listing[T]:
        """What one request brings, by the one that is under way if it is new enough."""

        def ask() -> Listing[T]:
            return self._load_valid(wanted) or self._fetch_and_store(wanted, self._alyx)

        def wait() -> Listing[T]:
            patience = max(end - time.monotonic(), 0.05)
            return cast("Listing[T]", self._flights.wait(wanted.key, ask, patience, what))

        began, listing = self._clock(), wait()
        if listing.fetched_at < min(began, self.invalidations.time_of(wanted.scope)):
            # asked for by somebody else before it was wanted anew: the answer may be the old one
            listing = wait()
        return listing

    def _fetch_by_batch(self, wanted: ListingRequest[T], patience: float) -> Listing[T] | None:
        """What a batch under way, or a new one, brings in time."""
        if wanted.plan_batch is None:
            return None
        if wanted.batch_wait_seconds is not None:
            patience = min(patience, wanted.batch_wait_seconds)
        with self._planning_lock:  # of many who come at once, one plans
            with self._lock:
                under_way = self._pending_batches.get(wanted.key)
            if under_way is None:
                try:
                    batch = wanted.plan_batch()
                except CacheError:  # then it is asked for alone
                    return None
                if batch is None:
                    return None
                under_way = self.start_batch(batch)
                if wanted.batch_wait_seconds is not None:
                    return None
        wait_for([under_way], timeout=patience)
        return self._load_valid(wanted)

    def _refetch_invalidated(self, wanted: ListingRequest[T], now: float) -> Listing[T]:
        """A listing that the user wants from the server; what is known when that fails."""
        listing = self._load_stored(wanted)
        try:
            return self._fetch_missing(wanted, now)
        except NotFound:
            raise
        except OnefsError:
            if listing is None:
                raise
            return listing

    def _refresh_in_background(self, wanted: ListingRequest[Any]) -> None:
        if wanted.start_refresh is not None:
            wanted.start_refresh()
        else:
            self._background_flights.start(
                wanted.key, lambda: self._fetch_and_store(wanted, self._alyx.low_priority())
            )

    def _fetch_and_store(self, wanted: ListingRequest[T], alyx: AlyxClient) -> Listing[T]:
        """Ask Alyx, store, and give the new listing. Failures are remembered for a moment."""
        asked = self._clock()
        try:
            store = wanted.fetch(alyx)
        except OnefsError as error:
            self.record_outcome([wanted.key], error)
            said = isinstance(error, AlyxCredentials | NotFound)  # the first by the presence
            if not said and not self._availability.offline:
                expected = self._closed or isinstance(error, Throttled | Stopping)
                level = logging.INFO if expected else logging.WARNING
                refresh_log.log(level, "listing %s failed: %s", wanted.key, error)
            raise
        self.record_outcome([wanted.key], None)
        return self._put_in_memory(wanted.key, self._store_answer(wanted, store, asked))

    def _store_answer(
        self, wanted: ListingRequest[T], store: StoreAnswer, asked: float
    ) -> Listing[T]:
        """What Alyx has answered: stored and read back, or by way of memory where that fails."""
        try:
            store(self._database, asked)
            fetched_at = self._database.fetched_at(wanted.key) or asked
            return Listing(wanted.load(self._database), fetched_at)
        except CacheError as error:
            self._log_storage_error(error, "what Alyx answers is kept in memory only")
        scratch = CatalogueDatabase(IN_MEMORY)
        try:
            store(scratch, asked)
            return Listing(wanted.load(scratch), asked, unstored=True)
        finally:
            scratch.close()

    def _log_storage_error(self, error: Exception, result: str) -> None:
        if time.monotonic() > self._next_log_at:
            self._next_log_at = time.monotonic() + _LOG_INTERVAL_SECONDS
            log.warning("%s; %s", error, result)

    def _can_refresh(self, key: str, now: float) -> bool:
        return self._availability.can_ask() and self._recent_failure(key, now) is None

    def _recent_failure(self, key: str, now: float) -> OnefsError | None:
        with self._lock:
            failure = self._negative_cache.get(key)
        if failure is None or now - failure[0] > FAILURE_PAUSE_SECONDS:
            return None
        return failure[1]

    def _forget_batch(self, keys: tuple[str, ...], done: Future[None]) -> None:
        with self._lock:
            for key in keys:
                if self._pending_batches.get(key) is done:
                    del self._pending_batches[key]


def _is_within_ttl(wanted: ListingRequest[T], listing: Listing[T], now: float) -> bool:
    """Whether a listing has not aged; one of the future was taken before the clock was set back,
    and its age is not known."""
    return -_MAX_CLOCK_SKEW_SECONDS <= now - listing.fetched_at <= wanted.ttl_of(listing)

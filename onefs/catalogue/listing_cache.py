"""The cache of listings: in memory, in SQLite, and refreshed from Alyx.

A fresh listing is returned at once. A stale listing is also returned at once, and is refreshed in
the background. If the refresh fails, the stale listing stays. The caller waits for Alyx in two
cases: the listing is not stored, or ``onefs refresh`` has invalidated the listing. If the request
for an invalidated listing fails, the listing from before the invalidation is returned.

If an answer cannot be stored, because the disk is full or another process has locked the SQLite
file, the answer is served from memory. The next answer is stored as usual. If a stored row cannot
be read, its listing counts as not stored, and is requested again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from threading import Lock
from typing import Any, TypeVar, cast

from onefs.alyx.client import AlyxClient
from onefs.catalogue.availability import ServerAvailability
from onefs.catalogue.invalidation import RELOAD_INTERVAL_SECONDS, Invalidations
from onefs.catalogue.listing import Batch, Listing, ListingRequest, ListingVersion
from onefs.catalogue.listing_memory import ListingMemory
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
)
from onefs.lowlevel.negative_cache import NegativeCache
from onefs.lowlevel.single_flight import SingleFlight
from onefs.lowlevel.sqlite_file import IN_MEMORY

log = logging.getLogger(__name__)
#: logs failed requests; the caller of such a request gets an error, or an older listing
refresh_log = logging.getLogger(f"{__name__}.refresh")

T = TypeVar("T")

#: number of listings whose last failure is remembered
_MAX_FAILURES = 4096
#: seconds by which the clocks of the processes that write one catalogue may differ
_MAX_CLOCK_SKEW_SECONDS = 60.0
#: seconds between two log lines which say that the catalogue's file cannot be used
_LOG_INTERVAL_SECONDS = 600.0
#: the fraction of the deadline that a batch may take; the rest is for a separate request
_BATCH_DEADLINE_SHARE = 0.6
#: least number of seconds for a separate request, even if a batch has used up the deadline
_MIN_WAIT_SECONDS = 0.05


class ListingCache:
    """The listings of one catalogue. Thread-safe. Raises the same errors as :class:`Catalogue`."""

    def __init__(
        self,
        database: CatalogueDatabase,
        alyx: AlyxClient,
        availability: ServerAvailability,
        deadline: float,
        clock: Callable[[], float],
        invalidations: Invalidations | None = None,
    ) -> None:
        self._database = database
        self._alyx = alyx
        self._availability = availability
        self._deadline = deadline
        self._clock = clock
        #: those that were given, or else those in the database
        self.invalidations = invalidations or Invalidations(database)
        self._tables_version = database.tables_version()
        self._flights: SingleFlight[Listing[Any]] = SingleFlight("onefs-list", workers=8)
        self._background_flights: SingleFlight[Listing[Any]] = SingleFlight(
            "onefs-refresh", workers=2
        )
        self._batches: SingleFlight[None] = SingleFlight("onefs-batch", workers=4)
        self._lock = Lock()
        self._planning_lock = Lock()
        self._pending_batches: dict[str, Future[None]] = {}
        self.memory = ListingMemory()
        self._failures: NegativeCache[str] = NegativeCache(
            _MAX_FAILURES, lambda error: FAILURE_PAUSE_SECONDS, clock
        )
        self._next_log_at = 0.0
        self._closed = False

    def close(self) -> None:
        """Start no more requests. Raise Stopping in each waiting caller."""
        self._closed = True
        for flights in (self._flights, self._background_flights, self._batches):
            flights.close()

    def reload_invalidations(self) -> None:
        """Read the invalidations of other processes, and forget recent failures of requests.

        After this, Alyx may be asked at once, without the pause that follows a failure.
        """
        self._availability.clear_failure()
        self._failures.clear()
        self.invalidations.reload()

    @property
    def changes(self) -> int:
        """A number that grows when a listing in memory has changed, or was invalidated."""
        return self.memory.changes + self.invalidations.changes

    def unchanged_until(self, version: ListingVersion) -> float:
        """Return until when :meth:`get_version` returns ``version`` again (``time.monotonic``).

        Until then, this is so as long as :attr:`changes` stays the same. After this time, another
        process may have changed or invalidated the listing.
        """
        young_seconds = RECENT_TTL_SECONDS - (self._clock() - version.fetched_at)
        now = time.monotonic()
        stored_until = now + young_seconds
        if young_seconds <= 0:  # compared with SQLite from time to time: see _find
            stored_until = version.checked_at + RELOAD_INTERVAL_SECONDS
        return min(stored_until, self.invalidations.checked_until)

    def get(self, request: ListingRequest[T]) -> Listing[T]:
        """Return the stored listing, fresh or stale. A stale one is refreshed in the background.

        A listing that is missing or invalidated is requested from Alyx first. Raises the errors of
        this request if no listing can be returned.
        """
        self._check_tables_version()
        listing = self._find(request, self._clock())
        renewed = self._renew(request, None if listing is None else listing.version)
        if renewed is not None:
            return renewed
        assert listing is not None
        return listing

    def get_version(self, request: ListingRequest[Any]) -> ListingVersion:
        """Return the version of the listing that :meth:`get` would return.

        This does not read the rows of a listing that is known but not in memory. Otherwise it does
        the same as :meth:`get`, and raises the same errors.
        """
        self._check_tables_version()
        version = self._find_version(request, self._clock())
        renewed = self._renew(request, version)
        if renewed is not None:
            return renewed.version
        assert version is not None
        return version

    def _renew(
        self, request: ListingRequest[T], version: ListingVersion | None
    ) -> Listing[T] | None:
        """Return a new listing from Alyx if the stored listing, of this version, cannot be used.

        Otherwise return None, and refresh a stale listing in the background.
        """
        if version is None:
            return self._fetch_missing(request)
        if self._is_invalidated(request, version):
            return self._refetch_invalidated(request)
        is_stale = not _is_within_ttl(request, version, self._clock())
        if is_stale and self._can_refresh(request.key):
            self._refresh_in_background(request)
        return None

    def fetch(self, request: ListingRequest[T]) -> Listing[T]:
        """Request the listing from Alyx in this thread, even if the stored listing is fresh.

        Raises every error of the request.
        """
        return self._fetch_and_store(request, self._alyx)

    def force_refresh(self, request: ListingRequest[T]) -> Listing[T]:
        """Request the listing from Alyx, even if the stored listing is fresh.

        Concurrent callers share one request. Raises every error of the request.
        """
        return self._fetch_shared(request, lambda: self.fetch(request))

    def get_fresh(self, request: ListingRequest[T]) -> Listing[T]:
        """Return a fresh listing. If the stored listing is not fresh, wait for Alyx.

        If the request fails, return Alyx's last answer if it is newer than the cache tables.
        Otherwise raise the error of the request.
        """
        listing = self._find_fresh(request)
        if listing is not None:
            return listing
        try:
            return self._fetch_shared(request, lambda: self._fetch_if_stale(request))
        except Stopping:
            raise
        except OnefsError:
            # the caller looks for rows that the tables cannot contain
            stale = self._load_stored(request)
            if stale is None or stale.fetched_at <= self._database.tables_created_at():
                raise
            return stale

    def is_fresh(self, request: ListingRequest[Any]) -> bool:
        """Whether the listing is stored, is within its TTL, and is not invalidated."""
        return self._find_fresh(request) is not None

    def start_fetch(self, request: ListingRequest[Any]) -> None:
        """Refresh a stale listing in the background.

        If :meth:`get_fresh` is called during the refresh, the call waits for the answer to this
        refresh.
        """
        self._flights.start(request.key, lambda: self._fetch_if_stale(request))

    def start_batch(self, batch: Batch) -> Future[None]:
        """Start a batch (one fetch of several listings). Return a future that is done when it ends.

        If the same batch is already running, return its future.
        """
        future = self._batches.start(batch.keys[0], batch.work)
        with self._lock:
            for key in batch.keys:
                self._pending_batches.setdefault(key, future)
        future.add_done_callback(lambda done: self._forget_batch(batch.keys, done))
        return future

    def pending_keys(self) -> frozenset[str]:
        """Return the keys of the listings that are being fetched now, several by one request."""
        with self._lock:
            return frozenset(self._pending_batches)

    def record_outcome(self, keys: Iterable[str], error: OnefsError | None) -> None:
        """Record whether a request for these listings has succeeded or failed.

        ``error`` is the error of the request, or None if the request has succeeded.
        """
        if error is not None:
            for key in keys:
                self._failures.add(key, error)
            self._availability.record_failure(error)
            return
        for key in keys:
            self.memory.drop(key)
            self._failures.discard(key)
        self._availability.record_success()

    # -- cached listings

    def _check_tables_version(self) -> None:
        """Remove all listings from memory if a sync has replaced the cache tables."""
        version = self._database.tables_version()
        if version != self._tables_version:
            self._tables_version = version
            self.memory.drop_prefix("")

    def _find(self, request: ListingRequest[T], now: float) -> Listing[T] | None:
        """Return the stored listing, fresh or stale. Return None if no listing is stored."""
        cached = self.memory.get(request.key)
        if cached is not None and _is_recent(request, cached.version, now):
            return cached
        return self._load_stored(request)

    def _find_version(self, request: ListingRequest[T], now: float) -> ListingVersion | None:
        """Return the version of the listing that :meth:`_find` would return."""
        version = self.memory.version_of(request.key)
        if version is not None and _is_recent(request, version, now):
            return version
        try:
            if version is not None and self._is_newest(request, version):
                return version
        except CacheError as error:
            self._log_storage_error(error, "the known listing is used")
            return version
        listing = self._load_stored(request)
        return None if listing is None else listing.version

    def _find_fresh(self, request: ListingRequest[T]) -> Listing[T] | None:
        """Return the stored listing if it is fresh and not invalidated. Otherwise return None."""
        now = self._clock()
        listing = self._find(request, now)
        if listing is None or self._is_invalidated(request, listing.version):
            return None
        return listing if _is_within_ttl(request, listing.version, now) else None

    def _is_invalidated(self, request: ListingRequest[T], version: ListingVersion) -> bool:
        return version.fetched_at < self.invalidations.time_of(request.scope)

    def _is_newest(self, request: ListingRequest[Any], version: ListingVersion) -> bool:
        """Whether SQLite has no other version of a listing. Raises CacheError."""
        fetched_at = self._database.fetched_at(request.key)
        is_newer = version.unstored and version.fetched_at > (fetched_at or 0.0)
        if version.fetched_at != fetched_at and not is_newer:
            return False
        if not version.has_basis(request.basis):
            return False
        version.checked_at = time.monotonic()
        return True

    def _load_stored(self, request: ListingRequest[T]) -> Listing[T] | None:
        """Return the newer of two listings: the listing in SQLite and the listing in memory.

        Return None if the listing is stored in neither place.
        """
        cached = self.memory.get(request.key)
        try:
            if cached is not None and self._is_newest(request, cached.version):
                return cached
            fetched_at = self._database.fetched_at(request.key)
            if fetched_at is None:
                return None
            from_tables = self._database.is_from_tables(request.key)
            # a new version, because rows may change without a new time
            version = ListingVersion(fetched_at, from_tables, basis=request.basis)
            listing = Listing(request.load(self._database), version)
        except (CacheError, ValueError, TypeError) as error:  # the last two: damaged values
            self._log_storage_error(error, "the listing is requested from Alyx")
            return cached
        self.memory.put(request.key, listing)
        return listing

    def _load_valid(self, request: ListingRequest[T]) -> Listing[T] | None:
        """Return the stored listing. Return None if it is missing or invalidated.

        The listing may have been stored by a fetch of several listings, or by another process.
        """
        listing = self._load_stored(request)
        return (
            None if listing is None or self._is_invalidated(request, listing.version) else listing
        )

    # -- requests

    def _wait_seconds(self, request: ListingRequest[Any]) -> float:
        """Return the seconds that a request may wait for Alyx.

        Raises the error of this listing's last request if that was a short time ago. Raises
        Unreachable if Alyx may not be asked.
        """
        self._failures.raise_failure(request.key)
        return self._availability.wait_seconds(self._deadline, _description(request))

    def _fetch_shared(
        self, request: ListingRequest[T], fetch: Callable[[], Listing[T]]
    ) -> Listing[T]:
        """Run ``fetch`` and return its listing. Concurrent callers share one run of ``fetch``."""
        wait_seconds = self._wait_seconds(request)
        listing = self._flights.wait(request.key, fetch, wait_seconds, _description(request))
        return cast("Listing[T]", listing)

    def _fetch_if_stale(self, request: ListingRequest[T]) -> Listing[T]:
        return self._find_fresh(request) or self.fetch(request)

    def _fetch_missing(self, request: ListingRequest[T]) -> Listing[T]:
        """Fetch a listing that is missing or invalidated, alone or together with other listings."""
        wait_seconds = self._wait_seconds(request)
        end = time.monotonic() + wait_seconds
        try:
            return (
                self._load_valid(request)
                or self._fetch_by_batch(request, wait_seconds * _BATCH_DEADLINE_SHARE)
                or self._fetch_single(request, end)
            )
        except DeadlineExceeded:
            if wait_seconds < self._deadline:  # the server was offline before, and is still offline
                raise self._availability.unavailable_error(_description(request)) from None
            raise

    def _fetch_single(self, request: ListingRequest[T], end: float) -> Listing[T]:
        """Return the answer to a request for this listing alone.

        A request that is already running is shared if it began after the last invalidation.
        """

        def fetch() -> Listing[T]:
            return self._load_valid(request) or self.fetch(request)

        def wait() -> Listing[T]:
            seconds = max(end - time.monotonic(), _MIN_WAIT_SECONDS)
            listing = self._flights.wait(request.key, fetch, seconds, _description(request))
            return cast("Listing[T]", listing)

        began, listing = self._clock(), wait()
        if listing.fetched_at < min(began, self.invalidations.time_of(request.scope)):
            # the request was sent before the invalidation, and its answer may be the old one
            listing = wait()
        return listing

    def _fetch_by_batch(self, request: ListingRequest[T], wait_seconds: float) -> Listing[T] | None:
        """Return the listing if a batch (a fetch of several listings) gets it in ``wait_seconds``.

        Otherwise return None. If no running batch includes this listing, a new batch is started.
        """
        if request.plan_batch is None:
            return None
        if request.batch_wait_seconds is not None:
            wait_seconds = min(wait_seconds, request.batch_wait_seconds)
        with self._planning_lock:  # only one of several concurrent callers plans a batch
            with self._lock:
                future = self._pending_batches.get(request.key)
            if future is None:
                try:
                    batch = request.plan_batch()
                except CacheError:  # then this listing alone is requested
                    return None
                if batch is None:
                    return None
                future = self.start_batch(batch)
                if request.batch_wait_seconds is not None:
                    return None
        wait_for([future], timeout=wait_seconds)
        return self._load_valid(request)

    def _refetch_invalidated(self, request: ListingRequest[T]) -> Listing[T]:
        """Request an invalidated listing. If the request fails, return the stored listing.

        Raises the error of the request if no listing is stored. Always raises NotFound, because it
        means that the object does not exist.
        """
        old = self._load_stored(request)
        try:
            return self._fetch_missing(request)
        except NotFound:
            raise
        except OnefsError:
            if old is None:
                raise
            return old

    def _refresh_in_background(self, request: ListingRequest[Any]) -> None:
        if request.start_refresh is not None:
            request.start_refresh()
        else:
            self._background_flights.start(
                request.key, lambda: self._fetch_and_store(request, self._alyx.low_priority())
            )

    def _fetch_and_store(self, request: ListingRequest[T], alyx: AlyxClient) -> Listing[T]:
        """Ask Alyx, store the answer, and return the answer as a listing.

        If the request fails, its error is raised, and is remembered for a short time.
        """
        asked = self._clock()
        try:
            answer = request.fetch(alyx)
        except OnefsError as error:
            self.record_outcome([request.key], error)
            # refused credentials are logged by ServerAvailability, and NotFound is an answer
            if not isinstance(error, AlyxCredentials | NotFound) and not self._availability.offline:
                expected = self._closed or isinstance(error, Throttled | Stopping)
                level = logging.INFO if expected else logging.WARNING
                refresh_log.log(level, "the listing %s cannot be fetched: %s", request.key, error)
            raise
        self.record_outcome([request.key], None)
        listing = self._store_answer(request, answer, asked)
        self.memory.put(request.key, listing)
        return listing

    def _store_answer(self, request: ListingRequest[T], answer: Any, asked: float) -> Listing[T]:
        """Store the answer in SQLite, and return it as a listing."""
        try:
            request.store(self._database, answer, asked)
            fetched_at = self._database.fetched_at(request.key) or asked
            version = ListingVersion(fetched_at, basis=request.basis)
            return Listing(request.load(self._database), version)
        except CacheError as error:
            self._log_storage_error(error, "the answer is kept in memory only")
        # a temporary database in memory converts the answer into a listing
        scratch = CatalogueDatabase(IN_MEMORY)
        try:
            request.store(scratch, answer, asked)
            version = ListingVersion(asked, unstored=True, basis=request.basis)
            return Listing(request.load(scratch), version)
        finally:
            scratch.close()

    def _log_storage_error(self, error: Exception, result: str) -> None:
        if time.monotonic() > self._next_log_at:
            self._next_log_at = time.monotonic() + _LOG_INTERVAL_SECONDS
            log.warning("%s; %s", error, result)

    def _can_refresh(self, key: str) -> bool:
        return self._availability.can_ask() and self._failures.get(key) is None

    def _forget_batch(self, keys: tuple[str, ...], done: Future[None]) -> None:
        with self._lock:
            for key in keys:
                if self._pending_batches.get(key) is done:
                    del self._pending_batches[key]


def _description(request: ListingRequest[Any]) -> str:
    return f"the listing {request.key}"


def _is_recent(request: ListingRequest[Any], version: ListingVersion, now: float) -> bool:
    """Whether a listing in memory is used without comparing it with SQLite."""
    # it is less than 5 minutes old, or was compared with SQLite in the last 0.5 seconds
    return (
        now - version.fetched_at < RECENT_TTL_SECONDS
        or time.monotonic() - version.checked_at < RELOAD_INTERVAL_SECONDS
    ) and version.has_basis(request.basis)


def _is_within_ttl(request: ListingRequest[Any], version: ListingVersion, now: float) -> bool:
    """Whether a listing with this version is within its TTL."""
    # if the listing's time is far in the future, the clock was set back, and the age is unknown
    return -_MAX_CLOCK_SKEW_SECONDS <= now - version.fetched_at <= request.ttl_of(version)

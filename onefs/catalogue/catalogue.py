"""The catalogue of all labs, subjects, sessions and datasets.

Only the catalogue decides whether to ask Alyx. Each request is for a whole listing, such as all
sessions of a subject. Concurrent callers share one request. The answer is stored in SQLite, with
the time of the request. A network failure raises a separate kind of error, never NotFound.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from onefs import alf
from onefs.alyx.client import AlyxClient
from onefs.alyx.parsing import usable_replicas
from onefs.catalogue import listing_requests
from onefs.catalogue.aggregates import Aggregates, BucketListings
from onefs.catalogue.availability import ServerAvailability
from onefs.catalogue.invalidation import TreePath
from onefs.catalogue.listing import Listing, ListingRequest, ListingVersion
from onefs.catalogue.listing_cache import ListingCache
from onefs.catalogue.listing_requests import DatasetsAhead
from onefs.catalogue.messages import missing_parts
from onefs.catalogue.new_sessions import NewSessions
from onefs.catalogue.prefetch.batches import BatchPrefetcher, datasets_key, sessions_key
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.catalogue.ttl import NEGATIVE_TTL_SECONDS
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
from onefs.lowlevel.lazy import Lazy
from onefs.lowlevel.single_flight import SingleFlight
from onefs.model import Dataset, Repository, Session

if TYPE_CHECKING:
    from concurrent.futures import Future

    from onefs.cache_tables.bucket import PublicBucket
    from onefs.catalogue.insertions import Insertions

log = logging.getLogger(__name__)


class Catalogue:
    """The contents of one Alyx database, read from SQLite first and from Alyx when needed.

    Thread-safe. ``deadline`` is the longest wait for Alyx in seconds. With ``offline``, Alyx is
    never asked. ``bucket`` has more aggregates. With ``no_alyx``, there is no Alyx, and this
    function makes the error that says so: the cache tables are the whole database. NotFound means
    that the object does not exist. Methods may also raise Unreachable, DeadlineExceeded,
    AlyxCredentials, Throttled, ServerError, CacheError or Stopping.
    """

    def __init__(
        self,
        database: CatalogueDatabase,
        alyx: AlyxClient,
        *,
        deadline: float = 10.0,
        clock: Callable[[], float] = time.time,
        offline: bool = False,
        no_alyx: Callable[[], Unreachable] | None = None,
        bucket: PublicBucket | None = None,
    ) -> None:
        self._database = database
        self._alyx = alyx
        self._clock = clock
        #: knows whether Alyx answers, and has a callback for each change
        self.availability = ServerAvailability(
            alyx.url, alyx.probe, clock, always_offline=offline, no_server=no_alyx
        )
        self._listing_cache = ListingCache(database, alyx, self.availability, deadline, clock)
        self._new_sessions = NewSessions(database, self._listing_cache, self.availability, clock)

        def make_cache(availability: ServerAvailability) -> ListingCache:
            shared = self._listing_cache.invalidations
            return ListingCache(database, alyx, availability, deadline, clock, shared)

        self._bucket_listings = (
            BucketListings(bucket, make_cache, clock, offline=offline)
            if bucket is not None
            else None
        )
        self._aggregates = Aggregates(
            self._listing_cache, self.availability, self._bucket_listings, clock
        )

        def open_insertions() -> Insertions:
            from onefs.catalogue.insertions import Insertions  # few commands need them

            return Insertions(
                database,
                alyx,
                self._listing_cache,
                self.availability,
                self.note_session,
                deadline,
                clock,
            )

        self._insertions = Lazy(open_insertions)
        self._datasets_ahead: SingleFlight[DatasetsAhead] = SingleFlight("onefs-ahead", 4)
        self._prefetcher = BatchPrefetcher(database, alyx, self._listing_cache, deadline, clock)
        self._types_warning_logged = self._failure_warning_logged = False
        #: when this catalogue was created, in seconds since the epoch; this is also the date of
        #: entries of the tree that have no date
        self.created = database.creation_time(clock())
        if not self.availability.always_offline:
            database.note_server_url(alyx.url)

    @property
    def insertions(self) -> Insertions:
        """The probe insertions."""
        return self._insertions()

    @property
    def offline(self) -> bool:
        """Whether Alyx was unreachable at the last request or probe.

        In offline mode, the value is always True. Without an Alyx, it is False.
        """
        return self.availability.offline and self.availability.has_server

    @property
    def changes(self) -> int:
        """A number that grows when a listing in memory has changed, or was invalidated."""
        in_bucket = self._bucket_listings
        changes = self._listing_cache.changes
        return changes if in_bucket is None else changes + in_bucket.cache.changes

    def unchanged_until(self, version: ListingVersion) -> float:
        """Return until when the catalogue has no newer listing (``time.monotonic``).

        This is so only as long as :attr:`changes` stays the same.
        """
        return self._listing_cache.unchanged_until(version)

    def close(self) -> None:
        """Send no more requests and probes. Raise Stopping in each waiting caller."""
        self.availability.close()
        self._prefetcher.close()
        self._datasets_ahead.close()
        self._listing_cache.close()
        if self._bucket_listings is not None:
            self._bucket_listings.close()

    def check_server(self) -> None:
        """Request the labs from Alyx now. Raises every error of that request.

        Also request the repositories. An error of this second request is ignored.
        """
        self._listing_cache.fetch(listing_requests.labs_request())
        # the first listing of datasets would otherwise wait for the repositories
        with suppress(OnefsError):  # the repositories are requested again when they are needed
            self.repositories()

    def is_empty(self) -> bool:
        """Whether the catalogue has no listing, so that all listings must come from Alyx."""
        return self._database.is_empty()

    def invalidate(self, path: TreePath) -> None:
        """Invalidate all listings at and below ``path``, for all processes.

        An invalidated listing is requested again at its next use. ``path`` is the folders from the
        lab down: at most lab, subject, date and number. () means all listings.
        """
        self._listing_cache.invalidations.invalidate(path, self._clock())

    def reload_invalidations(self) -> None:
        """Read the invalidations of other processes, and allow new requests at once.

        Recent failures are forgotten, so that the failed requests can be repeated without a pause.
        """
        self._listing_cache.reload_invalidations()
        if self._bucket_listings is not None:
            self._bucket_listings.cache.reload_invalidations()

    def labs(self) -> Listing[list[str]]:
        """Return the names of all labs."""
        return self._listing_cache.get(listing_requests.labs_request())

    def known_labs(self) -> list[str]:
        """Return the names of the labs in the catalogue. Sends no request."""
        return self._database.labs()

    def subjects(self, lab: str) -> Listing[list[str]]:
        """Return the nicknames of a lab's subjects.

        The subject of each stored session of the lab is included, even if Alyx does not list this
        subject.
        """
        return self._listing_cache.get(
            listing_requests.subjects_request(lab, self._database, self._listing_cache)
        )

    def sessions(self, lab: str, subject: str) -> Listing[list[Session]]:
        """Return a subject's sessions, sorted by date, number and eid.

        Sessions without a date or number are left out.
        """
        listing = self._listing_cache.get(
            listing_requests.sessions_request(lab, subject, self._prefetcher)
        )
        if listing.from_tables:
            self._new_sessions.start_refresh(lab)
        return listing

    def known_sessions(self, lab: str, subject: str) -> list[Session]:
        """Return a subject's sessions from the catalogue alone, sorted by date, number and eid.

        Sessions without a date or number are left out. Sends no request.
        """
        return listing_requests.dated_sessions(self._database, lab, subject)

    def ask_for_new_sessions(self, lab: str, subject: str) -> bool:
        """Request a lab's sessions that are newer than the cache tables.

        Call this before an error says that a session of ``subject`` does not exist. Return True if
        the lab's listings may have changed. Return False in offline mode, or if the subject's
        sessions are not from cache tables. Raises the errors of :meth:`NewSessions.refresh`.
        """
        return self._database.is_from_tables(
            sessions_key(lab, subject)
        ) and self._new_sessions.refresh(lab)

    def ask_for_new_subjects(self, lab: str) -> bool:
        """Request a lab's sessions that are newer than the cache tables.

        Call this before an error says that a subject of the lab does not exist. Return True if the
        lab's listings may have changed. Return False in offline mode, or if the lab is not in the
        cache tables. Raises the errors of :meth:`NewSessions.refresh`.
        """
        return self._new_sessions.refresh(lab)

    def ask_for_new_labs(self) -> bool:
        """Request the labs that are newer than the cache tables.

        Call this before an error says that a lab does not exist. Return True if the list of labs
        may have changed. Return False in offline mode, or without cache tables. Raises the errors
        of the request.
        """
        before = set(self.labs().value)
        asked = self._new_sessions.refresh_labs(listing_requests.labs_request())
        if asked and set(self.labs().value) - before:  # a new lab has its own repository
            self._listing_cache.force_refresh(self._repositories_request())
        return asked

    def request_datasets_ahead(self, eid: str) -> Future[DatasetsAhead] | None:
        """Request the datasets of a session that is not stored, for a later :meth:`datasets`.

        Return None if the session is stored. Raises Stopping or Busy.
        """
        with suppress(CacheError):
            if self._database.session(eid) is not None:
                return None

        def request() -> DatasetsAhead:
            asked = self._clock()
            return DatasetsAhead(self._alyx.datasets(eid), asked)

        return self._datasets_ahead.start(eid, request)

    def datasets(
        self, session: Session, ahead: Future[DatasetsAhead] | None = None
    ) -> Listing[list[Dataset]]:
        """Return a session's datasets in a stable order.

        A dataset that Alyx lists is left out if it cannot be fetched. Datasets from cache tables
        are all included; :meth:`fetch_full_listing` finds out which of these can be fetched. If
        Alyx has to be asked, its answer to ``ahead`` is used.
        """
        try:
            return self._listing_cache.get(self._current_datasets_request(session, ahead))
        except (Unreachable, DeadlineExceeded, Throttled):
            listing = self._empty_listing(session)
            if listing is None:
                raise
            return listing

    def datasets_version(self, session: Session) -> ListingVersion:
        """Return the version of the listing that :meth:`datasets` would return.

        The datasets are not read from SQLite if the version is known.
        """
        try:
            return self._listing_cache.get_version(self._current_datasets_request(session))
        except (Unreachable, DeadlineExceeded, Throttled):
            listing = self._empty_listing(session)
            if listing is None:
                raise
            return listing.version

    def has_aggregates(self) -> bool:
        """Whether anything lists datasets that belong to no session."""
        return self._aggregates.exist()

    def aggregates(self) -> Listing[list[Dataset]]:
        """Return the datasets that belong to no session, from Alyx and from the public bucket."""
        repositories = self.repositories().value if self.availability.has_server else {}
        return self._aggregates.get(repositories)

    def unserved_datasets(self, session: Session) -> list[tuple[Dataset, tuple[str, ...]]]:
        """Return a session's datasets that no file server has. Sends no request.

        Each item is a dataset, and the names of the repositories that have it according to Alyx.
        Datasets from cache tables are left out. Return [] if no repositories are stored.
        """
        repositories = self._database.repositories()
        rows = self._database.datasets(session.eid) if repositories else []
        return [
            (row.dataset, tuple(name for name, _ in row.claimed_replicas))
            for row in rows
            if not row.dataset.from_tables
            and not usable_replicas(row.claimed_replicas, repositories)
        ]

    def refresh_datasets(self, session: Session) -> None:
        """If the stored listing of a session's datasets is stale, wait for a new listing.

        Do nothing in offline mode, for a listing from cache tables, or if no listing is stored. If
        the request fails, keep a listing that is newer than the cache tables, and log a warning. If
        the listing is older, raise the error. Also raises Stopping.
        """
        if self.availability.always_offline or self._database.is_from_tables(
            datasets_key(session.eid)
        ):
            return
        if self._database.fetched_at(datasets_key(session.eid)) is None:
            return
        request = self._datasets_request(session, self._known_repositories())
        listing = self._listing_cache.get_fresh(request)
        if not self._listing_cache.is_fresh(request):
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(listing.fetched_at))
            log.warning(
                "the datasets of session %s cannot be requested from Alyx now, so onefs uses "
                "the list of datasets that it fetched on %s",
                session.ref,
                when,
            )

    def fetch_full_listing(self, session: Session) -> bool:
        """Request a session's datasets from Alyx if the stored listing is from cache tables.

        The tables lack all replicas, and some datasets. Return True if the listing has changed,
        even if another process has changed it. Raises NotFound if the session was deleted.
        """
        key = datasets_key(session.eid)
        if not self._database.is_from_tables(key):
            # if another process has fetched the listing, the listing in memory is outdated
            version = self._listing_cache.memory.version_of(key)
            if version is None or not version.from_tables:
                return False
            self._listing_cache.memory.drop(key)
            return True
        self._listing_cache.force_refresh(
            self._datasets_request(session, self._known_repositories())
        )
        return True

    def try_fetch_full_listing(self, session: Session) -> bool:
        """Run :meth:`fetch_full_listing`. Return False after an error.

        The old listing is then kept. Only the errors NotFound and Stopping are raised.
        """
        try:
            return self.fetch_full_listing(session)
        except (NotFound, Stopping):
            raise
        except OnefsError as error:
            # a warning is logged only for the first error that is not transient
            is_transient = isinstance(error, (Unreachable, DeadlineExceeded, Throttled))
            if not is_transient and not self._failure_warning_logged:
                self._failure_warning_logged = True
                log.warning(
                    "a session's datasets cannot be requested from Alyx (%s): the datasets in the "
                    "cache tables are shown",
                    error,
                )
            return False

    def fetch_full_listings(self, sessions: Sequence[Session]) -> dict[str, OnefsError]:
        """Run :meth:`fetch_full_listing` for many sessions, with few requests of low priority.

        Return, by eid, an error for each session whose datasets could not be fetched. The listing
        of such a session stays unchanged. Without an Alyx, nothing is requested. Raises Stopping.
        """
        if not self.availability.has_server:
            return {}
        from_tables = [
            each for each in sessions if self._database.is_from_tables(datasets_key(each.eid))
        ]
        try:
            self._known_repositories()
        except Stopping:
            raise
        except OnefsError as error:
            return {session.eid: error for session in from_tables}
        return self._prefetcher.fetch_missing_datasets(from_tables)

    def prefetch(self, eids: Sequence[str]) -> None:
        """Request what the catalogue lacks for the sessions ``eids``, with few requests.

        Requests the sessions that are not stored, and the datasets that Alyx has not listed yet.
        Call this before reading each of these sessions. Raises only Stopping.
        """
        if len(eids) < 2 or not self.availability.can_ask():
            return
        try:
            self._prefetcher.preload_sessions(eids, self.note_session)
        except Stopping:
            raise
        except OnefsError as error:
            log.info(
                "a request for many sessions failed (%s): sessions are requested one by one",
                error,
            )

    def with_types(self, datasets: Sequence[Dataset]) -> list[Dataset]:
        """Return the datasets. Each dataset from cache tables gets a guessed type.

        The type is guessed from the name of the file, and may be wrong.
        """
        names = {dataset.name for dataset in datasets if dataset.from_tables}
        if not names:
            return list(datasets)
        if not self._types_warning_logged:
            self._types_warning_logged = True
            log.log(
                logging.WARNING if self.availability.has_server else logging.INFO,
                "the cache tables have no dataset types: the types were guessed from file names",
            )
        types = self._database.guess_types(names)
        return [
            replace(each, dataset_type=types.get(each.name, "")) if each.from_tables else each
            for each in datasets
        ]

    def session_id_of_dataset(self, dataset_id: str) -> str | None:
        """Return the eid of a dataset's session. Return None if the dataset was never listed.

        Sends no request.
        """
        return self._database.session_of_dataset(dataset_id)

    def repositories(self) -> Listing[dict[str, Repository]]:
        """Return all repositories, by name."""
        return self._listing_cache.get(self._repositories_request())

    def session(self, eid: str) -> Session:
        """Return a session by its eid.

        Raises NotFound if Alyx has no such session, or if the session has no folder in the tree.
        Without a lab, subject, date or number, a session has no folder.
        """
        session = self.any_session(eid)
        if not session.has_folder:
            raise NotFound(
                f"session {eid} has no folder: the session lacks {missing_parts(session)}"
            )
        return session

    def any_session(self, eid: str) -> Session:
        """Return a session by its eid, even if the session has no folder in the tree.

        Raises NotFound if Alyx has no such session.
        """
        with suppress(CacheError):  # a session whose row cannot be read is requested again
            known = self._database.session(eid)
            if known is not None and known.has_folder:
                known = self._revalidated(known)
            if known is not None and known.has_folder:
                return known
        request = listing_requests.session_request(eid, self.note_session)
        session = self._listing_cache.get(request).value
        if session is None:
            raise NotFound(f"Alyx has no session {eid}")
        return session

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        """Return all sessions with a ref such as 2019-12-10_1_KS023.

        Several labs may have a subject with the nickname in the ref.
        """
        if not alf.is_calendar_day(ref.date):  # Alyx would answer with status 500
            return []
        request = listing_requests.ref_request(ref, self.note_session)
        listing = self._listing_cache.get(request)
        is_stale = self._clock() - listing.fetched_at > NEGATIVE_TTL_SECONDS
        if not listing.value and is_stale and self.availability.can_ask():
            with suppress(CacheError):
                self._database.expire_listing(request.key)
            self._listing_cache.memory.drop(request.key)
            listing = self._listing_cache.get(request)
        return listing.value

    def note_session(self, session: Session) -> None:
        """Make a newly stored session appear in the listings of its lab and subject.

        Call this after a search or a look-up has stored the session. Sends no request.
        """
        lab, subject, eid = session.lab, session.subject, session.eid
        memory = self._listing_cache.memory
        # a listing that lacks the session is read from SQLite at its next use; otherwise a link to
        # the session would have no target until the listing is stale
        memory.drop_unless(f"subjects/{lab}", lambda names: subject in names)
        memory.drop_unless(
            sessions_key(lab, subject), lambda sessions: any(each.eid == eid for each in sessions)
        )

    def record(self, session: Session) -> Listing[str]:
        """Return the whole Alyx record of a session as JSON.

        The keys are sorted, each level is indented by 2 spaces, and a newline ends the text.
        """
        return self._listing_cache.get(listing_requests.record_request(session, self._clock()))

    def remember_size(self, dataset: Dataset, size: int) -> None:
        """Store the size in bytes that a file server gave for a dataset whose size Alyx lacks.

        If the size cannot be stored, a warning is logged.
        """
        # listings in memory stay unchanged, because the caller already uses the size
        try:
            self._database.store_probed_size(dataset.uuid, size)
            if dataset.from_tables:
                self._database.store_probed_size_by_md5(dataset, size)
        except CacheError as error:
            log.warning("the size of the dataset %s cannot be stored: %s", dataset.name, error)

    def _known_repositories(self) -> Mapping[str, Repository]:
        """Return the stored repositories, by name. If no repositories are stored, ask Alyx."""
        stored = self._database.repositories()
        return stored or self._listing_cache.force_refresh(self._repositories_request()).value

    def _revalidated(self, session: Session) -> Session | None:
        """Return a stored session. If the session is invalidated, ask Alyx first.

        Return None if the session was deleted.
        """
        if not self._listing_cache.invalidations.time_of(alf.session_folder(session)):
            return session
        # if Alyx cannot answer now, the stored session is returned
        with suppress(Unreachable, DeadlineExceeded, Throttled, ServerError):
            self.sessions(session.lab, session.subject)
        return self._database.session(session.eid)

    def _datasets_request(
        self,
        session: Session,
        repositories: Mapping[str, Repository],
        ahead: Future[DatasetsAhead] | None = None,
    ) -> ListingRequest[list[Dataset]]:
        return listing_requests.datasets_request(
            session,
            repositories,
            self._prefetcher,
            self._clock(),
            self._database.datasets_basis(session.eid),
            ahead,
        )

    def _current_datasets_request(
        self, session: Session, ahead: Future[DatasetsAhead] | None = None
    ) -> ListingRequest[list[Dataset]]:
        if self.availability.can_ask():
            self._prefetcher.continue_walk(session)
        return self._datasets_request(session, self.repositories().value, ahead)

    def _empty_listing(self, session: Session) -> Listing[list[Dataset]] | None:
        """Return an empty listing if the tables have the session but no dataset of it."""
        # this is the best answer if Alyx cannot be asked
        if not self._database.is_empty_in_tables(session.eid):
            return None
        return Listing([], ListingVersion(self._database.tables_created_at()))

    def _repositories_request(self) -> ListingRequest[dict[str, Repository]]:
        return listing_requests.repositories_request()

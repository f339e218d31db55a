"""The catalogue of all labs, subjects, sessions and datasets.

Only the catalogue decides whether to ask Alyx. A listing is requested as a whole, once for all
concurrent callers, and stored in SQLite with the time of the request. A network failure is
reported as an error of its own kind, never as "not found".
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from onefs import alf
from onefs.alyx.client import AlyxClient
from onefs.alyx.parsing import usable_replicas
from onefs.catalogue import listing_requests
from onefs.catalogue.availability import ServerAvailability
from onefs.catalogue.invalidation import TreePath
from onefs.catalogue.listing import Listing, ListingRequest
from onefs.catalogue.listing_cache import ListingCache
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
from onefs.model import Dataset, Repository, Session

log = logging.getLogger(__name__)


class Catalogue:
    """The contents of one Alyx database, read from SQLite first and from Alyx when needed.

    Thread-safe. A caller waits for Alyx at most ``deadline`` seconds. With ``offline`` Alyx is
    never asked. Methods raise NotFound only if Alyx or the catalogue says that the object does not
    exist. For other failures they raise Unreachable, DeadlineExceeded, AlyxCredentials, Throttled,
    ServerError, CacheError or Stopping.
    """

    def __init__(
        self,
        database: CatalogueDatabase,
        alyx: AlyxClient,
        *,
        deadline: float = 10.0,
        clock: Callable[[], float] = time.time,
        offline: bool = False,
    ) -> None:
        self._database = database
        self._alyx = alyx
        self._clock = clock
        #: knows whether Alyx answers, and has a callback for each change
        self.availability = ServerAvailability(alyx.url, alyx.probe, clock, always_offline=offline)
        self._listing_cache = ListingCache(database, alyx, self.availability, deadline, clock)
        self._new_sessions = NewSessions(database, self._listing_cache, self.availability, clock)
        self._prefetcher = BatchPrefetcher(database, alyx, self._listing_cache, deadline, clock)
        self._types_warning_logged = self._failure_warning_logged = False
        #: when this catalogue was created, in seconds since the epoch; this is also the date of
        #: entries of the tree that have no date
        self.created = database.creation_time(clock())
        if not offline:
            database.note_server_url(alyx.url)

    @property
    def url(self) -> str:
        """The URL of the Alyx database."""
        return self._alyx.url

    @property
    def offline(self) -> bool:
        """Whether the last request to Alyx found no server, or Alyx is never asked."""
        return self.availability.offline

    def close(self) -> None:
        """Send no more requests and probes. Raise Stopping in each waiting caller."""
        self.availability.close()
        self._prefetcher.close()
        self._listing_cache.close()

    def check_server(self) -> None:
        """Request the labs from Alyx now. Raises every error of that request.

        Also fetches the repositories. The listing of every session needs them, so without this the
        first session would take longer than later sessions.
        """
        self._listing_cache.fetch(listing_requests.labs_request())
        with suppress(OnefsError):  # the repositories are requested again when they are needed
            self.repositories()

    def is_empty(self) -> bool:
        """Whether the catalogue has no listing, so that it can serve nothing without Alyx."""
        return self._database.is_empty()

    def invalidate(self, path: TreePath) -> None:
        """Invalidate all listings at and below ``path``, for all processes.

        ``path`` consists of the folders of lab, subject, date and number, or only the first of
        these. () invalidates all listings. Each invalidated listing is requested again before it
        is shown.
        """
        self._listing_cache.invalidations.invalidate(path, self._clock())

    def reload_invalidations(self) -> None:
        """Read the invalidations of other processes, and forget recent failures of requests."""
        self._listing_cache.reload_invalidations()

    def labs(self) -> Listing[list[str]]:
        """Return the names of all labs."""
        return self._listing_cache.get(listing_requests.labs_request())

    def known_labs(self) -> list[str]:
        """Return the names of the labs in the catalogue. Sends no request."""
        return self._database.labs()

    def subjects(self, lab: str) -> Listing[list[str]]:
        """Return the nicknames of a lab's subjects.

        Subjects that only the lab's known sessions name are included.
        """
        return self._listing_cache.get(
            listing_requests.subjects_request(lab, self._database, self._listing_cache)
        )

    def sessions(self, lab: str, subject: str) -> Listing[list[Session]]:
        """Return a subject's sessions, sorted by date and number.

        Sessions without a number are left out.
        """
        listing = self._listing_cache.get(
            listing_requests.sessions_request(lab, subject, self._prefetcher)
        )
        if listing.from_tables:
            self._new_sessions.start_refresh(lab)
        return listing

    def known_sessions(self, lab: str, subject: str) -> list[Session]:
        """Return a subject's sessions in the catalogue, sorted by date, number and eid.

        Sends no request.
        """
        return listing_requests.dated_sessions(self._database, lab, subject)

    def ask_for_new_sessions(self, lab: str, subject: str) -> bool:
        """Request a lab's sessions that are newer than the cache tables.

        To be called before a session of ``subject`` is reported absent. Returns False if no
        request is needed because the subject's sessions are not from cache tables, and if Alyx is
        never asked. Raises the same errors as :meth:`NewSessions.refresh`.
        """
        return self._database.is_from_tables(
            sessions_key(lab, subject)
        ) and self._new_sessions.refresh(lab)

    def ask_for_new_subjects(self, lab: str) -> bool:
        """Request a lab's sessions that are newer than the cache tables.

        To be called before a subject of the lab is reported absent. Returns and raises the same as
        :meth:`NewSessions.refresh`.
        """
        return self._new_sessions.refresh(lab)

    def ask_for_new_labs(self) -> bool:
        """Request the labs that are newer than the cache tables.

        To be called before a lab is reported absent. Returns False if Alyx is never asked, or if
        there are no cache tables. Raises the errors of the request.
        """
        before = set(self.labs().value)
        asked = self._new_sessions.refresh_labs(listing_requests.labs_request())
        if asked and set(self.labs().value) - before:  # a new lab has its own repository
            self._listing_cache.force_refresh(self._repositories_request())
        return asked

    def datasets(self, session: Session) -> Listing[list[Dataset]]:
        """Return a session's datasets that can be fetched, in a stable order.

        All datasets from cache tables are included, because only :meth:`fetch_full_listing` finds
        out whether they can be fetched.
        """
        request = self._datasets_request(session, self.repositories().value)
        try:
            return self._listing_cache.get(request)
        except (Unreachable, DeadlineExceeded, Throttled):
            # an empty list is the best answer if the tables have the session but no dataset of it
            if not self._database.is_empty_in_tables(session.eid):
                raise
            return Listing([], self._database.tables_created_at())

    def unserved_datasets(self, session: Session) -> list[tuple[Dataset, tuple[str, ...]]]:
        """Return the datasets of a listed session that are on no file server.

        Each dataset is returned with the names of the repositories that have it according to Alyx.
        Datasets from cache tables are left out. Return [] if no repositories are known. Sends no
        request.
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
        """Wait for a new listing of a session's datasets if the known listing is stale.

        Does nothing if the known listing is from cache tables, if there is none, or if Alyx is
        never asked. If the request fails, the known listing stays, and the log has a warning.
        Raises Stopping. Raises the error of the request if the known listing is older than the
        cache tables.
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
            log.warning("Alyx gives no newer list now: this is what it gave on %s", when)

    def fetch_full_listing(self, session: Session) -> bool:
        """Request a session's datasets from Alyx if the known listing is from cache tables.

        The tables lack the replicas and some datasets. One request is sent per session, and only
        once. Return True if the listing has changed, also because another process has fetched it.
        Raises NotFound if the session was deleted.
        """
        key = datasets_key(session.eid)
        if not self._database.is_from_tables(key):
            # if another process has fetched the listing, the listing in memory is outdated
            return self._listing_cache.memory.drop_unless(key, _is_from_alyx)
        self._listing_cache.force_refresh(
            self._datasets_request(session, self._known_repositories())
        )
        return True

    def try_fetch_full_listing(self, session: Session) -> bool:
        """Do the same as :meth:`fetch_full_listing`, but return False instead of most errors.

        If the request fails, or the catalogue cannot be used, the cache tables' listing stays. The
        log has a warning, but only once, and not if the server is unreachable, slow or throttling.
        Raises NotFound and Stopping.
        """
        try:
            return self.fetch_full_listing(session)
        except (NotFound, Stopping):
            raise
        except OnefsError as error:
            is_transient = isinstance(error, (Unreachable, DeadlineExceeded, Throttled))
            if not is_transient and not self._failure_warning_logged:
                self._failure_warning_logged = True
                log.warning("the listing of the cache tables is used: %s", error)
            return False

    def fetch_full_listings(self, sessions: Sequence[Session]) -> dict[str, OnefsError]:
        """Do the same as :meth:`fetch_full_listing` for many sessions, with few requests.

        Each request is for as many sessions as fit in a page. Returns, by eid, the errors for the
        sessions whose datasets could not be fetched. The listings of these sessions stay as in the
        cache tables. During the first 2 seconds, a request leaves the reserve of the rate limit to
        other requests. Raises Stopping.
        """
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
        """Request the unknown sessions among ``eids``, and unlisted datasets, many per request.

        To be called before the caller reads each of these sessions. Raises only Stopping. A
        session that was not fetched is requested by itself later, and that request raises its
        error.
        """
        if len(eids) < 2 or not self.availability.can_ask():
            return
        try:
            self._prefetcher.preload_sessions(eids, self.note_session)
        except Stopping:
            raise
        except OnefsError as error:
            log.info("sessions are requested one by one: %s", error)

    def with_types(self, datasets: Sequence[Dataset]) -> list[Dataset]:
        """Return the datasets, with guessed types for the datasets from cache tables.

        Each type is guessed from the name of the file, and may be wrong. The log says so, but only
        once.
        """
        names = {dataset.name for dataset in datasets if dataset.from_tables}
        if not names:
            return list(datasets)
        if not self._types_warning_logged:
            self._types_warning_logged = True
            log.warning("the cache tables have no dataset types: they were guessed from file names")
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

        Raises NotFound if Alyx has no such session, or if the session has no folder.
        """
        session = self.any_session(eid)
        if not session.has_folder:
            raise NotFound(f"session {eid} has no folder: it lacks {missing_parts(session)}")
        return session

    def any_session(self, eid: str) -> Session:
        """Return a session by its eid, with or without a folder.

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
        """Return the sessions of a ref.

        There can be several if several labs have a subject with this nickname.
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
        """Make a session appear in its listings, after a search or a look-up has stored it.

        Otherwise a link to the session would have no target until the listing is stale. Sends no
        request. A listing in memory that lacks the session is read from SQLite at its next use.
        """
        lab, subject, eid = session.lab, session.subject, session.eid
        memory = self._listing_cache.memory
        memory.drop_unless(f"subjects/{lab}", lambda names: subject in names)
        memory.drop_unless(
            sessions_key(lab, subject), lambda sessions: any(each.eid == eid for each in sessions)
        )

    def record(self, session: Session) -> Listing[str]:
        """Return the whole Alyx record of a session as JSON.

        The keys are sorted, the indent is 2, and a newline ends the text.
        """
        return self._listing_cache.get(listing_requests.record_request(session, self._clock()))

    def remember_size(self, dataset: Dataset, size: int) -> None:
        """Store the size in bytes that a file server gave for a dataset whose size Alyx lacks.

        Listings in memory do not change, because the caller has the size. A size that cannot be
        stored causes a warning, not an error.
        """
        try:
            self._database.store_probed_size(dataset.id, size)
            if dataset.from_tables:
                self._database.store_probed_size_by_md5(dataset, size)
        except CacheError as error:
            log.warning("the size of %s cannot be stored: %s", dataset.name, error)

    def _known_repositories(self) -> Mapping[str, Repository]:
        """Return the stored repositories. Alyx is asked if there are none."""
        stored = self._database.repositories()
        return stored or self._listing_cache.force_refresh(self._repositories_request()).value

    def _revalidated(self, session: Session) -> Session | None:
        """Return a known session, requested again if it was invalidated since its last request.

        Return None if the session was deleted. While Alyx is unreachable, the known session stays.
        """
        if not self._listing_cache.invalidations.time_of(alf.session_folder(session)):
            return session
        with suppress(Unreachable, DeadlineExceeded, Throttled, ServerError):
            self.sessions(session.lab, session.subject)
        return self._database.session(session.eid)

    def _datasets_request(
        self, session: Session, repositories: Mapping[str, Repository]
    ) -> ListingRequest[list[Dataset]]:
        return listing_requests.datasets_request(
            session, repositories, self._prefetcher, self._clock()
        )

    def _repositories_request(self) -> ListingRequest[dict[str, Repository]]:
        return listing_requests.repositories_request(self._listing_cache)


def _is_from_alyx(datasets: Iterable[Dataset]) -> bool:
    return not any(dataset.from_tables for dataset in datasets)

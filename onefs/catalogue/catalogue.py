"""The catalogue: the only one who decides whether to ask Alyx.

A listing is asked for whole, once, however many callers want it; kept in SQLite with the time it
was taken; served while it is fresh, and served stale while one refresh runs behind. A refresh
that fails changes nothing. Network trouble is an error of its own kind, never "not found".
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from onefs import alf
from onefs.alyx.client import AlyxClient
from onefs.alyx.parsing import DatasetRow, usable_replicas
from onefs.cache_tables.reader import presumed_replicas
from onefs.catalogue.availability import ServerAvailability
from onefs.catalogue.invalidation import TreePath
from onefs.catalogue.listing_cache import (
    Listing,
    ListingCache,
    ListingRequest,
    StoreAnswer,
)
from onefs.catalogue.new_sessions import NewSessions
from onefs.catalogue.prefetch.batches import LAB_LISTING_WAIT_SECONDS, BatchPrefetcher, datasets_key
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.catalogue.ttl import (
    FAILURE_PAUSE_SECONDS,
    LABS_TTL_SECONDS,
    NEGATIVE_TTL_SECONDS,
    OLD_TTL_SECONDS,
    RECENT_TTL_SECONDS,
    REPOSITORIES_TTL_SECONDS,
    SUBJECTS_TTL_SECONDS,
    TABLES_TTL_SECONDS,
    session_ttl_seconds,
)
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
from onefs.printable import printable_json

__all__ = [
    "FAILURE_PAUSE_SECONDS",
    "LABS_TTL_SECONDS",
    "NEGATIVE_TTL_SECONDS",
    "OLD_TTL_SECONDS",
    "RECENT_TTL_SECONDS",
    "REPOSITORIES_TTL_SECONDS",
    "SUBJECTS_TTL_SECONDS",
    "Catalogue",
    "Listing",
]

log = logging.getLogger(__name__)

#: subjects of a lab whose sessions are asked for one by one: those of the whole lab for more
_MAX_SINGLE_SUBJECTS = 5


class Catalogue:
    """What exists, by SQLite first and Alyx when need be. Thread-safe.

    ``deadline`` bounds, in seconds, how long any caller waits for Alyx; with ``offline`` nobody
    asks it. Methods raise NotFound only when Alyx or the catalogue has said so; otherwise
    Unreachable, DeadlineExceeded, AlyxCredentials, Throttled, ServerError, CacheError or Stopping.
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
        #: whether Alyx is there, and who is told when that changes
        self.availability = ServerAvailability(alyx.url, alyx.probe, clock, always_offline=offline)
        self._listing_cache = ListingCache(database, alyx, self.availability, deadline, clock)
        self._new_sessions = NewSessions(database, self._listing_cache, self.availability, clock)
        self._prefetcher = BatchPrefetcher(database, alyx, self._listing_cache, deadline, clock)
        self._types_warning_logged = self._failure_warning_logged = False
        #: when this catalogue was begun, in seconds since the epoch: the date of what has none
        self.created = _creation_time(database, clock())
        if not offline:
            database.note_server_url(alyx.url)

    @property
    def url(self) -> str:
        """The database's address."""
        return self._alyx.url

    @property
    def offline(self) -> bool:
        """Whether the last request to Alyx found no server, or nobody is to ask it."""
        return self.availability.offline

    def close(self) -> None:
        """Wake who waits, with Stopping."""
        self.availability.close()
        self._prefetcher.close()
        self._listing_cache.close()

    def check_server(self) -> None:
        """Ask Alyx for the labs now: raises what stands in the way of asking it.

        Also has the repositories, which every session's listing needs, so that the first one costs
        what all others do.
        """
        self._listing_cache.fetch(self._labs_request())
        with suppress(OnefsError):  # they are asked for again when they are needed
            self.repositories()

    def is_empty(self) -> bool:
        """Whether nothing was ever listed, so that there is nothing to serve without a server."""
        return self._database.is_empty()

    def invalidate(self, path: TreePath) -> None:
        """Have everything at and below these folders (lab, subject, date, number) asked for
        before it is shown again, by whatever process shows it; () for all."""
        self._listing_cache.invalidations.invalidate(path, self._clock())

    def reload_invalidations(self) -> None:
        """Read what other processes want anew, and forget which requests have just failed."""
        self._listing_cache.reload_invalidations()

    def labs(self) -> Listing[list[str]]:
        """Names of all labs."""
        return self._listing_cache.get(self._labs_request())

    def known_labs(self) -> list[str]:
        """Names of the labs that are known already; asks no server."""
        return self._database.labs()

    def subjects(self, lab: str) -> Listing[list[str]]:
        """Nicknames of a lab's subjects, and of those that its known sessions name."""

        def fetch(alyx: AlyxClient) -> StoreAnswer:
            found = alyx.subjects(lab)
            store_others = self._fetch_unlisted_subjects(alyx, lab, frozenset(found))

            def store(database: CatalogueDatabase, asked: float) -> None:
                database.store_subjects(lab, found, asked)
                store_others(database, asked)

            return store

        return self._listing_cache.get(
            ListingRequest(
                f"subjects/{lab}",
                SUBJECTS_TTL_SECONDS,
                fetch,
                lambda database: database.subjects(lab),
                scope=(alf.lab_folder(lab),),
            )
        )

    def sessions(self, lab: str, subject: str) -> Listing[list[Session]]:
        """A subject's sessions, by date and number. Those without a number are left out."""

        def fetch(alyx: AlyxClient) -> StoreAnswer:
            found = alyx.sessions(lab, subject)
            return lambda database, asked: database.store_sessions(lab, subject, found, asked)

        listing = self._listing_cache.get(
            ListingRequest(
                f"sessions/{lab}/{subject}",
                RECENT_TTL_SECONDS,
                fetch,
                lambda database: _dated_sessions(database, lab, subject),
                scope=(alf.lab_folder(lab), alf.subject_folder(subject)),
                plan_batch=lambda: self._prefetcher.plan_sessions(lab, subject),
                batch_wait_seconds=LAB_LISTING_WAIT_SECONDS,
                tables_ttl_seconds=TABLES_TTL_SECONDS,
            )
        )
        if listing.from_tables:
            self._new_sessions.start_refresh(lab)
        return listing

    def known_sessions(self, lab: str, subject: str) -> list[Session]:
        """Those of a subject's sessions that are known, by date, number and eid; asks nobody."""
        return _dated_sessions(self._database, lab, subject)

    def ask_for_new_sessions(self, lab: str, subject: str) -> bool:
        """Have Alyx asked for sessions that cache tables cannot know, before one of a subject is
        reported absent. False where its sessions are not the tables' word; raises as
        :meth:`NewSessions.ask` does."""
        return self._database.is_from_tables(
            f"sessions/{lab}/{subject}"
        ) and self._new_sessions.refresh(lab)

    def ask_for_new_subjects(self, lab: str) -> bool:
        """The same, before a subject of a lab is reported absent."""
        return self._new_sessions.refresh(lab)

    def ask_for_new_labs(self) -> bool:
        """The same, before a lab is reported absent."""
        before = set(self.labs().value)
        asked = self._new_sessions.refresh_labs(self._labs_request())
        if asked and set(self.labs().value) - before:  # a new lab has a repository of its own
            self._listing_cache.force_refresh(self._repositories_request())
        return asked

    def datasets(self, session: Session) -> Listing[list[Dataset]]:
        """The datasets of a session that can be fetched, in a stable order.

        Those that only cache tables know are all there: where they can be fetched from is not
        known before :meth:`complete`.
        """
        wanted = self._datasets_request(session, self.repositories().value)
        try:
            return self._listing_cache.get(wanted)
        except (Unreachable, DeadlineExceeded, Throttled):
            # the tables have the session and no dataset of it: not the last word, but the best
            if not self._database.is_empty_in_tables(session.eid):
                raise
            return Listing([], self._database.tables_created_at())

    def unserved_datasets(self, session: Session) -> list[tuple[Dataset, tuple[str, ...]]]:
        """The datasets of a listed session that are on no file server, each with the names of the
        repositories that Alyx says have it. Asks nobody: without repositories none is told."""
        known = self._database.repositories()
        rows = self._database.datasets(session.eid) if known else []
        return [
            (row.dataset, tuple(name for name, _ in row.claimed_replicas))
            for row in rows
            if not row.dataset.from_tables and not usable_replicas(row.claimed_replicas, known)
        ]

    def refresh_datasets(self, session: Session) -> None:
        """Wait for a new list of a session's datasets where the known one has aged.

        Where that fails the known one stays, and the log says so. Raises Stopping.
        """
        if self.availability.always_offline or self._database.is_from_tables(
            datasets_key(session.eid)
        ):
            return
        if self._database.fetched_at(datasets_key(session.eid)) is None:
            return
        wanted = self._datasets_request(session, self._known_repositories())
        listing = self._listing_cache.get_fresh(wanted)
        if not self._listing_cache.is_fresh(wanted):
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(listing.fetched_at))
            log.warning("Alyx gives no newer list now: this is what it gave on %s", when)

    def fetch_full_listing(self, session: Session) -> bool:
        """Have Alyx list a session whose datasets only cache tables know; False for any other.

        The tables do not say where a dataset is, and leave some out. One request, once for each
        session. Raises NotFound when Alyx does not have it any more.
        """
        key = datasets_key(session.eid)
        if not self._database.is_from_tables(key):
            # another process may have had it listed: what is in memory must not stand for longer
            return self._listing_cache.drop_from_memory_unless(key, _told_by_alyx)
        self._listing_cache.force_refresh(
            self._datasets_request(session, self._known_repositories())
        )
        return True

    def try_fetch_full_listing(self, session: Session) -> bool:
        """As :meth:`complete`; False, too, where Alyx does not tell, or what it tells cannot be
        kept: the tables' word stands. The log says so, once, where Alyx is not merely away."""
        try:
            return self.fetch_full_listing(session)
        except (NotFound, Stopping):
            raise
        except OnefsError as error:
            away = isinstance(error, (Unreachable, DeadlineExceeded, Throttled))
            if not away and not self._failure_warning_logged:
                self._failure_warning_logged = True
                log.warning("what the cache tables say stands: %s", error)
            return False

    def fetch_full_listings(self, sessions: Sequence[Session]) -> dict[str, OnefsError]:
        """As :meth:`complete` for many sessions, as many with a request as fit in a page.

        Gives the eids of those that could not be asked for, with why: the tables' word stands. It
        leaves the budget's reserve to others. Raises Stopping.
        """
        wanted = [
            each for each in sessions if self._database.is_from_tables(datasets_key(each.eid))
        ]
        try:
            self._known_repositories()
        except Stopping:
            raise
        except OnefsError as error:
            return {session.eid: error for session in wanted}
        return self._prefetcher.fetch_missing_datasets(wanted)

    def prefetch(self, eids: Sequence[str]) -> None:
        """Ask for sessions and datasets that are not known, many with a request.

        For a caller that goes on to read each of them. Raises Stopping, and nothing else: what
        could not be had is asked for alone, which says why.
        """
        if len(eids) < 2 or not self.availability.can_ask():
            return
        try:
            self._prefetcher.preload_sessions(eids, self.note_session)
        except Stopping:
            raise
        except OnefsError as error:
            log.info("sessions are asked for one by one: %s", error)

    def _known_repositories(self) -> Mapping[str, Repository]:
        """Those that are known; Alyx is asked when none is."""
        known = self._database.repositories()
        return known or self._listing_cache.force_refresh(self._repositories_request()).value

    def with_types(self, datasets: Sequence[Dataset]) -> list[Dataset]:
        """The datasets; those that only cache tables know with the types that they likely have.

        A line in the log says so, once: names of files are no proof.
        """
        names = {dataset.name for dataset in datasets if dataset.from_tables}
        if not names:
            return list(datasets)
        if not self._types_warning_logged:
            self._types_warning_logged = True
            log.warning("the cache tables have no dataset types: file names stood for them")
        likely = self._database.guess_types(names)
        return [
            replace(each, dataset_type=likely.get(each.name, "")) if each.from_tables else each
            for each in datasets
        ]

    def session_id_of_dataset(self, dataset_id: str) -> str | None:
        """The eid of the session of a dataset that was listed once; asks nobody."""
        return self._database.session_of_dataset(dataset_id)

    def repositories(self) -> Listing[dict[str, Repository]]:
        """Every repository, by name."""
        return self._listing_cache.get(self._repositories_request())

    def session(self, eid: str) -> Session:
        """One session by its eid. Raises NotFound when Alyx has none, or it has no folder."""
        found = self.any_session(eid)
        if not found.has_folder:
            raise NotFound(f"session {eid} has no folder: it lacks {missing_parts(found)}")
        return found

    def any_session(self, eid: str) -> Session:
        """One session by its eid, with or without a folder. Raises NotFound when Alyx has none."""

        def fetch(alyx: AlyxClient) -> StoreAnswer:
            found, numbered = alyx.session(eid)
            self.note_session(found)
            return lambda database, asked: database.store_session(found, numbered, asked)

        with suppress(CacheError):  # a row that cannot be read is asked for anew
            known = self._database.session(eid)
            if known is not None and known.has_folder:
                known = self._revalidated(known)
            if known is not None and known.has_folder:
                return known
        key = f"session/{eid}"
        wanted = ListingRequest(
            key, RECENT_TTL_SECONDS, fetch, lambda each: each.session(eid), scope=None
        )
        found = self._listing_cache.get(wanted)
        if found.value is None:
            raise NotFound(f"Alyx has no session {eid}")
        return found.value

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        """The sessions that a ref names: none, one, or one for each lab with that nickname."""
        if not alf.is_calendar_day(ref.date):  # Alyx answers 500
            return []

        def fetch(alyx: AlyxClient) -> StoreAnswer:
            found = alyx.sessions_by_ref(ref.subject, ref.date, ref.number)
            for session, _ in found:
                self.note_session(session)
            return lambda database, asked: database.store_sessions_by_ref(ref, found, asked)

        def load(database: CatalogueDatabase) -> list[Session]:
            return database.sessions_by_ref(ref)

        key = f"ref/{ref.date}_{ref.number}_{ref.subject}"
        wanted = ListingRequest(
            key, RECENT_TTL_SECONDS, fetch, load, scope=None, tables_ttl_seconds=TABLES_TTL_SECONDS
        )
        found = self._listing_cache.get(wanted)
        aged = self._clock() - found.fetched_at > NEGATIVE_TTL_SECONDS
        if not found.value and aged and self.availability.can_ask():
            with suppress(CacheError):
                self._database.expire_listing(key)
            self._listing_cache.drop_from_memory(key)
            found = self._listing_cache.get(wanted)
        return found.value

    def note_session(self, session: Session) -> None:
        """Have a session that was stored by itself, by a search or a look-up, in its listings.

        Asks nobody: a listing in memory that lacks it is taken from SQLite, which has it, the
        next time. Otherwise a link to the session would lead nowhere until the listing ages.
        """
        lab, subject, eid = session.lab, session.subject, session.eid
        self._listing_cache.drop_from_memory_unless(
            f"subjects/{lab}", lambda names: subject in names
        )
        self._listing_cache.drop_from_memory_unless(
            f"sessions/{lab}/{subject}", lambda found: any(each.eid == eid for each in found)
        )

    def record(self, session: Session) -> Listing[str]:
        """The whole Alyx record of a session: JSON, sorted keys, indent 2, newline at the end."""
        eid = session.eid

        def fetch(alyx: AlyxClient) -> StoreAnswer:
            body = _record_json(alyx.session_record(eid))
            return lambda database, asked: database.store_record(eid, body, asked)

        return self._listing_cache.get(
            ListingRequest(
                f"record/{eid}",
                session_ttl_seconds(session, self._clock()),
                fetch,
                lambda database: database.record(eid) or "",
                scope=alf.session_folder(session),
            )
        )

    def remember_size(self, dataset: Dataset, size: int) -> None:
        """Keep the size that a file server gave for a dataset whose size Alyx lacks.

        Listings that are in memory do not change: who has asked knows it.
        """
        try:
            self._database.store_probed_size(dataset.id, size)
            if dataset.from_tables:
                self._database.store_probed_size_by_md5(dataset, size)
        except CacheError as error:
            log.warning("the size of %s is asked for again another time: %s", dataset.name, error)

    def _fetch_unlisted_subjects(
        self, alyx: AlyxClient, lab: str, listed: frozenset[str]
    ) -> StoreAnswer:
        """Ask for the sessions of the subjects that Alyx does not list in a lab, where they are
        wanted anew: known sessions name them, and are gone with a subject that is deleted."""
        others: list[str] = []
        found: list[tuple[Session, bool]] = []
        try:
            others = [
                name
                for name in self._database.subjects(lab)
                if name not in listed and self._is_invalidated(lab, name)
            ]
            if len(others) > _MAX_SINGLE_SUBJECTS:
                found = alyx.sessions_of_lab(lab)
            else:
                found = [each for name in others for each in alyx.sessions(lab, name)]
        except (Unreachable, DeadlineExceeded, Throttled, ServerError, CacheError) as error:
            log.info("which other subjects lab %s still has is not known: %s", lab, error)
            others = []

        def store(database: CatalogueDatabase, asked: float) -> None:
            for name in others:
                own = [each for each in found if each[0].subject == name]
                database.store_sessions(lab, name, own, asked)
                self._listing_cache.drop_from_memory(f"sessions/{lab}/{name}")

        return store

    def _is_invalidated(self, lab: str, subject: str) -> bool:
        """Whether a subject's sessions are to be asked for before they are shown again."""
        wanted_at = self._listing_cache.invalidations.time_of(
            (alf.lab_folder(lab), alf.subject_folder(subject))
        )
        return (self._database.fetched_at(f"sessions/{lab}/{subject}") or 0.0) < wanted_at

    def _revalidated(self, session: Session) -> Session | None:
        """A known session as it is after the last wish to have it anew; None: it is not there.

        While Alyx is away, what is known stays.
        """
        if not self._listing_cache.invalidations.time_of(alf.session_folder(session)):
            return session
        with suppress(Unreachable, DeadlineExceeded, Throttled, ServerError):
            self.sessions(session.lab, session.subject)
        return self._database.session(session.eid)

    def _labs_request(self) -> ListingRequest[list[str]]:
        def fetch(alyx: AlyxClient) -> StoreAnswer:
            found = alyx.labs()
            return lambda database, asked: database.store_labs(found, asked)

        return ListingRequest("labs", LABS_TTL_SECONDS, fetch, lambda database: database.labs())

    def _datasets_request(
        self, session: Session, known: Mapping[str, Repository]
    ) -> ListingRequest[list[Dataset]]:
        eid, scope = session.eid, alf.session_folder(session)
        age = session_ttl_seconds(session, self._clock())

        def fetch(alyx: AlyxClient) -> StoreAnswer:
            found = alyx.datasets(eid)
            self._prefetcher.note_listed_session(session, found)
            return lambda database, asked: database.store_datasets(eid, found, asked)

        def load(database: CatalogueDatabase) -> list[Dataset]:
            found = (_with_replicas(row, known) for row in database.datasets(eid))
            return [dataset for dataset in found if dataset.replicas or dataset.from_tables]

        return ListingRequest(
            datasets_key(eid),
            age,
            fetch,
            load,
            scope=scope,
            plan_batch=lambda: self._prefetcher.plan_datasets(session, scope),
            start_refresh=lambda: self._prefetcher.schedule_refresh(session),
            tables_ttl_seconds=TABLES_TTL_SECONDS if age == OLD_TTL_SECONDS else None,
        )

    def _repositories_request(self) -> ListingRequest[dict[str, Repository]]:
        def fetch(alyx: AlyxClient) -> StoreAnswer:
            found = alyx.repositories()

            def store(database: CatalogueDatabase, asked: float) -> None:
                database.store_repositories(found, asked)
                self._listing_cache.drop_prefix_from_memory(
                    "datasets/"
                )  # their addresses may have changed

            return store

        return ListingRequest(
            "repositories", REPOSITORIES_TTL_SECONDS, fetch, lambda each: each.repositories()
        )


def unserved_message(name: str, repositories: Sequence[str]) -> str:
    """The sentence that a dataset is registered and cannot be fetched."""
    where = f"repositories: {', '.join(repositories)}" if repositories else "no repository has it"
    return f"{name} is registered in Alyx, but on no server that can be reached ({where})"


def missing_parts(session: Session) -> str:
    """What a session lacks to have a folder, for a message."""
    parts = {
        "a lab": session.lab,
        "a subject": session.subject,
        "a date": session.date,
        "a number": session.number >= 0,
    }
    return ", ".join(name for name, known in parts.items() if not known)


def _creation_time(database: CatalogueDatabase, now: float) -> float:
    """When a catalogue was begun; now where it does not say, and cannot be told."""
    try:
        known = database.fact("created")
        if known is None:
            database.set_fact("created", repr(now))
        return float(known or now)
    except (CacheError, ValueError) as error:
        log.warning("the catalogue does not say when it was begun: %s", error)
        return now


def _record_json(record: Mapping[str, object]) -> str:
    """A record as JSON, with control characters and lone surrogates as JSON's escapes."""
    try:
        text = json.dumps(record, sort_keys=True, indent=2, ensure_ascii=False)
    except (RecursionError, ValueError) as error:
        raise ServerError(f"Alyx sent a record that cannot be written as JSON: {error}") from error
    return printable_json(text) + "\n"


def _dated_sessions(database: CatalogueDatabase, lab: str, subject: str) -> list[Session]:
    return [each for each in database.sessions(lab, subject) if alf.is_date(each.date)]


def _told_by_alyx(datasets: Iterable[Dataset]) -> bool:
    return not any(dataset.from_tables for dataset in datasets)


def _with_replicas(row: DatasetRow, known: Mapping[str, Repository]) -> Dataset:
    """A dataset with where it can be fetched; by the layout when only tables know it."""
    if row.dataset.from_tables:
        copies = presumed_replicas(row.server_path, row.dataset.id, known)
    else:
        copies = usable_replicas(row.claimed_replicas, known)
    return replace(row.dataset, replicas=copies)

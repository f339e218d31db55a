"""For each kind of listing, how to request the listing from Alyx, and how to store the answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import cache
from typing import NamedTuple

from onefs import alf
from onefs.alyx.client import AlyxClient
from onefs.alyx.parsing import DatasetRow, usable_replicas
from onefs.cache_tables.reader import lab_servers, presumed_replicas
from onefs.catalogue.listing import ListingRequest
from onefs.catalogue.listing_cache import ListingCache
from onefs.catalogue.prefetch.batches import (
    LAB_LISTING_WAIT_SECONDS,
    BatchPrefetcher,
    datasets_key,
    sessions_key,
)
from onefs.catalogue.storage.database import CatalogueDatabase, NumberedSession
from onefs.catalogue.ttl import (
    LABS_TTL_SECONDS,
    OLD_TTL_SECONDS,
    RECENT_TTL_SECONDS,
    REPOSITORIES_TTL_SECONDS,
    SUBJECTS_TTL_SECONDS,
    TABLES_TTL_SECONDS,
    session_ttl_seconds,
)
from onefs.errors import CacheError, DeadlineExceeded, ServerError, Throttled, Unreachable
from onefs.lowlevel.single_flight import result_of
from onefs.model import Dataset, Repository, Session
from onefs.printable import printable_json

log = logging.getLogger(__name__)

_SessionsBySubject = Mapping[str, list[NumberedSession]]

#: largest number of subjects for which one request per subject is sent; for more subjects, the
#: sessions of the whole lab are requested
_MAX_SINGLE_SUBJECTS = 5


def labs_request() -> ListingRequest[list[str]]:
    """Return the request for the names of all labs."""
    return ListingRequest(
        "labs",
        LABS_TTL_SECONDS,
        fetch=lambda alyx: alyx.labs(),
        store=lambda database, labs, asked: database.store_labs(labs, asked),
        load=lambda database: database.labs(),
    )


def repositories_request() -> ListingRequest[dict[str, Repository]]:
    """Return the request for all repositories, by name."""
    return ListingRequest(
        "repositories",
        REPOSITORIES_TTL_SECONDS,
        fetch=lambda alyx: alyx.repositories(),
        store=lambda database, answer, asked: database.store_repositories(answer, asked),
        load=lambda database: database.repositories(),
    )


def subjects_request(
    lab: str, database: CatalogueDatabase, listings: ListingCache
) -> ListingRequest[list[str]]:
    """Return the request for the nicknames of a lab's subjects.

    Subjects of stored sessions are included, even if Alyx does not list them.
    """

    def fetch(alyx: AlyxClient) -> tuple[list[str], _SessionsBySubject]:
        subjects = alyx.subjects(lab)
        invalidated = _invalidated_subjects(lab, database, listings)
        return subjects, _fetch_unlisted(alyx, lab, sorted(set(invalidated) - set(subjects)))

    def store(
        database: CatalogueDatabase, answer: tuple[list[str], _SessionsBySubject], asked: float
    ) -> None:
        subjects, unlisted = answer
        database.store_subjects(lab, subjects, asked)
        for name, sessions in unlisted.items():
            database.store_sessions(lab, name, sessions, asked)
            listings.memory.drop(sessions_key(lab, name))

    return ListingRequest(
        f"subjects/{lab}",
        SUBJECTS_TTL_SECONDS,
        fetch,
        store,
        load=lambda database: database.subjects(lab),
        scope=(alf.lab_folder(lab),),
    )


def _invalidated_subjects(
    lab: str, database: CatalogueDatabase, listings: ListingCache
) -> list[str]:
    """Return a lab's stored subjects whose listing of sessions is invalidated."""

    def is_invalidated(subject: str) -> bool:
        invalidated_at = listings.invalidations.time_of(
            (alf.lab_folder(lab), alf.subject_folder(subject))
        )
        return (database.fetched_at(sessions_key(lab, subject)) or 0.0) < invalidated_at

    try:
        return list(filter(is_invalidated, database.subjects(lab)))
    except CacheError as error:
        log.info("subjects that Alyx does not list in lab %s are not refreshed: %s", lab, error)
        return []


def _fetch_unlisted(alyx: AlyxClient, lab: str, subjects: list[str]) -> _SessionsBySubject:
    """Ask Alyx for the sessions of subjects that Alyx does not list in the lab.

    Return the sessions by subject. Return {} if the request fails.
    """
    try:
        if len(subjects) > _MAX_SINGLE_SUBJECTS:
            sessions = alyx.sessions_of_lab(lab)
        else:
            sessions = [each for name in subjects for each in alyx.sessions(lab, name)]
    except (Unreachable, DeadlineExceeded, Throttled, ServerError) as error:
        log.info("subjects that Alyx does not list in lab %s are not refreshed: %s", lab, error)
        return {}
    # a subject that was deleted gets [], so that its stored sessions are removed
    return {name: [each for each in sessions if each[0].subject == name] for name in subjects}


def sessions_request(
    lab: str, subject: str, prefetcher: BatchPrefetcher
) -> ListingRequest[list[Session]]:
    """Return the request for a subject's sessions, sorted by date, number and eid.

    Sessions without a date or number are left out.
    """
    return ListingRequest(
        sessions_key(lab, subject),
        RECENT_TTL_SECONDS,
        fetch=lambda alyx: alyx.sessions(lab, subject),
        store=lambda database, rows, asked: database.store_sessions(lab, subject, rows, asked),
        load=lambda database: dated_sessions(database, lab, subject),
        scope=(alf.lab_folder(lab), alf.subject_folder(subject)),
        plan_batch=lambda: prefetcher.plan_sessions(lab, subject),
        batch_wait_seconds=LAB_LISTING_WAIT_SECONDS,
        tables_ttl_seconds=TABLES_TTL_SECONDS,
    )


def dated_sessions(database: CatalogueDatabase, lab: str, subject: str) -> list[Session]:
    """Return a subject's stored sessions, sorted by date, number and eid.

    Sessions without a date or number are left out.
    """
    return [each for each in database.sessions(lab, subject) if alf.is_date(each.date)]


def session_request(
    eid: str, note_session: Callable[[Session], None]
) -> ListingRequest[Session | None]:
    """Return the request for one session by its eid.

    ``note_session`` is called with the session that Alyx sends.
    """

    def store(database: CatalogueDatabase, answer: NumberedSession, asked: float) -> None:
        database.store_session(*answer, asked)
        note_session(answer[0])

    return ListingRequest(
        f"session/{eid}",
        RECENT_TTL_SECONDS,
        fetch=lambda alyx: alyx.session(eid),
        store=store,
        load=lambda database: database.session(eid),
        scope=None,
    )


def ref_request(
    ref: alf.Ref, note_session: Callable[[Session], None]
) -> ListingRequest[list[Session]]:
    """Return the request for the sessions with a ref such as 2019-12-10_1_KS023.

    ``note_session`` is called with each session that Alyx sends.
    """

    def store(database: CatalogueDatabase, answer: list[NumberedSession], asked: float) -> None:
        database.store_sessions_by_ref(ref, answer, asked)
        for session, _ in answer:
            note_session(session)

    return ListingRequest(
        f"ref/{ref.date}_{ref.number}_{ref.subject}",
        RECENT_TTL_SECONDS,
        fetch=lambda alyx: alyx.sessions_by_ref(ref.subject, ref.date, ref.number),
        store=store,
        load=lambda database: database.sessions_by_ref(ref),
        scope=None,
        tables_ttl_seconds=TABLES_TTL_SECONDS,
    )


def record_request(session: Session, now: float) -> ListingRequest[str]:
    """Return the request for the whole Alyx record of a session, as JSON."""
    eid = session.eid
    return ListingRequest(
        f"record/{eid}",
        session_ttl_seconds(session, now),
        fetch=lambda alyx: _record_json(alyx.session_record(eid)),
        store=lambda database, body, asked: database.store_record(eid, body, asked),
        load=lambda database: database.record(eid) or "",
        scope=alf.session_folder(session),
    )


class DatasetsAhead(NamedTuple):
    """Datasets of a session that were requested before its other properties were known."""

    rows: list[DatasetRow]
    #: when they were requested, in seconds since the epoch
    asked: float


def datasets_request(
    session: Session,
    repositories: Mapping[str, Repository],
    prefetcher: BatchPrefetcher,
    now: float,
    basis: object = None,
    ahead: Future[DatasetsAhead] | None = None,
) -> ListingRequest[list[Dataset]]:
    """Return the request for a session's datasets, with their replicas.

    A dataset that Alyx lists is left out if none of its replicas can be fetched. Datasets from
    cache tables are all included. ``basis`` is :meth:`CatalogueDatabase.datasets_basis`. With
    ``ahead``, no other request is sent.
    """
    eid, scope = session.eid, alf.session_folder(session)
    ttl = session_ttl_seconds(session, now)

    def fetch(alyx: AlyxClient) -> list[DatasetRow]:
        rows = alyx.datasets(eid) if ahead is None else result_of(ahead, None).rows
        prefetcher.note_listed_session(session, rows)
        return rows

    def store(database: CatalogueDatabase, rows: list[DatasetRow], asked: float) -> None:
        database.store_datasets(eid, rows, asked if ahead is None else ahead.result().asked)

    def load(database: CatalogueDatabase) -> list[Dataset]:
        servers_of = cache(lambda lab: lab_servers(lab, repositories))
        datasets = (_with_replicas(row, repositories, servers_of) for row in database.datasets(eid))
        return [dataset for dataset in datasets if dataset.replicas or dataset.from_tables]

    return ListingRequest(
        datasets_key(eid),
        ttl,
        fetch,
        store,
        load,
        basis=repositories if basis is None else (repositories, basis),
        scope=scope,
        plan_batch=None if ahead else lambda: prefetcher.plan_datasets(session, scope),
        start_refresh=lambda: prefetcher.schedule_refresh(session),
        tables_ttl_seconds=TABLES_TTL_SECONDS if ttl == OLD_TTL_SECONDS else None,
    )


def _with_replicas(
    row: DatasetRow,
    repositories: Mapping[str, Repository],
    servers_of: Callable[[str], Sequence[tuple[str, str]]],
) -> Dataset:
    """Convert a row to a dataset with the replicas that can be fetched.

    ``servers_of`` returns the file servers of a lab: see :func:`lab_servers`.
    """
    # the tables have no replicas: they are derived from the path of the file
    if row.dataset.from_tables:
        replicas = presumed_replicas(row.server_path, row.dataset.uuid, servers_of)
    else:
        replicas = usable_replicas(row.claimed_replicas, repositories)
    return row.dataset.with_replicas(replicas)


def _record_json(record: Mapping[str, object]) -> str:
    """Return a record as JSON. Control characters and lone surrogates are written as JSON escapes.

    Raises ServerError if the record cannot be written as JSON.
    """
    try:
        text = json.dumps(record, sort_keys=True, indent=2, ensure_ascii=False)
    except (RecursionError, ValueError) as error:
        raise ServerError(f"Alyx sent a record that cannot be written as JSON: {error}") from error
    return printable_json(text) + "\n"

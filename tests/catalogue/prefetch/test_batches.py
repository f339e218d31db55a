"""A walk needs few requests, and a listing that a batch lacks is requested by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from onefs.alyx.auth import fetch_token
from onefs.alyx.client import MAX_IDS_PER_REQUEST, AlyxClient
from onefs.alyx.pagination import PAGE_ROWS
from onefs.alyx.tokens import FixedToken
from onefs.catalogue.catalogue import Catalogue
from onefs.catalogue.prefetch.batches import STALE_COLLECTION_SECONDS, datasets_key
from onefs.catalogue.prefetch.walk_detector import (
    BATCH_SUSPENSION_SECONDS,
    WALK_TIMEOUT_SECONDS,
    WalkDetector,
)
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.demo.scaled_laboratory import ScaledLaboratory
from onefs.demo.servers import Servers
from onefs.errors import Unreachable
from onefs.http import Transport
from onefs.model import Session
from tests.catalogue.lab_walk import asked, sessions_of, walk
from tests.running import wait_until

LAB = "lab00"
Make = Callable[..., Catalogue]


@pytest.fixture(scope="module")
def grown() -> Iterator[Servers]:
    """Serve the made laboratory with an added lab of 1,000 sessions, each with 40 datasets."""
    with Servers(ScaledLaboratory(1100, 40)) as servers:
        yield servers


@pytest.fixture
def make(grown: Servers, transport: Transport, tmp_path: Path) -> Iterator[Make]:
    login = grown.login
    token = fetch_token(transport, grown.alyx_url, login.username, login.password)
    made: list[Catalogue] = []

    def build(name: str = "catalogue", **options: object) -> Catalogue:
        # long deadlines, for a busy machine: this module counts requests
        alyx = AlyxClient(transport, grown.alyx_url, FixedToken(token), deadline=60.0)
        options = {"deadline": 60.0, **options}
        made.append(Catalogue(CatalogueDatabase(tmp_path / f"{name}.sqlite"), alyx, **options))  # type: ignore[arg-type]
        grown.clear_requests()
        return made[-1]

    yield build
    for catalogue in made:
        catalogue.close()


@pytest.mark.long  # tests/system/test_costs.py tests the same with a mount
def test_a_find_of_a_thousand_sessions_is_sixty_requests_and_then_none(
    make: Make, grown: Servers
) -> None:
    catalogue = make()
    found = walk(catalogue, LAB)
    assert len(found) == 1000
    assert set(found.values()) == {40}
    assert len(grown.requests) <= 60, asked(grown)
    assert max(len(request.path) for request in grown.requests) < 4094
    grown.clear_requests()
    assert walk(catalogue, LAB) == found
    assert walk(make(), LAB) == found  # a new process
    assert grown.requests == []


def test_a_walk_rarely_waits_for_a_request_that_was_not_sent(make: Make, grown: Servers) -> None:
    """The next page is requested when the walk begins to list the present one, not at its end."""
    catalogue = make()
    sessions = list(sessions_of(catalogue, LAB))[:300]
    grown.clear_requests()
    unrequested = 0
    for session in sessions:
        key = datasets_key(session.eid)
        is_coming = key in catalogue._listing_cache.pending_keys()
        unrequested += not is_coming and catalogue._database.fetched_at(key) is None
        assert len(catalogue.datasets(session).value) == 40
    assert unrequested <= 5
    # no more requests than without looking ahead, but for one page after the last session
    assert asked(grown)["/datasets"] <= 2 + 300 // 25 + 3


def walk_to_an_unused_batch(catalogue: Catalogue) -> Session:
    """List sessions until a page of others was fetched; return one of these, which is stored."""
    for session in sessions_of(catalogue, LAB):
        catalogue.datasets(session)
        wait_until(lambda: not catalogue._listing_cache.pending_keys())
        unused = catalogue._prefetcher._unused_batches
        if unused:
            return catalogue.session(next(iter(unused)))
    raise AssertionError("no batch was fetched")


def test_a_look_ahead_that_cannot_start_fails_no_reader(make: Make) -> None:
    catalogue = make()
    session = walk_to_an_unused_batch(catalogue)
    catalogue._listing_cache.close()  # no request can be started any more
    assert len(catalogue.datasets(session).value) == 40


def test_nothing_is_looked_ahead_long_after_a_walk(
    make: Make, grown: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = make()
    session = walk_to_an_unused_batch(catalogue)
    grown.clear_requests()
    clock = catalogue._prefetcher._clock
    monkeypatch.setattr(catalogue._prefetcher, "_clock", lambda: clock() + 2 * WALK_TIMEOUT_SECONDS)
    assert len(catalogue.datasets(session).value) == 40
    assert catalogue._listing_cache.pending_keys() == frozenset()
    assert asked(grown)["/datasets"] == 0


def test_nothing_is_looked_ahead_during_an_outage(make: Make, grown: Servers) -> None:
    catalogue = make()
    session = walk_to_an_unused_batch(catalogue)
    grown.clear_requests()
    catalogue.availability.record_failure(Unreachable("the server is away"))
    assert len(catalogue.datasets(session).value) == 40
    assert catalogue._listing_cache.pending_keys() == frozenset()
    assert asked(grown)["/datasets"] == 0
    # the walk is continued later
    catalogue.availability.record_success()
    catalogue.datasets(session)
    wait_until(lambda: asked(grown)["/datasets"] == 1)


@pytest.mark.long
def test_a_walk_from_the_end_is_noticed_too(make: Make, grown: Servers) -> None:
    catalogue = make()
    for session in reversed(list(sessions_of(catalogue, LAB))):
        assert len(catalogue.datasets(session).value) == 40
    assert len(grown.requests) <= 60, asked(grown)


def test_one_session_fetches_no_other(make: Make, grown: Servers) -> None:
    catalogue = make()
    [session, *_] = catalogue.sessions(LAB, f"{LAB}_000").value
    with ThreadPoolExecutor(40) as pool:
        found = list(pool.map(lambda _: len(catalogue.datasets(session).value), range(40)))
    assert found == [40] * 40
    assert asked(grown)["/datasets"] == 1
    [path] = [request.path for request in grown.requests if "/datasets" in request.path]
    assert parse_qs(urlsplit(path).query)["session"] == [session.eid]


def test_concurrent_walks_share_the_batches(make: Make, grown: Servers) -> None:
    """A parallel walk requests no session twice, unless two batches were planned at once."""
    catalogue = make()
    sessions = list(sessions_of(catalogue, LAB))[:200]
    grown.clear_requests()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda session: len(catalogue.datasets(session).value), sessions))
    assert found == [40] * 200
    queries = [
        parse_qs(urlsplit(each.path).query) for each in grown.requests if "/datasets" in each.path
    ]
    requested = " ".join(
        value for query in queries for values in query.values() for value in values
    )
    assert max(requested.count(session.eid) for session in sessions) <= 2
    # a request of each thread before the walk is noticed, a batch that each plans at once, and more
    # batches, whose number depends on how many are under way
    assert len(queries) <= 25


@pytest.mark.long
def test_stale_listings_are_refreshed_in_batches(make: Make, grown: Servers) -> None:
    now = [time.time()]
    catalogue = make(clock=lambda: now[0])
    found = walk(catalogue, LAB)
    grown.clear_requests()
    now[0] += 2 * 86400
    assert walk(catalogue, LAB) == found
    sessions = list(sessions_of(catalogue, LAB))
    end = time.monotonic() + 60

    def stale() -> bool:
        return any(catalogue.datasets(session).fetched_at < now[0] for session in sessions)

    while stale() and time.monotonic() < end:
        time.sleep(0.1)
    assert not stale()
    assert asked(grown)["/datasets"] <= 80, asked(grown)
    assert walk(catalogue, LAB) == found


@pytest.mark.long
def test_stale_listings_of_a_slow_walk_are_refreshed_in_batches(make: Make, grown: Servers) -> None:
    now = [time.time()]
    catalogue = make(clock=lambda: now[0])
    sessions = list(sessions_of(catalogue, LAB))[:200]
    for session in sessions:
        catalogue.datasets(session)
    grown.clear_requests()
    now[0] += 2 * 86400
    begun = time.monotonic()
    for session in sessions:
        for _ in range(3):  # like a program that opens the files one by one
            catalogue.datasets(session)
            time.sleep(0.005)
    took = time.monotonic() - begun
    wait_until(lambda: catalogue.datasets(sessions[-1]).fetched_at >= now[0])
    # each request is for a page of 25 sessions, or is sent after a pause
    assert asked(grown)["/datasets"] <= len(sessions) // 25 + took / STALE_COLLECTION_SECONDS + 2


def session(number: int, subject: str = "s") -> Session:
    return Session(f"00000000-0000-4000-8000-{number:012d}", "lab", subject, "2020-01-01", number)


def test_steps_grow_and_end_with_a_pause() -> None:
    now = [0.0]
    walks = WalkDetector(lambda: now[0])
    for _ in range(5):
        walks.note_dataset_count("lab", 40)
    assert walks.note_session_miss(session(1)).session_count == 1
    assert walks.note_session_miss(session(1)).session_count == 1  # the same session
    assert walks.note_session_miss(session(2)).session_count == 5
    step = walks.note_session_miss(session(3))
    assert (step.session_count, step.across_subjects) == (25, False)
    assert walks.note_session_miss(session(4, "t")).across_subjects
    now[0] += WALK_TIMEOUT_SECONDS + 1
    assert walks.note_session_miss(session(5)).session_count == 1


@pytest.mark.parametrize(
    ("sizes", "least", "most"),
    [
        ([], 1, 1),
        ([0, 0], MAX_IDS_PER_REQUEST, MAX_IDS_PER_REQUEST),
        ([40] * 10, 25, 25),
        ([20, 60] * 5, 18, 22),
    ],
)
def test_a_page_is_filled_but_not_overfilled(sizes: list[int], least: int, most: int) -> None:
    walks = WalkDetector(lambda: 0.0)
    for size in sizes:
        walks.note_dataset_count("lab", size)
    assert least <= walks.sessions_per_page("lab") <= most
    assert PAGE_ROWS == 1000


def test_a_server_that_refuses_batches_is_asked_one_by_one() -> None:
    now = [0.0]
    walks = WalkDetector(lambda: now[0])
    walks.note_dataset_count("lab", 40)
    walks.suspend_batches("lab")
    for number in range(5):
        assert walks.note_session_miss(session(number)).session_count == 1
        assert not walks.note_subject_miss("lab", f"s{number}")
    assert walks.sessions_per_page("lab") == 1
    now[0] += BATCH_SUSPENSION_SECONDS
    assert walks.sessions_per_page("lab") == 25

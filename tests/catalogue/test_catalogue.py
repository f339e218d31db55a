"""When the catalogue asks Alyx: TTLs, shared requests, and outages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from werkzeug import Request

from onefs import alf
from onefs.alyx.client import AlyxClient
from onefs.alyx.tokens import FixedToken
from onefs.catalogue import ttl
from onefs.catalogue.catalogue import Catalogue
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.demo.servers import Servers
from onefs.errors import DeadlineExceeded, NotFound, ServerError, Stopping, Unreachable
from onefs.http import Transport
from onefs.model import Session
from tests.alyx.conftest import WrittenAlyx
from tests.running import BUSY_SECONDS, wait_until, within

TUTORIAL = "cf264653-2deb-44cb-aa84-89b82507028a"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Make = Callable[..., Catalogue]


@pytest.fixture
def make(tmp_path: Path, clock: Clock, transport: Transport) -> Iterator[Make]:
    """Return a function that makes catalogues over one file. Close them at the end."""
    made: list[Catalogue] = []

    def build(alyx: AlyxClient | WrittenAlyx, deadline: float = 60.0) -> Catalogue:
        if isinstance(alyx, WrittenAlyx):
            alyx = AlyxClient(transport, alyx.url, FixedToken("t"), deadline=deadline)
        database = CatalogueDatabase(tmp_path / "catalogue.sqlite")
        made.append(Catalogue(database, alyx, deadline=deadline, clock=clock))
        return made[-1]

    yield build
    for catalogue in made:
        catalogue.close()


def labs(*names: str) -> dict[str, Any]:
    return {"count": len(names), "results": [{"name": name} for name in names]}


def test_a_listing_is_one_request_and_then_none(
    make: Make, alyx: AlyxClient, servers: Servers
) -> None:
    catalogue = make(alyx)
    for _ in range(3):
        assert "mainenlab" in catalogue.labs().value
        assert "clns0730" in catalogue.subjects("mainenlab").value
        [session] = catalogue.sessions("mainenlab", "clns0730").value
        assert len(catalogue.datasets(session).value) == 29
    paths = [request.path.partition("?")[0] for request in servers.requests]
    assert sorted(paths) == ["/data-repository", "/datasets", "/labs", "/sessions", "/subjects"]


def test_a_new_process_finds_the_listings_of_another(
    make: Make, alyx: AlyxClient, servers: Servers
) -> None:
    make(alyx).labs()
    servers.clear_requests()
    assert "mainenlab" in make(alyx).labs().value
    assert servers.requests == []


def test_the_same_answer_is_the_same_object(make: Make, alyx: AlyxClient) -> None:
    catalogue = make(alyx)
    assert catalogue.labs() is catalogue.labs()


def test_forty_callers_cost_one_request(make: Make, written: WrittenAlyx) -> None:
    release = threading.Event()

    def slow(request: Request) -> tuple[int, Any]:
        assert release.wait(10)
        return 200, labs("a")

    written.answers["/labs"] = slow
    catalogue = make(written)
    with ThreadPoolExecutor(40) as pool:
        futures = [pool.submit(lambda: catalogue.labs().value) for _ in range(40)]
        wait_until(lambda: len(written.paths) == 1)
        release.set()
        assert {tuple(future.result(10)) for future in futures} == {("a",)}
    assert len(written.paths) == 1


@pytest.mark.parametrize("known", [False, True], ids=["awaited", "in the background"])
def test_a_refresh_does_not_use_the_answer_of_an_earlier_request(
    make: Make, written: WrittenAlyx, clock: Clock, known: bool
) -> None:
    """The server made the answer before the change, and sends it after the invalidation."""
    catalogue, release = make(written), threading.Event()
    if known:
        written.answer("/labs", 200, labs("old"))
        assert catalogue.labs().value == ["old"]
        clock.now += ttl.LABS_TTL_SECONDS + 1

    def slow(request: Request) -> tuple[int, Any]:
        written.answer("/labs", 200, labs("new"))
        assert release.wait(30)
        return 200, labs("old")

    asked = len(written.paths)
    written.answers["/labs"] = slow
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: catalogue.labs().value)
        wait_until(lambda: len(written.paths) == asked + 1)
        clock.now += 1
        catalogue.invalidate(())
        second = pool.submit(lambda: catalogue.labs().value)
        if not known:  # a known listing is served without a wait
            wait_until(lambda: catalogue._listing_cache._flights._in_flight)
            release.set()
        assert second.result(30) == ["new"]
        release.set()
        assert first.result(30) == ["old"]
    wait_until(lambda: not catalogue._listing_cache._background_flights._in_flight)
    assert catalogue.labs().value == ["new"]


@pytest.mark.parametrize(("gone", "requests"), [(2, 2), (12, 1)])
def test_subjects_that_only_sessions_name_are_asked_for_by_a_refresh(
    make: Make, written: WrittenAlyx, clock: Clock, gone: int, requests: int
) -> None:
    """A subject that only known sessions name is listed until Alyx has no sessions of it."""
    written.answer("/subjects", 200, {"count": 0, "results": []})
    written.answer("/sessions", 200, {"count": 0, "results": []})
    catalogue = make(written)
    names = [f"mouse{number:02}" for number in range(gone)]
    catalogue._database.store_search_results(
        (Session(f"{name}-eid", "lab", name, "2020-01-01", 1), True) for name in names
    )
    assert catalogue.subjects("lab").value == names
    assert written.paths == [path for path in written.paths if path.startswith("/subjects")]
    clock.now += 1
    catalogue.invalidate(("lab",))
    assert catalogue.subjects("lab").value == []
    asked = [path for path in written.paths if path.startswith("/sessions")]
    assert len(asked) == requests
    clock.now += ttl.SUBJECTS_TTL_SECONDS + 1
    assert catalogue.subjects("lab").value == []
    assert [path for path in written.paths if path.startswith("/sessions")] == asked


def test_a_stale_listing_is_served_while_one_refresh_runs(
    make: Make, written: WrittenAlyx, clock: Clock
) -> None:
    written.answer("/labs", 200, labs("a"))
    catalogue = make(written)
    assert catalogue.labs().value == ["a"]
    release = threading.Event()

    def slow(request: Request) -> tuple[int, Any]:
        assert release.wait(10)
        return 200, labs("a", "b")

    written.answers["/labs"] = slow
    clock.now += ttl.LABS_TTL_SECONDS - 1
    assert catalogue.labs().value == ["a"]
    assert len(written.paths) == 1
    clock.now += 2
    for _ in range(5):
        assert catalogue.labs().value == ["a"]
    wait_until(lambda: len(written.paths) == 2)
    release.set()
    wait_until(lambda: catalogue.labs().value == ["a", "b"])
    assert len(written.paths) == 2


def test_a_listing_from_before_the_clock_was_set_back_is_refreshed(
    make: Make, written: WrittenAlyx, clock: Clock
) -> None:
    written.answer("/labs", 200, labs("a"))
    clock.now += 365 * 86400
    assert make(written).labs().value == ["a"]
    clock.now -= 365 * 86400
    written.answer("/labs", 200, labs("b"))
    catalogue = make(written)
    assert catalogue.labs().value == ["a"]
    wait_until(lambda: catalogue.labs().value == ["b"])
    assert len(written.paths) == 2


def test_a_failed_refresh_changes_nothing(make: Make, written: WrittenAlyx, clock: Clock) -> None:
    written.answer("/labs", 200, labs("a"))
    catalogue = make(written)
    catalogue.labs()
    written.answer("/labs", 500, {"detail": "division by zero"})
    clock.now += ttl.LABS_TTL_SECONDS + 1
    assert catalogue.labs().value == ["a"]
    wait_until(lambda: len(written.paths) == 2)
    assert catalogue.labs().value == ["a"]


def test_a_listing_that_failed_is_not_asked_for_at_once_again(
    make: Make, written: WrittenAlyx, clock: Clock
) -> None:
    written.answer("/labs", 400, {"detail": "no"})
    catalogue = make(written)
    for _ in range(5):
        with pytest.raises(ServerError):
            catalogue.labs()
    assert len(written.paths) == 1
    written.answer("/labs", 200, labs("a"))
    clock.now += ttl.FAILURE_PAUSE_SECONDS + 1
    assert catalogue.labs().value == ["a"]


def test_an_unreachable_server_is_never_absence(
    make: Make, written: WrittenAlyx, clock: Clock
) -> None:
    written.answer("/labs", 200, labs("a"))
    catalogue = make(written, deadline=10.0)
    assert catalogue.is_empty()
    catalogue.labs()
    was_offline = catalogue.offline
    assert not was_offline
    written.listener.stop()
    with pytest.raises(Unreachable) as caught:
        catalogue.subjects("a")
    assert not isinstance(caught.value, NotFound)
    assert catalogue.offline
    clock.now += ttl.LABS_TTL_SECONDS + 1
    assert catalogue.labs().value == ["a"]
    assert not catalogue.is_empty()
    written.listener.start(written._app)
    written.answer("/subjects", 200, {"count": 1, "results": [{"nickname": "s"}]})
    clock.now += ttl.FAILURE_PAUSE_SECONDS + 1
    assert catalogue.subjects("a").value == ["s"]
    assert not catalogue.offline


def test_waiting_ends_at_the_deadline(make: Make, written: WrittenAlyx) -> None:
    release = threading.Event()
    written.answers["/labs"] = lambda request: (200, labs("a")) if release.wait(60) else (500, "")
    catalogue = make(written, deadline=0.3)
    try:
        with within(), pytest.raises(DeadlineExceeded):
            catalogue.labs()
    finally:
        release.set()


def test_close_wakes_waiting_callers(make: Make, written: WrittenAlyx) -> None:
    release = threading.Event()
    written.answers["/labs"] = lambda request: (200, labs("a")) if release.wait(60) else (500, "")
    catalogue = make(written)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(catalogue.labs)
        try:
            wait_until(lambda: len(written.paths) == 1)
            catalogue.close()
            with pytest.raises(Stopping):
                future.result(BUSY_SECONDS)
        finally:
            release.set()


def test_only_datasets_that_can_be_fetched_are_listed(make: Make, written: WrittenAlyx) -> None:
    repositories = [
        {"name": "flatiron_x", "data_url": "http://h/x/", "globus_is_personal": False},
        {"name": "x_SR", "data_url": None, "globus_is_personal": True},
    ]
    written.answer("/data-repository", 200, {"count": 2, "results": repositories})

    def row(number: int, *records: dict[str, Any]) -> dict[str, Any]:
        url = f"http://a/datasets/00000000-0000-4000-8000-{number:012d}"
        return {"url": url, "name": f"d{number}.x.npy", "file_records": list(records)}

    there = {"data_repository": "flatiron_x", "data_url": "http://h/x/s/a.npy", "exists": True}
    rows = [
        row(1, there),
        row(2, {**there, "exists": False}),
        row(3, {"data_repository": "x_SR", "data_url": "http://h/p.npy", "exists": True}),
        row(4),
    ]
    written.answer("/datasets", 200, {"count": 4, "results": rows})
    session = {"id": TUTORIAL, "subject": "s", "lab": "x", "number": 1}
    row_ = {**session, "start_time": "2020-01-01T00:00:00"}
    written.answer("/sessions", 200, {"count": 1, "results": [row_]})
    catalogue = make(written)
    [found] = catalogue.datasets(catalogue.session(TUTORIAL)).value
    assert found.name == "d1.x.npy"
    assert found.replicas[0].url == "http://h/x/s/a.npy"


def test_urls_stay_valid_when_a_file_server_moves(
    make: Make, written: WrittenAlyx, transport: Transport
) -> None:
    """URLs are stored relative to their repository, because the embedded server's port changes."""

    def repository(base: str) -> dict[str, Any]:
        found = {"name": "flatiron_x", "data_url": base, "globus_is_personal": False}
        return {"count": 1, "results": [found]}

    record = {"data_repository": "flatiron_x", "data_url": "http://one/x/a.npy", "exists": True}
    dataset = {"url": f"http://a/datasets/{TUTORIAL}", "name": "a.npy", "file_records": [record]}
    session = {"id": TUTORIAL, "subject": "s", "lab": "x", "number": 1}
    written.answer("/data-repository", 200, repository("http://one/x/"))
    written.answer("/datasets", 200, {"count": 1, "results": [dataset]})
    rows = [{**session, "start_time": "2020-01-01T00:00:00"}]
    written.answer("/sessions", 200, {"count": 1, "results": rows})
    first = make(written)
    found = first.session(TUTORIAL)
    assert first.datasets(found).value[0].replicas[0].url == "http://one/x/a.npy"

    written.answer("/data-repository", 200, repository("http://two/y/"))
    moved = AlyxClient(transport, written.url + "/moved", FixedToken("t"))
    for path in list(written.answers):
        written.answers["/moved" + path] = written.answers[path]
    second = make(moved)
    assert second.datasets(found).value[0].replicas[0].url == "http://two/y/a.npy"


def test_sessions_by_eid_and_ref(make: Make, alyx: AlyxClient, servers: Servers) -> None:
    catalogue = make(alyx)
    assert catalogue.session(TUTORIAL).ref == "2018-08-24_1_clns0730"
    ref = alf.parse_ref("2018-08-24_1_clns0730")
    assert ref is not None
    assert [session.eid for session in catalogue.sessions_by_ref(ref)] == [TUTORIAL]
    servers.clear_requests()
    catalogue.session(TUTORIAL)
    catalogue.sessions_by_ref(ref)
    assert servers.requests == []
    with pytest.raises(NotFound):
        catalogue.session("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee")


def test_the_record_is_sorted_json(make: Make, alyx: AlyxClient) -> None:
    catalogue = make(alyx)
    text = catalogue.record(catalogue.session(TUTORIAL)).value
    assert text.startswith('{\n  "')
    assert text.endswith("}\n")
    assert '"subject": "clns0730"' in text


def test_a_probed_size_is_kept(make: Make, alyx: AlyxClient) -> None:
    catalogue = make(alyx)
    session = catalogue.session(TUTORIAL)
    [first, *_] = catalogue.datasets(session).value
    catalogue.remember_size(first, 12345)
    # the size from Alyx has priority
    assert catalogue.datasets(session).value[0].size == first.size

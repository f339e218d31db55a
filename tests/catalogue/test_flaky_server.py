"""A server that misbehaves causes no ENOENT for existing files, no lost listing and no hang."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug import Request

from onefs.alyx.auth import fetch_token
from onefs.alyx.client import AlyxClient
from onefs.alyx.pagination import PAGE_ROWS
from onefs.alyx.tokens import FixedToken
from onefs.catalogue.catalogue import Catalogue
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.demo.scaled_laboratory import ScaledLaboratory
from onefs.demo.servers import Servers
from onefs.errors import NotFound, OnefsError, ServerError
from onefs.http import Transport
from onefs.model import Session
from tests.alyx.conftest import WrittenAlyx
from tests.catalogue.lab_walk import sessions_of, walk
from tests.catalogue.test_catalogue import (
    Clock,
    Make,
    clock,
    make,
)
from tests.running import wait_until, within
from tests.scripted_server import (
    Script,
    ScriptedServer,
    answer,
    answer_json,
    truncate,
)

__all__ = ["clock", "make"]  # fixtures of this module too

LAB = "lab00"
EIDS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(60)]


@pytest.fixture(scope="module")
def grown() -> Iterator[Servers]:
    with Servers(ScaledLaboratory(250, 20)) as servers:
        yield servers


@pytest.fixture
def catalogue(grown: Servers, transport: Transport, tmp_path: Path) -> Iterator[Catalogue]:
    login = grown.login
    token = fetch_token(transport, grown.alyx_url, login.username, login.password)
    alyx = AlyxClient(transport, grown.alyx_url, FixedToken(token), deadline=5.0)
    made = Catalogue(CatalogueDatabase(tmp_path / "c.sqlite"), alyx, deadline=5.0)
    yield made
    made.close()


def test_a_server_that_is_killed_and_restarted_during_a_walk(
    catalogue: Catalogue, grown: Servers
) -> None:
    sessions = list(sessions_of(catalogue, LAB))
    found: dict[str, int] = {}
    errors: list[OnefsError] = []
    for number, session in enumerate(sessions):
        if number == 40:
            grown.alyx.stop()
        if number == 60:
            grown.alyx.start(grown._alyx_app)
        try:
            found[session.eid] = len(catalogue.datasets(session).value)
        except OnefsError as error:
            errors.append(error)
    assert set(found.values()) == {20}
    end = time.monotonic() + 60
    while len(found) < len(sessions) and time.monotonic() < end:
        for session in sessions:
            try:
                found[session.eid] = len(catalogue.datasets(session).value)
            except OnefsError as error:
                errors.append(error)
                time.sleep(0.1)
    assert not any(isinstance(error, NotFound) for error in errors)
    assert len(found) == len(sessions)
    assert walk(catalogue, LAB) == found


class FlakyAlyx:
    """An Alyx of one lab, one subject and sixty sessions, whose lists of datasets misbehave."""

    def __init__(self, written: WrittenAlyx) -> None:
        self.written = written
        self.batches: list[Any] = []
        written.answer("/labs", 200, listed([{"name": "a"}]))
        written.answer("/subjects", 200, listed([{"nickname": "s"}]))
        written.answer("/sessions", 200, listed([session_row(eid) for eid in EIDS]))
        repository = {"name": "f", "data_url": "http://h/", "globus_is_personal": False}
        written.answer("/data-repository", 200, listed([repository]))
        written.answers["/datasets"] = self.datasets

    def datasets(self, request: Request) -> tuple[int, Any]:
        if "session" in request.args:
            return 200, listed([dataset_row(request.args["session"])])
        return self.batch(request)

    def batch(self, request: Request) -> tuple[int, Any]:
        eids = json.loads(request.args["django"].partition(",")[2].replace("'", '"'))
        return 200, listed([dataset_row(eid) for eid in eids])


def listed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"count": len(rows), "next": None, "results": rows}


def session_row(eid: str) -> dict[str, Any]:
    number = int(eid[-12:]) + 1
    start = "2020-01-01T00:00:00"
    return {"id": eid, "subject": "s", "lab": "a", "number": number, "start_time": start}


def dataset_row(eid: str) -> dict[str, Any]:
    record = {"data_repository": "f", "data_url": f"http://h/{eid}.npy", "exists": True}
    return {
        "url": f"http://a/datasets/{eid.replace('4000', '5000')}",
        "session": f"http://a/sessions/{eid}",
        "name": "a.b.npy",
        "file_size": 1,
        "file_records": [record],
    }


@pytest.fixture
def flaky_alyx(written: WrittenAlyx) -> FlakyAlyx:
    return FlakyAlyx(written)


def batches(flaky_alyx: FlakyAlyx) -> int:
    return sum("django" in path for path in flaky_alyx.written.paths)


def test_the_flaky_server_is_walked_in_batches(make: Make, flaky_alyx: FlakyAlyx) -> None:
    assert walk(make(flaky_alyx.written), "a") == dict.fromkeys(EIDS, 1)
    assert 1 <= batches(flaky_alyx) <= 3
    assert len(flaky_alyx.written.paths) <= 8


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {"status_code": 500, "detail": "division by zero"}),
        (400, {"django": ["no"]}),
        (404, "<html></html>"),
        (200, {"count": 10**9, "next": "x", "results": []}),
        (200, {"count": 1, "results": [{"name": "no id"}]}),
        (200, listed([dataset_row("99999999-0000-4000-8000-000000000000")])),
        (200, listed([dataset_row(EIDS[1]) | {"session": None}])),
        (200, [1, 2, 3]),
        (200, '{"count": 3, "results": [{"na'),
    ],
    ids=["500", "400", "404", "count", "row", "other session", "no session", "list", "truncated"],
)
def test_a_batch_that_fails_is_asked_one_by_one(
    make: Make, flaky_alyx: FlakyAlyx, status: int, body: Any
) -> None:
    flaky_alyx.batch = lambda request: (status, body)  # type: ignore[method-assign]
    assert walk(make(flaky_alyx.written), "a") == dict.fromkeys(EIDS, 1)
    # then no more batches are sent
    assert 1 <= batches(flaky_alyx) <= 8


def test_a_batch_that_is_too_much_for_a_page_is_halved(make: Make, flaky_alyx: FlakyAlyx) -> None:
    whole = flaky_alyx.batch

    def capped(request: Request) -> tuple[int, Any]:
        status, body = whole(request)
        if len(body["results"]) > 4:  # as if the first sessions were large
            row = body["results"][0]
            url = "http://a/datasets/00000000-0000-6000-8000-"
            page = [{**row, "url": f"{url}{number:012d}"} for number in range(PAGE_ROWS)]
            body = {**body, "count": PAGE_ROWS + 1, "results": page}
        return status, body

    flaky_alyx.batch = capped  # type: ignore[method-assign]
    assert walk(make(flaky_alyx.written), "a") == dict.fromkeys(EIDS, 1)


def test_an_empty_answer_in_a_batch_must_be_confirmed(
    make: Make, flaky_alyx: FlakyAlyx, clock: Clock
) -> None:
    """A folder that had files does not become empty if the answer to a batch lacks its rows."""
    catalogue = make(flaky_alyx.written)
    found = walk(catalogue, "a")
    flaky_alyx.batch = lambda request: (200, listed([]))  # type: ignore[method-assign]
    clock.now += 2 * 86400
    sessions = list(sessions_of(catalogue, "a"))

    def refreshed() -> bool:
        assert walk(catalogue, "a") == found
        return all(catalogue.datasets(each).fetched_at >= clock.now for each in sessions)

    wait_until(refreshed)
    assert walk(catalogue, "a") == found


LISTS = {
    "a storm of 429": answer_json({"detail": "throttled"}, 429, Retry_After=49),
    "500 with detail": answer_json({"detail": "no"}, 500),
    "500 of the proxy": answer(b"<html>", 500, Content_Type="text/html"),
    "truncated by the connection": truncate(b'{"count": 1, "results": [{"name"', 1000),
    "truncated by the server": answer(b'{"count": 1, "results": [{"name"'),
    "a lying count": answer_json({"count": 7, "results": [{"name": "a"}]}),
    "no count": answer_json({"results": [{"name": "a"}]}),
    "a page for people": answer(b"<html></html>"),
}


SESSION = Session(EIDS[0], "a", "s", "2020-01-01", 1)
CATALOGUE_CALLS: dict[str, Callable[[Catalogue], Any]] = {
    "/labs": lambda catalogue: catalogue.labs(),
    "/subjects": lambda catalogue: catalogue.subjects("a"),
    "/sessions": lambda catalogue: catalogue.sessions("a", "s"),
    "/datasets": lambda catalogue: catalogue.datasets(SESSION),
}
REPOSITORIES = answer_json({"count": 0, "results": []})


@pytest.mark.parametrize("endpoint", CATALOGUE_CALLS)
@pytest.mark.parametrize("script", LISTS.values(), ids=LISTS)
def test_an_invalid_answer_is_an_error_and_never_absence(
    tmp_path: Path, transport: Transport, script: Script, endpoint: str
) -> None:
    with ScriptedServer({"/data-repository": REPOSITORIES, endpoint: script}) as server:
        alyx = AlyxClient(transport, server.url, FixedToken("t"), deadline=3.0)
        catalogue = Catalogue(CatalogueDatabase(tmp_path / "c"), alyx, deadline=3.0)
        with within(), pytest.raises(OnefsError) as caught:
            CATALOGUE_CALLS[endpoint](catalogue)
        assert not isinstance(caught.value, NotFound)
        catalogue.close()


@pytest.mark.parametrize("script", LISTS.values(), ids=LISTS)
def test_an_invalid_answer_removes_no_listing(
    make: Make, flaky_alyx: FlakyAlyx, clock: Clock, transport: Transport, script: Script
) -> None:
    """Each listing is stale and each refresh gets an invalid answer, but all files stay listed."""
    known = make(flaky_alyx.written)
    found = walk(known, "a")
    clock.now += 30 * 86400
    with ScriptedServer(dict.fromkeys([*CATALOGUE_CALLS, "/data-repository"], script)) as server:
        known._database.set_fact("alyx_url", server.url)  # the catalogue sees no change of server
        catalogue = make(AlyxClient(transport, server.url, FixedToken("t"), deadline=2.0))

        def all_asked() -> bool:
            assert walk(catalogue, "a") == found
            asked = {request.target.partition("?")[0] for request in server.requests}
            clock.now += 10  # a failed refresh is repeated after a pause
            return asked >= {*CATALOGUE_CALLS}

        wait_until(all_asked)
        assert walk(catalogue, "a") == found


def test_a_next_that_leads_in_circles_ends(written: WrittenAlyx, transport: Transport) -> None:
    """Each answer is the same full page, with a count of rows that is never reached."""
    rows = [{"name": f"lab{number}"} for number in range(PAGE_ROWS)]
    page = {"count": 10**9, "next": f"{written.url}/labs?offset=1", "results": rows}
    written.answer("/labs", 200, page)
    with pytest.raises(ServerError, match=r"sent only \d+ of \d+ rows"):
        AlyxClient(transport, written.url, FixedToken("t"), deadline=5.0).labs()
    assert len(written.paths) <= 8


def test_a_count_that_is_too_small_loses_nothing(
    written: WrittenAlyx, transport: Transport
) -> None:
    rows = [{"name": f"lab{number:05d}"} for number in range(PAGE_ROWS + 500)]

    def labs(request: Request) -> tuple[int, Any]:
        offset, limit = int(request.args.get("offset", "0")), int(request.args["limit"])
        page = rows[offset : offset + limit]
        more = "more" if offset + limit < len(rows) else None
        return 200, {"count": 10, "next": more, "results": page}

    written.answers["/labs"] = labs
    found = AlyxClient(transport, written.url, FixedToken("t"), deadline=5.0).labs()
    assert len(found) == len(rows)

"""Endless lists, impossible counts of rows, and an Alyx whose own database is down."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from werkzeug import Request

from onefs.alyx import pagination
from onefs.alyx.auth import check_token, fetch_token
from onefs.alyx.client import AlyxClient
from onefs.alyx.pagination import ListCost
from onefs.alyx.tokens import FixedToken
from onefs.catalogue import availability
from onefs.catalogue.listing import Listing
from onefs.config.secret import Secret
from onefs.errors import OnefsError, ServerError, TooLarge, Unreachable
from onefs.http import Transport, json_body
from onefs.model import Session
from tests.alyx.conftest import WrittenAlyx
from tests.catalogue.test_catalogue import Make, clock, make
from tests.catalogue.test_flaky_server import (
    EIDS,
    FlakyAlyx,
    dataset_row,
    flaky_alyx,
    listed,
)
from tests.running import wait_until

__all__ = ["clock", "flaky_alyx", "make"]  # fixtures of this module too

SESSION = Session(EIDS[0], "a", "s", "2020-01-01", 1)
#: each way that the client has to ask for a list
LISTS: dict[str, Callable[[AlyxClient], Any]] = {
    "labs": lambda alyx: alyx.labs(),
    "repositories": lambda alyx: alyx.repositories(),
    "subjects": lambda alyx: alyx.subjects("a"),
    "all subjects": lambda alyx: alyx.subjects_by_lab(),
    "sessions": lambda alyx: alyx.sessions("a", "s"),
    "sessions of a lab": lambda alyx: alyx.sessions_of_lab("a"),
    "sessions since": lambda alyx: alyx.sessions_since("a", datetime(2020, 1, 1)),
    "sessions of a ref": lambda alyx: alyx.sessions_by_ref("s", "2020-01-01", 1),
    "session": lambda alyx: alyx.session(EIDS[0]),
    "datasets": lambda alyx: alyx.datasets(EIDS[0]),
    "search": lambda alyx: alyx.select_sessions({"subject": "s"}),
    "search with a limit": lambda alyx: alyx.select_sessions({"subject": "s"}, 50),
    "table": lambda alyx: alyx.table_rows("users", "username"),
}
PATHS = ("labs", "data-repository", "subjects", "sessions", "datasets", "users")


def client(written: WrittenAlyx, transport: Transport) -> AlyxClient:
    return AlyxClient(transport, written.url, FixedToken("t" * 40), deadline=5.0)


def fresh(number: int) -> dict[str, Any]:
    """Return a row that was never sent before, and is valid in any list."""
    name = f"n{number}"
    return {"id": str(uuid.uuid4()), "name": name, "nickname": name, "username": name}


def endless(size: int, count: int = 10**6) -> Callable[[Request], tuple[int, Any]]:
    """Return a function that answers each request with a page of ``size`` new rows."""

    def answer(request: Request) -> tuple[int, Any]:
        first = int(request.args.get("offset", "0"))
        rows = [fresh(number) for number in range(first, first + size)]
        return 200, {"count": count, "next": "http://a/?offset=1", "results": rows}

    return answer


@pytest.mark.parametrize("name", [name for name in LISTS if name != "search with a limit"])
@pytest.mark.parametrize("bound", ["pages", "rows", "seconds", "size"])
def test_a_list_without_end(
    written: WrittenAlyx,
    transport: Transport,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    bound: str,
) -> None:
    """Each bound ends an endless list. The bounds are small in this test."""
    if bound == "pages":
        monkeypatch.setattr(pagination, "MAX_LIST_PAGES", 20)
    elif bound == "rows":
        monkeypatch.setattr(pagination, "MAX_LIST_ROWS", 200)
    elif bound == "seconds":
        monkeypatch.setattr(pagination, "MAX_LIST_SECONDS", 0.3)
    else:
        monkeypatch.setattr(pagination, "MAX_JSON_BYTES", 20_000)
    for path in PATHS:
        written.answers[f"/{path}"] = endless(30)
    with pytest.raises(
        TooLarge, match=r"takes longer|more than (\d+ pages|200 rows)|is larger than"
    ):
        LISTS[name](client(written, transport))
    assert bound == "seconds" or len(written.paths) <= 60


def test_a_search_with_a_limit_among_rows_that_repeat(
    written: WrittenAlyx, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagination, "MAX_LIST_PAGES", 20)
    row = fresh(1)
    page = {"count": 10**6, "next": "http://a/?offset=1", "results": [row] * 30}
    written.answer("/sessions", 200, page)
    with pytest.raises(TooLarge, match="has more than 20 pages"):
        LISTS["search with a limit"](client(written, transport))


def test_the_bounds_leave_room_for_the_largest_lists() -> None:
    """The list has 20,040 sessions of 303 bytes and 15 values each, and is walked four times."""
    cost = ListCost("sessions")
    found: dict[str, Any] = {}
    for _ in range(4):
        for first in range(0, 20_040, 250):
            cost.add_page()
            rows = [{"id": str(number)} for number in range(first, min(first + 250, 20_040))]
            page = pagination.ListPage(list(rows), 20_040, True, 250 * 303, 250 * 15)
            cost.add_rows(found, page, lambda row: str(row["id"]))
    assert len(found) == 20_040
    assert (json_body.MAX_JSON_BYTES, json_body.MAX_JSON_VALUES) == (32 * 1024 * 1024, 2_000_000)


_ABANDONED_REQUEST = """
import sys, time, uuid, pathlib, tempfile
from onefs.lowlevel import memory
from onefs.errors import OnefsError
from onefs.http import Transport
from onefs.alyx.client import AlyxClient
from onefs.alyx.tokens import FixedToken
from onefs.catalogue.catalogue import Catalogue
from onefs.catalogue.storage.database import CatalogueDatabase
import threading, json
from tests.scripted_server import ScriptedServer, ScriptedConnection, answer_json

def rss():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

text = "x" * 2000

def labs(talk):
    rows = [{"name": str(uuid.uuid4()), "text": text} for _ in range(1000)]
    answer_json({"count": 10**8, "next": "http://x/", "results": rows})(talk)

with ScriptedServer({"/labs": labs}) as server, Transport() as transport:
    alyx = AlyxClient(transport, server.url, FixedToken("t" * 40), deadline=5.0)
    with tempfile.TemporaryDirectory() as folder:
        catalogue = Catalogue(CatalogueDatabase(pathlib.Path(folder) / "c"), alyx, deadline=0.5)
        before, most = rss(), 0
        try:
            catalogue.labs()
        except OnefsError as error:
            kept = error
        end = time.monotonic() + 90
        while time.monotonic() < end and catalogue._listing_cache._flights._in_flight:
            most = max(most, rss() - before)
            time.sleep(0.05)
        asked = len(server.requests)
        time.sleep(2)
        under_way = catalogue._listing_cache._flights._in_flight
        print(most, len(server.requests) - asked, len(under_way))
        memory.release_free_memory()
        print(rss() - before)
        catalogue.close()
"""


def test_an_endless_list_without_waiting_callers_is_given_up() -> None:
    """The caller gets its error in time. The work in the background ends and frees its memory."""
    done = subprocess.run(
        [sys.executable, "-c", _ABANDONED_REQUEST], capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    most, more, under_way, after = map(int, done.stdout.split())
    assert (more, under_way) == (0, 0)
    assert most < 300 * 1024, "kB"
    assert after < 100 * 1024, "kB"


INVALID_COUNTS = [
    -5,
    -1,
    1.0,
    2.5,
    "3",
    "",
    None,
    True,
    False,
    10**10,
    10**30,
    [],
    {},
    float("nan"),
]


@pytest.mark.parametrize("count", INVALID_COUNTS, ids=repr)
def test_an_impossible_count_is_an_error(
    written: WrittenAlyx, transport: Transport, count: object
) -> None:
    """Each list with such a count raises an error. No empty or shorter list is returned."""
    for rows in ([], [fresh(1)]):
        for path in PATHS:
            written.answer(f"/{path}", 200, {"count": count, "next": None, "results": rows})
        for ask in LISTS.values():
            with pytest.raises(ServerError):
                ask(client(written, transport))


def test_an_impossible_count_keeps_the_known_listing(make: Make, flaky_alyx: FlakyAlyx) -> None:
    catalogue = make(flaky_alyx.written)
    assert catalogue.labs().value == ["a"]
    flaky_alyx.written.answer("/labs", 200, {"count": -5, "results": []})
    with pytest.raises(ServerError):
        catalogue.check_server()
    assert catalogue.labs().value == ["a"]


def test_a_batch_that_is_too_large_is_halved(
    make: Make, flaky_alyx: FlakyAlyx, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The datasets of these sessions together are larger than one answer may be."""
    monkeypatch.setattr(json_body, "MAX_JSON_BYTES", 20_000)

    def batch(request: Request) -> tuple[int, Any]:
        eids = request.args["django"].split("'")[1::2]
        return 200, listed([{**dataset_row(eid), "json": "x" * 3000} for eid in eids])

    flaky_alyx.batch = batch  # type: ignore[method-assign]
    alyx = make(flaky_alyx.written)._alyx
    assert alyx.datasets_of_sessions(EIDS[:20]) is None
    found = alyx.datasets_of_sessions(EIDS[:5])
    assert found is not None
    assert [len(rows) for rows in found.values()] == [1] * 5
    monkeypatch.setattr(json_body, "MAX_JSON_BYTES", 100)
    with pytest.raises(TooLarge):
        alyx.datasets_of_sessions(EIDS[:1])


def test_an_error_that_is_remembered_keeps_no_answer_in_memory(
    make: Make, flaky_alyx: FlakyAlyx
) -> None:
    catalogue = make(flaky_alyx.written)
    flaky_alyx.written.answer("/labs", 200, {"count": -5, "results": []})
    with pytest.raises(ServerError):
        catalogue.check_server()
    error = catalogue._listing_cache._failures.get("labs")
    assert error is not None
    assert error.__traceback__ is None  # its frames hold the answer


DETAIL = (
    'connection to server at "localhost", port 5432 failed: Connection refused\n\tIs the server '
    "running on that host and accepting TCP/IP connections?\n"
)


def answer_database_is_down(written: WrittenAlyx, detail: object = DETAIL) -> None:
    for path in (*PATHS, "auth-token"):
        written.answer(f"/{path}", 500, {"status_code": 500, "detail": detail})


class TestDatabaseDown:
    @pytest.mark.parametrize("name", LISTS)
    def test_alyx_is_away(self, written: WrittenAlyx, transport: Transport, name: str) -> None:
        answer_database_is_down(written)
        with pytest.raises(Unreachable, match="its own database seems to be unavailable") as caught:
            LISTS[name](client(written, transport))
        assert "Connection refused" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(written.paths) <= 2  # the question, and the plainest one

    def test_a_500_to_one_question_is_its_own_fault(
        self, written: WrittenAlyx, transport: Transport
    ) -> None:
        written.answer("/labs", 200, listed([{"name": "a"}]))
        written.answer("/sessions", 500, {"status_code": 500, "detail": "division by zero"})
        with pytest.raises(ServerError, match="division by zero"):
            LISTS["search"](client(written, transport))

    def test_known_listings_are_served_and_the_outage_is_reported_once(
        self,
        make: Make,
        flaky_alyx: FlakyAlyx,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(availability, "FIRST_PROBE_PAUSE_SECONDS", 0.05)
        monkeypatch.setattr(availability, "MAX_PROBE_PAUSE_SECONDS", 0.05)
        catalogue = make(flaky_alyx.written)
        sessions = catalogue.sessions("a", "s").value
        catalogue.datasets(sessions[0])
        answers = dict(flaky_alyx.written.answers)
        answer_database_is_down(flaky_alyx.written)
        with caplog.at_level(logging.INFO):
            catalogue.invalidate(())
            for _ in range(3):
                assert catalogue.sessions("a", "s").value == sessions
                assert len(catalogue.datasets(sessions[0]).value) == 1
            with pytest.raises(Unreachable):
                catalogue.subjects("b")
            assert catalogue.offline
            warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
            assert len(warnings) == 1, warnings
            assert "; onefs shows what is in the catalogue" in warnings[0]
            flaky_alyx.written.answers.update(answers)
            wait_until(lambda: not catalogue.offline)
        assert catalogue.subjects("c").value == ["s"]

    def test_logging_in(self, written: WrittenAlyx, transport: Transport) -> None:
        answer_database_is_down(written)
        for ask in (
            lambda: check_token(transport, written.url, "t" * 40),
            lambda: fetch_token(transport, written.url, "me", "secret"),
        ):
            with pytest.raises(
                Unreachable, match="its own database seems to be unavailable"
            ) as caught:
                ask()
            assert "\n" not in str(caught.value)

    def test_a_long_detail_with_a_secret(self, written: WrittenAlyx, transport: Transport) -> None:
        token = Secret("0123456789abcdef0123456789abcdef01234567")
        answer_database_is_down(written, f"{token}\r\n " + "word" * 100_000)
        began = time.monotonic()
        with pytest.raises(OnefsError) as caught:
            LISTS["labs"](client(written, transport))
        assert len(str(caught.value)) < 1000
        assert token not in str(caught.value)
        assert time.monotonic() - began < 30

    @pytest.mark.parametrize("detail", [None, 5, [], {"a": 1}, "", "\0"], ids=repr)
    def test_a_detail_that_is_no_text(
        self, written: WrittenAlyx, transport: Transport, detail: object
    ) -> None:
        answer_database_is_down(written, detail)
        with pytest.raises(Unreachable):
            LISTS["datasets"](client(written, transport))


def test_threads_that_wait_for_one_endless_list_all_have_an_error(
    make: Make, flaky_alyx: FlakyAlyx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagination, "MAX_LIST_PAGES", 5)
    flaky_alyx.written.answers["/subjects"] = endless(3)
    catalogue = make(flaky_alyx.written)
    found: list[OnefsError | Listing[list[str]]] = []

    def ask() -> None:
        try:
            found.append(catalogue.subjects("a"))
        except OnefsError as error:
            found.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [type(each) for each in found] == [TooLarge] * 8

"""Probe insertions in the catalogue: their age, and answers of Alyx that are wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from onefs.access import Access
from onefs.alyx.pagination import PAGE_ROWS
from onefs.catalogue.catalogue import Catalogue
from onefs.catalogue.insertions import Insertions
from onefs.catalogue.ttl import OLD_TTL_SECONDS
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.errors import NotFound, ServerError
from onefs.model import Session
from tests.laboratories import alyx_requests, open_laboratory
from tests.running import wait_until


class Clock:
    """A clock that a test sets forward."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(SyntheticLaboratory()) as running:
        yield running


@pytest.fixture
def access(servers: Servers, tmp_path: Path) -> Iterator[Access]:
    opened = open_laboratory(servers, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalogue(access: Access, clock: Clock) -> Iterator[Catalogue]:
    made = Catalogue(access.database, access.alyx, deadline=60.0, clock=clock)
    yield made
    made.close()


def sessions(catalogue: Catalogue) -> list[Session]:
    return catalogue.sessions("cortexlab", "KS023").value


def insertion_requests(servers: Servers) -> list[str]:
    return [each.path for each in alyx_requests(servers) if each.path.startswith("/insertions")]


def test_insertions_are_requested_again_after_their_ttl(
    catalogue: Catalogue, servers: Servers, clock: Clock
) -> None:
    session = next(each for each in sessions(catalogue) if each.ref == "2019-12-20_1_KS023")
    known = catalogue.insertions.of_session(session).value
    servers.clear_requests()
    clock.now += OLD_TTL_SECONDS - 10
    assert catalogue.insertions.of_session(session).value == known
    assert catalogue.insertions.get(known[0].id) == known[0]
    assert insertion_requests(servers) == []
    clock.now += 20
    # the old listing is shown at once, while it is refreshed
    assert catalogue.insertions.of_session(session).value == known
    wait_until(lambda: len(insertion_requests(servers)) == 1)
    clock.now += 2 * OLD_TTL_SECONDS
    servers.clear_requests()
    assert catalogue.insertions.get(known[0].id) == known[0]
    assert len(insertion_requests(servers)) == 1


def test_a_refresh_requests_insertions_again(
    catalogue: Catalogue, servers: Servers, clock: Clock
) -> None:
    session = sessions(catalogue)[0]
    catalogue.insertions.of_session(session)
    servers.clear_requests()
    clock.now += 1
    catalogue.invalidate(("cortexlab", "KS023"))
    clock.now += 1
    catalogue.insertions.of_session(session)
    assert len(insertion_requests(servers)) == 1


def test_the_sessions_of_insertions_need_no_request(
    catalogue: Catalogue, access: Access, servers: Servers
) -> None:
    pid = access.alyx.insertion_rows({"subject": "KS023"})[0]["id"]
    servers.clear_requests()
    insertion = catalogue.insertions.get(pid)
    assert catalogue.session(insertion.eid).subject == "KS023"
    assert len(alyx_requests(servers)) == 1


def test_many_sessions_of_few_labs_are_requested_by_lab(
    catalogue: Catalogue, servers: Servers
) -> None:
    session = sessions(catalogue)[0]
    many = [
        Session(f"{number:08x}-0000-4000-8000-000000000000", "cortexlab", "x", "2020-01-01", number)
        for number in range(200)
    ]
    servers.clear_requests()
    found = catalogue.insertions.of_sessions([*many, *sessions(catalogue)])
    assert {each.eid for each in found} <= {each.eid for each in sessions(catalogue)}
    assert len(found) == 3
    assert len(insertion_requests(servers)) == 1
    assert f"limit={PAGE_ROWS}" in insertion_requests(servers)[0]
    assert session.lab == "cortexlab"


def test_a_session_that_becomes_known_later_needs_no_request_of_its_own(
    catalogue: Catalogue, servers: Servers, clock: Clock
) -> None:
    for each in sessions(catalogue):
        catalogue.insertions.of_session(each)
    servers.clear_requests()
    clock.now += 10
    later = catalogue.sessions("cortexlab", "KS014").value
    found = [each for session in later for each in catalogue.insertions.of_session(session).value]
    assert insertion_requests(servers) == []
    assert len(found) == 3


def test_a_server_that_ignores_a_filter_does_not_change_other_sessions(
    catalogue: Catalogue, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = access.alyx.insertion_rows({})
    other, session = sessions(catalogue)[:2]
    # the filter of a server of another version is another name
    ignoring: Callable[..., Any] = lambda *_: everything  # noqa: E731
    monkeypatch.setattr(type(access.alyx), "insertion_rows", ignoring)
    with pytest.raises(ServerError, match="other sessions"):
        catalogue.insertions.of_session(session)
    with pytest.raises(NotFound):
        catalogue.insertions.get("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee")
    assert catalogue.insertions.stored_of(other.eid) == []
    assert isinstance(catalogue.insertions, Insertions)

"""Tests of sizes that Alyx lacks: each needs one request, and a failure is never a size."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from werkzeug import Response

from onefs.access import Access
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.errors import DeadlineExceeded, OnefsError, Unreachable
from onefs.tree import laboratory_tree
from onefs.tree.size_lookup import NEGATIVE_TTL_SECONDS, SizeLookup
from tests.changing_laboratory import ChangingLaboratory
from tests.laboratories import StallingLaboratory, data_requests, open_laboratory
from tests.running import wait_until, within

SESSION = "/mainenlab/clns0730/2018-08-24/001"


@pytest.fixture(scope="module")
def stalling() -> StallingLaboratory:
    unsized = ChangingLaboratory(SyntheticLaboratory())
    unsized.change = lambda record: replace(record, file_size=None)
    found = StallingLaboratory(unsized, "clns0730")
    found.release()
    return found


@pytest.fixture(scope="module")
def servers(stalling: StallingLaboratory) -> Iterator[Servers]:
    with Servers(stalling) as running:
        yield running
        stalling.release()


def names(access: Access) -> list[str]:
    return [name for name, node in access.tree.children(SESSION)]


def true_size(servers: Servers, access: Access, name: str) -> int:
    _, handle = access.tree.open(f"{SESSION}/{name}")
    try:
        return handle.size
    finally:
        handle.close()


def test_a_listing_makes_no_request_to_a_file_server(access: Access, servers: Servers) -> None:
    found = access.tree.children(SESSION)
    assert found
    assert {node.size for _, node in found} == {None}
    assert data_requests(servers) == []


def test_a_look_up_makes_one_request_and_starts_those_of_its_siblings(
    access: Access, servers: Servers
) -> None:
    found = names(access)
    size = access.tree.node(f"{SESSION}/{found[0]}").size
    assert size is not None
    assert size > 0
    wait_until(lambda: all(node.size for _, node in access.tree.children(SESSION)))
    asked = data_requests(servers)
    assert len(asked) == len(found)
    assert {each.range for each in asked} == {"bytes=0-0"}
    assert sum(each.bytes for each in asked) == len(found)
    for name in found:
        access.tree.node(f"{SESSION}/{name}")
    assert len(data_requests(servers)) == len(found)


def test_a_size_is_stored_permanently(access: Access, servers: Servers, tmp_path: Path) -> None:
    name = names(access)[0]
    size = access.tree.node(f"{SESSION}/{name}").size
    wait_until(lambda: all(node.size for _, node in access.tree.children(SESSION)))
    access.close()
    again = open_laboratory(servers, tmp_path)
    servers.clear_requests()
    assert dict(again.tree.children(SESSION))[name].size == size
    again.catalogue.invalidate(())  # Alyx still has no size
    assert again.tree.node(f"{SESSION}/{name}").size == size
    assert data_requests(servers) == []
    again.close()


def test_an_opened_file_has_the_size_of_the_look_up(access: Access, servers: Servers) -> None:
    name = names(access)[0]
    _, handle = access.tree.open(f"{SESSION}/{name}")
    handle.wait_fd(0, handle.size)
    handle.close()
    assert handle.size == access.tree.node(f"{SESSION}/{name}").size
    assert access.tree.xattrs(f"{SESSION}/{name}")["user.onefs.state"] == "cached"


def test_concurrent_callers_share_one_request_per_file(access: Access, servers: Servers) -> None:
    found = names(access)
    with ThreadPoolExecutor(20) as pool:
        sizes = list(pool.map(lambda name: access.tree.node(f"{SESSION}/{name}").size, found * 5))
    assert all(sizes)
    assert len(data_requests(servers)) == len(found)


def test_a_failure_is_an_error_and_never_a_size(access: Access, servers: Servers) -> None:
    found = names(access)
    servers.data.stop()
    try:
        for name in found:
            with pytest.raises(OnefsError) as caught:
                access.tree.node(f"{SESSION}/{name}")
            assert caught.value.errno in (errno.EHOSTUNREACH, errno.ETIMEDOUT)
        assert {node.size for _, node in access.tree.children(SESSION)} == {None}
    finally:
        servers.data.start(servers._data_app)


def test_a_folder_fails_once_and_not_each_of_its_files(servers: Servers, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(laboratory_tree, "SizeLookup", partial(SizeLookup, clock=lambda: 0.0))
        access = open_laboratory(servers, tmp_path)
        found = names(access)
        asked: list[str] = []

        def unavailable(environ: Any, start: Any) -> Iterable[bytes]:
            asked.append(environ["PATH_INFO"])
            return Response(status=503)(environ, start)

        servers.data.stop()
        servers.data.start(unavailable)
        try:
            for name in found * 3:
                with pytest.raises(OnefsError):
                    access.tree.node(f"{SESSION}/{name}")
        finally:
            servers.data.stop()
            servers.data.start(servers._data_app)
        access.close()
    print(len(asked), len(found))
    assert 0 < len(asked) <= len(found)


@pytest.mark.parametrize("refusal", ["missing", "password"])
def test_a_refusal_costs_one_request_and_not_one_per_look(
    servers: Servers, stalling: StallingLaboratory, tmp_path: Path, refusal: str
) -> None:
    """``ls -l`` calls ``stat`` for each of n files. This makes n requests, not n for each file."""
    password = "wrong" if refusal == "password" else ""
    now = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(laboratory_tree, "SizeLookup", partial(SizeLookup, clock=lambda: now[0]))
        if refusal == "missing":
            patch.setattr(stalling, "file", lambda path: None)
        access = open_laboratory(servers, tmp_path, data_password=password)
        found = names(access)
        assert len(found) > 20
        access.tree.xattrs(f"{SESSION}/{found[0]}")  # the repositories are known
        servers.clear_requests()
        for name in found * 2:
            with pytest.raises(OnefsError) as caught:
                access.tree.node(f"{SESSION}/{name}")
            assert caught.value.errno == (errno.EACCES if password else errno.EIO)
        asked = Counter(each.path for each in data_requests(servers))
        servers.clear_requests()
        now[0] += NEGATIVE_TTL_SECONDS
        with pytest.raises(OnefsError):
            access.tree.node(f"{SESSION}/{found[0]}")
        access.close()
    assert sum(asked.values()) <= len(found) + 10  # the first few are challenged, too
    assert data_requests(servers), "nobody is asked again"


def test_a_silent_file_server_is_given_up_at_the_deadline(
    servers: Servers, stalling: StallingLaboratory, tmp_path: Path
) -> None:
    access = open_laboratory(servers, tmp_path, deadline=5.0)
    found = names(access)
    stalling.stall()
    try:
        with within(), pytest.raises((DeadlineExceeded, Unreachable)):
            access.tree.node(f"{SESSION}/{found[0]}")
    finally:
        stalling.release()
        access.close()


def test_offline_and_unknown_is_unreachable(servers: Servers, tmp_path: Path) -> None:
    online = open_laboratory(servers, tmp_path)
    found = names(online)
    online.close()
    offline = open_laboratory(servers, tmp_path, offline=True)
    servers.clear_requests()
    with pytest.raises(Unreachable):
        offline.tree.node(f"{SESSION}/{found[0]}")
    assert servers.requests == []
    offline.close()

"""What walking the tree costs: one listing a folder at most, and no data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from tests.laboratories import account, alyx_requests, data_requests
from tests.running import Home, Mounted, run

WALKS = (["ls", "-laR"], ["find", "."], ["du", "-a"], ["find", ".", "-size", "+1k", "-ls"])


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(SyntheticLaboratory()) as running:
        yield running


@pytest.fixture
def mounted(home: Home, servers: Servers) -> Mounted:
    """A mount that knows nothing yet."""
    servers.clear_requests()
    return home.mount(**account(servers))


def test_mounting_asks_for_labs_and_repositories(mounted: Mounted, servers: Servers) -> None:
    assert [each.path.partition("?")[0] for each in alyx_requests(servers)] == [
        "/labs",
        "/data-repository",
    ]
    assert data_requests(servers) == []


@pytest.mark.parametrize("walk", WALKS, ids=" ".join)
def test_a_walk_costs_one_listing_a_folder_at_most_and_downloads_nothing(
    mounted: Mounted, servers: Servers, walk: list[str]
) -> None:
    walked = run(walk, cwd=mounted.path).stdout
    requests = alyx_requests(servers)
    folders = run(["find", ".", "-type", "d"], cwd=mounted.path).stdout.splitlines()
    files = run(["find", ".", "-type", "f"], cwd=mounted.path).stdout.splitlines()

    assert len(files) > 1000
    assert "spikes.times.npy" in walked
    assert {each.status for each in requests} == {200}
    assert len(requests) <= len(folders)
    # none of them twice: each folder is listed whole, once
    assert Counter(each.path for each in requests).most_common(1)[0][1] == 1
    assert data_requests(servers) == []


def test_what_was_walked_once_costs_nothing(mounted: Mounted, servers: Servers) -> None:
    run(["find", "."], cwd=mounted.path)
    servers.clear_requests()
    for walk in WALKS:
        run(walk, cwd=mounted.path)
    assert servers.requests == []


def test_a_mount_that_comes_back_has_the_listings_still(mounted: Mounted, servers: Servers) -> None:
    before = run(["find", ".", "-ls"], cwd=mounted.path).stdout
    mounted.umount()
    again = mounted.home.mount(**account(servers))
    servers.clear_requests()
    assert run(["find", ".", "-ls"], cwd=again.path).stdout == before
    assert servers.requests == []


def test_sizes_are_those_that_will_be_read(mounted: Mounted) -> None:
    """``du`` and ``ls`` show what is not downloaded yet, as large as it will be."""
    session = mounted.path / "mainenlab/clns0730/2018-08-24/001"
    files = sorted(session.iterdir())
    assert len(files) == 29
    for path in files:
        told = path.stat()
        assert told.st_blocks == -(-told.st_size // 512)
        assert len(path.read_bytes()) == told.st_size


def test_names_that_cannot_exist_cost_nothing(mounted: Mounted, servers: Servers) -> None:
    session = mounted.path / "mainenlab/clns0730/2018-08-24/001"
    run(["ls", "-R", session])
    servers.clear_requests()
    for path in (
        session / "alf/nothing.npy",
        session / ".git",
        mounted.path / ".git",
        mounted.path / "nolab",
        mounted.path / "mainenlab/clns0730/autorun.inf",
        mounted.path / ".by-eid/malformed",
        mounted.path / ".by-ref/malformed",
    ):
        assert not path.exists()
    assert servers.requests == []

"""The folders of onefs 0.1 (commit 7d1490b) are used as they are.

``tests/data/made_by_0.1/make.py`` has made it; the server has the same data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.servers import Servers
from tests import laboratory_of_0_1 as before
from tests.laboratories import alyx_requests, data_requests, downloads
from tests.running import Home, Mounted, wait_until

CACHED_DATASETS = (before.COMPLETE, before.PINNED, before.ACCEPTED, before.UNVERIFIED, before.WHOLE)


@pytest.fixture
def servers() -> Iterator[Servers]:
    with Servers(before.LaboratoryOf01()) as running:
        yield running


@pytest.fixture
def old_home(home: Home, servers: Servers) -> Home:
    """The home folder of 0.1, moved to where these servers are."""
    addresses = {"PORT": servers.alyx_url, "DATA_PORT": servers.data_url}
    before.unpack(home.folder, {name: url.rpartition(":")[2] for name, url in addresses.items()})
    servers.clear_requests()
    home.environment["ONEFS_SMALL_FILE"] = str(before.SMALL_FILE)
    return home


def files(mounted: Mounted) -> Path:
    return mounted.path / before.SESSION


def read_block(path: Path, block: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(block * before.BLOCK)
        return file.read(4096)


def block_of(kept: before.CachedDataset, block: int) -> bytes:
    return kept.content()[block * before.BLOCK :][:4096]


def test_nothing_is_fetched_again(old_home: Home, servers: Servers) -> None:
    mounted = old_home.mount()
    session = files(mounted)
    for kept in CACHED_DATASETS:
        assert (session / kept.path).read_bytes() == kept.content(), kept.path
    for block in before.READ_BLOCKS:
        assert read_block(session / before.PARTIAL.path, block) == block_of(before.PARTIAL, block)
    assert not data_requests(servers)
    states = {
        kept: mounted.xattr("state", f"{before.SESSION}/{kept.path}")
        for kept in (*CACHED_DATASETS, before.PARTIAL, before.UNREAD)
    }
    assert states == {
        before.COMPLETE: "cached",
        before.PINNED: "cached",
        before.ACCEPTED: "accepted",
        before.UNVERIFIED: "unverified",
        before.WHOLE: "cached",
        before.PARTIAL: "partial",
        before.UNREAD: "remote",
    }


def test_of_a_partial_file_only_the_missing_blocks_are_fetched(
    old_home: Home, servers: Servers
) -> None:
    mounted = old_home.mount()
    path = files(mounted) / before.PARTIAL.path
    assert path.read_bytes() == before.PARTIAL.content()
    fetched = sum(each.bytes for each in downloads(servers, before.PARTIAL.id))
    assert fetched == before.PARTIAL.size - len(before.READ_BLOCKS) * before.BLOCK
    place = f"{before.SESSION}/{before.PARTIAL.path}"
    wait_until(lambda: mounted.xattr("state", place) == "cached")


def test_without_the_server_all_is_there(old_home: Home, servers: Servers) -> None:
    servers.stop()
    mounted = old_home.mount("--offline")
    session = files(mounted)
    assert {path.name for path in session.iterdir()} == {"alf", "notes.md", "raw"}
    for kept in CACHED_DATASETS:
        assert (session / kept.path).read_bytes() == kept.content(), kept.path
    record = json.loads((session / ".session.json").read_text())
    assert record["start_time"] == "2021-03-04T11:22:33"


def test_pins_and_accepted_files_stay(old_home: Home, servers: Servers) -> None:
    mounted = old_home.mount()
    session = files(mounted)
    listed = json.loads(old_home.run("cache", "list", "--json").stdout)
    pinned = {Path(each["path"]).name for each in listed["files"] if each["pinned"]}
    assert pinned == {Path(before.PINNED.path).name}
    old_home.run("cache", "clear")
    servers.clear_requests()
    for kept in (before.PINNED, before.ACCEPTED):
        assert (session / kept.path).read_bytes() == kept.content(), kept.path
    assert not data_requests(servers)


@pytest.mark.parametrize("damage", [False, True])
def test_the_index_of_0_1_is_ignored(old_home: Home, servers: Servers, damage: bool) -> None:
    """Version 0.1 kept a copy of its records in the state folder, which may be out of date."""
    [index] = old_home.state.glob("*/store.sqlite")
    if damage:
        index.write_bytes(b"rubbish" * 1000)
    before_use = index.read_bytes()
    mounted = old_home.mount()
    for kept in CACHED_DATASETS:
        assert (files(mounted) / kept.path).read_bytes() == kept.content(), kept.path
    mounted.umount()
    assert not data_requests(servers)
    assert index.read_bytes() == before_use
    assert "store.sqlite" not in old_home.log()


def test_what_was_listed_is_not_waited_for(old_home: Home, servers: Servers) -> None:
    """Its listings have aged: they are shown, and asked for once in the background."""
    mounted = old_home.mount()
    for _ in range(3):
        assert (files(mounted) / before.UNREAD.path).stat().st_size == before.UNREAD.size
    asked = [each.path for each in alyx_requests(servers)]
    assert len(asked) == len(set(asked))

"""A state folder that others disturb: a lock on each database in it, a disk that is full."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.laboratories import SMALL, account, alyx_requests, small_file, small_folder
from tests.running import Home, files_below, run
from tests.sqlite_faults import fill_disk, locks_held, small_disk

#: seconds for one command: several waits of 1.5 s for locks, on a slow machine
BOUND_SECONDS = 30.0
CACHED, UNCACHED = SMALL[0], SMALL[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture
def servers(folder: Path) -> Iterator[Servers]:
    with Servers(FolderLaboratory(folder)) as running:
        yield running


def databases(home: Home) -> list[Path]:
    return sorted(home.folder.rglob("*.sqlite"))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["IMMEDIATE", "EXCLUSIVE"])
def test_locks_of_another_process_stall_nothing(
    home: Home, servers: Servers, folder: Path, kind: str
) -> None:
    """What is cached and what is not, through the mount and beside it."""
    who = account(servers)
    mounted = home.mount(**who)
    assert (mounted.path / CACHED).read_bytes() == small_file(folder, CACHED).read_bytes()
    assert databases(home)
    with locks_held(*databases(home), kind=kind):
        began = time.monotonic()
        run(["ls", "-l", mounted.path / "labtwo/mouse.1/2021-03-04/001/alf"], timeout=BOUND_SECONDS)
        for path in (CACHED, UNCACHED):
            assert (mounted.path / path).read_bytes() == small_file(folder, path).read_bytes()
        assert set(SMALL) <= files_below(mounted.path)
        assert time.monotonic() - began < BOUND_SECONDS
        found = home.run(
            "search",
            "--subject",
            "mouse.1",
            "--format",
            "eids",
            timeout=BOUND_SECONDS,
            variables=who,
        )
        eid = found.stdout.split()[0]
        home.run("list", eid, timeout=BOUND_SECONDS, variables=who)
        home.run("get", SMALL[5], timeout=BOUND_SECONDS, variables=who)
        home.run("status", timeout=BOUND_SECONDS)
        assert os.listdir(mounted.path / ".search/subject=mouse.2")
    assert "Traceback" not in home.log()
    assert mounted.log_lines("locked")
    mounted.umount()


def test_a_full_state_disk_costs_requests_and_no_file(
    home: Home, servers: Servers, folder: Path, tmp_path: Path
) -> None:
    """Listings are served from memory, files are read; with room again they are stored again."""
    who = account(servers)
    with small_disk(tmp_path) as disk:
        mounted = home.mount("--state-dir", disk / "state", **who)
        fill_disk(disk)
        assert set(SMALL) <= files_below(mounted.path)
        for path in SMALL:
            assert (mounted.path / path).read_bytes() == small_file(folder, path).read_bytes()
        servers.clear_requests()
        assert set(SMALL) <= files_below(mounted.path)
        assert alyx_requests(servers) == []  # from memory
        assert not mounted.has_ended()
        (disk / "filler").unlink()
        home.run("refresh", mounted.path, variables=who)
        assert set(SMALL) <= files_below(mounted.path)
        mounted.umount()
        servers.clear_requests()
        again = home.mount("--offline", "--state-dir", disk / "state", at="again", **who)
        assert set(SMALL) <= files_below(again.path)
        log = next((disk / "state").rglob("onefs.log")).read_text()
        assert "kept in memory only" in log
        assert "Traceback" not in log
        again.umount()

"""However the daemon ends, nothing of it stays, and what was cached is still cached."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import DEVNULL

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.cleanup import mounts_below, processes_below
from tests.laboratories import (
    SMALL,
    account,
    alyx_requests,
    data_requests,
    small_file,
)
from tests.running import Home, Mounted, files_below, process, wait_until


def test_after_a_kill_the_same_place_is_mounted_again_with_all_that_was_cached(
    home: Home, servers: Servers, folder: Path
) -> None:
    mounted = home.mount(**account(servers))
    listed = files_below(mounted.path)
    content = {path: (mounted.path / path).read_bytes() for path in SMALL}
    os.kill(mounted.pid, signal.SIGKILL)
    wait_until(mounted.has_ended)
    servers.clear_requests()

    again = home.mount(**account(servers))
    assert again.pid != mounted.pid
    assert len(mounts_below(home.root)) == 1
    assert {path: (again.path / path).read_bytes() for path in SMALL} == content
    assert {again.xattr("state", path) for path in SMALL} == {"cached"}
    assert files_below(again.path) == listed
    assert data_requests(servers) == []
    assert {each.path.partition("?")[0] for each in alyx_requests(servers)} <= {"/labs"}


def test_a_kill_during_a_download_leaves_nothing_wrong(home: Home, folder: Path) -> None:
    path = SMALL[0]
    original = small_file(folder, path)
    with Servers(FolderLaboratory(folder), rate=original.stat().st_size // 2) as servers:
        mounted = home.mount(**account(servers))
        with process(["cat", mounted.path / path], stdout=DEVNULL, stderr=DEVNULL) as reader:
            wait_until(lambda: list(home.cache.glob("*/.onefs/partial/*")), what="it began")
            os.kill(mounted.pid, signal.SIGKILL)
            assert reader.wait(60) != 0
        wait_until(mounted.has_ended)

        again = home.mount(**account(servers))
        assert again.xattr("state", path) == "remote"
        assert (again.path / path).read_bytes() == original.read_bytes()
        assert list(home.cache.glob("*/.onefs/partial/*")) == []


def _killed(mounted: Mounted) -> None:
    os.kill(mounted.pid, signal.SIGKILL)


def _terminated(mounted: Mounted) -> None:
    os.kill(mounted.pid, signal.SIGTERM)


def _unmounted(mounted: Mounted) -> None:
    mounted.umount()


@pytest.mark.parametrize("end", [_killed, _terminated, _unmounted])
def test_the_embedded_servers_end_with_the_daemon(
    home: Home, end: Callable[[Mounted], None]
) -> None:
    mounted = home.mount("--demo")
    servers = [pid for pid in processes_below(home.root) if pid != mounted.pid]
    assert len(servers) == 1
    end(mounted)
    wait_until(lambda: processes_below(home.root) == [], 5, "the embedded servers are gone")


def test_a_demo_that_was_killed_comes_back_with_its_cache(home: Home, folder: Path) -> None:
    mounted = home.mount("--demo", "--demo-data", folder)
    content = (mounted.path / SMALL[0]).read_bytes()
    url = mounted.xattr("url", SMALL[0])
    os.kill(mounted.pid, signal.SIGKILL)
    again = home.mount("--demo", "--demo-data", folder)
    assert again.xattr("state", SMALL[0]) == "cached"
    assert (again.path / SMALL[0]).read_bytes() == content
    # its servers have other ports now, and serve the files that are not cached
    assert again.xattr("url", SMALL[0]) != url
    assert (again.path / SMALL[1]).read_bytes() == small_file(folder, SMALL[1]).read_bytes()

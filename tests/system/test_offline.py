"""``onefs mount --offline``: no account and no server, only what is known already."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.laboratories import SMALL, account, small_file, small_folder
from tests.running import Home, Mounted, files_below, read_errno, wait_until

URL = "https://alyx.invalid"


def test_all_that_is_known_is_listed_and_what_is_cached_is_read(
    home: Home, servers: Servers, folder: Path
) -> None:
    online = home.mount(**account(servers))
    known = files_below(online.path)
    assert set(SMALL) <= known
    content = (online.path / SMALL[0]).read_bytes()
    online.umount()
    url = servers.alyx_url
    home.run("logout", "--url", url)
    servers.clear_requests()

    # the servers are up, so the absence of requests shows that none was sent
    mounted = home.mount("--offline", "--url", url)
    assert files_below(mounted.path) == known
    assert (mounted.path / SMALL[0]).read_bytes() == content
    assert content == small_file(folder, SMALL[0]).read_bytes()
    assert mounted.xattr("offline") == "1"
    assert '"offline"' in home.run("status", "--json").stdout
    assert len(mounted.log_lines("mounted offline")) == 1
    for path in (SMALL[1], SMALL[5]):
        assert read_errno(mounted.path / path) == errno.EHOSTUNREACH
    with pytest.raises(OSError, match=os.strerror(errno.EHOSTUNREACH)):
        os.readlink(mounted.path / ".by-eid/aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee")
    # names that the catalogue knows to be absent stay absent
    assert not (mounted.path / "nolab").exists()
    assert servers.requests == []


def test_paths_lie_in_the_mount_also_while_the_server_is_away(home: Home, servers: Servers) -> None:
    ref = "2021-03-04_2_mouse.1"
    user = account(servers)
    mounted = home.mount(**user)
    folder = mounted.path / "labone/mouse.1/2021-03-04/002"
    search = ["search", "--subject", "mouse.1", "--lab", "labone", "--number", "2"]
    home.run(*search, variables=user)
    assert folder.is_dir()
    servers.stop()
    with pytest.raises(OSError, match=os.strerror(errno.EHOSTUNREACH)):
        os.readlink(mounted.path / ".by-eid/aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee")
    wait_until(lambda: _state(home, mounted) == "offline")
    assert home.run("path", ref, variables=user).stdout == f"{folder}\n"
    assert home.run(*search, "--format", "paths", variables=user).stdout == f"{folder}\n"
    mounted.umount()
    url = ("--url", servers.alyx_url)
    mounted = home.mount("--offline", *url)
    assert home.run("path", ref, "--offline", *url).stdout == f"{folder}\n"
    [found] = json.loads(home.run(*search, "--offline", "--format", "json", *url).stdout)
    assert found["path"] == str(folder)


def _state(home: Home, mounted: Mounted) -> str:
    status = home.status_of(mounted.path)
    return status["state"] if status is not None else ""


def test_offline_with_nothing_known_says_what_to_do(home: Home) -> None:
    done = home.run("mount", "--offline", "--url", URL, home.root / "mnt", code=2)
    assert "mount the database once without --offline" in done.stderr
    assert not (home.root / "mnt").exists()


def test_the_demo_offline_shows_what_was_walked(home: Home) -> None:
    online = home.mount("--demo")
    names = sorted(os.listdir(online.path / "mainenlab/clns0730/2018-08-24/001"))
    online.umount()
    offline = home.mount("--demo", "--offline")
    assert sorted(os.listdir(offline.path / "mainenlab/clns0730/2018-08-24/001")) == names


def test_two_databases_side_by_side_share_nothing(
    home: Home, servers: Servers, folder: Path
) -> None:
    """Each has its own catalogue and cache folder, and a cache folder of another is refused."""
    other = small_folder(folder.parent / "other", size=77)
    with Servers(FolderLaboratory(other)) as second:
        one = home.mount(at="one", **account(servers))
        two = home.mount(at="two", **account(second))
        path = SMALL[0]
        assert (one.path / path).read_bytes() == small_file(folder, path).read_bytes()
        assert (two.path / path).read_bytes() == small_file(other, path).read_bytes()
        one.umount()
        two.umount()
        host = servers.alyx_url.removeprefix("http://").replace(":", "_")
        cache = home.cache / host
        assert cache.is_dir()
        command: list[str | Path] = ["mount", "--cache-dir", cache, home.root / "third"]
        done = home.run(*command, code=2, variables=account(second))
        assert "belongs to" in done.stderr

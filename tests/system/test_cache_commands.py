"""``onefs cache``, beside a running mount and without one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.servers import Servers
from tests.changing_laboratory import ChangingLaboratory
from tests.laboratories import SMALL, account, downloads, small_file
from tests.running import Home, Mounted, drop_pages, read_errno, wait_until

PATH = SMALL[0]
OTHER = SMALL[1]
SESSION = "labone/mouse.1/2021-03-04/001"


@pytest.fixture
def home(tmp_path: Path, servers: Servers) -> Iterator[Home]:
    with Home(tmp_path, **account(servers)) as made:
        yield made


@pytest.fixture
def mounted(home: Home) -> Mounted:
    return home.mount()


def cached(home: Home, path: str) -> Path:
    """Return the path of a file in the cache folder."""
    lab, rest = path.split("/", 1)
    [folder] = home.cache.iterdir()
    return folder / lab / "Subjects" / rest


def listed(home: Home, *arguments: str | Path) -> dict[str, dict[str, Any]]:
    """What ``onefs cache list --json`` says, by path in the tree."""
    rows = json.loads(home.run("cache", "list", "--json", *arguments).stdout)["files"]
    return {row["path"].replace("/Subjects/", "/", 1): row for row in rows}


def flip_a_byte(path: Path) -> None:
    """Change a byte, and nothing that ``stat`` shows."""
    before = path.stat()
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(len(data) // 2)
        file.write(bytes([data[len(data) // 2] ^ 255]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_list_and_info_say_what_is_there(mounted: Mounted, home: Home) -> None:
    for path in (PATH, OTHER):
        (mounted.path / path).read_bytes()
    found = listed(home)
    assert set(found) == {PATH, OTHER}
    size = (mounted.path / PATH).stat().st_size
    assert (found[PATH]["state"], found[PATH]["size"]) == ("cached", size)
    eid = mounted.xattr("eid", PATH)
    for named in (
        mounted.path / PATH,
        cached(home, PATH),
        PATH,
        PATH.replace("/", "/Subjects/", 1),
    ):
        assert set(listed(home, named)) == {PATH}
    assert set(listed(home, eid)) == set(listed(home, f"{SESSION}/alf/*/spikes*")) == set(found)
    info = json.loads(home.run("cache", "info", "--json").stdout)
    assert info["states"] == {"cached": 2}
    assert info["bytes"] >= 2 * size
    assert info["limit"] is None
    assert "2 cached" in home.run("cache", "info").stdout
    assert PATH.rpartition("/")[2] in home.run("cache", "list").stdout


def test_pinned_files_stay_and_others_go(
    mounted: Mounted, home: Home, servers: Servers, folder: Path
) -> None:
    for path in (PATH, OTHER):
        (mounted.path / path).read_bytes()
    home.run("cache", "pin", mounted.path / PATH)
    assert listed(home)[PATH]["pinned"]
    done = home.run("cache", "evict", SESSION)
    assert "pinned" in done.stderr
    assert set(listed(home)) == {PATH}
    assert (mounted.path / OTHER).read_bytes() == small_file(folder, OTHER).read_bytes()
    home.run("cache", "clear")
    assert set(listed(home)) == {PATH}
    home.run("cache", "unpin", PATH)
    home.run("cache", "clear")
    assert listed(home) == {}
    assert mounted.xattr("state", PATH) == "remote"
    drop_pages(mounted.path / PATH)
    before = len(downloads(servers))
    assert (mounted.path / PATH).read_bytes() == small_file(folder, PATH).read_bytes()
    assert len(downloads(servers)) == before + 1


def test_verify_repairs_what_has_rotted_and_the_mount_shows_it(
    mounted: Mounted, home: Home, folder: Path
) -> None:
    good = small_file(folder, PATH).read_bytes()
    assert (mounted.path / PATH).read_bytes() == good
    (mounted.path / OTHER).read_bytes()
    assert "2 files verified, 0 wrong" in home.run("cache", "verify").stderr
    flip_a_byte(cached(home, PATH))
    assert "1 file verified, 0 wrong" in home.run("cache", "verify", OTHER).stderr
    done = home.run("cache", "verify", code=1)
    assert "instead of" in done.stdout
    assert (mounted.path / PATH).read_bytes() == good
    checked = json.loads(home.run("cache", "verify", "--json").stdout)["files"]
    assert [each["good"] for each in checked] == [True, True]


def test_a_mount_does_not_serve_what_was_changed_with_its_date_put_back(
    mounted: Mounted, home: Home, folder: Path, servers: Servers
) -> None:
    good = small_file(folder, PATH).read_bytes()
    assert (mounted.path / PATH).read_bytes() == good
    with (mounted.path / PATH).open("rb", buffering=0) as held:
        assert held.read(10) == good[:10]
        flip_a_byte(cached(home, PATH))
        drop_pages(mounted.path / PATH)
        assert (mounted.path / PATH).read_bytes() == good
    before = len(downloads(servers))
    os.link(cached(home, PATH), home.root / "backup")
    drop_pages(mounted.path / PATH)
    assert (mounted.path / PATH).read_bytes() == good
    assert len(downloads(servers)) == before
    assert mounted.log_lines("was changed in the cache folder")


def test_what_cannot_be_removed_is_an_error(mounted: Mounted, home: Home) -> None:
    for path in (PATH, OTHER):
        (mounted.path / path).read_bytes()
    place = cached(home, PATH)
    if subprocess.run(["chattr", "+i", place], capture_output=True, check=False).returncode:
        pytest.skip("files cannot be made immutable here")
    try:
        for command in (["evict", SESSION], ["clear"]):
            done = home.run("cache", *command, code=1)
            assert f"{place} cannot be removed: Operation not permitted" in done.stderr
            assert set(listed(home)) == {PATH}
            (mounted.path / OTHER).read_bytes()
    finally:
        subprocess.run(["chattr", "-i", place], check=True)
    home.run("cache", "clear")
    assert listed(home) == {}


def test_what_the_database_contradicts_can_be_accepted(
    mounted: Mounted, home: Home, source: ChangingLaboratory
) -> None:
    fresh = bytes(range(256)) * 100
    source.replace(mounted.xattr("dataset_id", PATH), fresh[:24128], announce=False)
    assert read_errno(mounted.path / PATH) == errno.EIO
    assert listed(home)[PATH]["state"] == "bad"
    assert "there is nothing to accept" in home.run("cache", "accept", OTHER, code=1).stderr
    done = home.run("cache", "accept", mounted.path / PATH)
    assert Path(done.stdout.strip()).read_bytes() == fresh[:24128]
    wait_until(lambda: read_errno(mounted.path / PATH) == 0)
    assert (mounted.path / PATH).read_bytes() == fresh[:24128]
    assert mounted.xattr("state", PATH) == "accepted"


@pytest.mark.long  # a wrong size is believed after half a minute
@pytest.mark.parametrize("size", [100, 60_000], ids=["shorter", "longer"])
def test_an_accepted_file_may_have_another_size(
    mounted: Mounted, home: Home, source: ChangingLaboratory, size: int
) -> None:
    path, fresh = mounted.path / PATH, os.urandom(size)
    source.replace(mounted.xattr("dataset_id", PATH), fresh, announce=False)

    def is_bad() -> bool:
        assert read_errno(path) == errno.EIO
        # not by the mount: the kernel would keep what it says of the size
        return listed(home).get(PATH, {}).get("state") == "bad"

    wait_until(is_bad, 90, "a wrong size that is seen again and again is no verdict")
    home.run("cache", "accept", path)
    wait_until(lambda: read_errno(path) == 0)
    wait_until(lambda: path.read_bytes() == fresh, 90)  # the kernel may keep the size for 60 s
    assert path.stat().st_size == size
    mounted.umount()
    again = home.mount()
    assert (again.path / PATH).stat().st_size == size
    assert (again.path / PATH).read_bytes() == fresh


def test_refresh_clears_a_rejection(
    mounted: Mounted, home: Home, source: ChangingLaboratory, servers: Servers, folder: Path
) -> None:
    dataset, good = mounted.xattr("dataset_id", PATH), small_file(folder, PATH).read_bytes()
    source.replace(dataset, bytes(len(good)), announce=False)
    assert read_errno(mounted.path / PATH) == errno.EIO
    source.replace(dataset, good, announce=False)
    home.run("refresh", mounted.path / OTHER)
    home.run("refresh", mounted.path / SMALL[5])
    assert mounted.xattr("state", PATH) == "bad"
    before = len(downloads(servers))
    home.run("refresh", mounted.path / PATH)
    wait_until(lambda: read_errno(mounted.path / PATH) == 0)
    assert (mounted.path / PATH).read_bytes() == good
    assert len(downloads(servers)) == before + 1


@pytest.mark.parametrize("link", [True, False])
def test_files_of_another_folder_are_adopted_without_a_download(
    home: Home, servers: Servers, folder: Path, tmp_path: Path, link: bool
) -> None:
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    lying = small_file(own, OTHER)
    lying.write_bytes(lying.read_bytes()[:-1] + b"!")
    unknown = own / "labone/Subjects/mouse.1/2021-03-04/001/alf/un.known.npy"
    unknown.write_bytes(b"x")
    flags = ["--link"] if link else []
    done = json.loads(home.run("cache", "adopt", own, "--json", *flags).stdout)["files"]
    outcomes = {Path(each["path"]): each["outcome"] for each in done}
    assert outcomes[lying] == "differs"
    assert outcomes[unknown] == "unknown"
    taken = [path for path, outcome in outcomes.items() if outcome == "taken"]
    assert small_file(own, PATH) in taken
    assert len(taken) >= len(SMALL) - 1
    assert downloads(servers) == []
    assert cached(home, PATH).samefile(small_file(own, PATH)) == link
    assert "there already" in home.run("cache", "adopt", own / "labone" / "Subjects", *flags).stdout
    mounted = home.mount()
    assert (mounted.path / PATH).read_bytes() == small_file(folder, PATH).read_bytes()
    assert downloads(servers) == []
    home.run("cache", "clear")
    assert (PATH in listed(home)) == link


def test_a_cache_is_looked_after_without_a_server_or_settings(
    home: Home, servers: Servers, tmp_path: Path
) -> None:
    home.run("get", PATH)
    servers.stop()
    [cache] = home.cache.iterdir()
    stranger = Home(tmp_path / "stranger")
    assert set(listed(stranger, "--cache-dir", cache)) == {PATH}
    assert (
        "1 file verified, 0 wrong" in stranger.run("cache", "verify", "--cache-dir", cache).stderr
    )
    servers.start()


def test_what_lies_nowhere_is_refused(home: Home, tmp_path: Path) -> None:
    assert "is not in a mount" in home.run("cache", "evict", tmp_path / "x", code=2).stderr
    assert f"no file of {PATH} is cached" in home.run("cache", "evict", PATH, code=1).stderr

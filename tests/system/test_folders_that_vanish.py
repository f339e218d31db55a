"""The cache or state folder goes while it is used: deleted, or with its disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.servers import Servers
from onefs.one import ONE
from tests.laboratories import SMALL, account, small_file
from tests.running import Home, Mounted, drop_pages, read_errno, wait_until

PATH, OTHER, THIRD = SMALL[:3]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk needs root")


@pytest.fixture
def home(tmp_path: Path, servers: Servers) -> Iterator[Home]:
    variables = {"ONEFS_CACHE_DIR": str(tmp_path / "disk/cache"), "ONEFS_DEADLINE": "5"}
    with Home(tmp_path, **account(servers), **variables) as made:
        yield made


@pytest.fixture
def mounted(home: Home) -> Mounted:
    return home.mount()


class Disk:
    """A disk of its own at a folder, which can be taken away and put back."""

    def __init__(self, at: Path, aside: Path) -> None:
        self.at = at
        self._aside = aside
        for folder in (at, aside):
            folder.mkdir(parents=True)
        _run("mount", "-t", "tmpfs", "-o", "mode=755", "none", aside)
        self.put_back()

    def put_back(self) -> None:
        _run("mount", "--bind", self._aside, self.at)

    def take_away(self) -> None:
        _run("umount", "-l", self.at)

    def close(self) -> None:
        for place in (self.at, self._aside):
            subprocess.run(["umount", "-l", place], capture_output=True, timeout=20, check=False)


def _run(*command: str | Path) -> None:
    subprocess.run(command, capture_output=True, timeout=20, check=True)


@pytest.fixture
def cache_disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk", tmp_path / "aside")
    yield disk
    disk.close()


def folders(home: Home, mounted: Mounted) -> list[str]:
    found = home.status_of(mounted.path)
    assert found is not None
    said: list[str] = found.get("folders", [])
    return said


def test_a_deleted_cache_folder_is_created_again(
    home: Home, mounted: Mounted, folder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "disk/cache"
    assert (mounted.path / PATH).read_bytes() == small_file(folder, PATH).read_bytes()
    for gone in (cache, cache / ".onefs", tmp_path / "disk"):
        shutil.rmtree(gone)
        for path in (PATH, OTHER):
            drop_pages(mounted.path / path)
            good = small_file(folder, path).read_bytes()
            assert (mounted.path / path).read_bytes() == good
            assert mounted.xattr("state", path) == "cached"
    wait_until(lambda: folders(home, mounted))
    [said] = folders(home, mounted)
    assert "was deleted, and created again at" in said
    assert said in home.run("status").stdout
    assert mounted.log_lines("the cache folder", "was deleted, and created again")
    info = json.loads(home.run("cache", "info", "--json").stdout)
    assert info["states"] == {"cached": 2}
    sizes = [small_file(folder, path).stat().st_size for path in (PATH, OTHER)]
    assert info["bytes"] == sum(-(-size // 4096) * 4096 for size in sizes)


def test_an_idle_mount_creates_it_again_by_itself(
    home: Home, mounted: Mounted, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "disk")
    wait_until(lambda: (tmp_path / "disk/cache/.onefs/database.json").exists())
    wait_until(lambda: folders(home, mounted))
    [said] = folders(home, mounted)
    assert f"{tmp_path}/disk/cache" in said
    assert "was deleted, and created again at" in said


@as_root
def test_a_cache_folder_whose_disk_is_away_is_not_made_on_another(
    cache_disk: Disk, home: Home, mounted: Mounted, folder: Path
) -> None:
    assert (mounted.path / PATH).read_bytes() == small_file(folder, PATH).read_bytes()
    cache_disk.take_away()
    for path in (OTHER, PATH):
        drop_pages(mounted.path / path)
        assert read_errno(mounted.path / path) == errno.EIO
    assert list(cache_disk.at.iterdir()) == []
    wait_until(lambda: folders(home, mounted))
    assert "is not mounted: onefs uses the folder again" in folders(home, mounted)[0]
    assert "is not mounted: onefs uses the folder again" in home.run("status").stdout
    assert mounted.log_lines("is not mounted: onefs uses the folder again")
    cache_disk.put_back()
    wait_until(lambda: read_errno(mounted.path / OTHER) == 0)
    for path in (PATH, OTHER):
        assert (mounted.path / path).read_bytes() == small_file(folder, path).read_bytes()
    wait_until(lambda: "is available again" in folders(home, mounted)[0])
    assert (cache_disk.at / "cache/.onefs/database.json").exists()


def test_a_deleted_state_folder_is_created_again(
    home: Home, mounted: Mounted, folder: Path
) -> None:
    assert (mounted.path / PATH).read_bytes() == small_file(folder, PATH).read_bytes()
    [state] = [path.parent for path in home.state.glob("*/catalogue.sqlite")]
    shutil.rmtree(state)
    wait_until((state / "catalogue.sqlite").exists)
    for path in (PATH, OTHER):
        drop_pages(mounted.path / path)
        assert (mounted.path / path).read_bytes() == small_file(folder, path).read_bytes()
    wait_until(lambda: folders(home, mounted))
    assert "the state folder" in folders(home, mounted)[0]
    wait_until(lambda: mounted.log_lines("the state folder", "was deleted, and created again"))
    assert state.stat().st_mode & 0o777 == 0o700
    mounted.umount()
    again = home.mount()
    assert (again.path / OTHER).read_bytes() == small_file(folder, OTHER).read_bytes()


@as_root
def test_a_state_folder_whose_disk_is_away_is_not_made_on_another(
    tmp_path: Path, home: Home, folder: Path
) -> None:
    disk = Disk(tmp_path / "statedisk", tmp_path / "aside")
    try:
        mounted = home.mount("--state-dir", disk.at / "state")
        assert (mounted.path / PATH).read_bytes() == small_file(folder, PATH).read_bytes()
        disk.take_away()
        wait_until(lambda: folders(home, mounted))
        assert "is not mounted: onefs uses the folder again" in folders(home, mounted)[0]
        for path in (PATH, OTHER):  # the catalogue is in memory, files are in the cache folder
            assert (mounted.path / path).read_bytes() == small_file(folder, path).read_bytes()
        assert list(disk.at.iterdir()) == []
        disk.put_back()
        wait_until(lambda: "is available again" in folders(home, mounted)[0])
        for path in (PATH, OTHER, THIRD):
            assert (mounted.path / path).read_bytes() == small_file(folder, path).read_bytes()
        mounted.umount()
    finally:
        disk.close()


def test_a_long_running_program_continues(
    home: Home, servers: Servers, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)
    with ONE(silent=True) as one:
        for again in (False, True):
            if again:
                shutil.rmtree(tmp_path / "disk")
                [state] = [found.parent for found in home.state.glob("*/catalogue.sqlite")]
                shutil.rmtree(state)
            for path in (PATH, OTHER):
                session, _, rest = path.partition("/alf/")
                collection, _, name = f"alf/{rest}".rpartition("/")
                [found] = one.load(
                    session, [name.removesuffix(".npy")], collection=collection, download_only=True
                )
                assert found.read_bytes() == small_file(folder, path).read_bytes()

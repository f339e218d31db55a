"""``sessions.pqt`` and ``datasets.pqt`` in a mount and in its cache folder, as syncs write them."""

from __future__ import annotations

import datetime
import hashlib
import mmap
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from tests.cache_tables.table_files import (
    OLD,
    dataset,
    session,
    write,
)
from tests.laboratories import account
from tests.running import ONEFS, Home, Mounted, files_below, read_errno, run, wait_until
from tests.scripted_server import refusing_url

NAMES = ("datasets.pqt", "sessions.pqt")


@pytest.fixture
def url() -> Iterator[str]:
    with refusing_url() as url:
        yield url


@pytest.fixture
def mounted(home: Home, url: str) -> Mounted:
    """The tables of 2021, without any server."""
    home.run("sync", "--tables", OLD, "--url", url)
    return home.mount("--offline", "--url", url)


def tables(folder: Path, sessions: int, **note: Any) -> Path:
    """Tables of a database that grows: of so many sessions, with a dataset each."""
    rows = [session(n, number=n, date=datetime.date(2020, 1, 1)) for n in range(1, sessions + 1)]
    each = [dataset(n, n) for n in range(1, sessions + 1)]
    return write(folder / f"tables-{sessions}", rows, each, origin="ibl_test", **note)


def sync(home: Home, url: str, given: Path) -> str:
    return home.run("sync", "--tables", given, "--url", url).stdout


def cache_of(home: Home) -> Path:
    [folder] = home.cache.iterdir()
    return folder


def digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


def count(path: Path) -> int:
    return int(pq.read_table(path).num_rows)


def test_they_are_the_files_of_the_cache_folder(home: Home, mounted: Mounted) -> None:
    """Listed, of the right size, never anew; the cache folder's own are real files."""
    listed = [name for name in os.listdir(mounted.path) if name in NAMES]
    assert sorted(listed) == list(NAMES)
    for name in NAMES:
        path, kept = mounted.path / name, cache_of(home) / name
        assert kept.is_file()
        assert not kept.is_symlink()
        assert path.stat().st_size == kept.stat().st_size > 0
        assert path.stat().st_mtime == kept.stat().st_mtime == 1620938280  # 2021-05-13 20:38
        assert digest(path) == digest(kept)
        assert mounted.xattr("state", name) == "cached"
    before = {name: (mounted.path / name).stat() for name in NAMES}
    mounted.umount()
    again = home.mount("--offline", "--url", run_url(mounted))
    assert {name: (again.path / name).stat()[:9] for name in NAMES} == {
        name: (*found[:2], again.path.stat().st_dev, *found[3:9]) for name, found in before.items()
    }


def run_url(mounted: Mounted) -> str:
    """The database's address by the mount's log."""
    [line, *_] = mounted.log_lines("mounted the database onefs:")
    return "http://" + line.split("onefs:")[1].split()[0]


@pytest.mark.long
def test_they_are_not_there_before_a_sync(home: Home, fuse: None) -> None:
    with Servers(SyntheticLaboratory()) as servers:
        mounted = home.mount(**account(servers))
        assert not any((mounted.path / name).exists() for name in NAMES)
        assert set(NAMES).isdisjoint(os.listdir(mounted.path))
        home.run("sync", variables=account(servers))
        wait_until(lambda: set(NAMES) <= set(os.listdir(mounted.path)))
        wait_until(lambda: all((mounted.path / name).exists() for name in NAMES))
        listed = files_below(mounted.path) - set(NAMES)
        assert count(mounted.path / "datasets.pqt") == len(listed)


def test_mount_sync_makes_them(home: Home, fuse: None) -> None:
    mounted = home.mount("--demo", "--sync")
    assert set(NAMES) <= set(os.listdir(mounted.path))
    assert count(mounted.path / "sessions.pqt") == 50


@pytest.mark.long
def test_a_new_sync_is_taken_up_without_a_remount(
    home: Home, mounted: Mounted, url: str, tmp_path: Path
) -> None:
    """A program with an old table open, or mapped, reads it to its end; then the paths change."""
    path = mounted.path / "datasets.pqt"
    old = path.read_bytes()
    with path.open("rb") as reader, mmap.mmap(reader.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        sync(home, url, tables(tmp_path, 9))
        assert os.path.getsize(cache_of(home) / "datasets.pqt") != len(old)
        os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert path.read_bytes() == old
        assert mapped[:] == old
        assert reader.read() == old
    for sessions in (9, 10):
        sync(home, url, tables(tmp_path, sessions))
        taken_up(mounted)
        assert [count(mounted.path / name) for name in NAMES] == [sessions, sessions]


def taken_up(mounted: Mounted) -> None:
    """Wait until the mount has the tables of its cache folder, without reading them."""

    def same() -> bool:
        os.listdir(mounted.path)
        found = [(mounted.path / name).stat() for name in NAMES]
        kept = [(cache_of(mounted.home) / name).stat() for name in NAMES]
        return [each.st_size for each in found] == [each.st_size for each in kept]

    wait_until(same, 20)


@pytest.mark.long
def test_a_reader_of_both_tables_during_syncs_gets_them_of_one_sync(
    home: Home, mounted: Mounted, url: str, tmp_path: Path
) -> None:
    seen: list[tuple[int, ...]] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(tuple(count(mounted.path / name) for name in NAMES))

    sync(home, url, tables(tmp_path, 5))
    taken_up(mounted)
    with ThreadPoolExecutor(3) as readers:
        reading = [readers.submit(read) for _ in range(3)]
        try:
            for sessions in (6, 7):
                sync(home, url, tables(tmp_path, sessions))
        finally:
            done.set()
        for each in reading:
            each.result(20)
    assert {each for each in seen if len(set(each)) > 1} == set()
    assert {each[0] for each in seen} <= {5, 6, 7}
    taken_up(mounted)
    assert count(mounted.path / "datasets.pqt") == 7


def test_a_sync_of_a_release_tag_leaves_the_complete_tables(
    home: Home, mounted: Mounted, url: str, tmp_path: Path
) -> None:
    """ONE would take a part for the database."""
    before = digest(mounted.path / "datasets.pqt")
    said = sync(home, url, tables(tmp_path, 3, database_tags=["2022_Q2"]))
    assert "3 sessions" in said
    assert "ONE-api" not in said
    assert digest(mounted.path / "datasets.pqt") == before


def test_tables_of_another_program_stay(home: Home, url: str, tmp_path: Path) -> None:
    """ONE may have written them; the sync itself goes on."""
    sync(home, url, tables(tmp_path, 2))
    own = cache_of(home) / "sessions.pqt"
    own.unlink()
    own.write_bytes(b"ONE's own")
    done = home.run("sync", "--tables", tables(tmp_path, 3), "--url", url)
    assert "3 sessions" in done.stdout
    [line] = [line for line in done.stderr.splitlines() if "ONE-api" in line]
    assert f"{own} was not written by onefs" in line
    assert own.read_bytes() == b"ONE's own"
    mounted = home.mount("--offline", "--url", url)
    assert set(NAMES).isdisjoint(os.listdir(mounted.path))


def test_clearing_the_cache_leaves_them(home: Home, mounted: Mounted, url: str) -> None:
    """They are what is known of the database, not bytes of it."""
    mounted.home.run("cache", "clear", "--url", url)
    assert all((cache_of(home) / name).is_file() for name in NAMES)
    assert count(mounted.path / "datasets.pqt") == 693


@pytest.mark.long
@pytest.mark.parametrize(
    "tenths",
    [range(4, 16, 3), pytest.param(range(4, 16), marks=pytest.mark.long)],
    ids=["some", "many"],
)
def test_a_killed_sync_does_no_harm(
    home: Home, mounted: Mounted, url: str, tmp_path: Path, tenths: range
) -> None:
    """At any instant: what is shown is a whole pair, and the next sync brings the new one."""
    given = tables(tmp_path, 30)
    allowed = {26, 30}
    for tenth in tenths:
        command: list[str | Path] = [ONEFS, "sync", "--tables", given, "--url", url]
        with subprocess.Popen(command, env=home.environment, stdout=subprocess.DEVNULL) as one:
            try:
                one.wait(tenth / 10)
            except subprocess.TimeoutExpired:
                one.kill()
        assert count(mounted.path / "sessions.pqt") in allowed
    assert "30 sessions" in sync(home, url, given)
    taken_up(mounted)
    assert count(mounted.path / "sessions.pqt") == 30
    assert not (cache_of(home) / ".onefs/tables.part").exists()


def test_a_full_disk_leaves_the_old_tables_and_is_reported(
    home: Home, url: str, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=96k,mode=755", "none", disk])
    try:
        folder = ("--cache-dir", disk)
        home.run("sync", "--tables", tables(tmp_path, 2), "--url", url, *folder)
        before = digest(disk / "datasets.pqt")
        (disk / "ballast").write_bytes(bytes(os.statvfs(disk).f_bavail * 4096 - 8192))
        done = home.run("sync", "--tables", OLD, "--url", url, *folder, code=1)
        assert "26 sessions" in done.stdout  # the catalogue is elsewhere, and was filled
        (said,) = [each for each in done.stderr.splitlines() if each.endswith(" is full")]
        assert f"the disk of {disk}" in said
        assert digest(disk / "datasets.pqt") == before
        assert not (disk / ".onefs/tables.part").exists()
    finally:
        run(["umount", "-l", disk])


@pytest.mark.long
def test_each_profile_has_its_own(home: Home, tmp_path: Path) -> None:
    with refusing_url() as one, refusing_url() as other:
        sync(home, one, tables(tmp_path, 2))
        sync(home, other, tables(tmp_path, 4))
        first = home.mount("--offline", "--url", one, at="one")
        second = home.mount("--offline", "--url", other, at="other")
        assert [count(each.path / "sessions.pqt") for each in (first, second)] == [2, 4]
        rests = [Path(os.readlink(each.path / ".rest")).parent for each in (first, second)]
        assert rests[0] != rests[1]
        # the folder of another database is not written into
        cache = next(iter(path.parent for path in home.cache.glob("*/sessions.pqt")))
        done = home.run("sync", "--tables", OLD, "--url", one, "--cache-dir", tmp_path / "new")
        assert "26 sessions" in done.stdout
        assert cache.is_dir()


def test_they_cannot_be_written(mounted: Mounted) -> None:
    with pytest.raises(OSError, match="Read-only"):
        (mounted.path / "datasets.pqt").open("r+b")
    assert read_errno(mounted.path / "datasets.pqt") == 0

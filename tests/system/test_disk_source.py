"""``--source``: mounts, commands and Python serve the files of a disk in place."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from onefs.cache.disk_records import is_settled
from onefs.demo.servers import Servers
from onefs.one import ONE
from tests.changing_laboratory import ChangingLaboratory
from tests.disks import fill_disk, put, remote_disk, second_disk
from tests.laboratories import SMALL, account, downloads, small_file
from tests.running import Home, Mounted, drop_pages, files_below, read_errno, wait_until, within
from tests.users import OTHER_UID, UID, Machine

PATH, OTHER, THIRD = SMALL[:3]
#: makes each file a large one
LARGE = ("--small-file", "1")


@pytest.fixture
def home(tmp_path: Path, servers: Servers) -> Iterator[Home]:
    with Home(tmp_path, **account(servers)) as made:
        yield made


@pytest.fixture
def disk(source: ChangingLaboratory, folder: Path, tmp_path: Path) -> dict[str, Path]:
    """The files of the file server on a disk, by their paths in the mount."""
    return fill_disk(source, folder, tmp_path / "data")


def cached_files(home: Home) -> list[Path]:
    """Return the files of all cache folders that hold bytes of datasets."""
    kept = {"partial", "rejected", "aside"}
    return [
        path
        for path in home.cache.rglob("*")
        if path.is_file() and (".onefs" not in path.parts or kept & {*path.parts})
    ]


def shown_disk(mounted: Mounted) -> dict[str, object]:
    """Return what ``onefs status`` reports of the only disk of a mount, once it has done so."""
    found: list[dict[str, object]] = []

    def report() -> bool:
        sources = (mounted.home.status_of(mounted.path) or {}).get("sources", [])
        found[:] = [each for each in sources if each["kind"] == "disk"]
        return bool(found)

    wait_until(report)
    [disk] = found
    return disk


@pytest.mark.parametrize(
    "options",
    [pytest.param((), id="small"), pytest.param(LARGE, id="large", marks=pytest.mark.long)],
)
def test_all_files_are_served_in_place(
    home: Home,
    servers: Servers,
    disk: dict[str, Path],
    folder: Path,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    mounted = home.mount("--source", tmp_path / "data", *options)
    assert files_below(mounted.path) == {*disk}
    # what was found in files of just now is not recorded
    wait_until(lambda: all(is_settled(path.stat()) for path in disk.values()))
    for path in disk:
        assert (mounted.path / path).read_bytes() == small_file(folder, path).read_bytes()
        assert mounted.xattr("source", path) == str(disk[path])
        assert mounted.xattr("state", path) == ("unverified" if options else "cached")
    assert downloads(servers) == []
    assert cached_files(home) == []
    wait_until(lambda: shown_disk(mounted)["files"] == len(disk))
    assert f"disk {tmp_path}/data: {len(disk)} files read in place" in home.run("status").stdout

    # other processes use the disk of the mount
    [printed] = home.run("get", mounted.path / PATH).stdout.splitlines()
    assert printed == str(disk[PATH])
    if options:
        small = {"ONEFS_SMALL_FILE": "1"}
        assert "unverified" in home.run("show", mounted.path / OTHER, variables=small).stdout
        done = home.run("cache", "verify", mounted.path / OTHER).stderr
        assert "1 file verified, 0 wrong" in done
        assert mounted.xattr("state", OTHER) == "cached"
    mounted.umount()
    assert downloads(servers) == []
    assert {path.read_bytes() for path in disk.values()} == {
        small_file(folder, path).read_bytes() for path in disk
    }


def test_missing_and_wrong_files_are_fetched(
    home: Home, servers: Servers, disk: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    disk[PATH].unlink()
    put(disk[OTHER], bytes(disk[OTHER].stat().st_size))
    mounted = home.mount("--source", tmp_path / "data")
    for path in SMALL:
        assert (mounted.path / path).read_bytes() == small_file(folder, path).read_bytes()
    assert len(downloads(servers)) == 2
    assert len(cached_files(home)) == 2
    assert mounted.xattr("source", PATH) == ""
    assert len(mounted.log_lines("is not used: the database says md5", str(disk[OTHER]))) == 1


@pytest.mark.long
def test_the_variable_the_profile_and_python(
    home: Home,
    servers: Servers,
    disk: dict[str, Path],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = f"{tmp_path}/nothing:{tmp_path}/data"
    [printed] = home.run("get", PATH, "--source", tmp_path / "data").stdout.splitlines()
    assert printed == str(disk[PATH])
    [printed] = home.run("get", OTHER, variables={"ONEFS_SOURCE": elsewhere}).stdout.splitlines()
    assert printed == str(disk[OTHER])
    home.run("setup")
    servers.clear_requests()  # it has tried the login
    settings = home.folder / "config/onefs/settings.json"
    saved = json.loads(settings.read_text())
    [profile] = saved["profiles"].values()
    profile["source"] = str(tmp_path / "data")
    settings.write_text(json.dumps(saved))
    done = home.run("get", THIRD, "--dry-run")
    assert "0 files to fetch, 0 B; 1 already cached" in done.stderr
    [printed] = home.run("get", THIRD).stdout.splitlines()
    assert printed == str(disk[THIRD])
    described = json.loads(home.run("show", THIRD, "--format", "json").stdout)
    assert described["source"] == str(disk[THIRD])

    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)
    session, types = "labone/mouse.1/2021-03-04/002", ["licks.times"]
    expected = np.load(small_file(folder, f"{session}/alf/licks.times.npy"))
    for offline in (False, True):
        with ONE(source=elsewhere, silent=True, offline=offline) as one:
            [loaded] = one.load(session, types)
            np.testing.assert_array_equal(loaded, expected)
            [path] = one.load(session, types, download_only=True)
            assert path == disk[f"{session}/alf/licks.times.npy"]
    assert downloads(servers) == []
    assert cached_files(home) == []
    error = home.error_of(2, "get", PATH, "--source", f"{tmp_path}/a:b")
    assert "a colon separates folders" in error


@pytest.mark.long
def test_a_source_that_is_no_folder_or_in_the_mount_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file" in home.error_of(2, "mount", tmp_path / "mnt", "--source", tmp_path / "file")
    assert "inside the mount point" in home.error_of(
        2, "mount", tmp_path / "mnt", "--source", tmp_path / "mnt/lab"
    )


@pytest.mark.long
def test_a_disk_is_unmounted_and_mounted_again(
    home: Home,
    servers: Servers,
    source: ChangingLaboratory,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with second_disk(tmp_path) as second:
        disk = fill_disk(source, folder, second.at / "data")
        mounted = home.mount("--source", second.at / "data")
        good = {path: small_file(folder, path).read_bytes() for path in disk}
        assert (mounted.path / PATH).read_bytes() == good[PATH]
        with (mounted.path / THIRD).open("rb") as reader:
            assert reader.read(10) == good[THIRD][:10]
            second.take_away()
            drop_pages(mounted.path / THIRD)
            assert reader.read() == good[THIRD][10:]  # an open file keeps its disk
        sentence = f"the disk {second.at}/data is away: it is not mounted"
        assert (mounted.path / OTHER).read_bytes() == good[OTHER]
        assert len(downloads(servers)) == 1
        monkeypatch.setattr(source, "file", lambda path: None)  # 404
        assert read_errno(mounted.path / SMALL[5]) == errno.EIO
        assert sentence in mounted.xattr("error", SMALL[5])
        wait_until(lambda: shown_disk(mounted)["away"] == sentence)
        assert sentence in home.run("status").stdout
        second.put_back()
        assert (mounted.path / SMALL[5]).read_bytes() == good[SMALL[5]]
        wait_until(lambda: not shown_disk(mounted)["away"])
        assert mounted.log_lines(sentence)
        assert mounted.log_lines(f"the disk {second.at}/data is there again")
        mounted.umount()


def test_a_remote_disk_that_stands_still_or_dies_delays_no_read_for_long(
    servers: Servers, source: ChangingLaboratory, folder: Path, tmp_path: Path
) -> None:
    disk = fill_disk(source, folder, tmp_path / "data")
    good = {path: small_file(folder, path).read_bytes() for path in disk}
    with (
        remote_disk(tmp_path / "data", tmp_path / "remote") as remote,
        Home(tmp_path, **account(servers), ONEFS_STALL="2") as home,
    ):
        mounted = home.mount("--source", remote.at, *LARGE)
        assert (mounted.path / PATH).read_bytes() == good[PATH]
        assert downloads(servers) == []
        with (mounted.path / THIRD).open("rb") as reader:
            remote.stand_still()
            sentence = f"the disk {remote.at} is away: it has not answered for 2 s"
            with within():
                assert read_errno_of(reader.fileno()) == errno.EHOSTUNREACH
                assert (mounted.path / OTHER).read_bytes() == good[OTHER]
            assert len(downloads(servers)) >= 1
            wait_until(lambda: shown_disk(mounted)["away"] == sentence)
            remote.go_on()
            wait_until(lambda: not shown_disk(mounted)["away"])
            assert os.pread(reader.fileno(), 1 << 20, 0) == good[THIRD]
        servers.clear_requests()
        assert (mounted.path / SMALL[5]).read_bytes() == good[SMALL[5]]
        assert downloads(servers) == []
        remote.kill()
        assert (mounted.path / SMALL[6]).read_bytes() == good[SMALL[6]]
        assert len(downloads(servers)) >= 1
        wait_until(lambda: "is away" in str(shown_disk(mounted)["away"]))
        mounted.umount()


def read_errno_of(descriptor: int) -> int:
    """Return the errno of reading an open file; 0 if it succeeds."""
    try:
        os.pread(descriptor, 1 << 20, 0)
    except OSError as error:
        return error.errno or -1
    return 0


def test_a_large_file_that_is_replaced_or_changed_in_place_is_never_mixed(
    home: Home, servers: Servers, disk: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    mounted = home.mount("--source", tmp_path / "data", *LARGE)
    path, old = mounted.path / PATH, small_file(folder, PATH).read_bytes()
    new = bytes(len(old))
    with path.open("rb") as reader:
        assert reader.read(100) == old[:100]
        put(disk[PATH], new)
        drop_pages(path)
        assert path.read_bytes() == old
        drop_pages(path)
        assert reader.read() == old[100:]
    assert path.read_bytes() == new
    with path.open("rb", buffering=0) as reader:
        assert reader.read(100) == new[:100]
        times = disk[PATH].stat()
        disk[PATH].write_bytes(old)
        os.utime(disk[PATH], ns=(times.st_atime_ns, times.st_mtime_ns))
        os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with pytest.raises(OSError, match="Input/output error"):
            reader.read(5000)
        assert read_errno(path) == errno.EIO
        assert "was changed while it is open" in mounted.xattr("error", PATH)
    wait_until(lambda: read_errno(path) == 0)
    assert path.read_bytes() == old
    assert downloads(servers) == []


def test_a_small_file_that_is_changed_in_place_is_read_to_its_end(
    home: Home, servers: Servers, disk: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    mounted = home.mount("--source", tmp_path / "data")
    path, old = mounted.path / PATH, small_file(folder, PATH).read_bytes()
    with path.open("rb", buffering=0) as reader:
        assert reader.read(100) == old[:100]
        disk[PATH].write_bytes(bytes(len(old)))
        drop_pages(path)
        assert reader.read(len(old)) == old[100:]
    assert path.read_bytes() == old
    assert len(downloads(servers)) == 1


def test_a_read_only_disk_of_another_user(machine: Machine) -> None:
    """Root's disk is read-only for everybody; one file may not be read by the user."""
    data, disk, mnt = machine.folder / "data", machine.folder / "disk", machine.home / "mnt"
    made = machine.run_as(
        0,
        "sh",
        "-ec",
        'mkdir "$2"; mount -t tmpfs -o mode=755 none "$2"; cp -r "$1"/* "$2"; chown -R "$3:$3" "$2"'
        '; cd "$2"; find . -name "*.npy" | sort | head -n 1 | tee /dev/stderr | xargs chmod 600'
        '; mount -o remount,ro "$2"',
        "sh",
        data,
        disk,
        str(OTHER_UID),
    )
    [secret] = made.stderr.splitlines()
    machine.onefs("mount", "--demo", "--demo-data", data, "--source", disk, mnt)
    try:
        compare = "cd $1 && find . -name '*.npy' | sort | xargs cat | md5sum"
        ours = machine.run_as(UID, "sh", "-c", compare, "sh", mnt).stdout
        assert ours == machine.run_as(UID, "sh", "-c", compare, "sh", data).stdout
        status = json.loads(machine.onefs("status", "--json"))["mounts"][0]
        log = machine.run_as(0, "cat", status["log_file"]).stdout
        assert log.count("is not used: Permission denied") == 1
        cached = machine.run_as(0, "find", status["cache_dir"], "-name", "*.npy").stdout
        assert [Path(line).name for line in cached.splitlines()] == [Path(secret).name]
    finally:
        machine.onefs("umount", mnt)

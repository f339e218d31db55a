"""``onefs get``: many files at once, with and without a mount."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.cli.terminal import Terminal
from tests.laboratories import (
    SMALL,
    StallingLaboratory,
    account,
    downloads,
    small_file,
    small_folder,
)
from tests.running import BUSY_SECONDS, ONEFS, Home, process, wait_until

#: values in each file: 2.4 MB
VALUES = 300_000
PATH = SMALL[0]
SESSION = "labone/mouse.1/2021-03-04/001"
IN_SESSION = [path for path in SMALL if path.startswith(SESSION)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("data"), VALUES)


@pytest.fixture
def source(folder: Path) -> StallingLaboratory:
    stalling = StallingLaboratory(FolderLaboratory(folder), "licks")
    stalling.release()
    return stalling


@pytest.fixture
def home(tmp_path: Path, servers: Servers) -> Iterator[Home]:
    with Home(tmp_path, ONEFS_SMALL_FILE="64K", **account(servers)) as made:
        yield made


def printed(done: subprocess.CompletedProcess[str]) -> list[Path]:
    """The paths that it printed."""
    return sorted(Path(line) for line in done.stdout.splitlines())


def test_without_a_mount(home: Home, servers: Servers, folder: Path) -> None:
    done = home.run("get", SESSION)
    assert len(printed(done)) == len(IN_SESSION)
    originals = sorted(small_file(folder, path).read_bytes() for path in IN_SESSION)
    assert sorted(path.read_bytes() for path in printed(done)) == originals
    assert done.stderr.splitlines() == [
        f"{len(IN_SESSION)} files fetched, 9.2 MiB; 0 already cached"
    ]
    before = len(downloads(servers))
    again = home.run("get", SESSION)
    assert printed(again) == printed(done)
    assert f"0 files fetched, 0 B; {len(IN_SESSION)} already cached" in again.stderr
    assert len(downloads(servers)) == before


def test_what_can_be_named(home: Home) -> None:
    mounted = home.mount()
    eid = mounted.xattr("eid", SESSION)
    for arguments, count in (
        ([eid, "--type", "spikes.times"], 2),
        ([eid, "--type", "spikes.*", "--type", "no.such"], 2),
        (["2021-03-04_2_mouse.1"], 1),
        (["labone/*/2021-03-04/001/alf/*/spikes*"], 2),
        (["labone/Subjects/mouse.1/*/1/alf/probe0?/*", PATH], 2),
        ([mounted.path / "labone/*/2021-*/001/alf/probe*"], 2),
        ([mounted.path / "labone/Subjects/mouse.1/2021-03-04/1/alf/probe00"], 1),
    ):
        done = home.run("get", "--dry-run", *arguments)
        assert len(printed(done)) == count, arguments
        assert f"{count} file{'s' if count > 1 else ''} to fetch" in done.stderr
        assert not any(path.exists() for path in printed(done))
    assert "2 sessions" in home.run("get", "2021-03-04_1_mouse.1", code=1).stderr
    assert "no dataset of type" in home.run("get", SESSION, "--type", "no.such", code=1).stderr
    assert "has no" in home.run("get", f"{SESSION}/nothing", code=1).stderr
    assert "nothing matches" in home.run("get", "labone/no*/*", code=1).stderr


def test_beside_a_mount_each_file_is_fetched_once(home: Home, servers: Servers) -> None:
    mounted = home.mount()
    home.run("get", mounted.path / SESSION)
    before = len(downloads(servers))
    for path in IN_SESSION:
        assert mounted.xattr("state", path) == "cached"
        (mounted.path / path).read_bytes()
    assert len(downloads(servers)) == before


def test_what_fails_does_not_stop_the_others(
    home: Home, source: StallingLaboratory, servers: Servers
) -> None:
    source.stall()
    try:
        done = home.run("get", "--verbose", "labone", ONEFS_STALL="1", code=4)
    finally:
        source.release()
    assert {path.name for path in printed(done)} >= {"spikes.times.npy", "notes.md"}
    lines = done.stderr.splitlines()
    told = [line.partition("licks.times.npy")[0] for line in lines if "licks.times.npy" in line]
    assert len(told) == len(set(told)) == 2  # once for each
    assert [line for line in lines if line.endswith("2 failed")]


@pytest.mark.long
def test_it_goes_on_where_it_was_killed(tmp_path: Path, folder: Path) -> None:
    with (
        Servers(FolderLaboratory(folder), rate=400_000) as servers,
        Home(tmp_path, ONEFS_SMALL_FILE="64K", **account(servers)) as home,
    ):
        with process([ONEFS, "get", PATH], env=home.environment, stdout=subprocess.DEVNULL) as get:
            wait_until(lambda: _blocks(home) >= 1 << 20)
            get.kill()
        here = _blocks(home)
        servers.clear_requests()
        [path] = printed(home.run("get", PATH))
        size = small_file(folder, PATH).stat().st_size
        assert path.read_bytes() == small_file(folder, PATH).read_bytes()
        sent = sum(each.bytes for each in downloads(servers))
        assert sent <= size - here + (1 << 20)


def _blocks(home: Home) -> int:
    """Bytes of disk that partial files take."""
    found = home.cache.glob("*/.onefs/partial/*.data")
    return sum(path.stat().st_blocks * 512 for path in found)


def test_ctrl_c_ends_it_at_once(home: Home, source: StallingLaboratory) -> None:
    source.stall()
    with process(
        [ONEFS, "get", "labtwo"], env=home.environment, stderr=subprocess.PIPE, text=True
    ) as get:
        wait_until(lambda: list(home.cache.glob("*/.onefs/partial/*.data")))
        get.send_signal(signal.SIGINT)
        assert get.wait(BUSY_SECONDS) == 130  # the server is silent for longer
    source.release()


def test_bars_at_a_terminal(tmp_path: Path, folder: Path) -> None:
    with (
        Servers(FolderLaboratory(folder), rate=1_000_000) as servers,
        Home(tmp_path, ONEFS_SMALL_FILE="64K", **account(servers)) as home,
        Terminal(["get", SESSION], home.environment | {"TERM": "xterm", "COLUMNS": "120"}) as shown,
    ):
        shown.expect("of 2.3 MiB")
        shown.expect("files, ")
        shown.expect("/s, 0:0")
        shown.expect("5 files fetched")
        assert shown.exit_code() == 0
        # the bars are removed before the summary is printed
        assert (
            shown.shown.rpartition("\x1b[J")[2]
            .lstrip()
            .startswith((f"{len(IN_SESSION)} files fetched", os.sep))
        )

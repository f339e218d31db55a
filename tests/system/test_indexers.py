"""Indexers cause no downloads, and --max-fetch bounds those of an hour."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from onefs.mount import kernel_mounts
from tests.laboratories import SMALL, account, downloads, small_file, small_folder
from tests.running import Home, Mounted, drop_pages, read_errno

#: values in each file: 2.4 MB, five blocks
VALUES = 300_000
BLOCK = 512 * 1024
PATH, OTHER = SMALL[0], SMALL[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("data"), VALUES)


@pytest.fixture
def servers(folder: Path) -> Iterator[Servers]:
    with Servers(FolderLaboratory(folder)) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, servers: Servers) -> Iterator[Home]:
    with Home(tmp_path, ONEFS_SMALL_FILE="64K", **account(servers)) as made:
        yield made


def program(tmp_path: Path, name: str) -> Path:
    """A copy of ``dd`` under another name: what the kernel calls the process that it becomes."""
    real = shutil.which("dd")
    assert real is not None
    return Path(shutil.copy(real, tmp_path / name))


def reads(program: Path, path: Path, size: int = 0) -> bytes:
    """What a program reads of a file, its first bytes or all; b'' when it is refused."""
    some = ["bs=4096", f"count={size // 4096}"] if size else ["bs=64k"]
    done = subprocess.run([program, f"if={path}", *some], capture_output=True, timeout=60)
    if done.returncode:
        assert b"Permission denied" in done.stderr
        assert done.stdout == b""
    return done.stdout


@pytest.mark.parametrize("name", ["tracker-miner-fs-3", "updatedb", "tumblerd"])
def test_an_indexer_gets_cached_bytes_only(
    home: Home, servers: Servers, folder: Path, tmp_path: Path, name: str
) -> None:
    indexer, good = program(tmp_path, name), small_file(folder, PATH).read_bytes()
    mounted = home.mount()
    path = mounted.path / PATH
    for _ in range(3):
        assert reads(indexer, path) == b""
    assert downloads(servers) == []
    assert len(mounted.log_lines(name[:15], "is not fetched")) == 1
    # cached blocks are served, also to an indexer that opens the file again
    with path.open("rb", buffering=0) as file:
        assert file.read(4096) == good[:4096]
    drop_pages(path)
    before = len(downloads(servers))
    assert reads(indexer, path, 8192) == good[:8192]
    assert len(downloads(servers)) == before
    assert path.read_bytes() == good
    drop_pages(path)
    assert reads(indexer, path) == good


def test_others_are_served_and_the_list_can_be_set(
    home: Home, folder: Path, tmp_path: Path
) -> None:
    good = small_file(folder, PATH).read_bytes()
    mounted = home.mount(ONEFS_INDEXERS="my-indexer")
    assert reads(program(tmp_path, "my-indexer"), mounted.path / PATH) == b""
    assert reads(program(tmp_path, "updatedb"), mounted.path / PATH) == good


def test_the_kernel_calls_it_fuse_onefs(home: Home) -> None:
    """What updatedb and others leave out by type."""
    mounted = home.mount()
    found = kernel_mounts.find_mount(str(mounted.path))
    assert found is not None
    assert found.fstype == "fuse.onefs"


def fetched(mounted: Mounted) -> int:
    status = mounted.home.status_of(mounted.path)
    assert status is not None
    return int(status["fetched"])


def test_beyond_max_fetch_nothing_is_fetched(home: Home, servers: Servers, folder: Path) -> None:
    good = small_file(folder, PATH).read_bytes()
    mounted = home.mount("--max-fetch", "4M/h")
    assert (mounted.path / PATH).read_bytes() == good
    assert read_errno(mounted.path / OTHER) == errno.EDQUOT
    sent = sum(each.bytes for each in downloads(servers))
    assert len(good) <= sent <= 4 << 20
    drop_pages(mounted.path / PATH)
    assert (mounted.path / PATH).read_bytes() == good
    with (mounted.path / OTHER).open("rb", buffering=0) as file:
        drop_pages(mounted.path / OTHER)
        assert os.pread(file.fileno(), 4096, 0) == small_file(folder, OTHER).read_bytes()[:4096]
    assert fetched(mounted) <= 4 << 20
    shown = home.run("status").stdout
    assert "of 4.0 MiB within the hour" in shown
    # the quota does not apply to `onefs get`
    home.run("get", OTHER)
    assert (mounted.path / OTHER).read_bytes() == small_file(folder, OTHER).read_bytes()

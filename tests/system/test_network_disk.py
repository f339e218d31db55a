"""A mount whose state folder is on a network file system."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.laboratories import SMALL, account, small_file, small_folder
from tests.running import Home, files_below, network_disk


@pytest.fixture
def state(tmp_path: Path, fuse: None) -> Iterator[Path]:
    with network_disk(tmp_path) as place:
        yield place


def test_a_mount_with_its_state_on_a_network_disk(state: Path, tmp_path: Path) -> None:
    """Listings and files are there, also for a second process, and it says that it is slower."""
    folder = small_folder(tmp_path / "data")
    with Home(tmp_path / "home") as home, Servers(FolderLaboratory(folder)) as servers:
        mounted = home.mount("--state-dir", state, **account(servers))
        known = files_below(mounted.path)
        assert set(SMALL) <= known
        content = (mounted.path / SMALL[0]).read_bytes()
        assert content == small_file(folder, SMALL[0]).read_bytes()

        # another process writes and reads the same databases meanwhile
        home.run("refresh", mounted.path / "labone")
        home.run("get", SMALL[1], "--state-dir", state, variables=account(servers))
        assert files_below(mounted.path) == known
        assert mounted.xattr("state", SMALL[1]) == "cached"

        told = home.status_of(mounted.path)
        assert told is not None
        assert told["state_disk"] == "fuse.sshfs"
        assert "on a network file system (fuse.sshfs)" in home.run("status").stdout
        log = (state / "onefs.log").read_text()
        assert log.count("is on a network file system") == 1
        mounted.umount()

        connection = sqlite3.connect(state / "catalogue.sqlite")
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        connection.close()
        assert mode == "delete"
        assert not [path.name for path in state.iterdir() if path.suffix.endswith(("-wal", "-shm"))]


def test_a_local_state_folder_is_not_mentioned(home: Home, tmp_path: Path) -> None:
    with Servers(FolderLaboratory(small_folder(tmp_path / "data"))) as servers:
        mounted = home.mount(**account(servers))
        told = home.status_of(mounted.path)
        assert told is not None
        assert "state_disk" not in told
        assert not mounted.log_lines("network file system")

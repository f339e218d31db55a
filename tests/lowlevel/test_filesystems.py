"""Detection of folders on a network file system, with the kernel's table of mounts."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.lowlevel import filesystems
from onefs.lowlevel.sqlite_file import SqliteFile
from tests.running import network_disk

SCHEMA = "CREATE TABLE IF NOT EXISTS t (x INTEGER);"
LINE = "36 35 98:0 / {} rw,noatime shared:1 - {} {} rw\n"


def table(folder: Path, *mounts: tuple[str, str]) -> Path:
    """Write a table of mounts in the form of the kernel, from mount points and types."""
    path = folder / "mountinfo"
    lines = [LINE.format(place.replace(" ", r"\040"), kind, "source") for place, kind in mounts]
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "lustre", "beegfs", "gpfs", "ceph", "afs", "fuse.sshfs"]
)
def test_a_network_file_system_is_recognised_by_its_type(tmp_path: Path, kind: str) -> None:
    mounts = table(tmp_path, ("/", "ext4"), ("/net/my home", kind), ("/net/my home/own", "xfs"))
    assert filesystems.network_filesystem_type(Path("/net/my home/not/yet"), mounts) == kind
    assert filesystems.network_filesystem_type(Path("/net/my home"), mounts) == kind
    for local in ("/net/my home/own/state", "/net/my homes", "/elsewhere"):
        assert filesystems.network_filesystem_type(Path(local), mounts) == ""


def test_malformed_lines_are_skipped(tmp_path: Path) -> None:
    mounts = table(tmp_path, ("/", "ext4"), ("/a\rb", "nfs4"))
    mounts.write_bytes(b"rubbish\n\n" + mounts.read_bytes())
    assert filesystems.network_filesystem_type(Path("/a\rb/state"), mounts) == "nfs4"
    assert filesystems.network_filesystem_type(Path("/a/state"), mounts) == ""


def test_of_two_mounts_at_one_place_the_topmost_counts(tmp_path: Path) -> None:
    mounts = table(tmp_path, ("/", "ext4"), ("/a", "nfs4"), ("/a", "tmpfs"))
    assert filesystems.network_filesystem_type(Path("/a/b"), mounts) == ""
    assert filesystems.network_filesystem_type(tmp_path, tmp_path / "no such table") == ""


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "zfs", "overlay", "fuse.bindfs"])
def test_a_local_disk_is_not_a_network_file_system(tmp_path: Path, kind: str) -> None:
    assert filesystems.network_filesystem_type(Path("/state"), table(tmp_path, ("/", kind))) == ""


@pytest.fixture
def shared(tmp_path: Path, fuse: None) -> Iterator[Path]:
    with network_disk(tmp_path) as place:
        yield place


def journal(path: Path) -> str:
    """Return the journal mode that SQLite reports for a file."""
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    finally:
        connection.close()


def test_a_file_on_a_network_disk_has_another_journal_and_the_log_says_so_once(
    shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = [SqliteFile(shared / name, SCHEMA, 1, "the test file") for name in "ab"]
    files.append(SqliteFile(shared / "a", SCHEMA, 1, "the test file"))

    def write(file: SqliteFile) -> None:
        for number in range(20):
            with file.transaction() as connection:
                connection.execute("INSERT INTO t VALUES (?)", (number,))

    writers = [threading.Thread(target=write, args=(file,)) for file in files]
    for each in writers:
        each.start()
    for each in writers:
        each.join(60)
    assert files[0].fetch_rows("SELECT count(*) FROM t") == [(40,)]
    assert files[1].fetch_rows("SELECT count(*) FROM t") == [(20,)]
    for file in files:
        file.close()
    assert journal(shared / "a") == journal(shared / "b") == "delete"
    names = {path.name for path in shared.iterdir()}
    assert names == {"a", "a.lock", "b", "b.lock"}  # and no journals
    said = [line for line in caplog.messages if "network file system (fuse.sshfs)" in line]
    assert len(said) == 1


def test_a_file_on_a_local_disk_has_wal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    SqliteFile(tmp_path / "a", SCHEMA, 1, "the test file").close()
    assert journal(tmp_path / "a") == "wal"
    assert "network" not in caplog.text


def test_a_file_that_moves_to_a_network_disk_keeps_its_rows(shared: Path, tmp_path: Path) -> None:
    local = SqliteFile(tmp_path / "a", SCHEMA, 1, "the test file")
    local.fetch_rows("INSERT INTO t VALUES (5)")
    local.close()
    (shared / "a").write_bytes((tmp_path / "a").read_bytes())
    moved = SqliteFile(shared / "a", SCHEMA, 1, "the test file")
    assert moved.fetch_rows("SELECT x FROM t") == [(5,)]
    moved.close()
    assert journal(shared / "a") == "delete"

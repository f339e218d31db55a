"""md5 sums: computed once, stored across restarts, and never those of another file version."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from pathlib import Path

import pytest

from onefs.demo.digests import _TIMESTAMP_TICK_NANOSECONDS, Digests
from tests.running import wait_until

DIGEST = hashlib.md5(b"content").hexdigest()


def old_file(path: Path, content: bytes = b"content") -> Path:
    """Create a file with an old mtime and wait, because the md5 of a new file is not stored."""
    path.write_bytes(content)
    os.utime(path, ns=(10**18, 10**18))
    time.sleep(2 * _TIMESTAMP_TICK_NANOSECONDS / 1e9)
    return path


def test_a_restart_does_not_hash_again(tmp_path: Path) -> None:
    file, database = old_file(tmp_path / "file"), tmp_path / "state/md5.sqlite"
    assert Digests(database).md5(file, file.stat()) == DIGEST
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE digests SET md5 = 'as stored'")
    connection.close()
    assert Digests(database).md5(file, file.stat()) == "as stored"
    assert Digests().md5(file, file.stat()) == DIGEST


def test_any_sign_of_change_counts(tmp_path: Path) -> None:
    file, database = old_file(tmp_path / "file"), tmp_path / "md5.sqlite"
    digests = Digests(database)
    digests.md5(file, file.stat())
    other = hashlib.md5(b"CONTENT").hexdigest()
    file.write_bytes(b"CONTENT")
    assert digests.md5(file, file.stat()) == other, "another mtime"
    new = old_file(tmp_path / "new", b"contEnt")
    new.replace(file)
    assert digests.md5(file, file.stat()) == hashlib.md5(b"contEnt").hexdigest(), "another inode"
    old_file(file, b"conTENT")
    assert digests.md5(file, file.stat()) == hashlib.md5(b"conTENT").hexdigest(), "same mtime"


def test_the_md5_of_a_file_that_was_just_written_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file may change again within the same tick of the file system's clock."""
    file = tmp_path / "file"
    file.write_bytes(b"content")
    stat = file.stat()
    digests = Digests()
    # 60 s, so that the test also passes on a slow machine
    monkeypatch.setattr("onefs.demo.digests._TIMESTAMP_TICK_NANOSECONDS", 60 * 10**9)
    assert digests.md5(file, stat) == DIGEST
    file.write_bytes(b"CONTENT")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digests.md5(file, file.stat()) != DIGEST


def test_a_file_that_is_not_the_one_described_has_no_md5(tmp_path: Path) -> None:
    file = old_file(tmp_path / "file")
    stat = file.stat()
    file.write_bytes(b"longer content")
    assert Digests().md5(file, stat) == ""
    file.unlink()
    assert Digests().md5(file, stat) == ""


def test_large_files_are_hashed_in_the_background(tmp_path: Path) -> None:
    file = old_file(tmp_path / "file", bytes(3 * 2**20))
    digests = Digests(large=2**20)
    assert digests.md5(file, file.stat()) == ""
    wait_until(lambda: digests.md5(file, file.stat()))
    assert digests.md5(file, file.stat()) == hashlib.md5(bytes(3 * 2**20)).hexdigest()


def test_a_large_file_that_has_changed_counts_as_changed(tmp_path: Path) -> None:
    """Test it after a restart, in which the hashing of the earlier version may be incomplete."""
    file, database = old_file(tmp_path / "file", bytes(2**20)), tmp_path / "md5.sqlite"
    first = Digests(database, large=2**10)
    first.md5(file, file.stat())
    assert not first.has_changed(file, file.stat())
    old_file(file, bytes(2**20 - 1) + b"1")
    restarted = Digests(database, large=2**10)
    assert restarted.has_changed(file, file.stat())
    wait_until(lambda: restarted.md5(file, file.stat()))
    assert not restarted.has_changed(file, file.stat())


def test_hashing_works_without_a_database(tmp_path: Path) -> None:
    file = old_file(tmp_path / "file")
    broken = tmp_path / "md5.sqlite"
    broken.write_bytes(b"this is no database" * 100)
    for database in (broken, file / "in a file" / "md5.sqlite"):
        assert Digests(database).md5(file, file.stat()) == DIGEST

"""SQLite files: a damaged file does not end the program, and is not lost without a warning."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from pathlib import Path

import pytest

from onefs.errors import CacheError, CacheFull
from onefs.lowlevel.sqlite_file import SqliteFile, hold_replacement_lock
from tests.sqlite_faults import fill_disk, locks_held, small_disk

SCHEMA = "CREATE TABLE IF NOT EXISTS t (x INTEGER);"


def test_rows_survive_reopening(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.sqlite"
    first = SqliteFile(path, SCHEMA, 1, "the test file")
    first.fetch_rows("INSERT INTO t VALUES (?)", 5)
    first.close()
    assert SqliteFile(path, SCHEMA, 1, "the test file").fetch_rows("SELECT x FROM t") == [(5,)]


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "f", SCHEMA, 1, "the test file")

    def insert(then: str) -> None:
        with file.transaction() as connection:
            connection.execute("INSERT INTO t VALUES (1)")
            connection.execute(then)

    with pytest.raises(CacheError, match="the test file"):
        insert("INSERT INTO nosuch VALUES (1)")
    assert file.fetch_rows("SELECT x FROM t") == []
    insert("INSERT INTO t VALUES (2)")
    assert file.fetch_rows("SELECT x FROM t") == [(1,), (2,)]


@pytest.mark.parametrize("broken", ["rubbish", "newer"])
def test_an_unusable_file_is_moved_aside(
    tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file.sqlite"
    if broken == "rubbish":
        path.write_bytes(b"this is no database" * 100)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    before = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        file = SqliteFile(path, SCHEMA, 1, "the test file")
    assert file.fetch_rows("SELECT x FROM t") == []
    assert (tmp_path / "file.sqlite.unusable").read_bytes() == before
    assert "moved aside" in caplog.text


@pytest.mark.parametrize("columns", ["y INTEGER", "x INTEGER, y TEXT", "x TEXT"])
def test_a_file_with_other_tables_is_moved_aside(
    tmp_path: Path, columns: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The file has the current version, but other columns."""
    path = tmp_path / "file.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(f"CREATE TABLE t ({columns}); PRAGMA user_version = 1")
    connection.close()
    schema = SCHEMA + "CREATE INDEX IF NOT EXISTS i ON t (x);"
    file = SqliteFile(path, schema, 1, "the test file")
    file.fetch_rows("INSERT INTO t VALUES (1)")
    assert (tmp_path / "file.sqlite.unusable").exists()
    assert "moved aside" in caplog.text


def test_an_older_file_that_cannot_be_migrated_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "file.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript("CREATE TABLE other (x); PRAGMA user_version = 1")
    connection.close()
    migrations = {1: "CREATE INDEX i ON t (x)"}
    file = SqliteFile(path, SCHEMA, 2, "the test file", migrations)
    assert file.fetch_rows("SELECT x FROM t") == []
    assert (tmp_path / "file.sqlite.unusable").exists()


def test_damage_found_in_use_is_reported_once_and_a_new_file_created(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file.sqlite"
    first = SqliteFile(path, SCHEMA, 1, "the test file")
    with first.transaction() as connection:
        connection.executemany("INSERT INTO t VALUES (?)", ((n,) for n in range(20_000)))
    first.close()
    with path.open("r+b") as raw:  # overwrite all pages except the first two
        raw.seek(2 * 4096)
        raw.write(b"\xff" * (path.stat().st_size - 2 * 4096))
    one, other = (SqliteFile(path, SCHEMA, 1, "the test file") for _ in range(2))
    for file in (one, other):
        with pytest.raises(CacheError, match="malformed"):
            file.fetch_rows("SELECT sum(x) FROM t")
        assert file.fetch_rows("SELECT sum(x) FROM t") == [(None,)]
    assert caplog.text.count("moved aside") == 1
    one.fetch_rows("INSERT INTO t VALUES (5)")
    assert other.fetch_rows("SELECT x FROM t") == [(5,)]


def test_an_impossible_path_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="the test file"):
        SqliteFile(tmp_path / "file" / "below.sqlite", SCHEMA, 1, "the test file")


def test_two_connections_share_a_file(tmp_path: Path) -> None:
    one = SqliteFile(tmp_path / "f", SCHEMA, 1, "the test file")
    other = SqliteFile(tmp_path / "f", SCHEMA, 1, "the test file")
    one.fetch_rows("INSERT INTO t VALUES (1)")
    other.fetch_rows("INSERT INTO t VALUES (2)")
    assert one.fetch_rows("SELECT x FROM t ORDER BY x") == [(1,), (2,)]


def test_a_value_that_sqlite_cannot_hold_is_an_onefs_error(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "f", SCHEMA, 1, "the test file")
    values: tuple[object, ...] = (2**63, -(2**70), "\ud800", "a\udcff", [], {})
    for value in values:
        with pytest.raises(CacheError, match="the test file"):
            file.fetch_rows("INSERT INTO t VALUES (?)", value)
        with pytest.raises(CacheError, match="the test file"), file.transaction() as connection:
            connection.execute("INSERT INTO t VALUES (?)", (value,))
    assert file.fetch_rows("SELECT x FROM t") == []


def test_a_damaged_file_is_moved_aside_once_by_concurrent_users(tmp_path: Path) -> None:
    """The new file that one user creates is not moved aside by another user. No row is lost."""
    for number in range(15):
        path = tmp_path / str(number) / "file.sqlite"
        path.parent.mkdir()
        path.write_bytes(b"this is no database" * 100)
        at_once = threading.Barrier(6)

        def work(value: int, path: Path = path, at_once: threading.Barrier = at_once) -> None:
            at_once.wait(20)
            file = SqliteFile(path, SCHEMA, 1, "the test file")
            file.fetch_rows("INSERT INTO t VALUES (?)", value)
            file.close()

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(6)))
        file = SqliteFile(path, SCHEMA, 1, "the test file")
        assert file.fetch_rows("SELECT x FROM t ORDER BY x") == [(value,) for value in range(6)]
        file.close()
        # a user that tried the damaged file may have left its journal, which is moved with it
        aside = {name.name for name in path.parent.iterdir() if ".unusable" in name.name}
        assert aside - {"file.sqlite.unusable-journal"} == {"file.sqlite.unusable"}


def test_no_file_is_created_while_another_process_moves_a_file_aside(tmp_path: Path) -> None:
    """The journal of a file that is created meanwhile would be moved aside, with its rows."""
    path = tmp_path / "odd ?#%2e\N{SNOWMAN}.sqlite"
    with ThreadPoolExecutor(1) as pool:
        with hold_replacement_lock(path):
            opening = pool.submit(SqliteFile, path, SCHEMA, 1, "the test file")
            with pytest.raises(FutureTimeout):
                opening.result(0.5)
            assert not path.exists()
        file = opening.result(30)
    file.fetch_rows("INSERT INTO t VALUES (1)")
    file.close()
    assert path.exists()
    assert {name.name for name in tmp_path.iterdir()} <= {path.name, f"{path.name}.lock"}


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """Return the path of a file on which another process holds the lock for writing."""
    path = tmp_path / "f.sqlite"
    SqliteFile(path, SCHEMA, 1, "the test file").close()
    with locks_held(path):
        yield path


def test_readers_continue_while_another_process_writes(locked: Path) -> None:
    """The file is opened without a lock. Threads can read while another thread waits to write."""
    file = SqliteFile(locked, SCHEMA, 1, "the test file")
    writer = threading.Thread(target=lambda: write_in_vain(file))
    writer.start()
    reads = 0
    while writer.is_alive():
        assert file.fetch_rows("SELECT x FROM t") == []
        reads += 1
    writer.join()
    assert reads > 10


def write_in_vain(file: SqliteFile) -> None:
    with suppress(CacheError), file.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (1)")


def test_a_lock_that_does_not_end_is_waited_for_once(locked: Path) -> None:
    file = SqliteFile(locked, SCHEMA, 1, "the test file")
    began = time.monotonic()
    for _ in range(40):
        with pytest.raises(CacheError, match="locked"):
            file.fetch_rows("INSERT INTO t VALUES (1)")
    assert time.monotonic() - began < 20  # if each statement waited, this would take 60 s


def test_a_lock_that_ends_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "f.sqlite"
    file = SqliteFile(path, SCHEMA, 1, "the test file")
    with locks_held(path) as let_go:
        threading.Timer(0.3, let_go).start()
        file.fetch_rows("INSERT INTO t VALUES (1)")
        with file.transaction() as connection:
            connection.execute("INSERT INTO t VALUES (2)")
    assert file.fetch_rows("SELECT x FROM t ORDER BY x") == [(1,), (2,)]


def insert_many(file: SqliteFile) -> None:
    with file.transaction() as connection:
        rows = ((number,) for number in range(100_000))
        connection.executemany("INSERT INTO t VALUES (?)", rows)


def test_a_full_disk_is_reported_as_full(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        file = SqliteFile(disk / "f.sqlite", SCHEMA, 1, "the test file")
        file.fetch_rows("INSERT INTO t VALUES (1)")
        fill_disk(disk)
        with pytest.raises(CacheFull, match="is full"):
            insert_many(file)
        assert file.fetch_rows("SELECT min(x) FROM t") != [(None,)]
        (disk / "filler").unlink()
        file.fetch_rows("INSERT INTO t VALUES (-1)")
        assert file.fetch_rows("SELECT min(x) FROM t") == [(-1,)]
        file.close()

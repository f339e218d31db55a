"""A SQLite file that is never crashed on and never silently lost."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from onefs.errors import CacheError
from onefs.sqlite import SqliteFile

SCHEMA = "CREATE TABLE IF NOT EXISTS t (x INTEGER);"


def test_rows_survive_reopening(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.sqlite"
    first = SqliteFile(path, SCHEMA, 1, "the test file")
    first.rows("INSERT INTO t VALUES (?)", 5)
    first.close()
    assert SqliteFile(path, SCHEMA, 1, "the test file").rows("SELECT x FROM t") == [(5,)]


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "f", SCHEMA, 1, "the test file")

    def insert(then: str) -> None:
        with file.transaction() as connection:
            connection.execute("INSERT INTO t VALUES (1)")
            connection.execute(then)

    with pytest.raises(CacheError, match="the test file"):
        insert("INSERT INTO nosuch VALUES (1)")
    assert file.rows("SELECT x FROM t") == []
    insert("INSERT INTO t VALUES (2)")
    assert file.rows("SELECT x FROM t") == [(1,), (2,)]


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
    assert file.rows("SELECT x FROM t") == []
    assert (tmp_path / "file.sqlite.unusable").read_bytes() == before
    assert "moved aside" in caplog.text


def test_a_place_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="the test file"):
        SqliteFile(tmp_path / "file" / "below.sqlite", SCHEMA, 1, "the test file")


def test_two_processes_worth_of_connections_share_a_file(tmp_path: Path) -> None:
    one = SqliteFile(tmp_path / "f", SCHEMA, 1, "the test file")
    other = SqliteFile(tmp_path / "f", SCHEMA, 1, "the test file")
    one.rows("INSERT INTO t VALUES (1)")
    other.rows("INSERT INTO t VALUES (2)")
    assert one.rows("SELECT x FROM t ORDER BY x") == [(1,), (2,)]

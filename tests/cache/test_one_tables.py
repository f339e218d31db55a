"""ONE's tables in the cache folder: always a pair, and other programs' files stay unchanged."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onefs.cache.one_tables import (
    IDLE_SECONDS,
    MAX_KEEP_SECONDS,
    TABLE_NAMES,
    OneTables,
    source_of,
    write_tables,
)
from onefs.errors import Busy, CacheFull, UsageError

DATABASE = "alyx.example.org"


def put(root: Path, text: str, source: str = "") -> None:
    """Publish a pair of tables whose files contain ``text``."""
    with write_tables(root, DATABASE, source or text, 1e9) as work:
        for name in TABLE_NAMES:
            (work / name).write_text(f"{text} {name}")


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[OneTables]:
    found = OneTables(tmp_path)
    yield found
    found.close()


def shown(tables: OneTables) -> dict[str, str]:
    """Return the text that a reader of the shown tables gets, by the name of the table."""
    return {name: text_of(table) for name, table in tables.current_pair().items()}


def text_of(table: Any) -> str:
    return os.pread(table.fd, 100, 0).decode()


def both(text: str) -> dict[str, str]:
    return {name: f"{text} {name}" for name in TABLE_NAMES}


def test_a_pair_takes_the_place_of_the_one_before(tmp_path: Path, tables: OneTables) -> None:
    assert shown(tables) == {}
    put(tmp_path, "one")
    assert shown(tables) == both("one")
    assert {name: (tmp_path / name).read_text() for name in TABLE_NAMES} == both("one")
    assert (tmp_path / TABLE_NAMES[0]).stat().st_mtime == 1e9
    assert source_of(tmp_path) == "one"
    put(tmp_path, "two")
    assert shown(tables) == both("two")
    assert source_of(tmp_path) == "two"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".onefs", *sorted(TABLE_NAMES)]


def test_a_pair_that_is_read_stays_until_it_has_settled(tmp_path: Path) -> None:
    """A program opens one table twice, and then opens the other table."""
    now = 100.0
    tables = OneTables(tmp_path, clock=lambda: now)
    put(tmp_path, "one")
    table = tables.current_pair()[TABLE_NAMES[0]]
    held = tables.acquire(TABLE_NAMES[0], table.identity)
    assert held is table
    put(tmp_path, "two")
    now += 1000
    assert shown(tables) == both("one")
    assert tables.acquire(TABLE_NAMES[0], table.identity) is held
    tables.release(held)
    tables.release(held)
    now += IDLE_SECONDS - 1
    assert shown(tables) == both("one")
    now += 1
    assert shown(tables) == both("two")
    assert tables.acquire(TABLE_NAMES[0], table.identity) is None
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(held.fd)
    tables.close()


def test_a_pair_that_is_used_again_and_again_is_replaced_at_last(tmp_path: Path) -> None:
    now = 100.0
    tables = OneTables(tmp_path, clock=lambda: now)
    put(tmp_path, "one")
    table = tables.current_pair()[TABLE_NAMES[0]]
    put(tmp_path, "two")
    began, found = now, both("one")
    while found == both("one"):
        held = tables.acquire(TABLE_NAMES[0], table.identity)
        assert held is not None
        tables.release(held)
        now += 1
        found = shown(tables)
    assert found == both("two")
    assert MAX_KEEP_SECONDS <= now - began <= MAX_KEEP_SECONDS + 2
    tables.close()


def test_a_reader_of_removed_tables_reads_on(tmp_path: Path, tables: OneTables) -> None:
    put(tmp_path, "one")
    table = tables.current_pair()[TABLE_NAMES[0]]
    held = tables.acquire(TABLE_NAMES[0], table.identity)
    assert held is table
    (tmp_path / TABLE_NAMES[0]).unlink()
    assert shown(tables) == {}
    assert text_of(held) == f"one {TABLE_NAMES[0]}"
    tables.release(held)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(held.fd)


@pytest.mark.parametrize("renames", [0, 1])
def test_a_sync_that_is_killed_between_the_renames(
    tmp_path: Path, tables: OneTables, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """The old pair is still shown, tables of different pairs are never shown, and a new sync
    repairs them."""
    put(tmp_path, "one")
    assert shown(tables) == both("one")
    _kill_after(monkeypatch, tmp_path, renames)
    with pytest.raises(Killed):
        put(tmp_path, "two")
    monkeypatch.undo()
    assert shown(tables) == both("one")
    fresh = OneTables(tmp_path)
    assert shown(fresh) == (both("one") if renames == 0 else {})
    assert source_of(tmp_path) == ""
    _kill_after(monkeypatch, tmp_path, 0)
    with pytest.raises(Killed):
        put(tmp_path, "three")
    monkeypatch.undo()
    assert shown(fresh) == (both("one") if renames == 0 else {})  # never one table of each pair
    put(tmp_path, "four")
    assert shown(fresh) == shown(tables) == both("four")
    fresh.close()


def test_what_a_dead_sync_has_left_is_removed(tmp_path: Path) -> None:
    put(tmp_path, "one")
    (tmp_path / ".onefs/tables.part").mkdir()
    (tmp_path / ".onefs/tables.part/datasets.pqt").write_text("half")
    put(tmp_path, "two")
    assert not (tmp_path / ".onefs/tables.part").exists()


def test_a_failure_leaves_the_pair_that_is_there(tmp_path: Path, tables: OneTables) -> None:
    put(tmp_path, "one")
    with pytest.raises(CacheFull, match="full"):
        _fail_half_way(tmp_path)
    assert shown(tables) == both("one")
    assert not (tmp_path / ".onefs/tables.part").exists()


@pytest.mark.parametrize("name", TABLE_NAMES)
def test_a_table_of_another_program_is_left_alone_and_not_shown(
    tmp_path: Path, tables: OneTables, name: str
) -> None:
    (tmp_path / name).write_text("ONE's own")
    with pytest.raises(UsageError, match=f"{name} was not written by onefs"):
        put(tmp_path, "one")
    assert (tmp_path / name).read_text() == "ONE's own"
    assert shown(tables) == {}
    (tmp_path / name).unlink()
    put(tmp_path, "one")
    assert shown(tables) == both("one")
    (tmp_path / name).write_text("ONE has saved its tables")  # in place
    assert shown(tables) == {}
    with pytest.raises(UsageError, match="was not written by onefs"):
        put(tmp_path, "two")


def test_tables_that_are_removed_are_gone_until_the_next_sync(
    tmp_path: Path, tables: OneTables
) -> None:
    put(tmp_path, "one")
    assert shown(tables) == both("one")
    (tmp_path / TABLE_NAMES[1]).unlink()
    assert shown(tables) == {}
    assert source_of(tmp_path) == ""
    put(tmp_path, "two")
    assert shown(tables) == both("two")


def test_one_sync_at_a_time(tmp_path: Path) -> None:
    put(tmp_path, "one")
    with (tmp_path / ".onefs/tables.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Busy, match="another sync"):
            put(tmp_path, "two")


def test_the_folder_of_another_database_is_refused(tmp_path: Path, tables: OneTables) -> None:
    put(tmp_path, "one")
    with (
        pytest.raises(UsageError, match="belongs to"),
        write_tables(tmp_path, "other.example.org", "two", 1e9),
    ):
        pass
    assert shown(tables) == both("one")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"files": 3}', '{"files": {"a": [1]}}'])
def test_an_unreadable_record_counts_as_none(tmp_path: Path, tables: OneTables, text: str) -> None:
    put(tmp_path, "one")
    (tmp_path / ".onefs/tables.json").write_text(text)
    assert shown(tables) == {}
    assert source_of(tmp_path) == ""


def test_the_record_names_the_files_before_they_stand_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "one")
    _kill_after(monkeypatch, tmp_path, 0)
    with pytest.raises(Killed):
        put(tmp_path, "two")
    record = json.loads((tmp_path / ".onefs/tables.json").read_text())
    assert record["source"] == "two"
    assert record["files"] != record["before"] == record["replaced"]


def _fail_half_way(root: Path) -> None:
    with write_tables(root, DATABASE, "two", 1e9) as work:
        (work / TABLE_NAMES[0]).write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")


class Killed(BaseException):
    """Ends a sync in the same way as if its process was killed."""


def _kill_after(monkeypatch: pytest.MonkeyPatch, root: Path, renames: int) -> None:
    """End a publication after ``renames`` tables have their final name."""
    really = Path.replace
    done = 0

    def replace(self: Path, target: Path) -> Path:
        nonlocal done
        if target.parent == root:
            if done == renames:
                raise Killed
            done += 1
        return really(self, target)

    monkeypatch.setattr(Path, "replace", replace)

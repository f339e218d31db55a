"""The journal of changes: what two syncs of cache tables differ in."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from onefs.cache_tables.reader import TABLES_FILE_NAME
from onefs.catalogue import change_journal
from onefs.catalogue.change_journal import JOURNAL_FILE_NAME, ChangeJournal, JournalRow
from onefs.catalogue.sync import sync_from_files
from onefs.errors import CacheError
from tests.cache_tables.table_files import dataset, session, uuid, write

DAYS = [f"2023-11-{day} 20:00" for day in range(14, 25)]
#: the times of DAYS, in seconds since the epoch
TIMES = [1699992000.0 + 86400 * day for day in range(11)]

FIRST = [dataset(1, 1, "alf/a.b.npy"), dataset(1, 2, "alf/c.d.npy"), dataset(2, 3)]


class Laboratory:
    """A state folder that syncs tables of one day after another."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        self.day = 0

    def sync(
        self,
        sessions: list[dict[str, Any]],
        datasets: list[dict[str, Any]],
        **more: Any,
    ) -> None:
        created = more.pop("created", DAYS[self.day])
        self.day += 1
        tables = write(self.folder / f"tables{self.day}", sessions, datasets, created, **more)
        sync_from_files(tables, self.state)

    def span(self) -> tuple[float, float] | None:
        journal = ChangeJournal(self.state)
        try:
            return journal.span()
        finally:
            journal.close()

    def rows(self, since: float = 0.0, until: float = float("inf")) -> list[JournalRow]:
        journal = ChangeJournal(self.state)
        try:
            return list(journal.rows(since, until))
        finally:
            journal.close()

    def changes(self, since: float = 0.0, until: float = float("inf")) -> list[tuple[Any, ...]]:
        """Return change, number of the session, and the paths of each row."""
        return [
            (row.change, int(row.session.eid[-4:], 16), row.old_path, row.path)
            for row in self.rows(since, until)
        ]


@pytest.fixture
def laboratory(tmp_path: Path) -> Laboratory:
    return Laboratory(tmp_path)


def test_each_kind_of_change_is_noted_and_nothing_else(laboratory: Laboratory) -> None:
    laboratory.sync([session(1), session(2), session(3)], FIRST)
    assert laboratory.span() == (TIMES[0], TIMES[0])
    assert laboratory.changes() == []
    laboratory.sync(
        [session(1), session(3, task_protocol="new"), session(4)],
        [
            dataset(1, 1, "alf/a.b.npy", hash="f" * 32, file_size=7),
            dataset(1, 5, "alf/e.f.npy"),
            dataset(4, 6),
        ],
    )
    assert laboratory.changes() == [
        ("replaced", 1, "alf/a.b.npy", "alf/a.b.npy"),
        ("removed", 1, "alf/c.d.npy", ""),
        ("added", 1, "", "alf/e.f.npy"),
        ("removed", 2, "", ""),
        ("removed", 2, "alf/a.b.npy", ""),
        ("changed", 3, "", ""),
        ("added", 4, "", ""),
        ("added", 4, "", "alf/a.b.npy"),
    ]
    replaced = laboratory.rows()[0]
    assert (replaced.time, replaced.dataset_id) == (TIMES[1], uuid(1001))
    assert (replaced.size, replaced.old_size) == (7, 101)
    assert (replaced.md5, replaced.old_md5) == ("f" * 32, f"{1:032x}")
    assert laboratory.span() == (TIMES[0], TIMES[1])


def test_new_ids_paths_and_revisions_are_replacements_and_new_knowledge_is_none(
    laboratory: Laboratory,
) -> None:
    laboratory.sync(
        [session(1)],
        [
            dataset(1, 1, "alf/moved.b.npy"),
            dataset(1, 2, "alf/again.b.npy"),
            dataset(1, 3, "alf/revised.b.npy"),
            dataset(1, 4, "alf/unhashed.b.npy", hash=None, file_size=None),
            dataset(1, 5, "alf/judged.b.npy"),
        ],
    )
    laboratory.sync(
        [session(1)],
        [
            dataset(1, 1, "alf/probe00/moved.b.npy"),
            dataset(1, 12, "alf/again.b.npy"),
            dataset(1, 3, "alf/revised.b.npy", default_revision=False),
            dataset(1, 13, "alf/#2023-11-15#/revised.b.npy"),
            dataset(1, 4, "alf/unhashed.b.npy"),
            dataset(1, 5, "alf/judged.b.npy", qc="FAIL"),
        ],
    )
    assert laboratory.changes() == [
        ("added", 1, "", "alf/#2023-11-15#/revised.b.npy"),
        ("replaced", 1, "alf/again.b.npy", "alf/again.b.npy"),
        ("replaced", 1, "alf/moved.b.npy", "alf/probe00/moved.b.npy"),
    ]


def test_successive_spans_have_each_change_once_in_one_order(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_journal, "_PAGE_SESSIONS", 2)
    for day in range(5):
        sessions = [session(number) for number in range(1, 3 + 2 * day)]
        laboratory.sync(sessions, [dataset(each, each) for each in range(1, 3 + 2 * day)])
    every = laboratory.rows()
    assert len(every) == 2 * 8
    assert [row.time for row in every] == sorted(row.time for row in every)
    bounds = [TIMES[0], TIMES[0] + 1, TIMES[2], TIMES[3], TIMES[9]]
    assert [row for a, b in pairwise(bounds) for row in laboratory.rows(a, b)] == every
    assert laboratory.rows(TIMES[4]) == []


@pytest.mark.parametrize("sessions", [[1], list(range(1, 8))])
def test_changes_that_are_removed_while_they_are_read_are_an_error(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch, sessions: list[int]
) -> None:
    monkeypatch.setattr(change_journal, "_PAGE_SESSIONS", 2)
    laboratory.sync([session(20)], [])
    laboratory.sync([session(number) for number in range(1, 8)], [])
    with closing(ChangeJournal(laboratory.state)) as journal:
        rows = journal.rows(0.0, float("inf"))
        next(rows)
        (laboratory.state / TABLES_FILE_NAME).touch()  # the journal begins anew
        laboratory.sync([session(20)], [])
        laboratory.sync([session(number) for number in sessions], [])
        with pytest.raises(CacheError, match="ask again"):
            list(rows)


def test_unchanged_rows_take_no_space_whatever_their_order(laboratory: Laboratory) -> None:
    sessions = [session(number) for number in range(1, 29)]
    datasets = [
        dataset(1 + number % 28, number, f"alf/a{number}.b.npy") for number in range(1, 2000)
    ]
    laboratory.sync(sessions, datasets)
    before = (laboratory.state / JOURNAL_FILE_NAME).stat().st_size
    laboratory.sync(sessions[::-1], datasets[::-1])
    laboratory.sync(sessions, [*datasets[:1000], dataset(1, 5000, "z.z.npy"), *datasets[1000:]])
    assert laboratory.changes() == [("added", 1, "", "z.z.npy")]
    assert (laboratory.state / JOURNAL_FILE_NAME).stat().st_size == before


def test_the_journal_begins_anew_where_it_has_a_gap(laboratory: Laboratory) -> None:
    laboratory.sync([session(1)], FIRST[:1])
    laboratory.sync([session(1), session(2)], FIRST)
    tables = laboratory.state / TABLES_FILE_NAME
    tables.touch()  # as another release of onefs replaces the tables
    laboratory.sync([session(1)], FIRST[:1])
    assert laboratory.span() == (TIMES[1], TIMES[2])
    assert [row[0] for row in laboratory.changes()] == ["removed"] * 3
    # older tables, a release's tables, and a first sync are compared with nothing
    laboratory.sync([session(1), session(2)], FIRST, created="2023-11-01 20:00")
    assert laboratory.changes() == []
    assert laboratory.span() == (TIMES[0] - 13 * 86400, TIMES[0] - 13 * 86400)
    laboratory.sync([session(1)], FIRST[:1], database_tags=["tag"])
    assert laboratory.span() is None
    laboratory.sync([session(1), session(2)], FIRST)
    assert laboratory.span() == (TIMES[5], TIMES[5])


def test_the_same_tables_again_change_nothing(laboratory: Laboratory) -> None:
    laboratory.sync([session(1)], FIRST[:1])
    laboratory.sync([session(1), session(2)], FIRST)
    before = laboratory.rows()
    laboratory.sync([session(1), session(2)], FIRST, created=DAYS[1])
    assert laboratory.rows() == before
    laboratory.sync([session(1)], FIRST[:1])
    assert laboratory.span() == (TIMES[0], TIMES[3])
    assert len(laboratory.rows()) == len(before) + 3


def test_a_sync_that_was_killed_before_it_replaced_the_tables_is_forgotten(
    laboratory: Laboratory,
) -> None:
    laboratory.sync([session(1)], FIRST[:1])
    kept = laboratory.folder / "kept.sqlite"
    shutil.copy2(laboratory.state / TABLES_FILE_NAME, kept)
    laboratory.sync([session(1), session(2)], FIRST)
    os.replace(kept, laboratory.state / TABLES_FILE_NAME)
    laboratory.sync([session(1), session(3)], FIRST[:1])
    assert laboratory.changes() == [("added", 3, "", "")]
    assert laboratory.span() == (TIMES[0], TIMES[2])


def test_the_journal_is_bounded_in_size_and_age(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(change_journal, "MAX_CHANGES", 6)
    for day in range(4):
        sessions = [session(number) for number in range(1, 3 + day)]
        laboratory.sync(sessions, [dataset(each, each) for each in range(1, 3 + day)])
    assert [row[1] for row in laboratory.changes()] == [3, 3, 4, 4, 5, 5]
    sessions = [session(number) for number in range(1, 9)]
    laboratory.sync(sessions, [dataset(each, each) for each in range(1, 6)])
    assert laboratory.span() == (TIMES[2], TIMES[4])
    assert [row[1] for row in laboratory.changes()] == [5, 5, 6, 7, 8]
    with caplog.at_level(logging.WARNING):
        laboratory.sync([session(20 + number) for number in range(7)], FIRST[:0])
    assert "the sync has changed more than 6 sessions and datasets" in caplog.text
    assert (laboratory.span(), laboratory.rows()) == ((TIMES[5], TIMES[5]), [])
    monkeypatch.setattr(change_journal, "MAX_AGE_SECONDS", 86400.0 * 1.5)
    for number in (1, 2, 3):
        laboratory.sync([session(20 + number)], [])
    assert laboratory.span() == (TIMES[6], TIMES[8])


def test_a_sync_goes_on_if_the_journal_cannot_be_written(
    laboratory: Laboratory, caplog: pytest.LogCaptureFixture
) -> None:
    laboratory.sync([session(1)], FIRST[:1])
    journal = laboratory.state / JOURNAL_FILE_NAME
    for path in laboratory.state.glob(f"{JOURNAL_FILE_NAME}*"):
        path.unlink()
    journal.mkdir()
    with caplog.at_level(logging.WARNING):
        laboratory.sync([session(1), session(2)], FIRST)
    assert "what this sync changes cannot be noted" in caplog.text
    with sqlite3.connect(laboratory.state / TABLES_FILE_NAME) as tables:
        assert tables.execute("SELECT count(*) FROM sessions").fetchone() == (2,)

"""A sync stores the valid rows of cache tables, and replaces the old file atomically."""

from __future__ import annotations

import fcntl
import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onefs.alyx.client import AlyxClient
from onefs.alyx.tokens import FixedToken
from onefs.cache_tables.reader import TABLES_FILE_NAME, TablesReader
from onefs.cache_tables.worker import build_in_child
from onefs.catalogue.sync import SyncProgress, sync_from_files, sync_from_server
from onefs.demo.servers import Servers
from onefs.errors import Busy, CacheError, NotFound, ServerError, UsageError
from tests.alyx.conftest import WrittenAlyx
from tests.cache_tables.table_files import (
    CREATED,
    OLD,
    dataset,
    session,
    uuid,
    write,
)

INFO = {"date_created": CREATED, "origin": "alyx", "tables": {}}


def paths(state: Path, number: int) -> list[str]:
    tables = TablesReader(state / TABLES_FILE_NAME)
    try:
        found = [row.dataset for row in tables.datasets(uuid(number))]
    finally:
        tables.close()
    return ["/".join(filter(None, (d.collection, d.revision, d.name))) for d in found]


def test_all_rows_of_the_tables_are_stored(tmp_path: Path) -> None:
    rows = [dataset(1, 1, "alf/a.npy"), dataset(1, 2, "alf/#r#/a.npy"), dataset(2, 3, "b.npy")]
    given = write(tmp_path / "t", [session(1), session(2)], rows)
    built = sync_from_files(given, tmp_path)
    assert (built.sessions, built.datasets, built.date_created) == (2, 3, CREATED)
    assert paths(tmp_path, 1) == ["alf/r/a.npy", "alf/a.npy"]
    assert paths(tmp_path, 2) == ["b.npy"]


def test_rows_that_do_not_exist_or_have_no_folder_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = [session(1), session(1, lab="other"), session(2, lab=None), session(3, date="x")]
    rows = [
        dataset(1, 1, "kept.npy"),
        dataset(1, 2, "gone.npy", exists=False),
        dataset(9, 3, "of no session.npy"),
        dataset(1, 4, "no uuid.npy", id="x"),
        dataset(1, 5, "aggregate.npy", eid=None),
    ]
    for row in sessions:
        row["date"] = str(row["date"])
    with caplog.at_level(logging.INFO):
        built = sync_from_files(write(tmp_path / "t", sessions, rows), tmp_path)
    assert (built.sessions, built.datasets) == (1, 1)
    assert paths(tmp_path, 1) == ["kept.npy"]
    for line in (
        "2 sessions without lab, subject, date or number are left out",
        "1 duplicate sessions are left out",
        "1 datasets that do not exist are left out",
        "2 datasets of no session in the sessions table are left out",
        "1 datasets without a UUID or path are left out",
    ):
        assert line in caplog.text


def test_two_datasets_on_one_path_and_one_dataset_on_two_are_all_kept(tmp_path: Path) -> None:
    rows = [dataset(1, 1, "a.npy"), dataset(1, 2, "a.npy"), dataset(1, 1, "b.npy")]
    sync_from_files(write(tmp_path / "t", [session(1)], rows), tmp_path)
    assert paths(tmp_path, 1) == ["a.npy", "a.npy", "b.npy"]


def test_rows_that_disagree_get_a_log_line_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """33 datasets of 2021 are stored in another folder than their session's folder.

    The session's row determines the folder in the tree. The stored path determines the URL.
    """
    sync_from_files(OLD, tmp_path)
    lines = [record for record in caplog.records if ", but stored in " in record.message]
    assert len(lines) == 33
    tables = TablesReader(tmp_path / TABLES_FILE_NAME)
    flowers = tables.session("4e0b3320-47b7-416e-b842-c34dc9004cf8")
    assert flowers is not None
    assert (flowers.lab, flowers.number) == ("zadorlab", 1)
    assert {row.server_path.rpartition("/")[0] for row in tables.datasets(flowers.eid)} == {
        "mainenlab/Subjects/flowers/2018-07-13/1"
    }
    tables.close()


def test_an_unpadded_number_alone_is_no_disagreement(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = dataset(1, 1, "a.npy", session_path="labone/Subjects/mouse/2020-01-01/1")
    sync_from_files(write(tmp_path / "t", [session(1)], [row]), tmp_path)
    assert caplog.records == []
    tables = TablesReader(tmp_path / TABLES_FILE_NAME)
    [found] = tables.datasets(uuid(1))
    assert found.server_path == "labone/Subjects/mouse/2020-01-01/1/a.npy"
    tables.close()


@pytest.mark.parametrize("named", ["", "sessions.pqt", "datasets.pqt"])
def test_a_folder_or_one_of_the_two_may_be_given(tmp_path: Path, named: str) -> None:
    assert sync_from_files(OLD / named, tmp_path).datasets == 693


def test_an_archive_may_be_given(tmp_path: Path, alyx: AlyxClient) -> None:
    archive = tmp_path / "cache.zip"
    with alyx.cache_zip() as stream:
        archive.write_bytes(b"".join(stream.iter_chunks()))
    built = sync_from_files(archive, tmp_path / "one")
    assert built.datasets > 1000
    assert sync_from_files(tmp_path, tmp_path / "two").datasets == built.datasets


def test_a_file_that_is_not_a_table_is_named_and_changes_nothing(tmp_path: Path) -> None:
    sync_from_files(OLD, tmp_path)
    before = (tmp_path / TABLES_FILE_NAME).read_bytes()
    empty = tmp_path / "empty"
    empty.mkdir()
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(b"PK\3\4 no archive")
    half = tmp_path / "half"
    half.mkdir()
    (half / "sessions.pqt").write_bytes(b"rubbish")
    (half / "datasets.pqt").write_bytes((OLD / "datasets.pqt").read_bytes())
    ours = write(tmp_path / "ours", [session(1)], [dataset(1, 1)], origin="ibl_test")
    theirs = write(tmp_path / "theirs", [session(2)], [dataset(2, 1)], origin="ibl_test")
    (ours / "datasets.pqt").write_bytes((theirs / "datasets.pqt").read_bytes())
    mixed = write(tmp_path / "mixed", [session(1)], [dataset(1, 1)], origin="a")
    (mixed / "sessions.pqt").write_bytes((ours / "sessions.pqt").read_bytes())
    for given, message in (
        (tmp_path / "nothing", "nothing does not exist"),
        (empty, "empty/sessions.pqt is missing"),
        (rubbish, "rubbish is no cache table of ONE"),
        (half, "half/sessions.pqt is no cache table of ONE"),
        (ours, "ours/datasets.pqt does not belong to .*ours/sessions.pqt"),
        (mixed, "mixed/datasets.pqt is of the database 'a', .*sessions.pqt is of 'ibl_test'"),
    ):
        with pytest.raises(UsageError, match=message):
            sync_from_files(given, tmp_path)
    assert (tmp_path / TABLES_FILE_NAME).read_bytes() == before
    assert not (tmp_path / "tables.part").exists()


def test_the_tables_of_another_database_are_refused_by_name(tmp_path: Path) -> None:
    sync_from_files(OLD, tmp_path)
    other = write(tmp_path / "other", [session(1)], [dataset(1, 1)], origin="another")
    with pytest.raises(UsageError, match=r"other/sessions\.pqt is of another database \('another'"):
        sync_from_files(other, tmp_path)
    assert sync_from_files(OLD, tmp_path).datasets == 693


def test_the_tables_of_a_folder_without_uuids_are_refused(tmp_path: Path) -> None:
    """ONE can make tables of a local folder, but their ids are paths that Alyx does not know."""
    rows = [session(1, id="labone/mouse/2020-01-01/001")]
    with pytest.raises(UsageError, match="not one of its 1 sessions has a UUID"):
        sync_from_files(write(tmp_path / "t", rows, [dataset(1, 1)]), tmp_path)


def test_tables_are_never_newer_than_now_and_a_tags_are_always_old(tmp_path: Path) -> None:
    rows = ([session(1)], [dataset(1, 1)])
    tables = TablesReader(tmp_path / TABLES_FILE_NAME)
    before = time.time()
    sync_from_files(write(tmp_path / "t", *rows, created="2999-01-01 00:00"), tmp_path)
    created = tables.created_at
    assert created is not None
    assert before <= created <= time.time()
    tables.close()
    sync_from_files(write(tmp_path / "u", *rows, database_tags=["2021_Q1"]), tmp_path)
    tables = TablesReader(tmp_path / TABLES_FILE_NAME)
    assert tables.created_at == 1.0
    tables.close()


def test_one_sync_at_a_time(tmp_path: Path) -> None:
    with (tmp_path / "tables.lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Busy, match="another sync"):
            sync_from_files(OLD, tmp_path)
    assert sync_from_files(OLD, tmp_path).sessions == 26


_KILLED = """
import os, signal, sys
from pathlib import Path
from onefs.catalogue.sync import SyncProgress, sync_from_files

class Deadly(SyncProgress):
    def report_rows(self, done, total):
        os.kill(os.getpid(), signal.SIGKILL)

sync_from_files(Path(sys.argv[1]), Path(sys.argv[2]), Deadly())
"""


def test_a_killed_sync_leaves_the_old_tables_and_the_next_completes(tmp_path: Path) -> None:
    old = write(tmp_path / "old", [session(1)], [dataset(1, 1, "old.npy")])
    new = write(tmp_path / "new", [session(1)], [dataset(1, 1, "new.npy")])
    sync_from_files(old, tmp_path)
    command = [sys.executable, "-c", _KILLED, str(new), str(tmp_path)]
    assert subprocess.run(command, timeout=60, check=False).returncode == -9
    assert (tmp_path / "tables.part" / TABLES_FILE_NAME).exists()
    assert paths(tmp_path, 1) == ["old.npy"]
    sync_from_files(new, tmp_path)
    assert paths(tmp_path, 1) == ["new.npy"]
    assert not (tmp_path / "tables.part").exists()


def test_a_folder_that_cannot_be_written_is_an_onefs_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="cannot be used"):
        sync_from_files(OLD, tmp_path / "file" / "state")


def test_the_servers_tables_cost_two_requests_and_then_one(
    tmp_path: Path, alyx: AlyxClient, servers: Servers
) -> None:
    built = sync_from_server(alyx, tmp_path)
    assert built is not None
    assert built.datasets > 1000
    assert [each.path for each in servers.requests] == ["/cache/info/", "/cache.zip"]
    assert sync_from_server(alyx, tmp_path) is None
    assert [each.path for each in servers.requests][2:] == ["/cache/info/"]


def test_a_server_without_tables(tmp_path: Path, written: WrittenAlyx, transport: object) -> None:
    alyx = AlyxClient(transport, written.url, FixedToken("t"))  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="has no cache tables"):
        sync_from_server(alyx, tmp_path)
    written.answer("/cache/info/", 200, INFO)
    with pytest.raises(ServerError, match=r"cache\.zip cannot be downloaded \(HTTP 404\)"):
        sync_from_server(alyx, tmp_path)
    written.answer("/cache.zip", 200, "no archive")
    with pytest.raises(ServerError, match="is not a zip archive"):
        sync_from_server(alyx, tmp_path)
    assert not (tmp_path / TABLES_FILE_NAME).exists()


def test_building_in_a_process_of_its_own(tmp_path: Path, alyx: AlyxClient) -> None:
    built = sync_from_server(alyx, tmp_path, builder=build_in_child)
    assert built is not None
    assert built.datasets > 1000
    (tmp_path / "rubbish").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"rubbish is no cache table"):
        build_in_child(tmp_path / "rubbish", OLD / "datasets.pqt", tmp_path / "t", {})


def test_a_sync_reports_its_progress(tmp_path: Path, alyx: AlyxClient) -> None:
    told: list[tuple[str, int, int]] = []

    class Told(SyncProgress):
        def report_bytes(self, done: int, total: int) -> None:
            told.append(("bytes", done, total))

        def report_rows(self, done: int, total: int) -> None:
            told.append(("rows", done, total))

    sync_from_server(alyx, tmp_path, Told())
    for what in ("bytes", "rows"):
        _, done, total = [each for each in told if each[0] == what][-1]
        assert done == total > 1000

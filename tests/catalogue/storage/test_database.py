"""The catalogue's file: an older file is migrated, a newer file is moved, and none is lost."""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
from pathlib import Path

import pytest

from onefs import alf
from onefs.alyx.parsing import DatasetRow
from onefs.catalogue.storage import catalogue_file
from onefs.catalogue.storage.catalogue_file import SCHEMA_VERSION
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.lowlevel.sqlite_file import SqliteFile
from onefs.model import Dataset, Insertion, Session
from tests.recordings import DATA

EID = "cf264653-2deb-44cb-aa84-89b82507028a"
ID = "18619a05-41c1-4ec1-9aee-e01fc22ca10b"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Make a catalogue of version 1 with rows in each table. Return its path."""
    path = tmp_path / "catalogue.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript((DATA / "catalogue-1.sql").read_text("utf-8"))
    connection.close()
    return path


def version(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def test_an_older_file_is_migrated_and_keeps_everything(old: Path) -> None:
    assert version(old) == 1
    database = CatalogueDatabase(old)
    assert version(old) == SCHEMA_VERSION
    assert database.labs() == ["mainenlab"]
    assert database.subjects("mainenlab") == ["clns0730"]
    [session] = database.sessions("mainenlab", "clns0730")
    assert session.ref == "2018-08-24_1_clns0730"
    [row] = database.datasets(EID)
    assert (row.dataset.name, row.dataset.size) == ("spikes.times.npy", 48128)
    assert database.fetched_at(f"datasets/{EID}") == 1_700_000_000.0
    assert database.record(EID) == "{}\n"
    # the file has the tables that are new since version 1
    assert database.invalidations() == {}
    database.invalidate(("mainenlab",), 1_700_000_001.0)
    assert database.invalidations() == {("mainenlab",): 1_700_000_001.0}
    ref = alf.parse_ref("2018-08-24_1_clns0730")
    assert ref is not None
    assert database.sessions_by_ref(ref) == [session]
    assert database.insertions(EID) == []


def test_a_migrated_file_is_as_a_new_one(old: Path, tmp_path: Path) -> None:
    def schema(path: Path) -> list[tuple[str, str]]:
        CatalogueDatabase(path).close()
        connection = sqlite3.connect(path)
        try:
            query = "SELECT type, name FROM sqlite_master ORDER BY type, name"
            return list(connection.execute(query))
        finally:
            connection.close()

    assert schema(old) == schema(tmp_path / "new.sqlite")


def test_many_processes_that_migrate_at_once_agree(old: Path) -> None:
    opened: list[CatalogueDatabase] = []
    threads = [
        threading.Thread(target=lambda: opened.append(CatalogueDatabase(old))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(opened) == 8
    assert {tuple(database.labs()) for database in opened} == {("mainenlab",)}


def test_a_newer_file_is_moved_aside_each_time(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(2):
        connection = sqlite3.connect(old)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1 + number}")
        connection.close()
        with caplog.at_level(logging.WARNING):
            CatalogueDatabase(old).close()
    kept = sorted(path.name for path in old.parent.glob("catalogue.sqlite.unusable*"))
    assert kept == ["catalogue.sqlite.unusable", "catalogue.sqlite.unusable.1"]
    assert [version(old.parent / name) for name in kept] == [SCHEMA_VERSION + 1, SCHEMA_VERSION + 2]
    assert caplog.text.count("moved aside") == 2


def test_two_catalogues_side_by_side_are_independent(tmp_path: Path) -> None:
    one, other = (
        CatalogueDatabase(tmp_path / "one.sqlite"),
        CatalogueDatabase(tmp_path / "other.sqlite"),
    )
    one.store_labs(["a"], 1.0)
    other.store_labs(["b"], 1.0)
    assert (one.labs(), other.labs()) == (["a"], ["b"])


def test_a_lab_also_lists_the_subjects_that_its_sessions_name(tmp_path: Path) -> None:
    database = CatalogueDatabase(tmp_path / "c")
    database.store_subjects("lab", ["b"], 1.0)
    database.store_session(Session(EID, "lab", "a", "2020-01-01", 1), True, 1.0)
    assert database.subjects("lab") == ["a", "b"]


def row(md5: str, size: int | None = None) -> DatasetRow:
    return DatasetRow(Dataset(ID, EID, "a.b.npy", size=size, md5=md5), ())


def test_a_probed_size_is_of_these_bytes_only(tmp_path: Path) -> None:
    database = CatalogueDatabase(tmp_path / "c")
    database.store_datasets(EID, [row("a" * 32)], 1.0)
    database.store_probed_size(ID, 5)
    for md5, size in (("a" * 32, 5), ("b" * 32, None)):
        database.store_datasets(EID, [row(md5)], 2.0)
        assert database.datasets(EID)[0].dataset.size == size
    database.store_datasets(EID, [row("b" * 32, 7)], 3.0)
    assert database.datasets(EID)[0].dataset.size == 7


def test_writes_of_another_process_are_noticed(tmp_path: Path) -> None:
    one, other = CatalogueDatabase(tmp_path / "c"), CatalogueDatabase(tmp_path / "c")
    before = one.data_version()
    assert one.data_version() == before
    other.invalidate((), 5.0)
    assert one.data_version() != before
    assert one.invalidations() == {(): 5.0}


def test_an_older_onefs_uses_a_file_with_insertions(tmp_path: Path) -> None:
    path = tmp_path / "c"
    database = CatalogueDatabase(path)
    insertions = [Insertion(ID, EID, "probe01"), Insertion(ID[::-1], EID, "probe00", "[]")]
    database.store_insertions(insertions, 5.0, [EID])
    # 0.2 has the same version of the schema, without this table
    schema = (Path(catalogue_file.__file__).parent / "schema.sql").read_text("utf-8")
    ours = r"CREATE TABLE IF NOT EXISTS insertions.*?;\nCREATE INDEX.*?;"
    older = re.sub(ours, "", schema, flags=re.DOTALL)
    assert schema.count("CREATE") == older.count("CREATE") + 2
    file = SqliteFile(path, older, 2, "the catalogue")
    with file.transaction() as connection:
        connection.execute("REPLACE INTO labs VALUES ('lab')")
    file.close()
    assert [each.name for each in tmp_path.iterdir() if "unusable" in each.name] == []
    assert database.labs() == ["lab"]
    assert database.insertions(EID) == insertions[::-1]
    assert database.fetched_at(f"insertions/{EID}") == 5.0
    assert database.insertion(ID) == (insertions[0], 5.0)
    database.store_insertions(insertions[1:], 6.0, [EID])
    assert database.insertion(ID) is None

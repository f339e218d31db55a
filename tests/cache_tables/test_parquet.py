"""ONE's cache tables are read in the present format and in older formats."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from onefs.cache_tables.parquet import (
    DatasetTableRow,
    ParquetTable,
    SessionTableRow,
    strip_empty_revision,
)
from onefs.errors import UsageError
from tests.cache_tables.table_files import (
    CREATED,
    OLD,
    dataset,
    halves,
    session,
    uuid,
    write,
    write_one,
)

NOTE = {"date_created": CREATED, "origin": "alyx"}
TUTORIAL = "cf264653-2deb-44cb-aa84-89b82507028a"


def raw(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))


def sessions_of(path: Path) -> list[SessionTableRow]:
    return [line for lines in ParquetTable(path, ("id", "lab")).sessions() for line in lines]


def datasets_of(path: Path) -> list[DatasetTableRow]:
    return [line for lines in ParquetTable(path, ("eid", "id")).datasets() for line in lines]


def one_session(folder: Path, row: dict[str, Any]) -> SessionTableRow:
    [line] = sessions_of(write_one(folder / "s.pqt", pa.Table.from_pylist([row]), NOTE))
    return line


def one_dataset(folder: Path, row: dict[str, Any]) -> DatasetTableRow:
    [line] = datasets_of(write_one(folder / "d.pqt", pa.Table.from_pylist([row]), NOTE))
    return line


def test_the_tables_of_2021() -> None:
    """These tables have ids as pairs of integers, ``project``, unpadded numbers, float sizes."""
    sessions = {line.eid: line for line in sessions_of(OLD / "sessions.pqt")}
    datasets = datasets_of(OLD / "datasets.pqt")
    assert (len(sessions), len(datasets)) == (26, 693)
    tutorial = sessions[raw(TUTORIAL)]
    assert tutorial[1:5] == ("mainenlab", "clns0730", "2018-08-24", 2)
    assert tutorial.projects == "ibl_mainenlab"
    assert {line.eid for line in datasets} <= set(sessions)
    assert sum(line.size is None for line in datasets) == 301
    assert [line.digest for line in datasets if line.size == 0] == [
        bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e")
    ]
    assert {line.stored for line in datasets if line.eid == raw(TUTORIAL)} == {
        "mainenlab/Subjects/clns0730/2018-08-24/1"
    }
    assert all(line.default and line.exists and line.qc is None for line in datasets)


def test_the_present_format(tmp_path: Path) -> None:
    row = session(3, projects="a,b", task_protocol="task")
    assert one_session(tmp_path, row) == SessionTableRow(
        raw(uuid(3)), "labone", "mouse", "2020-01-03", 1, "task", "a,b"
    )
    path = "alf/#2021-01-01#/a.b.npy"
    found = one_dataset(tmp_path, dataset(3, 7, path, qc="FAIL", default_revision=False))
    assert found == DatasetTableRow(
        raw(uuid(3)), raw(uuid(1007)), path, None, 107, bytes(15) + b"\7", False, "FAIL", True
    )


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        ({"date": datetime.datetime(2020, 1, 3, 10)}, "date", "2020-01-03"),
        ({"date": "2020-01-03"}, "date", "2020-01-03"),
        ({"date": None}, "date", ""),
        ({"number": 12.0}, "number", 12),
        ({"number": "2"}, "number", 2),
        ({"number": None}, "number", None),
        ({"number": float("nan")}, "number", None),
        ({"projects": None}, "projects", ""),
        ({"id": "not a uuid"}, "eid", None),
        ({"id": uuid(3).upper()}, "eid", raw(uuid(3))),
    ],
)
def test_a_session_written_otherwise(
    tmp_path: Path, changes: dict[str, Any], name: str, expected: object
) -> None:
    assert getattr(one_session(tmp_path, session(3, **changes)), name) == expected


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        ({"file_size": None}, "size", None),
        ({"file_size": float("nan")}, "size", None),
        ({"file_size": 5.0}, "size", 5),
        ({"file_size": -1}, "size", None),
        ({"file_size": 0}, "size", 0),
        ({"hash": None}, "digest", None),
        ({"hash": ""}, "digest", None),
        ({"hash": "z" * 32}, "digest", None),
        ({"hash": "AB" * 20}, "digest", b"\xab" * 20),
        ({"exists": False}, "exists", False),
        ({"exists": None}, "exists", True),
        ({"rel_path": None}, "path", ""),
        ({"qc": None}, "qc", None),
    ],
)
def test_a_dataset_written_otherwise(
    tmp_path: Path, changes: dict[str, Any], name: str, expected: object
) -> None:
    assert getattr(one_dataset(tmp_path, dataset(3, 7, **changes)), name) == expected


def test_pairs_of_integers_are_the_bytes_of_a_uuid(tmp_path: Path) -> None:
    row = session(3)
    del row["id"]
    row["id_0"], row["id_1"] = halves(TUTORIAL)
    assert one_session(tmp_path, row).eid == raw(TUTORIAL)


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("alf/#nan#/a.npy", "alf/a.npy"),
        ("#nan#/a.npy", "a.npy"),
        ("alf/#None#/a.npy", "alf/a.npy"),
        ("alf/#2020-01-01#/a.npy", "alf/#2020-01-01#/a.npy"),
        ("alf/x#nan#/a.npy", "alf/x#nan#/a.npy"),
        ("#nan#", "#nan#"),
    ],
)
def test_a_revision_that_is_none_is_dropped(written: str, path: str) -> None:
    """Tables that were made with pandas 3 contain ``#nan#`` if there is no revision."""
    assert strip_empty_revision(written) == path


def test_a_file_that_is_not_a_table_is_named(tmp_path: Path) -> None:
    rubbish = tmp_path / "sessions.pqt"
    for content in (b"", b"PAR1", b"SQLite format 3\0" + bytes(5000), bytes(100)):
        rubbish.write_bytes(content)
        with pytest.raises(UsageError, match=r"\.pqt is no cache table of ONE: the file cannot"):
            ParquetTable(rubbish, ("id",))


def test_a_table_that_lacks_a_column_is_named(tmp_path: Path) -> None:
    path = write_one(tmp_path / "x.pqt", pa.table({"id": ["a"]}), NOTE)
    with pytest.raises(UsageError, match=r"x\.pqt .* has no column lab, subject"):
        ParquetTable(path, ("id", "lab", "subject"))


@pytest.mark.parametrize("note", [None, {}, {"date_created": "yesterday"}, {"date_created": 5}])
def test_a_table_without_its_date_is_named(tmp_path: Path, note: Any) -> None:
    table = ParquetTable(write_one(tmp_path / "x.pqt", pa.table({"id": ["a"]}), note), ("id",))
    with pytest.raises(UsageError, match=r"x\.pqt .*does not say when it was made"):
        _ = table.date_created


def test_damage_inside_a_table_is_named(tmp_path: Path) -> None:
    rows = [dataset(1, number, f"alf/a{number}.npy") for number in range(5000)]
    path = write(tmp_path, [session(1)], rows) / "datasets.pqt"
    content = bytearray(path.read_bytes())
    content[2000:60000] = bytes(58000)
    path.write_bytes(content)
    with pytest.raises(
        UsageError, match=r"datasets\.pqt is no cache table of ONE: the file is damaged"
    ):
        datasets_of(path)


def test_without_pyarrow_one_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match=r"pip install 'onefs\[tables\]'"):
        ParquetTable(tmp_path / "sessions.pqt", ("id",))

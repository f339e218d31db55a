"""The export has the present format, and leaves out rows that ONE could not distinguish."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from onefs.cache_tables.parquet_export import ExportResult, export, is_complete
from onefs.cache_tables.reader import TABLES_FILE_NAME, TablesReader
from onefs.cache_tables.worker import export_in_child
from onefs.catalogue.storage.overlay import OverlayDatabase
from onefs.catalogue.sync import sync_from_files
from onefs.model import Dataset
from tests.cache_tables.table_files import (
    CREATED,
    OLD,
    dataset,
    session,
    uuid,
    write,
)


def exported(
    folder: Path, sessions: list[dict[str, Any]], datasets: list[dict[str, Any]]
) -> tuple[ExportResult, pd.DataFrame, pd.DataFrame]:
    sync_from_files(write(folder / "given", sessions, datasets), folder)
    done = export(folder / TABLES_FILE_NAME, folder)
    return done, pd.read_parquet(folder / "sessions.pqt"), pd.read_parquet(folder / "datasets.pqt")


def test_the_format_of_today(tmp_path: Path) -> None:
    rows = [
        dataset(2, 2, "alf/probe00/#2020-08-31#/a.b.npy", qc="PASS", default_revision=False),
        dataset(2, 1, "c.d.npy"),
        dataset(1, 3, "alf/a.b.npy", qc="CRITICAL"),
    ]
    given = [session(2, projects="p,q", number=7), session(1, task_protocol="t")]
    done, sessions, datasets = exported(tmp_path, given, rows)
    assert done == ExportResult(2, 3)
    assert list(sessions.index) == [uuid(1), uuid(2)]
    assert sessions.index.names == ["id"]
    assert sessions.loc[uuid(2)].to_dict() == {
        "lab": "labone",
        "subject": "mouse",
        "date": datetime.date(2020, 1, 2),
        "number": 7,
        "task_protocol": "",
        "projects": "p,q",
    }
    assert sessions["number"].dtype == "uint16"
    assert datasets.index.names == ["eid", "id"]
    assert datasets.index.is_monotonic_increasing
    assert list(datasets["rel_path"]) == [
        "alf/a.b.npy",
        "c.d.npy",
        "alf/probe00/#2020-08-31#/a.b.npy",
    ]
    assert list(datasets["file_size"]) == [103, 101, 102]
    assert str(datasets["file_size"].dtype) == "UInt64"
    assert list(datasets["hash"]) == [f"{n:032x}" for n in (3, 1, 2)]
    assert list(datasets["default_revision"]) == [True, True, False]
    assert list(datasets["qc"]) == ["CRITICAL", "NOT_SET", "PASS"]
    assert datasets["qc"].cat.ordered
    assert list(datasets["qc"].cat.categories) == ["NOT_SET", "PASS", "WARNING", "FAIL", "CRITICAL"]
    assert datasets["exists"].all()
    for name in ("sessions", "datasets"):
        note = json.loads(pq.read_schema(tmp_path / f"{name}.pqt").metadata[b"one_metadata"])
        assert note == {"date_created": CREATED, "origin": "alyx", "min_api_version": "2.10"}


def test_the_tables_of_2021_become_those_of_today(tmp_path: Path) -> None:
    """The export has ids as text and no ``session_path``. Unknown sizes are still null."""
    sync_from_files(OLD, tmp_path)
    assert export(tmp_path / TABLES_FILE_NAME, tmp_path) == ExportResult(26, 693)
    given = pq.read_table(OLD / "datasets.pqt").to_pydict()
    datasets = pq.read_table(tmp_path / "datasets.pqt")
    assert datasets.num_rows == len(given["rel_path"])
    assert sorted(datasets["rel_path"].to_pylist()) == sorted(given["rel_path"])
    assert datasets["file_size"].null_count == 301
    assert "session_path" not in datasets.column_names
    sessions = pq.read_table(tmp_path / "sessions.pqt").to_pydict()
    assert set(datasets["eid"].to_pylist()) <= set(sessions["id"])
    tutorial = sessions["id"].index("cf264653-2deb-44cb-aa84-89b82507028a")
    row = {name: values[tutorial] for name, values in sessions.items()}
    assert (row["lab"], row["subject"], row["number"]) == ("mainenlab", "clns0730", 2)
    assert str(row["date"]) == "2018-08-24"


def test_a_size_in_the_catalogue_is_exported(tmp_path: Path) -> None:
    """A size is exported only if the hash in the catalogue does not contradict the tables."""
    rows = [dataset(1, number, f"alf/a.b{number}.npy", file_size=None) for number in range(4)]
    rows[3]["hash"] = None
    sync_from_files(write(tmp_path / "given", [session(1)], rows), tmp_path)
    catalogue = OverlayDatabase(tmp_path / "catalogue.sqlite")
    told = {0: (rows[0]["hash"], 1000), 1: ("", 1001), 2: ("another", 1002), 3: ("", 1003)}
    for number, (md5, size) in told.items():
        known = Dataset(rows[number]["id"], uuid(1), f"a.b{number}.npy", "alf", md5=md5)
        catalogue.store_probed_size_by_md5(known, size)
    catalogue.close()
    export(tmp_path / TABLES_FILE_NAME, tmp_path)
    written = pq.read_table(tmp_path / "datasets.pqt").to_pydict()
    sizes = dict(zip(written["id"], written["file_size"], strict=True))
    assert list(sizes.values()) == [1000, 1001, None, 1003]


def test_one_api_loads_a_file_of_unknown_size(tmp_path: Path) -> None:
    """ONE-api would raise TypeError for a null in a pandas column of integers."""
    one = pytest.importorskip("one.api")
    rows = [dataset(1, 1, "alf/a.b.npy", file_size=None, hash=None), dataset(1, 2, "alf/c.d.npy")]
    exported(tmp_path, [session(1, id=_VERSION_4)], [{**row, "eid": _VERSION_4} for row in rows])
    place = tmp_path / "labone/Subjects/mouse/2020-01-01/001/alf"
    place.mkdir(parents=True)
    np.save(place / "a.b.npy", np.arange(3))
    found = one.One(cache_dir=tmp_path, mode="local").load_dataset(_VERSION_4, "a.b.npy")
    assert list(found) == [0, 1, 2]


_VERSION_4 = "3b7c4f0e-5a51-4e0c-9a0f-1f7ad9a3f001"


@pytest.mark.parametrize(
    "changed",
    [{"lab": ".x"}, {"lab": "a/b"}, {"subject": "a/b"}, {"date": "2020-13-01"}, {"number": 70000}],
)
def test_a_session_that_one_has_no_path_for_is_left_out(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    rows = [session(1, date="2020-01-01"), session(2, **{"date": "2020-01-02", **changed})]
    for row in rows:
        row["number"] = int(row["number"])
    done, sessions, datasets = exported(tmp_path, rows, [dataset(1, 1), dataset(2, 2)])
    assert list(sessions.index) == [uuid(1)]
    assert list(datasets.index.get_level_values("eid")) == [uuid(1)]
    assert done.left_out == {"sessions that ONE has no path for": 1}


def test_two_sessions_in_one_folder_are_left_out(tmp_path: Path) -> None:
    """ONE would find the files of the first session for both sessions."""
    given = [session(1), session(2, date=session(1)["date"]), session(3)]
    done, sessions, datasets = exported(
        tmp_path, given, [dataset(1, 1), dataset(2, 2), dataset(3, 3)]
    )
    assert list(sessions.index) == [uuid(3)]
    assert len(datasets) == 1
    assert done.left_out == {"sessions that share a folder": 2}


def test_of_two_datasets_on_one_path_only_the_default_is_exported(tmp_path: Path) -> None:
    rows = [
        dataset(1, 1, "alf/a.b.npy"),
        dataset(1, 2, "alf/a.b.npy", default_revision=False),
        dataset(1, 3, "alf/c.d.npy"),
        dataset(1, 4, "alf/c.d.npy"),
        dataset(1, 5, "alf/e.f.npy"),
        dataset(1, 6, "alf"),
    ]
    done, _, datasets = exported(tmp_path, [session(1)], rows)
    assert list(datasets.index.get_level_values("id")) == [uuid(1001), uuid(1005)]
    assert done.left_out == {"datasets that share a path": 4}


def test_tables_of_a_release_tag_are_incomplete(tmp_path: Path) -> None:
    notes: dict[str, dict[str, Any]] = {"part": {"database_tags": ["x"]}, "whole": {}}
    for name, note in notes.items():
        state = tmp_path / name
        sync_from_files(write(state / "given", [session(1)], [dataset(1, 1)], **note), state)
        tables = TablesReader(state / TABLES_FILE_NAME)
        assert is_complete(tables.facts()) == (name == "whole")
        tables.close()


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    _, sessions, datasets = exported(
        tmp_path, [session(1), session(2)], [dataset(1, 1), dataset(2, 2, qc="PASS")]
    )
    for name in ("sessions", "datasets"):
        (tmp_path / f"{name}.pqt").unlink()
    assert export_in_child(tmp_path / TABLES_FILE_NAME, tmp_path) == ExportResult(2, 2)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "sessions.pqt"), sessions)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "datasets.pqt"), datasets)
    assert list(datasets["file_size"]) == [101, 102]


@pytest.mark.long  # the measured memory is in docs/SEMANTICS.md, "What does a sync cost?"
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Three times as many rows need no more memory, because few batches are in memory at once."""
    peaks = [_peak(tmp_path / str(count), count) for count in (100_000, 300_000)]
    assert peaks[1] - peaks[0] < 40


def _peak(folder: Path, count: int) -> float:
    """Return the largest memory, in MB, of a process that exports ``count`` datasets."""
    begun = datetime.date(2020, 1, 1)
    given = [session(1, id=uuid(n), date=begun + datetime.timedelta(n)) for n in range(1, 101)]
    rows = [dataset(1 + n % 100, n, f"alf/a{n // 100}.b.npy") for n in range(count)]
    sync_from_files(write(folder / "given", given, rows), folder)
    # not ru_maxrss, because its value in the child begins with the memory of this process
    code = (
        "import re, sys; from pathlib import Path;"
        "from onefs.cache_tables.parquet_export import export;"
        "export(Path(sys.argv[1]), Path(sys.argv[2]));"
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder / TABLES_FILE_NAME, folder],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert pq.read_metadata(folder / "datasets.pqt").num_rows == count
    assert pq.read_metadata(folder / "sessions.pqt").num_rows == len(given)
    return float(done.stdout) / 1024

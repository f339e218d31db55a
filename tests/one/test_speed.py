"""Tests of the time for a search, compared with the server and plain scans of the catalogue."""

from __future__ import annotations

import gc
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from onefs import alf
from onefs.alyx.parsing import DatasetRow
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.catalogue.storage.overlay import OverlayDatabase
from onefs.catalogue.sync import sync_from_files
from onefs.demo.servers import Servers
from onefs.model import Dataset, Session
from onefs.one import ONE
from onefs.search import offline
from onefs.search.vocabulary import parse_terms
from tests.cache_tables.table_files import dataset as dataset_row
from tests.cache_tables.table_files import session as session_row
from tests.cache_tables.table_files import uuid, write
from tests.laboratories import account
from tests.one.conftest import EID, arguments
from tests.one.opened import access_of
from tests.running import ONEFS, clean_environment, run

#: instructions of SQLite between two counts
_STRIDE = 100


def cost(call: Callable[[], object]) -> tuple[int, int]:
    """Return what a call needs: the number of SQLite instructions and of Python function calls."""
    steps = calls = 0

    def stepped() -> int:
        nonlocal steps
        steps += _STRIDE
        return 0

    def called(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code is not stepped.__code__

    gc.collect()  # what other tests have left would be counted
    connections = [each for each in gc.get_objects() if isinstance(each, sqlite3.Connection)]
    for connection in connections:
        _count_steps(connection, stepped)
    before = sys.getprofile()
    gc.disable()
    sys.setprofile(called)
    try:
        call()
    finally:
        sys.setprofile(before)
        gc.enable()
        for connection in connections:
            _count_steps(connection, None)
    return steps, calls


def _count_steps(connection: sqlite3.Connection, stepped: Callable[[], int] | None) -> None:
    with suppress(sqlite3.ProgrammingError):  # closed, and not collected yet
        connection.set_progress_handler(stepped, _STRIDE)


def test_a_search_takes_the_servers_time(servers: Servers) -> None:
    """A search sends one request, on the connection that is already open."""
    with ONE(**arguments(servers)) as one:
        assert one.search(users="olivier", date_range="2018-08-24") == [EID]
        servers.clear_requests()
        _, calls = cost(lambda: one.search(users="nate"))
        for _ in range(3):
            assert one.search(users="olivier", date_range="2018-08-24") == [EID]
    asked = [each.path.split("?")[0] for each in servers.requests]
    assert asked == ["/sessions"] * 4
    print(f"{calls} calls")
    assert calls < 3000  # also what is done beside the request does not grow


@pytest.mark.usefixtures("no_coverage")
def test_a_cold_search_from_the_shell_takes_the_servers_time(
    servers: Servers, tmp_path: Path
) -> None:
    """A new process that knows nothing but a token asks once, and loads nothing that it does not
    need: its own time is that of its imports (``scripts/bench starting`` measures it)."""
    with ONE(**arguments(servers)) as one:
        token = access_of(one).alyx._sender._token.current_token()
    environment = clean_environment(tmp_path, **account(servers, token))
    environment["PYTHONPROFILEIMPORTTIME"] = "1"
    command: list[str | Path] = [ONEFS, "search", "--format", "eids"]
    command += ["--user", "olivier", "--date", "2018-08-24"]
    servers.clear_requests()
    found = run(command, environment=environment)
    assert found.stdout.split() == [EID]
    loaded = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines()}
    assert "onefs.http.connection_pools" in loaded
    for dear in (
        "requests",
        "keyring",
        "numpy",
        "onefs.tree",
        "onefs.content",
        "onefs.cache.store",
    ):
        assert dear not in loaded
    print(f"{len(loaded)} modules")
    assert len(loaded) < 400
    assert [each.path.split("?")[0] for each in servers.requests] == ["/sessions"]


#: sessions, and datasets of each
SESSIONS, DATASETS = 20_000, 5
#: what a search looks through, each whole
Scan = Callable[[], object]


@pytest.fixture(scope="module", params=["asked of Alyx", "from cache tables"])
def laboratory(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[CatalogueDatabase, Scan, Scan]]:
    """Return a catalogue of 20,000 sessions, and plain scans of its sessions and datasets."""
    folder = tmp_path_factory.mktemp("large")
    if request.param == "from cache tables":
        sync_from_files(write(folder / "tables", *_tables()), folder)
        found = OverlayDatabase(folder / "catalogue.sqlite")
        rows = found.tables._fetch_rows
    else:
        found = OverlayDatabase(folder / "catalogue.sqlite")
        found.store_search_results((_session(number), True) for number in range(SESSIONS))
        found.store_datasets_by_eid(
            {s.eid: _datasets(s.eid) for s in map(_session, range(SESSIONS))}, 1.0
        )
        rows = found._fetch_rows
    assert len(rows("SELECT * FROM datasets")) == SESSIONS * DATASETS
    yield (
        found,
        lambda: rows("SELECT * FROM sessions"),
        lambda: rows("SELECT * FROM datasets"),
    )
    found.close()


def _session(number: int) -> Session:
    return Session(
        eid=uuid(number),
        lab=f"lab{number % 20:02d}",
        subject=f"subject{number % 400:03d}",
        date=f"20{number % 20 + 10}-{number % 12 + 1:02d}-{number % 28 + 1:02d}",
        number=number % 3 + 1,
        start_time=1e9 + number,
        task_protocol=f"_iblrig_tasks_choiceWorld{number % 9}",
        projects=(f"project{number % 5}", "all"),
    )


#: a session has one in ten of another kind
NAMES = ("spikes.times.npy", "licks.times.npy", *(f"object{n}.value.npy" for n in range(3)))


def _names(eid: str) -> list[str]:
    return [
        f"rare.thing{n}.npy" if int(eid[-8:], 16) % 10 == n else NAMES[n] for n in range(DATASETS)
    ]


def _datasets(eid: str) -> list[DatasetRow]:
    start = int(eid[-8:], 16) * DATASETS
    return [
        DatasetRow(
            Dataset(uuid(2**32 + start + n), eid, name, "alf", dataset_type=alf.dataset_type(name)),
            (),
        )
        for n, name in enumerate(_names(eid))
    ]


def _tables() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    known_sessions = [_session(number) for number in range(SESSIONS)]
    sessions = [
        session_row(
            1,
            id=each.eid,
            lab=each.lab,
            subject=each.subject,
            date=date.fromisoformat(each.date),
            number=each.number,
            task_protocol=each.task_protocol,
            projects=",".join(each.projects),
        )
        for each in known_sessions
    ]
    datasets = [
        dataset_row(0, 0, f"alf/{row.dataset.name}", eid=each.eid, id=row.dataset.id)
        for each in known_sessions
        for row in _datasets(each.eid)
    ]
    return sessions, datasets


@pytest.mark.parametrize(
    "terms",
    [
        {"lab": "LAB07"},
        {"lab": "ß"},
        {"subject": ["subject007", "subject008"]},
        {"date": ["2012-01-01", None]},
        {"number": 2},
        {"task": "choice"},
        {"project": "ALL"},
        {"project": "project3"},
        {"dataset_types": ["spikes.times", "licks.times"]},
        {"dataset_types": "rare.thing3"},
        {"dataset_names": "spikes.times.npy"},
        {"dataset_names": [f"object{n}.value.npy" for n in range(3)]},
    ],
    ids=str,
)
def test_offline_a_search_is_no_dearer_than_three_scans(
    laboratory: tuple[CatalogueDatabase, Scan, Scan], terms: dict[str, Any]
) -> None:
    database, sessions, datasets = laboratory
    query = parse_terms(terms)
    found = len(offline.search_catalogue(database, query))
    assert (found == 0) == (terms == {"lab": "ß"})
    steps, calls = cost(lambda: offline.search_catalogue(database, query))
    scan, _ = cost(sessions)
    if "dataset" in str(terms):
        scan += cost(datasets)[0]
    print(f"{found} of {SESSIONS}: {steps} steps, {calls} calls, a bare scan {scan} steps")
    assert steps < 3 * scan
    # rows are looked through by SQLite, and only what is found is made into sessions
    assert calls < 4 * found + 2000

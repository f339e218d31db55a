"""What a search costs beside the server's own time, and beside a bare scan of the catalogue."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from onefs.demo.made import MadeLaboratory
from onefs.demo.serve import Servers
from onefs.metadata import known
from onefs.metadata.database import Database
from onefs.metadata.terms import parse
from onefs.model import Session
from onefs.one import ONE
from tests.one.conftest import EID, arguments


def median(call: Callable[[], object], times: int = 7) -> float:
    """Seconds of a call."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def test_a_search_takes_the_servers_time() -> None:
    """At most 1.3 times what one bare request for the same takes (100 ms here)."""
    with Servers(MadeLaboratory(), latency_ms=100) as servers, ONE(**arguments(servers)) as one:
        token = one._access.alyx._token.current()
        url = f"{servers.alyx_url}/sessions?users=olivier&date_range=2018-08-24,2018-08-24"
        headers = {"Authorization": f"Token {token}"}
        with requests.Session() as bare:
            server = median(lambda: bare.get(url, headers=headers, timeout=10).json())
        assert one.search(users="olivier", date_range="2018-08-24") == [EID]
        ours = median(lambda: one.search(users="olivier", date_range="2018-08-24"))
    assert ours < 1.3 * server


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """20,000 sessions."""
    found = Database(Path(tmp_path_factory.mktemp("large")) / "catalogue.sqlite")
    found.store_found((_session(number), True) for number in range(20_000))
    yield found
    found.close()


def _session(number: int) -> Session:
    return Session(
        eid=f"00000000-0000-4000-8000-{number:012d}",
        lab=f"lab{number % 20:02d}",
        subject=f"subject{number % 400:03d}",
        date=f"20{number % 20 + 10}-{number % 12 + 1:02d}-{number % 28 + 1:02d}",
        number=number % 3 + 1,
        start_time=1e9 + number,
        task_protocol=f"_iblrig_tasks_choiceWorld{number % 9}",
        projects=(f"project{number % 5}", "all"),
    )


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
        {"dataset_names": "spikes.times.npy"},
    ],
)
def test_offline_a_search_is_no_dearer_than_three_scans(
    database: Database, terms: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    query = parse(terms)
    scan = median(lambda: database._rows("SELECT * FROM sessions"))
    assert median(lambda: known.search(database, query)) < 3 * scan

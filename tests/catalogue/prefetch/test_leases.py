"""Processes that share a catalogue request each batch of a walk once, and do not wait for long."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from onefs.alyx.auth import fetch_token
from onefs.catalogue.prefetch.leases import LabLeases
from onefs.catalogue.prefetch.walk_detector import LAB_WALK_SUBJECTS
from onefs.demo.scaled_laboratory import ScaledLaboratory
from onefs.demo.servers import Servers
from onefs.http import Transport
from onefs.lowlevel.locks import lock_file
from tests.running import process, within

#: walks a lab over a catalogue that others use too; prints how many datasets it has found
_WALKER = """
import sys
from pathlib import Path
from onefs.http import Transport
from onefs.alyx.client import AlyxClient
from onefs.alyx.tokens import FixedToken
from onefs.catalogue.catalogue import Catalogue
from onefs.catalogue.storage.database import CatalogueDatabase
from tests.catalogue.lab_walk import walk
url, token, path = sys.argv[1:]
with Transport() as transport:
    alyx = AlyxClient(transport, url, FixedToken(token), deadline=60.0)
    catalogue = Catalogue(CatalogueDatabase(Path(path)), alyx, deadline=60.0)
    print("ready", flush=True)
    sys.stdin.readline()
    print(sum(walk(catalogue, "lab00").values()))
    catalogue.close()
"""


@pytest.mark.parametrize(
    ("sessions", "latency"),
    [
        pytest.param(350, 0, id="quick"),
        pytest.param(200, 1300, id="slow", marks=pytest.mark.long),
    ],
)
def test_three_processes_walk_a_lab_for_the_price_of_one(
    transport: Transport, tmp_path: Path, sessions: int, latency: int
) -> None:
    """No session is requested in two batches, however long the server takes for each."""
    source = ScaledLaboratory(sessions, 20)
    lab = [each.eid for each in source.sessions() if each.lab == "lab00"]
    with Servers(source, latency_ms=latency) as servers, ExitStack() as stack:
        login = servers.login
        token = fetch_token(transport, servers.alyx_url, login.username, login.password)
        command: list[str | Path] = [sys.executable, "-c", _WALKER]
        command += [servers.alyx_url, token, tmp_path / "c.sqlite"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        walkers = [stack.enter_context(process(command, **pipes)) for _ in range(3)]
        for walker in walkers:
            assert walker.stdout is not None
            assert walker.stdout.readline() == "ready\n"
        servers.clear_requests()
        for walker in walkers:
            assert walker.stdin is not None
            walker.stdin.write("\n")
            walker.stdin.flush()
        found = [int(walker.communicate(timeout=110)[0]) for walker in walkers]
        requests = [request.path for request in servers.requests]
    assert found == [20 * len(lab)] * 3
    batches = [eid for path in requests for eid in sessions_of_batch(path)]
    assert len(batches) > len(lab) - 20, requests  # the first few are requested by themselves
    assert len(set(batches)) == len(batches), requests
    # three subjects are each asked for alone: with them there is no other to ask for
    subjects = len({each.subject for each in source.sessions() if each.lab == "lab00"})
    of_labs = [path for path in requests if is_for_a_lab(path)]
    assert len(of_labs) == (1 if subjects > LAB_WALK_SUBJECTS else 0), requests


def sessions_of_batch(path: str) -> list[str]:
    """Return the sessions whose datasets one request fetches."""
    asked_for = parse_qs(urlsplit(path).query).get("django", [""])[0]
    return re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", asked_for) if "/datasets" in path else []


def is_for_a_lab(path: str) -> bool:
    """Whether a request is for the sessions of a whole lab."""
    query = parse_qs(urlsplit(path).query)
    return "/sessions" in path and "lab" in query and "subject" not in query


def make_leases(
    folder: Path, patience: float, stopping: threading.Event | None = None
) -> LabLeases:
    return LabLeases(folder / "claims", patience, stopping or threading.Event())


def held_leases(folder: Path) -> int:
    """Return how many leases are held. Two open files exclude each other as two processes do."""
    found = 0
    for path in (folder / "claims").iterdir():
        with path.open("r+b") as file:
            found += not lock_file(file.fileno())
    return found


def test_threads_of_one_process_do_not_exclude_each_other(tmp_path: Path) -> None:
    """The lease lasts until the last thread ends it."""
    found = make_leases(tmp_path, 90.0)
    with within(), found.hold("lab"):
        with found.hold("lab"), found.hold("other"):
            assert held_leases(tmp_path) == 2
        assert held_leases(tmp_path) == 1
    assert held_leases(tmp_path) == 0


def test_another_process_is_waited_for(tmp_path: Path) -> None:
    """Two open files exclude each other as two processes do."""
    one, other = make_leases(tmp_path, 90.0), make_leases(tmp_path, 90.0)
    order: list[str] = []

    def second() -> None:
        with other.hold("lab"):
            order.append("second")

    thread = threading.Thread(target=second)
    with one.hold("lab"):
        thread.start()
        thread.join(0.3)  # the thread waits, or starts later: it is second in both cases
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]


def test_a_process_that_keeps_its_lease_is_waited_for_briefly(tmp_path: Path) -> None:
    one, other = make_leases(tmp_path, 90.0), make_leases(tmp_path, 0.5)
    with one.hold("lab"), within():
        began = time.monotonic()
        with other.hold("lab"):
            assert time.monotonic() - began >= 0.4


def test_a_wait_ends_when_we_are_stopping(tmp_path: Path) -> None:
    stopping = threading.Event()
    one, other = make_leases(tmp_path, 90.0), make_leases(tmp_path, 90.0, stopping)
    timer = threading.Timer(0.2, stopping.set)
    timer.start()
    with one.hold("lab"), within(), other.hold("lab"):
        assert stopping.is_set()
    timer.join()


def test_a_folder_that_cannot_be_made_prevents_no_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    entered = []
    with within(), make_leases(tmp_path / "file", 90.0).hold("lab"):
        entered.append("first")
        with make_leases(tmp_path / "file", 90.0).hold("lab"):
            entered.append("second")
    assert entered == ["first", "second"]
    assert (tmp_path / "file").read_text() == ""

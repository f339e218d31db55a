"""Processes that share a catalogue ask for the batches of a walk once, and none waits for long."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.grown import GrownLaboratory
from onefs.demo.serve import Servers
from onefs.http import Transport
from onefs.metadata.auth import fetch_token
from onefs.metadata.claims import PATIENCE, Claims
from tests.metadata.walking import asked

#: walks a lab over a catalogue that others use too; prints how many datasets it has found
_WALKER = """
import sys
from pathlib import Path
from onefs.http import Transport
from onefs.metadata.alyx import Alyx
from onefs.metadata.auth import GivenToken
from onefs.metadata.catalogue import Catalogue
from onefs.metadata.database import Database
from tests.metadata.walking import walk
url, token, path = sys.argv[1:]
with Transport() as transport:
    alyx = Alyx(transport, url, GivenToken(token), deadline=60.0)
    catalogue = Catalogue(Database(Path(path)), alyx, deadline=60.0)
    print("ready", flush=True)
    sys.stdin.readline()
    print(sum(walk(catalogue, "lab00").values()))
    catalogue.close()
"""


@pytest.fixture(scope="module")
def grown() -> Iterator[Servers]:
    """A lab of 300 sessions of 20 datasets, beside the made laboratory."""
    with Servers(GrownLaboratory(350, 20)) as servers:
        yield servers


def test_three_processes_walk_a_lab_for_the_price_of_one(
    grown: Servers, transport: Transport, tmp_path: Path
) -> None:
    login = grown.login
    token = fetch_token(transport, grown.alyx_url, login.username, login.password)
    command = [sys.executable, "-c", _WALKER, grown.alyx_url, token, str(tmp_path / "c.sqlite")]
    walkers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for walker in walkers:
        assert walker.stdout is not None
        assert walker.stdout.readline() == "ready\n"
    grown.clear_requests()
    found = []
    for walker in walkers:
        assert walker.stdin is not None
        walker.stdin.write("\n")
        walker.stdin.flush()
    for walker in walkers:
        found.append(walker.communicate(timeout=120)[0].strip())
    assert found == ["6000"] * 3
    # 14 for one; each also asks alone for what it comes to first, and small lists once
    assert len(grown.requests) <= 30, asked(grown)


def test_threads_of_one_process_do_not_exclude_each_other(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "claims")
    began = time.monotonic()
    with claims.of("lab"), claims.of("lab"), claims.of("other"):
        pass
    assert time.monotonic() - began < PATIENCE / 2


def test_another_process_is_waited_for_and_not_for_long(tmp_path: Path) -> None:
    """Two open files exclude each other as two processes do."""
    one, other = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")
    order: list[str] = []

    def second() -> None:
        with other.of("lab"):
            order.append("second")

    thread = threading.Thread(target=second)
    with one.of("lab"):
        thread.start()
        time.sleep(PATIENCE / 4)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    with one.of("lab"):
        began = time.monotonic()
        with other.of("lab"):  # who holds it does not let go
            assert PATIENCE * 0.9 < time.monotonic() - began < PATIENCE * 3


def test_a_folder_that_cannot_be_made_keeps_nobody_from_asking(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Claims(tmp_path / "file" / "claims").of("lab"):
        pass

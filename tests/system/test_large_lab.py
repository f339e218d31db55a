"""A lab of many sessions: listing all of them takes long, and no folder waits for that."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest

from onefs.catalogue.invalidation import RELOAD_INTERVAL_SECONDS
from onefs.demo.servers import Servers
from tests.laboratories import account, alyx_requests
from tests.registering_laboratory import RegisteringLaboratory
from tests.running import Home, Mounted, run, wait_until

SUBJECTS = [f"mouse{number}" for number in range(60)]
#: seconds for which the list of the whole lab is held at most
LONGEST_HOLD_SECONDS = 60.0


class HeldServers:
    """Servers that do not answer with a whole lab's sessions until ``release`` is set."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self.release = threading.Event()
        self.asked = threading.Event()

    def app(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        query = parse_qs(environ["QUERY_STRING"])
        if environ["PATH_INFO"] == "/sessions" and "lab" in query and "subject" not in query:
            self.asked.set()
            self.release.wait(LONGEST_HOLD_SECONDS)
        return self.servers._alyx_app(environ, start)


@pytest.fixture
def held() -> Iterator[HeldServers]:
    source = RegisteringLaboratory(*(("labone", subject, "2022-01-05", 1) for subject in SUBJECTS))
    with Servers(source) as servers:
        found = HeldServers(servers)
        servers.alyx.stop()
        servers.alyx.start(found.app)
        try:
            yield found
        finally:
            found.release.set()


def listed(mounted: Mounted, subject: str) -> list[str]:
    return run(
        ["ls", mounted.path / "labone" / subject], timeout=LONGEST_HOLD_SECONDS / 2
    ).stdout.split()


def test_no_subject_waits_for_the_list_of_its_whole_lab(home: Home, held: HeldServers) -> None:
    mounted = home.mount(**account(held.servers))
    for subject in SUBJECTS[:6]:
        assert listed(mounted, subject) == ["2022-01-05"]
    assert held.asked.is_set(), "the whole lab is asked for all the same"
    assert not held.release.is_set()


def test_when_it_has_come_the_others_cost_nothing(home: Home, held: HeldServers) -> None:
    mounted = home.mount(**account(held.servers))
    for subject in SUBJECTS[:3]:
        listed(mounted, subject)
    assert held.asked.wait(LONGEST_HOLD_SECONDS)
    held.release.set()
    bulk = "/sessions?lab=labone&limit"
    wait_until(lambda: any(bulk in each.path for each in alyx_requests(held.servers)))
    listed(mounted, SUBJECTS[3])  # waits for what has just come to be stored
    held.servers.clear_requests()
    for subject in SUBJECTS[4:8]:
        assert listed(mounted, subject) == ["2022-01-05"]
    assert not alyx_requests(held.servers)


def test_an_invalidated_lab_is_listed_in_one_request(home: Home, held: HeldServers) -> None:
    held.release.set()
    mounted = home.mount(**account(held.servers))
    walk = ["find", str(mounted.path / "labone"), "-maxdepth", "2"]
    run(walk)
    home.run("refresh", mounted.path / "labone")
    time.sleep(
        2 * RELOAD_INTERVAL_SECONDS
    )  # seconds between two looks of the mount at what is wanted anew
    held.servers.clear_requests()
    run(walk)
    asked = [each.path for each in alyx_requests(held.servers) if "/sessions?" in each.path]
    assert 0 < len(asked) < len(SUBJECTS) / 2

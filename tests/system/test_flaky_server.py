"""A server that misbehaves while a mount is walked: nothing is hidden, and nothing hangs."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from werkzeug import Response

from onefs.demo.scaled_laboratory import ScaledLaboratory
from onefs.demo.servers import Servers
from tests.laboratories import account, alyx_requests
from tests.running import BUSY_SECONDS, Home, Mounted, process, wait_until, within

LAB = "lab00"
#: seconds: of a request to Alyx, and what a busy machine may add
DEADLINE, SLACK = 3.0, BUSY_SECONDS
#: seconds for which the server misbehaves
OUTAGE_SECONDS = 2.0
#: batches of datasets that are answered well before
BEFORE = 2
#: a listing may fail with these, for a moment; never with ENOENT
FAILURES = {errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EIO, errno.EBUSY}

#: names and attributes of everything below a folder, and what could not be listed, or stated
_WALKER = """
import json, os, sys
listed, failed, slowest = {}, {}, 0.0
import time
folders = [sys.argv[1]]
while folders:
    folder = folders.pop()
    began = time.monotonic()
    try:
        entries = list(os.scandir(folder))
        listed[folder] = sorted(entry.name for entry in entries)
    except OSError as error:
        failed[folder] = error.errno
        entries = []
    for entry in entries:
        try:
            os.lstat(entry.path)
        except OSError as error:
            failed[entry.path] = error.errno
            continue
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.path)
    slowest = max(slowest, time.monotonic() - began)
print(json.dumps([listed, failed, slowest]))
"""

App = Callable[[Any, Any], Iterable[bytes]]
Listed = dict[str, list[str]]


class Walk:
    """A walk of a folder in a process of its own."""

    def __init__(self, walker: subprocess.Popen[str], root: Path) -> None:
        self._walker = walker
        self._root = root

    def result(self) -> tuple[Listed, dict[str, int], float]:
        """What was listed, the errno of what failed, and the seconds of the slowest folder."""
        text, _ = self._walker.communicate(timeout=120)
        listed, failed, slowest = json.loads(text)
        return self._below(listed), self._below(failed), slowest

    def _below(self, found: dict[str, Any]) -> dict[str, Any]:
        return {os.path.relpath(path, self._root): value for path, value in found.items()}


@contextmanager
def walking(mounted: Mounted) -> Iterator[Walk]:
    root = mounted.path / LAB
    command: list[str | Path] = [sys.executable, "-c", _WALKER, root]
    with process(command, stdout=subprocess.PIPE, text=True) as walker:
        yield Walk(walker, root)


def walked(mounted: Mounted) -> tuple[Listed, dict[str, int], float]:
    with walking(mounted) as walk:
        return walk.result()


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(ScaledLaboratory(130, 40), latency_ms=120) as running:
        yield running


@pytest.fixture(scope="module")
def truth(shared_home: Home, servers: Servers) -> Listed:
    """What the lab holds, as a mount with a well-behaved server shows it."""
    mounted = shared_home.mount(**account(servers))
    listed, failed, _ = walked(mounted)
    mounted.umount()
    assert not failed
    assert sum(len(names) for names in listed.values()) > 3000
    return listed


@pytest.fixture
def mounted(home: Home, servers: Servers) -> Mounted:
    servers.clear_requests()
    return home.mount(**account(servers), ONEFS_DEADLINE=str(DEADLINE))


def truncated(app: App, environ: Any, start: Any) -> Iterable[bytes]:
    """Half of the true answer, as if it were all."""
    body = Response.from_app(app, environ).get_data()
    return Response(body[: len(body) // 2], content_type="application/json")(environ, start)


def answering(status: int, body: str, **headers: str) -> Callable[[App, Any, Any], Iterable[bytes]]:
    kind = "application/json" if body.startswith("{") else "text/html"

    def answer(_: App, environ: Any, start: Any) -> Iterable[bytes]:
        return Response(body, status, headers, content_type=kind)(environ, start)

    return answer


STORMS = {
    "429": answering(429, '{"detail": "Request was throttled."}', **{"Retry-After": "1"}),
    "500": answering(500, '{"status_code": 500, "detail": "division by zero"}'),
    "500 of the proxy": answering(502, "<html>Bad Gateway</html>"),
    "truncated": truncated,
    "no rows": answering(200, '{"count": 1000000, "next": "x", "results": []}'),
}

#: after this one batches go on; after the others each session is asked for alone for a while
QUICK = "500 of the proxy"
SLOW = [storm for storm in STORMS if storm != QUICK]


def is_in_batches(servers: Servers) -> Callable[[], bool]:
    """Whether the walk is in the midst of its batches."""
    return lambda: sum("/datasets" in each.path for each in alyx_requests(servers)) >= BEFORE


def assert_nothing_hidden(
    result: tuple[Listed, dict[str, int], float], truth: Listed, mounted: Mounted
) -> None:
    """Each folder was listed whole or failed with an honest error, in time; then all are there."""
    listed, failed, slowest = result
    assert set(failed.values()) <= FAILURES
    assert listed == {path: truth[path] for path in listed}
    assert slowest < DEADLINE + SLACK
    end = time.monotonic() + 60
    while (again := walked(mounted))[1] and time.monotonic() < end:
        assert set(again[1].values()) <= FAILURES
        time.sleep(0.2)
    assert again[0] == truth
    assert not again[1]


@pytest.mark.long
def test_a_server_that_is_killed_and_restarted_during_a_walk(
    mounted: Mounted, servers: Servers, truth: Listed
) -> None:
    with walking(mounted) as walk:
        wait_until(is_in_batches(servers))
        servers.alyx.stop()
        try:
            time.sleep(DEADLINE + OUTAGE_SECONDS)
        finally:
            servers.alyx.start(servers._alyx_app)
        result = walk.result()
    assert result[1], "nothing was asked for while the server was away"
    assert_nothing_hidden(result, truth, mounted)


@pytest.mark.parametrize("storm", [QUICK, *(pytest.param(s, marks=pytest.mark.long) for s in SLOW)])
def test_a_storm_during_a_walk(
    mounted: Mounted, servers: Servers, truth: Listed, storm: str
) -> None:
    raging = threading.Event()
    hit = threading.Event()

    def app(environ: Any, start: Any) -> Iterable[bytes]:
        if not raging.is_set():
            return servers._alyx_app(environ, start)
        hit.set()
        return STORMS[storm](servers._alyx_app, environ, start)

    servers.alyx.stop()
    servers.alyx.start(app)
    try:
        with walking(mounted) as walk:
            wait_until(is_in_batches(servers))
            raging.set()
            time.sleep(OUTAGE_SECONDS)
            raging.clear()
            result = walk.result()
    finally:
        servers.alyx.stop()
        servers.alyx.start(servers._alyx_app)
    assert hit.is_set(), "the walk was over before the storm"
    assert_nothing_hidden(result, truth, mounted)


def test_a_foreign_client_that_uses_up_the_limit(home: Home) -> None:
    """What is known is listed at once; the rest fails in time, and the server is left alone."""
    with Servers(ScaledLaboratory(440, 10), throttle=60) as servers:
        deadline = 20.0
        mounted = home.mount(**account(servers), ONEFS_DEADLINE=str(deadline))
        lab = mounted.path / LAB
        known = lab / f"{LAB}_000"
        names = sorted(os.listdir(known))
        assert len(names) > 10

        use_up_request_limit(servers)
        servers.clear_requests()
        for number in range(1, 4):
            with (
                within(deadline + BUSY_SECONDS),
                pytest.raises(OSError) as failure,  # noqa: PT011
            ):
                os.listdir(lab / f"{LAB}_{number:03d}")
            assert failure.value.errno in (errno.EBUSY, errno.ETIMEDOUT)
            with within(deadline * 0.75):  # they do not wait for the server, not even once
                assert sorted(os.listdir(known)) == names
                assert len(os.listdir(lab)) >= 4
        # Retry-After is most of a minute: after one 429 no request follows
        asked = alyx_requests(servers)
        assert {each.status for each in asked} == {429}
        assert len(asked) <= 2


def use_up_request_limit(servers: Servers) -> None:
    """Ask as the same user, from elsewhere, until the server has had enough."""
    login = servers.login
    given = {"username": login.username, "password": login.password}
    with requests.Session() as session:
        token = session.post(f"{servers.alyx_url}/auth-token", data=given, timeout=60).json()
        headers = {"Authorization": f"Token {token['token']}", "Accept": "application/json"}
        for _ in range(70):
            url = f"{servers.alyx_url}/labs"
            status = session.get(url, headers=headers, timeout=60).status_code
            if status == 429:
                return
            assert status == 200
    pytest.fail("the server never had enough")

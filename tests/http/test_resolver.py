"""An unreachable name server causes few threads, one look-up per host, and errors in time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from onefs.errors import DeadlineExceeded, OnefsError, Stopping, Unreachable
from onefs.http import Transport
from onefs.http.resolver import MAX_LOOKUP_THREADS, RESOLVER
from tests.content.conftest import in_threads
from tests.running import wait_until
from tests.scripted_server import ScriptedServer, answer_json

REAL = socket.getaddrinfo


class NameServer:
    """Replaces ``getaddrinfo``. A call blocks until ``answers`` is set.

    Afterwards every name has the address of this machine.
    """

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked: list[str] = []

    def look_up(self, host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("flags"):  # the call only checks whether the host is an IP address
            return REAL(host, port, *args, **kwargs)
        self.asked.append(host)
        assert self.answers.wait(30)
        return REAL("127.0.0.1", port, *args, **kwargs)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    found = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", found.look_up)
    yield found
    found.answers.set()
    wait_until(lambda: not lookup_threads(), timeout=30)


def lookup_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "onefs-dns"]


def test_a_dead_name_server_does_not_accumulate_threads(names: NameServer) -> None:
    with Transport() as client:
        hosts = iter([f"http://host{number}.example/" for number in range(40)])

        def ask() -> object:
            return client.get_json(next(hosts), deadline=1.0)

        began = time.monotonic()
        results = in_threads(40, ask)
        assert time.monotonic() - began < 20
        assert {type(result) for result in results} <= {DeadlineExceeded, Unreachable}
        assert len(lookup_threads()) <= MAX_LOOKUP_THREADS
        names.answers.set()
        wait_until(lambda: not lookup_threads(), timeout=30)
        # look-ups that were still queued when their requests gave up are not started
        assert len(names.asked) <= MAX_LOOKUP_THREADS


def test_all_requests_for_one_host_share_a_lookup(names: NameServer) -> None:
    with ScriptedServer({"/x": answer_json(7)}) as server, Transport() as client:
        url = server.url.replace("127.0.0.1", "alyx.example") + "/x"
        threading.Timer(0.5, names.answers.set).start()
        results = in_threads(20, lambda: client.get_json(url, deadline=20))
        assert [result.body for result in results] == [7] * 20
        assert names.asked.count("alyx.example") <= 2  # a second look-up can start after the first


def test_a_request_that_is_stopped_does_not_wait_for_its_name(names: NameServer) -> None:
    client = Transport()
    threading.Timer(0.3, client.close).start()
    began = time.monotonic()
    with pytest.raises((Stopping, OnefsError)):
        client.get_json("http://alyx.example/", deadline=25)
    assert time.monotonic() - began < 15


def test_a_lookup_without_a_thread_is_an_error_and_works_later(
    names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names.answers.set()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="no thread"):
            RESOLVER.start_lookup("other.example", 80, threading.Event())
    wake = threading.Event()
    lookup = RESOLVER.start_lookup("other.example", 80, wake)
    assert wake.wait(10)
    RESOLVER.leave_lookup(lookup, wake)
    assert lookup.answer is not None

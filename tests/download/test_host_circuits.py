"""Circuit breakers for files and file servers. Readers wait for a probe, or fail soon."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from onefs.config.urls import host_of
from onefs.content.content import Content
from onefs.download.host_circuits import HostCircuits
from onefs.download.server_names import kind_of, server_of
from onefs.errors import (
    DeadlineExceeded,
    OnefsError,
    Stopping,
)
from tests.content.conftest import in_threads
from tests.content.ranged_file import (
    dataset_of,
    read_all,
    served,
)
from tests.download.conftest import DATA, LONG
from tests.running import wait_until
from tests.scripted_server import (
    Script,
    ScriptedServer,
    stall,
)


@contextmanager
def suppress_thread_errors() -> Iterator[None]:
    """Ignore exceptions in threads of this test."""
    before, threading.excepthook = threading.excepthook, lambda _: None
    try:
        yield
    finally:
        threading.excepthook = before


@pytest.mark.long
def test_a_file_that_stalls_does_not_fail_its_neighbours(content: Content) -> None:
    """Probes request the other files. The server answers, so that these files are read at once."""
    names = [f"/{number}" for number in range(3)]
    with ScriptedServer({"/a.b.npy": stall(), **{name: served(DATA) for name in names}}) as server:
        bad = dataset_of(server, DATA)
        with pytest.raises(DeadlineExceeded):
            read_all(content, bad)
        good = iter([dataset_of(server, DATA, name) for name in names])
        assert in_threads(3, lambda: read_all(content, next(good))) == [DATA] * 3
        with pytest.raises(DeadlineExceeded):
            read_all(content, bad)
        assert read_all(content, dataset_of(server, DATA, "/0")) == DATA


def test_a_server_that_delivered_other_bytes_is_not_probed(content: Content) -> None:
    with ScriptedServer(
        {"/x": stall(), "/y": served(LONG, rate=5 << 20), "/z": served(DATA)}
    ) as server:
        slow = threading.Thread(target=read_all, args=(content, dataset_of(server, LONG, "/y")))
        slow.start()
        with pytest.raises(DeadlineExceeded):
            read_all(content, dataset_of(server, DATA, "/x"))
        assert read_all(content, dataset_of(server, DATA, "/z")) == DATA
        slow.join(30)
        probes = [each for each in server.requests if each.headers.get("range") == "bytes=0-0"]
        assert probes == []


@pytest.mark.long
def test_after_a_deadline_other_readers_wait_for_a_probe_then_fail(content: Content) -> None:
    now: list[Script] = [stall()]
    scripts = {"/a.b.npy": stall(), "/c.d.npy": lambda talk: now[0](talk)}
    with ScriptedServer(scripts) as server:
        first, second = dataset_of(server, DATA), dataset_of(server, DATA, "/c.d.npy")
        with pytest.raises(DeadlineExceeded):
            read_all(content, first)
        with pytest.raises(DeadlineExceeded, match="try again in a moment"):
            read_all(content, second)
        now[0] = served(DATA)

        def works() -> bool:
            try:
                return read_all(content, second) == DATA
            except OnefsError:
                return False

        wait_until(works, timeout=20)


def test_readers_that_wait_for_a_probe_are_woken_by_close(content: Content) -> None:
    with ScriptedServer({"/x": stall(), "/y": stall()}) as server:
        with pytest.raises(DeadlineExceeded):
            read_all(content, dataset_of(server, DATA, "/x"))
        threading.Timer(0.3, content.close).start()
        with pytest.raises(Stopping):
            read_all(content, dataset_of(server, DATA, "/y"))


def test_a_probe_that_cannot_start_does_not_prevent_the_next(
    content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "onefs-probe":
            raise RuntimeError("can't start new thread")
        start(thread)

    with ScriptedServer({"/x": stall(), "/y": served(DATA)}) as server:
        good = dataset_of(server, DATA, "/y")
        with pytest.raises(DeadlineExceeded):
            read_all(content, dataset_of(server, DATA, "/x"))
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(DeadlineExceeded):
                read_all(content, good)

        def works() -> bool:
            with suppress(OnefsError):
                return read_all(content, good) == DATA
            return False

        wait_until(works, timeout=20)


def test_a_probe_that_crashes_does_not_prevent_the_next() -> None:
    asked: list[str] = []

    def probe(url: str) -> None:
        asked.append(url)
        if len(asked) == 1:
            raise ZeroDivisionError("not foreseen")

    circuits = HostCircuits(probe, recent_seconds=1.0)
    circuits.note_timeout("http://host/a")
    with suppress_thread_errors():
        wait_until(lambda: circuits.wait_for_probe(["http://host/b"]), timeout=20)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("url", "server", "kind", "name"),
    [
        ("https://host:1/a", "host:1", "server", "host:1"),
        ("s3://bucket/key", "S3", "bucket", "bucket"),
        ("alyx-s3://aws_lab/key", "S3", "bucket", "aws_lab"),
    ],
)
def test_the_server_of_a_url(url: str, server: str, kind: str, name: str) -> None:
    """All buckets are one server: if one is unreachable, the others need not be tried."""
    assert (server_of(url), kind_of(url), host_of(url)) == (server, kind, name)

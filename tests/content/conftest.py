"""Fixtures and helpers: a cache, and a file server whose files are set by each test."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from werkzeug import Request, Response

from onefs.cache.folder import Place
from onefs.cache.mismatches import LONGEST_PAUSE_SECONDS
from onefs.config.credentials import DataCredentials
from onefs.config.secret import Secret
from onefs.content.content import Content
from onefs.demo.http_server import Listener
from onefs.download.sources.http import HttpSource
from onefs.download.sources.interface import RemoteFileChanged, Source
from onefs.errors import BadContent
from onefs.http import HostAuth, Transport
from onefs.model import Dataset, Replica


class FileServer:
    """An HTTP server that serves the files which a test gives it. It records each requested
    path."""

    def __init__(self) -> None:
        self.listener = Listener(0)
        self.asked: list[str] = []
        self.files: dict[str, Callable[[Request], Response]] = {}
        self.start()

    def start(self) -> None:
        """Start to serve. After ``listener.stop()``, serve on the same port as before."""
        self.listener.start(self._app)

    def put(self, name: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Serve ``data`` at ``/name``. Range requests are supported."""

        def serve(request: Request) -> Response:
            response = Response(data, content_type=content_type)
            response.headers["Accept-Ranges"] = "bytes"
            return response.make_conditional(
                request.environ, accept_ranges=True, complete_length=len(data)
            )

        self.files["/" + name] = serve

    def dataset(self, name: str, data: bytes, **claims: Any) -> Dataset:
        """Serve ``data``, and return a dataset for it. ``claims`` replaces fields, such as size and
        md5.

        Without ``claims`` the dataset has the true size and md5 of ``data``.
        """
        self.put(name, data)
        key = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        true: dict[str, Any] = {
            "size": len(data),
            "md5": hashlib.md5(data).hexdigest(),
            "mtime": 1_500_000_000.0,
            "replicas": (Replica("flatiron_x", f"{self.listener.url}/{name}"),),
        }
        return Dataset(id=key, eid=key, name=name, **{**true, **claims})

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[FileServer]:
        """Another file server, until the end of the block."""
        found = cls()
        try:
            yield found
        finally:
            found.close()

    def close(self) -> None:
        self.listener.stop()

    def _app(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        self.asked.append(request.path)
        found = self.files.get(request.path)
        response = found(request) if found else Response("nothing", 404)
        return response(environ, start_response)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer.running() as found:
        yield found


Open = Callable[..., Content]


@pytest.fixture
def open_content(tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens Contents in one cache folder. All are closed after the test.

    Each Content has its own transport.
    """
    made: list[tuple[Content, Transport]] = []

    def build(
        stall: float = 60.0,
        database: str = "lab.org",
        cache: str = "cache",
        credentials: DataCredentials | None = None,
        source: Source | None = None,
        **more: Any,
    ) -> Content:
        transport = Transport()
        content = Content(
            tmp_path / cache,
            database,
            lambda: source or HttpSource(transport, HostAuth(credentials, loopback=True)),
            stall=stall,
            deadline=stall,
            **more,
        )
        made.append((content, transport))
        return content

    yield build
    for content, transport in made:
        content.close()
        transport.close()
        content.close_store()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a separate disk of 8 MiB, and return its path."""
    if os.geteuid() != 0:
        pytest.skip("mounting a disk needs root")
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def place_of(dataset: Dataset) -> Place:
    return ("lab", "subject", "2020-01-01", "001", "alf", dataset.name)


def pass_time(content: Content, seconds: float = LONGEST_PAUSE_SECONDS) -> None:
    """Advance the clock of mismatches by ``seconds``."""
    before = content.store.mismatches.clock
    content.store.mismatches.clock = lambda: before() + seconds


def make_rejected(content: Content, dataset: Dataset) -> None:
    """Read a wrong file again after each pause, until its state is bad."""
    end = time.monotonic() + 60
    while content.state(dataset)[0] != "bad":
        assert time.monotonic() < end, f"{content.state(dataset)} never becomes bad"
        with suppress(BadContent, RemoteFileChanged):
            content.fetch_file(dataset, place_of(dataset))
        pass_time(content)


def login() -> DataCredentials:
    return DataCredentials("user", Secret("password"), "test")


def in_threads(count: int, work: Callable[[], Any]) -> list[Any]:
    """Call ``work`` on ``count`` threads that start together. Return the results or errors."""
    results: list[Any] = []
    barrier = threading.Barrier(count)

    def run() -> None:
        barrier.wait(60)
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert len(results) == count, "a thread hangs"
    return results

"""Sources that are asked over HTTP, with a scripted server before them that makes their faults."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest

from onefs.config.bucket import Bucket
from onefs.download.sources.by_scheme import SourcesByScheme
from onefs.download.sources.http import HttpSource
from onefs.download.sources.interface import Source
from onefs.download.sources.s3 import S3Source
from onefs.download.sources.s3_buckets import Buckets
from onefs.download.sources.s3_client import S3Client
from onefs.http import HostAuth, Transport
from onefs.model import Dataset, Replica
from tests.content.conftest import login
from tests.content.ranged_file import served, some_bytes
from tests.download.conftest import DATA
from tests.s3_servers import PRIVATE, PUBLIC, S3Server
from tests.scripted_server import (
    Request,
    Script,
    ScriptedConnection,
    ScriptedServer,
    answer,
)

#: the file of the tests; S3 escapes its name otherwise than file servers
KEY = "data/lab one/#2020#/a+b.npy"
ESCAPED_KEY = "data/lab%20one/%232020%23/a+b.npy"
ID = "5d3f1c1e-5ea6-4a0f-8b0a-3f6a1a8f6a11"
#: the sources: in each run of the tests the one whose faults no other tests have, S3 by a script
WIRES = ["s3", *(pytest.param(name, marks=pytest.mark.long) for name in ("http", "rclone", "moto"))]
#: the codes of S3's error answers
_CODES = {
    400: "InvalidRequest",
    401: "AccessDenied",
    403: "AccessDenied",
    404: "NoSuchKey",
    410: "NoSuchKey",
    416: "InvalidRange",
    429: "TooManyRequests",
    500: "InternalError",
}


class Opener(Protocol):
    def __call__(self, endpoint: str, transport: Transport) -> Source: ...


@dataclass
class Wire:
    """A source whose server answers as a test says; :attr:`good` is its honest answer."""

    name: str
    url: str
    server: ScriptedServer
    good: Script
    open_source: Opener
    transport: Transport
    scripts: list[Script]

    @property
    def source(self) -> Source:
        return self.open_source(self.server.url, self.transport)

    @property
    def requests(self) -> list[Request]:
        """The requests for the file."""
        return self.server.requests

    @property
    def is_s3(self) -> bool:
        return self.name != "http"

    def answer(self, *scripts: Script) -> None:
        """Answer with one script after the other, and from then on with the last."""
        self.scripts[:] = scripts

    def error(self, status: int, **headers: object) -> Script:
        """Return an error answer as such a server sends it."""
        if not self.is_s3 or status not in _CODES:
            return answer(b"", status, **headers)
        body = f"<?xml version='1.0'?><Error><Code>{_CODES[status]}</Code></Error>".encode()
        return answer(body, status, Content_Type="application/xml", **headers)

    def dataset(self, endpoint: str = "", **claims: Any) -> Dataset:
        """Return the dataset. ``endpoint`` is another server for it. ``claims`` replaces fields."""
        url = self.url.replace(self.server.url, endpoint) if endpoint else self.url
        true: dict[str, Any] = {
            "id": ID,
            "eid": ID,
            "name": "a+b.npy",
            "size": len(DATA),
            "md5": hashlib.md5(DATA).hexdigest(),
            "replicas": (Replica("aws_lab" if self.is_s3 else "flatiron_lab", url),),
        }
        return Dataset(**{**true, **claims})


@contextmanager
def open_wire(name: str, real: S3Server | None) -> Iterator[Wire]:
    """Start the scripted server of a source, before the ``real`` one with ``DATA`` as its file."""
    scripts: list[Script] = []

    def next_script(talk: ScriptedConnection) -> None:
        (scripts.pop(0) if len(scripts) > 1 else scripts[0])(talk)

    with ExitStack() as stack:
        path = f"/{PRIVATE if name == 'rclone' else PUBLIC}/{ESCAPED_KEY.replace('+', '%2B')}"
        target = path if name != "http" else f"/{ESCAPED_KEY}"
        server = stack.enter_context(ScriptedServer({target: next_script}))
        transport = stack.enter_context(Transport())
        good, url, opener = served(DATA), f"s3://{PUBLIC}/{ESCAPED_KEY}", _open_public
        if name == "http":
            url, opener = f"{server.url}/{ESCAPED_KEY}", _open_http
        elif real is not None:
            good = relay(real.endpoint)
            if real.checks_signatures:
                url, opener = f"alyx-s3://aws_lab/{ESCAPED_KEY}", _open_signed(real.private)
        scripts.append(good)
        yield Wire(name, url, server, good, opener, transport, scripts)


def _open_http(endpoint: str, transport: Transport) -> Source:
    return HttpSource(transport, HostAuth(login(), [endpoint]))


def _open_public(endpoint: str, transport: Transport) -> Source:
    return with_http(S3Source(S3Client(transport, endpoint), Buckets(_no_bucket)), transport)


def with_http(source: S3Source, transport: Transport) -> Source:
    http = HttpSource(transport, HostAuth(login()))
    return SourcesByScheme({"http": http, "s3": source, "alyx-s3": source})


def _open_signed(bucket: Bucket) -> Opener:
    def open_source(endpoint: str, transport: Transport) -> Source:
        source = S3Source(S3Client(transport, endpoint), Buckets(lambda repository: bucket))
        return with_http(source, transport)

    return open_source


def _no_bucket(repository: str) -> Bucket:
    raise AssertionError(f"the bucket of {repository} is not needed")


def relay(endpoint: str) -> Script:
    """Return a script that passes the request on to a real server, and its answer back."""
    host = urlsplit(endpoint).netloc

    def script(talk: ScriptedConnection) -> None:
        connection = http.client.HTTPConnection(host, timeout=30)
        try:
            # the same bytes as the client's, since its signature is for them
            connection.putrequest("GET", talk.request.target, True, True)
            for name, value in talk.request.headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        kept = {k: v for k, v in response.getheaders() if k.lower() not in _HOP_HEADERS}
        answer(body, response.status, **kept)(talk)

    return script


_HOP_HEADERS = ("connection", "transfer-encoding", "content-length", "keep-alive")
#: other bytes than ``DATA``, of the same size
OTHER = some_bytes(len(DATA), seed=3)
Check = Callable[[Wire, Any], None]

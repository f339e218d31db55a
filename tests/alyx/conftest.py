"""Fixtures: an Alyx whose answers a test sets, and the Alyx of the embedded laboratory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug import Request, Response

from onefs.alyx.auth import fetch_token
from onefs.alyx.client import AlyxClient
from onefs.alyx.tokens import FixedToken
from onefs.demo.http_server import Listener
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.http import Transport

Answer = tuple[int, Any]


def _not_found(_: Request) -> Answer:
    return 404, {"detail": "Not found."}


class WrittenAlyx:
    """An HTTP server that records requests. A test sets the answer for each path."""

    def __init__(self) -> None:
        self.listener = Listener(0)
        self.paths: list[str] = []
        self.answers: dict[str, Callable[[Request], Answer]] = {}
        self.listener.start(self._app)

    @property
    def url(self) -> str:
        return self.listener.url

    def answer(self, path: str, status: int, body: Any) -> None:
        """Set the answer to requests for ``path``."""
        self.answers[path] = lambda request: (status, body)

    def close(self) -> None:
        self.listener.stop()

    def _app(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        self.paths.append(request.full_path.rstrip("?"))
        answer = self.answers.get(request.path, _not_found)
        status, body = answer(request)
        text = body if isinstance(body, str) else json.dumps(body)
        return Response(text, status, mimetype="application/json")(environ, start_response)


@pytest.fixture
def transport() -> Iterator[Transport]:
    with Transport() as client:
        yield client


@pytest.fixture
def written() -> Iterator[WrittenAlyx]:
    server = WrittenAlyx()
    yield server
    server.close()


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(SyntheticLaboratory()) as running:
        yield running


@pytest.fixture
def alyx(servers: Servers, transport: Transport) -> AlyxClient:
    """Return a client for the Alyx of the embedded laboratory."""
    login = servers.login
    token = fetch_token(transport, servers.alyx_url, login.username, login.password)
    servers.clear_requests()
    return AlyxClient(transport, servers.alyx_url, FixedToken(token), deadline=60.0)

"""Running servers for the contract tests, and requests that are sent without changes."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: the longest time in seconds for one request
_TIMEOUT_SECONDS = 20
#: characters that a client does not escape in a path and query (those of RFC 3986, and ``%``)
_SAFE = "%/:=&?~#+!$,;'@()*[]"


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        """Log nothing."""


@dataclass(frozen=True)
class Answer:
    """The response of a server."""

    status: int
    headers: http.client.HTTPMessage
    content: bytes


@contextlib.contextmanager
def served(app: WSGIApplication) -> Iterator[str]:
    """Serve ``app`` on a loopback port. Yield the address without a slash at the end."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(_TIMEOUT_SECONDS)
        server.server_close()


def ask(
    address: str, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
) -> Answer:
    """Send one request with exactly these headers. A Host header is added if missing."""
    connection = http.client.HTTPConnection(
        address.removeprefix("http://"), timeout=_TIMEOUT_SECONDS
    )
    try:
        has_host = any(name.lower() == "host" for name in headers)
        connection.putrequest(
            method, quote(path, safe=_SAFE), skip_host=has_host, skip_accept_encoding=True
        )
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()

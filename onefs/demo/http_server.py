"""An HTTP/1.1 server in a thread. It serves a WSGI application on a loopback port.

Werkzeug parses the requests and wsgiref writes the responses. Werkzeug itself would close the
connection after each request. Real servers keep connections open, and so does this server.
``docs/decisions/0003-embedded-server.md`` gives the reasons against other libraries.
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import socketserver
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from wsgiref.handlers import SimpleHandler
from wsgiref.headers import Headers

from werkzeug.serving import WSGIRequestHandler
from werkzeug.wsgi import LimitedStream

from onefs.errors import OnefsError, reason_of
from onefs.integers import parse_whole_number

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """One request, with the status of the response and the number of bytes that were sent."""

    #: ``alyx``, ``data`` or ``bucket``
    server: str
    method: str
    #: path and query, as they were received
    path: str
    #: the Range header, or '' if there is none
    range: str
    status: int
    #: the number of bytes of the body that were passed to the network
    bytes: int
    #: the User-Agent header, or '' if there is none
    agent: str


class RequestLog:
    """Records of requests: the last ``keep`` requests in memory, all requests in ``file``."""

    def __init__(self, keep: int, file: IO[str] | None) -> None:
        self._lock = threading.Lock()
        self._file = file
        self._kept: deque[AccessRecord] = deque(maxlen=keep)

    def add(self, access: AccessRecord) -> None:
        """Record one more request, and write it at once to the file, as one line of JSON."""
        with self._lock:
            self._kept.append(access)
            if self._file is not None:
                self._file.write(json.dumps(asdict(access)) + "\n")
                self._file.flush()

    def snapshot(self) -> list[AccessRecord]:
        """Return the requests in memory, oldest first."""
        with self._lock:
            return list(self._kept)

    def clear(self) -> None:
        """Remove all requests from memory."""
        with self._lock:
            self._kept.clear()


def open_log(path: Path | None) -> IO[str] | None:
    """Open an access log for appending. Raises OnefsError if it cannot be written."""
    if path is None:
        return None
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise OnefsError(
            f"the access log {path} cannot be written: {reason_of(error, path)}"
        ) from error


def _access_record(server: str, environ: WSGIEnvironment, status: int, sent: int) -> AccessRecord:
    method, path = environ["REQUEST_METHOD"], environ["REQUEST_URI"]
    span, agent = environ.get("HTTP_RANGE", ""), environ.get("HTTP_USER_AGENT", "")
    return AccessRecord(server, method, path, span, status, sent, agent)


def observed(
    app: WSGIApplication,
    server: str,
    report: Callable[[AccessRecord], None],
    latency_seconds: float,
) -> WSGIApplication:
    """Return an application that delays each request and reports each request to ``report``.

    ``latency_seconds`` is the delay before ``app`` starts. ``report`` is called before the last
    bytes of the body are sent, or at once if the transfer breaks.
    """

    def observed_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        time.sleep(latency_seconds)
        status = sent = 0
        length: str | None = None
        reported = False

        def observe(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            nonlocal status, length
            status = int(line[:3])
            length = Headers(headers)["Content-Length"]
            return start_response(line, headers, exc_info)

        def report_once() -> None:
            nonlocal reported
            if not reported:
                reported = True
                report(_access_record(server, environ, status, sent))

        with contextlib.ExitStack() as stack:
            stack.callback(report_once)
            body = app(environ, observe)
            stack.callback(getattr(body, "close", lambda: None))
            for chunk in body:
                sent += len(chunk)
                # a client that has the whole response can already find the record of the request
                if str(sent) == length:
                    report_once()
                yield chunk

    return observed_app


class _WsgiResponse(SimpleHandler):
    """One response, written by wsgiref."""

    http_version = "1.1"
    server_software = "onefs"
    # empty, because wsgiref would put this process's environment into every request
    os_environ: dict[str, str] = {}  # noqa: RUF012

    #: whether the client can find the end of the body, so that the connection may be kept open
    complete = False

    # attributes of wsgiref that typeshed does not list
    environ: dict[str, Any]
    status: str
    headers: Headers
    headers_sent: bool
    bytes_sent: int

    def finish_content(self) -> None:
        """Send the headers if the response has no body, and set ``complete``.

        ``complete`` is True if the client can find the end of the response.
        """
        # wsgiref's own method would send ``Content-Length: 0`` for HEAD and for status 304
        if not self.headers_sent:
            self.send_headers()
        bodyless = self.environ["REQUEST_METHOD"] == "HEAD" or self.status[:3] in ("204", "304")
        self.complete = bodyless or self.headers["Content-Length"] == str(self.bytes_sent)


class _Handler(WSGIRequestHandler):
    server: _Server  # type: ignore[assignment]
    server_version = "onefs"
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # buffered, so that all headers are sent in one packet
    wbufsize = -1

    def run_wsgi(self) -> None:
        environ = self.make_environ()
        length = parse_whole_number(self.headers.get("Content-Length", "0"))
        body = LimitedStream(cast("IO[bytes]", self.rfile), length or 0)
        if "Transfer-Encoding" in self.headers or length is None:
            # the end of this request is unknown, so that no other request can follow
            self.close_connection = True
        else:
            environ["wsgi.input"] = body
        output = cast("IO[bytes]", self.wfile)
        response = _WsgiResponse(environ["wsgi.input"], output, environ["wsgi.errors"], environ)
        response.run(self.server.app)
        if not response.complete:
            self.close_connection = True
        if not self.close_connection:
            body.exhaust()

    def log(self, type: str, message: str, *args: Any) -> None:
        """Log nothing, because RequestLog is the access log."""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    # a stop does not wait for transfers but closes their connections
    block_on_close = False
    # the number of connections that may wait to be accepted. It is larger than the number of
    # readers that start at the same time
    request_queue_size = 1024
    # read by werkzeug's request handler
    multithread, multiprocess, ssl_context = True, False, None
    app: WSGIApplication

    def __init__(self, port: int) -> None:
        super().__init__((HOST, port), _Handler, bind_and_activate=False)
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the error, because the client has closed the connection."""

    def stop(self) -> None:
        """Close the port and every connection, idle or busy. ``serve_forever`` must be running."""
        # this wakes up the event loop, because the port accepts no more connections
        self.socket.shutdown(socket.SHUT_RDWR)
        self.shutdown()
        self.server_close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Listener:
    """A port and its server. After ``stop`` the port refuses connections, and ``start`` opens the
    same port again."""

    def __init__(self, port: int) -> None:
        """Bind ``port``. If ``port`` is 0, bind any free port.

        Raises OnefsError if the port cannot be used.
        """
        self._server: _Server | None = _bound_server(port)
        self._serving = False
        self.port: int = self._server.server_address[1]
        self.url = f"http://{HOST}:{self.port}"
        self._app: WSGIApplication | None = None

    def start(self, app: WSGIApplication | None = None) -> None:
        """Serve ``app``. If ``app`` is None, serve the same application as at the last start.

        Do nothing if the server already serves, or if there is no application.
        """
        self._app = app or self._app
        if self._app is None or self._serving:
            return
        self._server = self._server or _bound_server(self.port)
        self._server.app = self._app
        self._server.server_activate()
        name = f"demo-{self.port}"
        threading.Thread(target=self._server.serve_forever, name=name, daemon=True).start()
        self._serving = True

    def stop(self) -> None:
        """Close the port and every connection, including those that are sending a response."""
        server, self._server = self._server, None
        if server is None:
            return
        if self._serving:
            self._serving = False
            server.stop()
        else:
            server.server_close()


def _bound_server(port: int) -> _Server:
    server = _Server(port)
    try:
        server.server_bind()
    except OverflowError:
        server.server_close()
        raise OnefsError(f"there is no port {port}: choose one from 1024 to 65534") from None
    except OSError as error:
        server.server_close()
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} is in use by another program: stop it or choose another port"
        else:
            message = f"port {port} cannot be used: {reason_of(error)}"
        raise OnefsError(message) from error
    return server

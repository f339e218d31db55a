"""One HTTP/1.1 server in a thread: a WSGI application behind a port of the loopback interface.

Werkzeug parses the requests and wsgiref answers them. Werkzeug's own way to answer closes the
connection after each request, and Alyx and FlatIron keep theirs open; so do we.
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any, cast
from wsgiref.handlers import SimpleHandler
from wsgiref.headers import Headers

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wsgi import LimitedStream

from onefs.errors import OnefsError, reason_of
from onefs.integers import parse_whole_number

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"
#: connections that wait to be accepted: more than readers that start at once
_BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """One request and how it ended."""

    #: ``alyx`` or ``data``
    server: str
    method: str
    #: with its query, as it came over the wire
    path: str
    #: the Range header, '' without one
    range: str
    status: int
    #: of the body, handed to the network
    bytes: int
    agent: str

    def line(self) -> str:
        """The access log's line: one JSON object."""
        return json.dumps(asdict(self)) + "\n"


class ObservedApp:
    """A WSGI application that delays each request by ``latency`` seconds and reports its end.

    The report comes before the last bytes of the body are handed over, so that who has the whole
    answer finds it reported; of a broken transfer when it breaks.
    """

    def __init__(
        self,
        name: str,
        app: WSGIApplication,
        report: Callable[[AccessRecord], None],
        latency: float,
    ) -> None:
        self._name = name
        self._app = app
        self._report = report
        self._latency = latency

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._latency > 0:
            time.sleep(self._latency)
        status = 0
        length: int | None = None

        def observe(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            nonlocal status, length
            status = int(line[:3])
            lengths = [value for key, value in headers if key.lower() == "content-length"]
            length = int(lengths[0]) if lengths else None
            return start_response(line, headers, exc_info)

        body = self._app(environ, observe)
        return _ReportedBody(
            body, length, lambda sent: self._report(self._access(environ, status, sent))
        )

    def _access(self, environ: WSGIEnvironment, status: int, sent: int) -> AccessRecord:
        return AccessRecord(
            self._name,
            environ["REQUEST_METHOD"],
            environ["REQUEST_URI"],
            environ.get("HTTP_RANGE", ""),
            status,
            sent,
            environ.get("HTTP_USER_AGENT", ""),
        )


class _ReportedBody:
    """The chunks of ``body``; calls ``ended`` once with the bytes that went."""

    def __init__(
        self, body: Iterable[bytes], length: int | None, ended: Callable[[int], None]
    ) -> None:
        self._body = body
        self._chunks: Iterator[bytes] = iter(body)
        self._length = length
        self._ended: Callable[[int], None] | None = ended
        self._sent = 0

    def __iter__(self) -> _ReportedBody:
        return self

    def __next__(self) -> bytes:
        try:
            chunk = next(self._chunks)
        except StopIteration:
            self._end()
            raise
        self._sent += len(chunk)
        if self._sent == self._length:
            self._end()
        return chunk

    def close(self) -> None:
        self._end()
        close = getattr(self._body, "close", None)
        if close is not None:
            close()

    def _end(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(self._sent)


class _WsgiResponse(SimpleHandler):
    """One response, written by wsgiref."""

    http_version = "1.1"
    server_software = "onefs"
    # wsgiref would put this process's environment into every request
    os_environ: dict[str, str] = {}  # noqa: RUF012

    #: whether the client can tell where the body ended, so that the connection may go on
    complete = False

    # wsgiref's own, which typeshed does not know
    environ: dict[str, Any]
    status: str
    headers: Headers
    headers_sent: bool
    bytes_sent: int

    def finish_content(self) -> None:
        """Sends the headers where there is no body.

        wsgiref would claim ``Content-Length: 0`` for HEAD and 304.
        """
        if not self.headers_sent:
            self.send_headers()
        bodyless = self.environ["REQUEST_METHOD"] == "HEAD" or self.status[:3] in ("204", "304")
        self.complete = bodyless or self.headers["Content-Length"] == str(self.bytes_sent)


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # buffered: the headers leave in one piece
    wbufsize = -1

    def run_wsgi(self) -> None:
        environ = self.make_environ()
        length = self.headers.get("Content-Length", "0")
        body = LimitedStream(cast("IO[bytes]", self.rfile), parse_whole_number(length) or 0)
        if "Transfer-Encoding" in self.headers or parse_whole_number(length) is None:
            # where such a request ends is not known, so nothing can follow it
            self.close_connection = True
        else:
            environ["wsgi.input"] = body
        output = cast("IO[bytes]", self.wfile)
        answer = _WsgiResponse(environ["wsgi.input"], output, environ["wsgi.errors"], environ)
        answer.run(self.server.app)
        if not answer.complete:
            self.close_connection = True
        if not self.close_connection:
            body.exhaust()

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing: the access log is ours."""


class _ThreadedServer(ThreadedWSGIServer):
    # a stop does not wait for transfers: their connections are closed
    block_on_close = False

    def __init__(self, app: WSGIApplication, bound: socket.socket) -> None:
        port = bound.getsockname()[1]
        super().__init__(HOST, port, app, handler=_Handler, fd=bound.fileno())
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that goes away is no error of ours."""

    def break_connections(self) -> None:
        """Ends every connection, idle or busy."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Listener:
    """A port and the server behind it. After ``stop`` it refuses connections; ``start`` takes
    the same port again."""

    def __init__(self, port: int) -> None:
        """Takes ``port`` (0: any that is free) at once. Raises OnefsError when it is in use."""
        self._bound: socket.socket | None = _bind(port)
        self.port: int = self._bound.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}"
        self._app: WSGIApplication | None = None
        self._server: _ThreadedServer | None = None
        self._thread: threading.Thread | None = None

    def start(self, app: WSGIApplication | None = None) -> None:
        """Serves ``app``, or the one of the last time; nothing where it serves already."""
        self._app = app or self._app
        if self._app is None or self._server is not None:
            return
        bound = self._bound or _bind(self.port)
        self._bound = None
        self._server = _ThreadedServer(self._app, bound)
        bound.close()  # the server has a descriptor of its own
        self._server.socket.listen(_BACKLOG)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name=f"demo-{self.port}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Closes the port and every connection, also those that are being answered."""
        if self._bound is not None:
            self._bound.close()
            self._bound = None
        if self._server is None or self._thread is None:
            return
        # a port that accepts no more wakes who waits for it
        self._server.socket.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self._thread.join()
        self._server.break_connections()
        self._server = self._thread = None


class RequestLog:
    """What the servers were asked: the last requests in memory, all of them in a file."""

    def __init__(self, keep: int, log: IO[str] | None) -> None:
        self._lock = threading.Lock()
        self._log = log
        self._kept: deque[AccessRecord] = deque(maxlen=keep)

    def add(self, access: AccessRecord) -> None:
        """One more request; in the file at once."""
        with self._lock:
            self._kept.append(access)
            if self._log is not None:
                self._log.write(access.line())
                self._log.flush()

    def snapshot(self) -> list[AccessRecord]:
        """The requests so far, oldest first."""
        with self._lock:
            return list(self._kept)

    def clear(self) -> None:
        """Forgets what is in memory."""
        with self._lock:
            self._kept.clear()


def _bind(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
    except OverflowError:
        bound.close()
        raise OnefsError(f"there is no port {port}: choose one from 1024 to 65534") from None
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} is in use by another program: stop it or choose another port"
        else:
            message = f"port {port} cannot be used: {reason_of(error)}"
        raise OnefsError(message) from error
    return bound

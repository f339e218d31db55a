"""A server that follows a script, down to the bytes and resets of each connection.

``with Scripted({"/a": [stall(), answer(b"x")]}) as server``: the first request for ``/a`` stalls,
every later one is answered. ``server.requests`` has what was asked.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from typing_extensions import Self

#: no script holds a connection for longer than this
LONGEST_PAUSE_SECONDS = 60.0


@dataclass(frozen=True)
class Request:
    method: str
    #: as in the request line: a path with its query, or a whole URL when we are the proxy
    target: str
    headers: Mapping[str, str]
    body: bytes


class ScriptedConnection:
    """One request's connection, for a script. Raising OSError ends the connection."""

    def __init__(self, server: ScriptedServer, connection: socket.socket, request: Request) -> None:
        self.request = request
        self._server = server
        self._connection = connection

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def head(self, status: int = 200, **headers: object) -> None:
        lines = [f"HTTP/1.1 {status} Scripted"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def pause(self, seconds: float = LONGEST_PAUSE_SECONDS) -> None:
        """Hold the connection, at most until the server is closed."""
        if self._server.closing.wait(seconds):
            raise ConnectionAbortedError

    def hang_up(self) -> None:
        raise ConnectionAbortedError

    def reset(self) -> None:
        """Close with RST, not FIN."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self._connection.detach())
        raise ConnectionAbortedError


Script = Callable[[ScriptedConnection], None]
#: for each path, the only script or one script after the other
Scripts = Mapping[str, Script | Sequence[Script]]


def answer(body: bytes = b"", status: int = 200, **headers: object) -> Script:
    def script(talk: ScriptedConnection) -> None:
        talk.head(status, **{"Content_Length": len(body), **headers})
        talk.send(body)

    return script


def answer_json(value: Any, status: int = 200, **headers: object) -> Script:
    return answer(json.dumps(value).encode(), status, Content_Type="application/json", **headers)


def gzipped(body: bytes) -> Script:
    return answer(gzip.compress(body), Content_Encoding="gzip")


def redirect(location: str, status: int = 302) -> Script:
    return answer(b"elsewhere", status, Location=location)


def unauthorized(challenge: str = 'Basic realm="FlatIron"') -> Script:
    return answer(b"who are you", 401, WWW_Authenticate=challenge)


def basic(user: str, password: str, then: Script) -> Script:
    """Answer with ``then`` if the request has the credentials, else with 401."""
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def script(talk: ScriptedConnection) -> None:
        known = talk.request.headers.get("authorization") == wanted
        (then if known else unauthorized())(talk)

    return script


def stall() -> Script:
    """Never answer."""
    return lambda talk: talk.pause()


def stall_after(body: bytes, promised: int) -> Script:
    """Send headers and some bytes, then nothing more."""

    def script(talk: ScriptedConnection) -> None:
        answer(body, Content_Length=promised)(talk)
        talk.pause()

    return script


def trickle(data: bytes, every: float) -> Script:
    """Send the raw bytes of an answer, one at a time."""

    def script(talk: ScriptedConnection) -> None:
        for index in range(len(data)):
            talk.send(data[index : index + 1])
            talk.pause(every)

    return script


def truncate(body: bytes, promised: int) -> Script:
    def script(talk: ScriptedConnection) -> None:
        answer(body, Content_Length=promised)(talk)
        talk.hang_up()

    return script


def reset_after(body: bytes, promised: int) -> Script:
    def script(talk: ScriptedConnection) -> None:
        answer(body, Content_Length=promised)(talk)
        talk.reset()

    return script


def no_length(body: bytes) -> Script:
    def script(talk: ScriptedConnection) -> None:
        talk.head(200, Connection="close")
        talk.send(body)
        talk.hang_up()

    return script


def chunked(*chunks: bytes, complete: bool = True) -> Script:
    def script(talk: ScriptedConnection) -> None:
        talk.head(200, Transfer_Encoding="chunked")
        for chunk in chunks:
            talk.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if not complete:
            talk.hang_up()
        talk.send(b"0\r\n\r\n")

    return script


def raw(data: bytes) -> Script:
    """Send these bytes in place of an answer, then close the connection."""

    def script(talk: ScriptedConnection) -> None:
        talk.send(data)
        talk.hang_up()

    return script


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.request.settimeout(LONGEST_PAUSE_SECONDS)
        with suppress(OSError), self.request.makefile("rb") as file:
            while line := file.readline(65536).decode("latin-1").split():
                method, target = line[:2]
                headers = {}
                while field := file.readline(65536).decode("latin-1").strip():
                    name, _, value = field.partition(":")
                    headers[name.lower()] = value.strip()
                body = file.read(int(headers.get("content-length", "0")))
                request = Request(method, target, headers, body)
                self.server.script(request)(
                    ScriptedConnection(self.server.scripted, self.request, request)
                )


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False
    # more connections at once than this are reset by the kernel, and not by any script
    request_queue_size = 256

    def __init__(self, scripted: ScriptedServer, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scripted = scripted
        self._tls = tls

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.scripted.connections += 1
        if self._tls is not None:
            connection = self._tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors: a script may end a connection badly on purpose."""

    def script(self, request: Request) -> Script:
        return self.scripted.next_script(request)


class ScriptedServer:
    """Serves ``scripts`` by path (without query): one after the other, then always the last."""

    def __init__(
        self,
        scripts: Scripts,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._scripts = {
            path: [found] if callable(found) else list(found) for path, found in scripts.items()
        }
        self._lock = threading.Lock()
        self._server = _Server(self, tls)
        self.closing = threading.Event()
        self.connections = 0
        self.requests: list[Request] = []
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"

    def next_script(self, request: Request) -> Script:
        with self._lock:
            self.requests.append(request)
            scripts = self._scripts.get(urlsplit(request.target).path)
            if not scripts:
                return answer(b"<html>no such path</html>", 404, Content_Type="text/html")
            return scripts.pop(0) if len(scripts) > 1 else scripts[0]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.socket.shutdown(
            socket.SHUT_RDWR
        )  # wakes the thread that waits for connections
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def refusing_url() -> Iterator[str]:
    """Yield the URL of a port on which no server listens, and none will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@contextmanager
def unanswering_url() -> Iterator[str]:
    """Yield the URL of a port that never completes a connection, since its queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                with suppress(BlockingIOError):
                    filler.connect(address)
            yield f"http://127.0.0.1:{address[1]}"
        finally:
            for filler in fillers:
                filler.close()

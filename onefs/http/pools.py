"""Kept connections to servers, over urllib3; each tells its exchange which socket it uses.

requests, which knows about proxies, is loaded where one is set (``onefs.http.adapter``): a command
that asks one question would spend more time on loading it than most servers on the answer.
"""

from __future__ import annotations

import http.client
import io
import logging
import os
import queue
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import certifi
from urllib3 import BaseHTTPResponse, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util import Timeout, create_urllib3_context

from onefs.forking import Member, register
from onefs.http.call import Call
from onefs.http.exchange import Exchange, Line, close_copy

#: connections kept open for each host, and hosts with any
POOL_SIZE = 32
POOLS = 16
#: bytes of one line of an answer's head, and of those between chunks
_LONGEST_LINE = 64 * 1024
#: answers with a status from 100 to 199 before the answer itself
_MOST_INTERIM = 32

_thread = threading.local()


def _without_headers(record: logging.LogRecord) -> bool:
    """Leave the server's text and the traceback out of urllib3's line about odd headers."""
    if record.msg.startswith("Failed to parse headers"):
        record.msg, record.args, record.exc_info = (
            "an answer has lines that are no headers",
            (),
            None,
        )
    return True


logging.getLogger("urllib3.connection").addFilter(_without_headers)


@contextmanager
def carried_by(exchange: Exchange) -> Iterator[None]:
    """Requests sent by this thread belong to ``exchange``."""
    _thread.exchange = exchange
    try:
        yield
    finally:
        _thread.exchange = None


class _BoundedLines(io.BufferedReader):
    """What a server sends; no line of it is longer than 64 KiB."""

    def readline(self, size: int | None = -1, /) -> bytes:
        if size is not None and size >= 0:
            return super().readline(size)
        line = super().readline(_LONGEST_LINE + 1)
        if len(line) > _LONGEST_LINE:
            raise http.client.LineTooLong("line")
        return line


class _Response(http.client.HTTPResponse):
    """An answer; interim ones (102 Processing, 103 Early Hints) before it are skipped."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        # urllib3 reads the lines between chunks without any bound
        self.fp.close()
        self.fp = _BoundedLines(sock.makefile("rb", buffering=0))

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INTERIM):
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 100 <= found[1] < 200:
                return found
            if found[1] == http.client.SWITCHING_PROTOCOLS:
                raise http.client.HTTPException("another protocol, which was not asked for")
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"more than {_MOST_INTERIM} interim answers")


class _Watched(HTTPConnection, Member):
    """A connection that attaches its line to the exchange of the thread that uses it."""

    response_class = _Response

    _line: Line | None = None
    #: connected for the request that comes next, and so attached already
    _fresh = False

    def _new_conn(self) -> socket.socket:
        exchange: Exchange = _thread.exchange
        timeout = self.timeout if isinstance(self.timeout, int | float) else 30.0
        host, port = self._dns_host.strip("[]"), self.port
        self._drop_line()
        try:
            made, self._line = exchange.dial(host, port, timeout, self.socket_options or ())
            return made
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "connection timed out") from error
        except OSError as error:
            raise NewConnectionError(self, "connection failed") from error

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self._line is not None and not self._fresh:
            _thread.exchange.attach(self._line, reused=True)
        try:  # urllib3 takes a broken pipe for no failure, and keeps the connection
            super().request(*args, **kwargs)
        finally:
            self._fresh = False

    def connect(self) -> None:
        super().connect()
        self._fresh = True
        register(self)

    def close(self) -> None:
        super().close()
        self._drop_line()

    def after_fork_in_child(self) -> None:
        close_copy(self.sock)

    def _drop_line(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.release()


class _WatchedTLS(_Watched, HTTPSConnection):
    """The same over TLS."""


class _ForkedPool(HTTPConnectionPool, Member):
    """A pool whose connections a child made by a fork does not have.

    urllib3 empties a pool when it is forgotten, under a lock that another thread may have held
    during the fork: so the child gets a new lock.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        register(self)

    def after_fork_in_child(self) -> None:
        if self.pool is not None:
            vars(self.pool).update(vars(queue.LifoQueue(self.pool.maxsize)))


class _Pool(_ForkedPool):
    ConnectionCls = _Watched


class _TLSPool(_ForkedPool, HTTPSConnectionPool):
    ConnectionCls = _WatchedTLS


#: of a urllib3 manager whose connections are watched
WATCHED: dict[str, type] = {"http": _Pool, "https": _TLSPool}


def certificates() -> str | None:
    """The file or folder of certificates that the environment names; None for the usual ones."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None


class Pools:
    """Sends one request; follows no redirect, keeps no cookie, retries nothing. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plain = _manager(None)
        #: by the certificates that they go by
        self._tls: dict[str | None, PoolManager] = {}

    def send_one(self, call: Call, exchange: Exchange) -> BaseHTTPResponse:
        """The answer up to its headers. Raises what urllib3 raises.

        A socket with a timeout would be asked whether it has bytes before each read. The watchdog
        ends what takes too long, so that none is set once there is a connection.
        """
        manager = self._secure() if call.url.lower().startswith("https:") else self._plain
        with carried_by(exchange):
            return manager.urlopen(
                call.method,
                call.url,
                headers=call.headers,
                body=call.body,
                timeout=Timeout(connect=call.connect_timeout, read=None),
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )

    def close(self) -> None:
        """Drop the connections."""
        with self._lock:
            managers = [self._plain, *self._tls.values()]
        for manager in managers:
            manager.clear()

    def _secure(self) -> PoolManager:
        named = certificates()
        with self._lock:
            if named not in self._tls:
                self._tls[named] = _manager(_context(named))
            return self._tls[named]


def _manager(context: ssl.SSLContext | None) -> PoolManager:
    made = PoolManager(POOLS, maxsize=POOL_SIZE, ssl_context=context)
    made.pool_classes_by_scheme = WATCHED
    return made


def _context(named: str | None) -> ssl.SSLContext:
    """What a TLS connection must prove, by the certificates that requests takes too."""
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    file = named or certifi.where()
    context.load_verify_locations(**{"capath" if os.path.isdir(file) else "cafile": file})
    return context

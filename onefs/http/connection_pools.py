"""Pools of open connections, with urllib3. Any thread can end a request that uses a connection.

For this purpose a connection gives a duplicate of its socket's descriptor to the :class:`Exchange`,
the object of the current request and its response. Requests through a proxy use
``onefs.http.proxy_adapter`` instead. That module imports the package ``requests`` only when needed,
because this import takes longer than most servers take to answer.
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
from typing import Any, cast

import certifi
from urllib3 import BaseHTTPResponse, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util import Timeout, create_urllib3_context

from onefs.config.urls import PLAIN_URL
from onefs.http.dialing import ShutdownHandle, close_inherited_socket, dial
from onefs.http.exchange import Exchange
from onefs.http.kept_connections import (
    PlainHeaders,
    PlainResponse,
    get_over,
    parse_plain_head,
    take_kept,
)
from onefs.http.request import HttpRequest
from onefs.lowlevel.forking import ForkAware, register_fork_aware

#: largest number of connections kept open for one host, and of hosts with open connections
CONNECTIONS_PER_HOST = 32
MAX_HOSTS = 16
#: largest size in bytes of a header line of a response, and of a line between chunks
_MAX_LINE_BYTES = 64 * 1024
#: largest number of interim responses (status 100 to 199) before the final response
_MAX_INTERIM_RESPONSES = 32
#: bytes that are read with the headers: all of a small file
_BUFFER_BYTES = 64 * 1024

_thread = threading.local()


def _redact_header_warning(record: logging.LogRecord) -> bool:
    """Remove the server's text and the traceback from urllib3's warning about invalid headers."""
    if record.msg.startswith("Failed to parse headers"):
        record.msg = "a response has header lines that are invalid"
        record.args, record.exc_info = (), None
    return True


logging.getLogger("urllib3.connection").addFilter(_redact_header_warning)


@contextmanager
def thread_exchange(exchange: Exchange) -> Iterator[None]:
    """Let ``exchange.stop`` end each request that this thread sends inside the ``with`` block."""
    _thread.exchange = exchange
    try:
        yield
    finally:
        _thread.exchange = None


class _BoundedLineReader(io.BufferedReader):
    """Reads the bytes that a server sends. Raises LineTooLong for a line of more than 64 KiB."""

    def readline(self, size: int | None = -1, /) -> bytes:
        if size is not None and size >= 0:
            return super().readline(size)
        line = super().readline(_MAX_LINE_BYTES + 1)
        if len(line) > _MAX_LINE_BYTES:
            raise http.client.LineTooLong("line")
        return line


class _Response(http.client.HTTPResponse):
    """A final response. Interim responses (102 Processing, 103 Early Hints) are skipped."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        # urllib3 sets no limit on the length of the lines between chunks
        self.fp.close()
        self.fp = _BoundedLineReader(sock.makefile("rb", buffering=0), _BUFFER_BYTES)

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MAX_INTERIM_RESPONSES):
            status_line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 100 <= status_line[1] < 200:
                return status_line
            if status_line[1] == http.client.SWITCHING_PROTOCOLS:
                raise http.client.HTTPException("a switch to another protocol was not requested")
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"more than {_MAX_INTERIM_RESPONSES} interim responses")


class _PlainAnswer(_Response):
    """An answer that :func:`parse_plain_head` reads if it can, and http.client otherwise."""

    #: the headers that :func:`parse_plain_head` has read; None if http.client has read them
    plain_headers: PlainHeaders | None = None

    def begin(self) -> None:
        head, end, _ = self.fp.peek(1).partition(b"\r\n\r\n")
        plain = parse_plain_head(head) if end else None
        if plain is None:
            super().begin()
            return
        self.fp.read(len(head) + len(end))
        self.status, self.length, self.plain_headers = plain
        self.version, self.reason = 11, ""
        self.chunked, self.will_close = False, False


class _WatchedConnection(HTTPConnection, ForkAware):
    """A connection that the watchdog thread can shut down if a request takes too long."""

    response_class = _Response

    #: a duplicate of the socket's descriptor, which the Exchange of the current request gets
    _shutdown_handle: ShutdownHandle | None = None
    #: whether the socket is already attached, because it was connected for the next request
    _is_attached = False
    #: when the last answer was read to its end (``time.monotonic``); 0 if this is unknown
    idle_since = 0.0

    def _new_conn(self) -> socket.socket:
        exchange: Exchange = _thread.exchange
        timeout = self.timeout if isinstance(self.timeout, int | float) else 30.0
        host, port = self._dns_host.strip("[]"), self.port
        self._release_shutdown_handle()
        try:
            connection, self._shutdown_handle = dial(
                exchange, host, port, timeout, self.socket_options or ()
            )
            return connection
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "connection timed out") from error
        except OSError as error:
            raise NewConnectionError(self, "connection failed") from error

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self._shutdown_handle is not None and not self._is_attached:
            _thread.exchange.attach(self._shutdown_handle, reused=True)
        try:  # urllib3 ignores a broken pipe, and keeps the connection
            super().request(*args, **kwargs)
        finally:
            self._is_attached = False

    def attach_to(self, exchange: Exchange) -> None:
        """Let ``exchange`` shut the open connection down. Raises ConnectionAbortedError."""
        assert self._shutdown_handle is not None
        exchange.attach(self._shutdown_handle, reused=True)

    def plain_answer(self) -> _PlainAnswer:
        """Return the answer to the request that was sent. Raises what http.client raises."""
        self.response_class = _PlainAnswer
        try:
            answer: Any = http.client.HTTPConnection.getresponse(self)
        finally:
            del self.response_class
        assert isinstance(answer, _PlainAnswer)
        return answer

    def connect(self) -> None:
        super().connect()
        self._is_attached = True
        register_fork_aware(self)

    def close(self) -> None:
        super().close()
        self._release_shutdown_handle()

    def after_fork_in_child(self) -> None:
        close_inherited_socket(self.sock)

    def _release_shutdown_handle(self) -> None:
        handle, self._shutdown_handle = self._shutdown_handle, None
        if handle is not None:
            handle.release()


class _WatchedTLSConnection(_WatchedConnection, HTTPSConnection):
    """A TLS connection that the watchdog thread can shut down (see :class:`_WatchedConnection`)."""


class _ForkSafePool(HTTPConnectionPool, ForkAware):
    """A connection pool that a child process can discard safely after a fork."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        register_fork_aware(self)

    def after_fork_in_child(self) -> None:
        # to discard a pool, urllib3 takes the lock of the pool's queue, and another thread may have
        # held this lock during the fork: use an empty queue with a new lock
        if self.pool is not None:
            vars(self.pool).update(vars(queue.LifoQueue(self.pool.maxsize)))


class _HttpPool(_ForkSafePool):
    ConnectionCls = _WatchedConnection


class _HttpsPool(_ForkSafePool, HTTPSConnectionPool):
    ConnectionCls = _WatchedTLSConnection


#: pool classes for a urllib3 manager, so that its connections are attached to exchanges
WATCHED_POOL_CLASSES: dict[str, type] = {"http": _HttpPool, "https": _HttpsPool}


def certificates_path() -> str | None:
    """Return the file or folder of certificates in REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE.

    Return None if neither variable is set. Then certifi's certificates are used.
    """
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None


class ConnectionPools:
    """Sends requests without redirects, cookies or retries. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._http_manager = _new_manager(None)
        #: urllib3 managers by the path of their certificates (see :func:`certificates_path`)
        self._https_managers: dict[str | None, PoolManager] = {}
        #: pools by manager and origin; some may be closed
        self._known_pools: dict[tuple[PoolManager, str], HTTPConnectionPool] = {}

    def send_one(self, call: HttpRequest, exchange: Exchange) -> BaseHTTPResponse:
        """Send one request. Return the response when its headers have arrived.

        If ``call`` is plain, it may have only what :class:`PlainResponse` has.

        Raises what urllib3 and http.client raise.
        """
        manager = (
            self._https_manager() if call.url.lower().startswith("https:") else self._http_manager
        )
        # a request that is repeated takes a connection that was checked
        if call.is_plain and not exchange.connection_reused:
            response = self._send_over_kept(manager, call, exchange)
            if response is not None:
                return cast(BaseHTTPResponse, response)
        # no read timeout, which costs a system call (poll) before each read: the watchdog ends a
        # request that takes too long
        with thread_exchange(exchange):
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

    def _send_over_kept(
        self, manager: PoolManager, call: HttpRequest, exchange: Exchange
    ) -> BaseHTTPResponse | PlainResponse | None:
        """Send one request over an open connection. Return None if there is none."""
        plain = PLAIN_URL.fullmatch(call.url)
        if plain is None:
            return None
        key = manager, plain[1]
        pool = self._known_pools.get(key)
        if pool is None or pool.pool is None:
            if len(self._known_pools) >= MAX_HOSTS:
                self._known_pools.clear()
            pool = self._known_pools[key] = manager.connection_from_url(plain[1])
        connection = take_kept(pool)
        if connection is None:
            return None
        try:
            connection.attach_to(exchange)
        except BaseException:
            connection.close()
            raise
        return get_over(pool, connection, plain[2], call.headers)

    def close(self) -> None:
        """Close all connections that are kept for later requests."""
        with self._lock:
            managers = [self._http_manager, *self._https_managers.values()]
        for manager in managers:
            manager.clear()

    def _https_manager(self) -> PoolManager:
        path = certificates_path()
        with self._lock:
            if path not in self._https_managers:
                self._https_managers[path] = _new_manager(_new_tls_context(path))
            return self._https_managers[path]


def _new_manager(context: ssl.SSLContext | None) -> PoolManager:
    manager = PoolManager(MAX_HOSTS, maxsize=CONNECTIONS_PER_HOST, ssl_context=context)
    manager.pool_classes_by_scheme = WATCHED_POOL_CLASSES
    return manager


def _new_tls_context(certificates: str | None) -> ssl.SSLContext:
    """Return a TLS context that trusts the same certificates as the library requests."""
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    file = certificates or certifi.where()
    context.load_verify_locations(**{"capath" if os.path.isdir(file) else "cafile": file})
    return context

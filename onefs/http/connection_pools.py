"""Kept connections to servers, over urllib3; each tells its exchange which socket it uses.

requests, which knows about proxies, is loaded where one is set (``onefs.http.proxy_adapter``): a
command that asks one question would spend more time on loading it than most servers on the answer.
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

from onefs.http.exchange import Exchange, ShutdownHandle, close_inherited_socket
from onefs.http.request import HttpRequest
from onefs.lowlevel.forking import ForkAware, register_fork_aware

#: connections kept open for each host, and hosts with any
CONNECTIONS_PER_HOST = 32
MAX_HOSTS = 16
#: bytes of one line of an answer's head, and of those between chunks
_MAX_LINE_BYTES = 64 * 1024
#: answers with a status from 100 to 199 before the answer itself
_MAX_INTERIM_ANSWERS = 32

_thread = threading.local()


def _redact_header_warning(record: logging.LogRecord) -> bool:
    """Leave the server's text and the traceback out of urllib3's line about odd headers."""
    if record.msg.startswith("Failed to parse headers"):
        record.msg, record.args, record.exc_info = (
            "an answer has lines that are no headers",
            (),
            None,
        )
    return True


logging.getLogger("urllib3.connection").addFilter(_redact_header_warning)


@contextmanager
def thread_exchange(exchange: Exchange) -> Iterator[None]:
    """Requests sent by this thread belong to ``exchange``."""
    _thread.exchange = exchange
    try:
        yield
    finally:
        _thread.exchange = None


class _BoundedLineReader(io.BufferedReader):
    """What a server sends; no line of it is longer than 64 KiB."""

    def readline(self, size: int | None = -1, /) -> bytes:
        if size is not None and size >= 0:
            return super().readline(size)
        line = super().readline(_MAX_LINE_BYTES + 1)
        if len(line) > _MAX_LINE_BYTES:
            raise http.client.LineTooLong("line")
        return line


class _Response(http.client.HTTPResponse):
    """An answer; interim ones (102 Processing, 103 Early Hints) before it are skipped."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        # urllib3 reads the lines between chunks without any bound
        self.fp.close()
        self.fp = _BoundedLineReader(sock.makefile("rb", buffering=0))

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MAX_INTERIM_ANSWERS):
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 100 <= found[1] < 200:
                return found
            if found[1] == http.client.SWITCHING_PROTOCOLS:
                raise http.client.HTTPException("another protocol, which was not asked for")
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"more than {_MAX_INTERIM_ANSWERS} interim answers")


class _WatchedConnection(HTTPConnection, ForkAware):
    """A connection that attaches its line to the exchange of the thread that uses it."""

    response_class = _Response

    _shutdown_handle: ShutdownHandle | None = None
    #: connected for the request that comes next, and so attached already
    _is_attached = False

    def _new_conn(self) -> socket.socket:
        exchange: Exchange = _thread.exchange
        timeout = self.timeout if isinstance(self.timeout, int | float) else 30.0
        host, port = self._dns_host.strip("[]"), self.port
        self._release_shutdown_handle()
        try:
            made, self._shutdown_handle = exchange.dial(
                host, port, timeout, self.socket_options or ()
            )
            return made
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "connection timed out") from error
        except OSError as error:
            raise NewConnectionError(self, "connection failed") from error

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self._shutdown_handle is not None and not self._is_attached:
            _thread.exchange.attach(self._shutdown_handle, reused=True)
        try:  # urllib3 takes a broken pipe for no failure, and keeps the connection
            super().request(*args, **kwargs)
        finally:
            self._is_attached = False

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
        line, self._shutdown_handle = self._shutdown_handle, None
        if line is not None:
            line.release()


class _WatchedTLSConnection(_WatchedConnection, HTTPSConnection):
    """The same over TLS."""


class _ForkSafePool(HTTPConnectionPool, ForkAware):
    """A pool whose connections a child made by a fork does not have.

    urllib3 empties a pool when it is forgotten, under a lock that another thread may have held
    during the fork: so the child gets a new lock.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        register_fork_aware(self)

    def after_fork_in_child(self) -> None:
        if self.pool is not None:
            vars(self.pool).update(vars(queue.LifoQueue(self.pool.maxsize)))


class _HttpPool(_ForkSafePool):
    ConnectionCls = _WatchedConnection


class _HttpsPool(_ForkSafePool, HTTPSConnectionPool):
    ConnectionCls = _WatchedTLSConnection


#: of a urllib3 manager whose connections are watched
WATCHED_POOL_CLASSES: dict[str, type] = {"http": _HttpPool, "https": _HttpsPool}


def certificates_path() -> str | None:
    """The file or folder of certificates that the environment names; None for the usual ones."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None


class ConnectionPools:
    """Sends one request; follows no redirect, keeps no cookie, retries nothing. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._http_manager = _new_manager(None)
        #: by the certificates that they go by
        self._https_managers: dict[str | None, PoolManager] = {}

    def send_one(self, call: HttpRequest, exchange: Exchange) -> BaseHTTPResponse:
        """The answer up to its headers. Raises what urllib3 raises.

        A socket with a timeout would be asked whether it has bytes before each read. The watchdog
        ends what takes too long, so that none is set once there is a connection.
        """
        manager = (
            self._https_manager() if call.url.lower().startswith("https:") else self._http_manager
        )
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

    def close(self) -> None:
        """Drop the connections."""
        with self._lock:
            managers = [self._http_manager, *self._https_managers.values()]
        for manager in managers:
            manager.clear()

    def _https_manager(self) -> PoolManager:
        named = certificates_path()
        with self._lock:
            if named not in self._https_managers:
                self._https_managers[named] = _new_manager(_new_tls_context(named))
            return self._https_managers[named]


def _new_manager(context: ssl.SSLContext | None) -> PoolManager:
    made = PoolManager(MAX_HOSTS, maxsize=CONNECTIONS_PER_HOST, ssl_context=context)
    made.pool_classes_by_scheme = WATCHED_POOL_CLASSES
    return made


def _new_tls_context(named: str | None) -> ssl.SSLContext:
    """What a TLS connection must prove, by the certificates that requests takes too."""
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    file = named or certifi.where()
    context.load_verify_locations(**{"capath" if os.path.isdir(file) else "cafile": file})
    return context

"""requests' adapter, with connections that tell their exchange which socket they use."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from onefs.http.direct import certificates
from onefs.http.exchange import Exchange
from onefs.urls import is_loopback

#: connections kept open for each host, and hosts with any
POOL_SIZE = 32
POOLS = 16

_thread = threading.local()


@contextmanager
def carried_by(exchange: Exchange) -> Iterator[None]:
    """Requests sent by this thread belong to ``exchange``."""
    _thread.exchange = exchange
    try:
        yield
    finally:
        _thread.exchange = None


class _Watched(HTTPConnection):
    """A connection that attaches itself to the exchange of the thread that uses it."""

    #: connected for the request that comes next, and so attached already
    _fresh = False

    def _new_conn(self) -> socket.socket:
        exchange: Exchange = _thread.exchange
        timeout = self.timeout if isinstance(self.timeout, int | float) else 30.0
        host, port = self._dns_host.strip("[]"), self.port
        try:
            return exchange.dial(host, port, timeout, self.socket_options or ())
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "connection timed out") from error
        except OSError as error:
            raise NewConnectionError(self, "connection failed") from error

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None and not self._fresh:
            _thread.exchange.attach(self.sock, reused=True)
        super().request(*args, **kwargs)
        self._fresh = False

    def connect(self) -> None:
        super().connect()
        self._fresh = True


class _WatchedTLS(_Watched, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTLS


class Adapter(HTTPAdapter):
    """Sends one request; follows no redirect, keeps no cookie, reads no netrc, retries nothing.

    Connections through a SOCKS proxy are not attached to their exchange: there only the
    sockets' own timeouts bound a request.
    """

    def __init__(self) -> None:
        super().__init__(pool_connections=POOLS, pool_maxsize=POOL_SIZE, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not _is_socks(proxy):
            manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
        return manager

    def send_one(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeouts: tuple[float, float],
        exchange: Exchange,
    ) -> requests.Response:
        """One request, and its answer up to the headers. ``timeouts``: to connect, to read."""
        prepared = requests.Request(method, url, headers, data=body).prepare()
        proxies = proxies_for(url)
        # A socket with a timeout is asked whether it has bytes before each read: where the
        # watchdog can end the exchange that is a system call too many.
        silent = None if are_attached(proxies) else timeouts[1]
        wanted: Any = (timeouts[0], silent)
        with carried_by(exchange):
            return self.send(
                prepared,
                stream=True,
                timeout=wanted,
                verify=certificates() or True,
                proxies=proxies,
            )


def proxies_for(url: str) -> dict[str, str]:
    """The proxies that the environment names for ``url`` (``https_proxy``, ``no_proxy``)."""
    return {} if is_loopback(url) else dict(get_environ_proxies(url))


def are_attached(proxies: Mapping[str, str]) -> bool:
    """Whether connections through these proxies are attached to their exchange."""
    return not any(_is_socks(proxy) for proxy in proxies.values())


def _is_socks(proxy: str) -> bool:
    return proxy.lower().startswith("socks")

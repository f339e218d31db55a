"""An adapter that uses the library requests, for proxies and for URLs that must be normalized."""

from __future__ import annotations

from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3 import BaseHTTPResponse

from onefs.config.urls import is_loopback
from onefs.http.connection_pools import (
    CONNECTIONS_PER_HOST,
    MAX_HOSTS,
    WATCHED_POOL_CLASSES,
    certificates_path,
    thread_exchange,
)
from onefs.http.exchange import Exchange
from onefs.http.request import HttpRequest


class ProxyAdapter(HTTPAdapter):
    """Sends requests without redirects, cookies, netrc or retries. Thread-safe.

    A request through a SOCKS proxy is limited only by the timeouts of the socket.
    """

    def __init__(self) -> None:
        super().__init__(
            pool_connections=MAX_HOSTS, pool_maxsize=CONNECTIONS_PER_HOST, max_retries=0
        )

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = WATCHED_POOL_CLASSES

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not _is_socks(proxy):
            manager.pool_classes_by_scheme = WATCHED_POOL_CLASSES
        return manager

    def send_one(self, call: HttpRequest, exchange: Exchange) -> BaseHTTPResponse:
        """Send one request. Return the response when its headers have arrived.

        Raises what the library requests raises.
        """
        prepared = requests.Request(call.method, call.url, call.headers, data=call.body).prepare()
        proxies = _environment_proxies(call.url)
        # a read timeout is set for SOCKS only, because the watchdog cannot end a read through SOCKS
        # (for the other case see ConnectionPools.send_one)
        has_socks = any(_is_socks(proxy) for proxy in proxies.values())
        timeout: Any = (call.connect_timeout, call.read_timeout if has_socks else None)
        verify = certificates_path() or True
        with thread_exchange(exchange):
            response = self.send(
                prepared, stream=True, timeout=timeout, verify=verify, proxies=proxies
            )
        raw: BaseHTTPResponse = response.raw
        return raw


def _environment_proxies(url: str) -> dict[str, str]:
    """Return the proxies for ``url`` from the environment (``https_proxy``, ``no_proxy``)."""
    return {} if is_loopback(url) else dict(get_environ_proxies(url))


def _is_socks(proxy: str) -> bool:
    return proxy.lower().startswith("socks")

"""An adapter of requests, for proxies and for URLs that requests has to normalize."""

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

    Connections through a SOCKS proxy are not attached to their exchange: only the timeouts of
    the sockets bound such a request.
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
        """Send one request and return the response up to its headers.

        Raises what requests raises.
        """
        prepared = requests.Request(call.method, call.url, call.headers, data=call.body).prepare()
        proxies = _environment_proxies(call.url)
        # no read timeout, see ConnectionPools.send_one; through SOCKS nothing else ends a read
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
    """The proxies that the environment names for ``url`` (``https_proxy``, ``no_proxy``)."""
    return {} if is_loopback(url) else dict(get_environ_proxies(url))


def _is_socks(proxy: str) -> bool:
    return proxy.lower().startswith("socks")

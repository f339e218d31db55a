"""requests' adapter, for what goes through proxies, and for addresses that it has to rewrite."""

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
    """Sends one request; follows no redirect, keeps no cookie, reads no netrc, retries nothing.

    Connections through a SOCKS proxy are not attached to their exchange: there only the
    sockets' own timeouts bound a request.
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
        """The answer up to its headers. Raises what requests raises."""
        prepared = requests.Request(call.method, call.url, call.headers, data=call.body).prepare()
        proxies = _environment_proxies(call.url)
        # see Pools.send_one; through SOCKS nobody but the socket itself ends a read
        silent = call.read_timeout if any(_is_socks(proxy) for proxy in proxies.values()) else None
        wanted: Any = (call.connect_timeout, silent)
        with thread_exchange(exchange):
            answer = self.send(
                prepared,
                stream=True,
                timeout=wanted,
                verify=certificates_path() or True,
                proxies=proxies,
            )
        raw: BaseHTTPResponse = answer.raw
        return raw


def _environment_proxies(url: str) -> dict[str, str]:
    """The proxies that the environment names for ``url`` (``https_proxy``, ``no_proxy``)."""
    return {} if is_loopback(url) else dict(get_environ_proxies(url))


def _is_socks(proxy: str) -> bool:
    return proxy.lower().startswith("socks")

"""Sending one request: its credentials, its redirects, a kept connection that was closed."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from urllib3 import BaseHTTPResponse

from onefs import __version__
from onefs.config.secret import excerpt
from onefs.config.urls import (
    MAX_URL_LENGTH,
    can_keep_authorization,
    host_of,
    is_loopback,
    origin,
    safe_url,
)
from onefs.errors import ServerError, Unreachable, UsageError
from onefs.http.connection_pools import ConnectionPools
from onefs.http.error_mapping import HTTP_EXCEPTIONS, to_onefs_error
from onefs.http.exchange import Exchange
from onefs.http.request import HttpRequest
from onefs.http.stream import end_error
from onefs.lowlevel.lazy import Lazy

if TYPE_CHECKING:
    from onefs.http.proxy_adapter import ProxyAdapter

MAX_REDIRECTS = 5
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
USER_AGENT = f"onefs/{__version__}"
#: what names a proxy in the environment, as programs write it; to look at each variable for other
#: spellings would take a tenth of a small file's time
_PROXY_VARIABLES = (
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
)
#: the body of an answer that leads elsewhere is read up to here, to keep its connection
_MAX_DISCARDED_BYTES = 64 * 1024


class Sender:
    """Sends calls over pooled connections. Thread-safe."""

    def __init__(self) -> None:
        self._pools = ConnectionPools()
        self._adapter: Lazy[ProxyAdapter] = Lazy(_load_adapter)

    def close(self) -> None:
        """Drop the connections."""
        self._pools.close()
        if (adapter := self._adapter.close()) is not None:
            adapter.close()

    def send(
        self, call: HttpRequest, exchange: Exchange, seconds: float
    ) -> tuple[BaseHTTPResponse, str]:
        """Send ``call``, answer its challenge, follow its redirects: the answer and its URL."""
        call = replace(call, headers={"User-Agent": USER_AGENT, **call.headers})
        if call.auth is not None:
            call = replace(call, url=call.auth.secure_url(call.url))
        seen = {call.url}
        while True:
            try:
                response = self._send_with_credentials(call, exchange, seconds)
            except UsageError as error:
                if len(seen) == 1:
                    raise
                # an address that a server has named is no mistake of the user
                raise ServerError(f"a redirect leads to no address: {error}") from error
            target = _redirect_of(response, call)
            if target is None:
                return response, call.url
            _discard_body(response, exchange)
            if target in seen or len(seen) > MAX_REDIRECTS:
                raise ServerError(f"{safe_url(call.url)} leads round in circles", response.status)
            seen.add(target)
            call = _redirected_request(call, target)

    def _send_with_credentials(
        self, call: HttpRequest, exchange: Exchange, seconds: float
    ) -> BaseHTTPResponse:
        """Send ``call`` with its host's credentials."""
        if call.auth is None:
            return self._send_with_reconnect(call, exchange, seconds)
        sent = call.auth.authorization_header(call.url)
        response = self._send_with_reconnect(_with_authorization(call, sent), exchange, seconds)
        if response.status != 401:
            return response
        asks = response.headers.get("WWW-Authenticate", "")
        header = call.auth.header_for_challenge(call.url, asks, sent)
        _discard_body(response, exchange)
        if header is not None:
            sent = header
            response = self._send_with_reconnect(_with_authorization(call, sent), exchange, seconds)
            if response.status != 401:
                return response
            _discard_body(response, exchange)
        raise call.auth.refusal_error(call.url, sent)

    def _send_with_reconnect(
        self, call: HttpRequest, exchange: Exchange, seconds: float
    ) -> BaseHTTPResponse:
        """One request, one answer, up to its headers.

        A kept connection that the server has closed meanwhile is no answer: the request goes
        out once more, on a new one (RFC 9110, 9.2.2; all of ours may be repeated, also the POST
        that gets a token, which is the same each time).
        """
        try:
            return self._send_once(call, exchange, seconds)
        except Unreachable:
            if not exchange.connection_reused:
                raise
        return self._send_once(call, exchange, seconds)

    def _send_once(self, call: HttpRequest, exchange: Exchange, seconds: float) -> BaseHTTPResponse:
        origin(call.url)
        try:
            way = self._pools if _can_be_sent_directly(call.url) else self._adapter()
            return way.send_one(call, exchange)
        except HTTP_EXCEPTIONS as error:
            raise end_error(exchange, call.url, seconds) or to_onefs_error(
                error, host_of(call.url)
            ) from error


def _can_be_sent_directly(url: str) -> bool:
    """Whether ``url`` can be asked for without a proxy, and as it is written."""
    server = urlsplit(url).netloc
    if not server.isascii() or "@" in server:
        return False
    return not any(map(os.environ.get, _PROXY_VARIABLES)) or is_loopback(url)


def _load_adapter() -> ProxyAdapter:
    from onefs.http.proxy_adapter import ProxyAdapter

    return ProxyAdapter()


def _redirect_of(response: BaseHTTPResponse, call: HttpRequest) -> str | None:
    """Where the answer leads, None when it is to be taken as it is."""
    location = response.headers.get("Location")
    if call.method != "GET" or response.status not in REDIRECT_STATUSES or not location:
        return None
    target = redirect_target(call.url, location, response.status)
    return target if call.auth is None else call.auth.secure_url(target)


def _redirected_request(call: HttpRequest, target: str) -> HttpRequest:
    """``call`` for the ``target`` of a redirect, with the credentials that may go there."""
    headers, auth = call.headers, call.auth
    if not can_keep_authorization(call.url, target):
        headers = {k: v for k, v in headers.items() if k.lower() != "authorization"}
    if auth is not None and _is_https(call.url) and not _is_https(target):
        auth = auth.without_credentials()
    return replace(call, url=target, headers=headers, auth=auth)


def _is_https(url: str) -> bool:
    return url.lower().startswith("https:")


def redirect_target(url: str, location: str, status: int) -> str:
    """The address that an answer of ``url`` leads to. Raises ServerError when it is none."""
    try:
        if len(location) > MAX_URL_LENGTH:
            raise ValueError
        target = urljoin(url, location)
        if "@" in urlsplit(target).netloc:
            raise ServerError(f"{host_of(url)} leads to an address with a user in it", status)
        origin(target)
    except ValueError:  # a UsageError is one too
        shown = excerpt(location)
        raise ServerError(
            f"{host_of(url)} leads to {shown!r}, which is not HTTP or no address", status
        ) from None
    return target


def _with_authorization(call: HttpRequest, header: str | None) -> HttpRequest:
    if header is None:
        return call
    return replace(call, headers={**call.headers, "Authorization": header})


def _discard_body(response: BaseHTTPResponse, exchange: Exchange) -> None:
    """Read a small body, so that the connection can be kept; close it over a large one.

    Either way it is not the exchange's any more.
    """
    try:
        length = response.length_remaining
        if length is not None and length <= _MAX_DISCARDED_BYTES:
            response.read(_MAX_DISCARDED_BYTES, decode_content=False)
    except HTTP_EXCEPTIONS:  # nobody wants these bytes, and a broken connection is not kept
        pass
    finally:
        response.close()
        exchange.detach()

"""Sends one request with its credentials, follows redirects, and replaces closed connections."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from urllib3 import BaseHTTPResponse

from onefs import __version__
from onefs.config.urls import (
    can_keep_authorization,
    host_of,
    is_loopback,
    origin,
    safe_url,
)
from onefs.errors import ServerError, Unreachable, UsageError
from onefs.http.connection_pools import ConnectionPools
from onefs.http.error_mapping import HTTP_EXCEPTIONS, to_onefs_error
from onefs.http.exchange import Exchange, end_error
from onefs.http.redirects import REDIRECT_STATUSES, redirect_target
from onefs.http.request import HttpRequest
from onefs.lowlevel.lazy import Lazy

if TYPE_CHECKING:
    from onefs.http.proxy_adapter import ProxyAdapter

MAX_REDIRECTS = 5
USER_AGENT = f"onefs/{__version__}"
#: environment variables that name a proxy, in their usual spellings; a search for all spellings
#: would take a tenth of the time in which a small file is fetched
_PROXY_VARIABLES = (
    *("http_proxy", "https_proxy", "all_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
)
#: size in bytes of the largest body of a redirect or a challenge that is read, so that its
#: connection can be kept
_MAX_DISCARDED_BYTES = 64 * 1024


class Sender:
    """Sends requests over pooled connections. Thread-safe."""

    def __init__(self) -> None:
        self._pools = ConnectionPools()
        self._adapter: Lazy[ProxyAdapter] = Lazy(_load_adapter)

    def close(self) -> None:
        """Close all connections that are kept for later requests."""
        self._pools.close()
        if (adapter := self._adapter.close()) is not None:
            adapter.close()

    def send(
        self, call: HttpRequest, exchange: Exchange, seconds: float
    ) -> tuple[BaseHTTPResponse, str]:
        """Send ``call`` with the credentials for its host, and follow redirects.

        Return the final response and its URL. ``seconds`` is the timeout to state in the error
        message for an overdue request.
        """
        url = call.url if call.auth is None else call.auth.secure_url(call.url)
        call = call._replace(url=url, headers={"User-Agent": USER_AGENT, **call.headers})
        seen = {call.url}
        while True:
            try:
                response = self._send_with_credentials(call, exchange, seconds)
            except UsageError as error:
                if len(seen) == 1:
                    raise
                # the server sent the invalid address, so that this is not a mistake of the user
                raise ServerError(f"the server redirects to an invalid address: {error}") from error
            target = _redirect_of(response, call)
            if target is None:
                return response, call.url
            _discard_body(response, exchange)
            if target in seen or len(seen) > MAX_REDIRECTS:
                raise ServerError(
                    f"{safe_url(call.url)} redirects in a circle, or too often", response.status
                )
            seen.add(target)
            call = _redirected_request(call, target)

    def _send_with_credentials(
        self, call: HttpRequest, exchange: Exchange, seconds: float
    ) -> BaseHTTPResponse:
        """Send ``call`` with the credentials for its host.

        After a 401, ``call`` is sent once more if there are other credentials. Raises
        DataServerCredentials if there are none, or if the host still answers 401.
        """
        if call.auth is None:
            return self._send_with_reconnect(call, exchange, seconds)
        sent = call.auth.authorization_header(call.url)
        response = self._send_with_reconnect(_with_authorization(call, sent), exchange, seconds)
        if response.status != 401:
            return response
        challenge = response.headers.get("WWW-Authenticate", "")
        header = call.auth.header_for_challenge(call.url, challenge, sent)
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
        """Send ``call``. Send it again if it fails on a connection of an earlier request.

        The server may have closed that connection, or may have sent surplus bytes over it.
        """
        try:
            return self._send_once(call, exchange, seconds)
        except (Unreachable, ServerError):
            if not exchange.connection_reused:
                raise
        # all requests of onefs are idempotent and may be repeated (RFC 9110, 9.2.2), even the POST
        # for a token: Alyx returns the same token each time
        return self._send_once(call, exchange, seconds)

    def _send_once(self, call: HttpRequest, exchange: Exchange, seconds: float) -> BaseHTTPResponse:
        origin(call.url)
        try:
            pools = self._pools if _can_be_sent_directly(call.url) else self._adapter()
            return pools.send_one(call, exchange)
        except HTTP_EXCEPTIONS as error:
            raise end_error(exchange, call.url, seconds) or to_onefs_error(
                error, host_of(call.url)
            ) from error


def _can_be_sent_directly(url: str) -> bool:
    """Whether ``url`` can be requested without a proxy and without being normalized."""
    server = urlsplit(url).netloc
    if not server.isascii() or "@" in server:
        return False
    return not any(map(os.environ.get, _PROXY_VARIABLES)) or is_loopback(url)


def _load_adapter() -> ProxyAdapter:
    from onefs.http.proxy_adapter import ProxyAdapter

    return ProxyAdapter()


def _redirect_of(response: BaseHTTPResponse, call: HttpRequest) -> str | None:
    """Return the URL to which ``response`` redirects. Return None if it does not redirect."""
    location = response.headers.get("Location")
    if call.method != "GET" or not call.follow_redirects:
        return None
    if response.status not in REDIRECT_STATUSES or not location:
        return None
    target = redirect_target(call.url, location, response.status)
    return target if call.auth is None else call.auth.secure_url(target)


def _redirected_request(call: HttpRequest, target: str) -> HttpRequest:
    """Return ``call`` for the redirect target, with the credentials that the target may get."""
    headers, auth = call.headers, call.auth
    if not can_keep_authorization(call.url, target):
        headers = {k: v for k, v in headers.items() if k.lower() != "authorization"}
    if auth is not None and _is_https(call.url) and not _is_https(target):
        auth = auth.without_credentials()
    return call._replace(url=target, headers=headers, auth=auth)


def _is_https(url: str) -> bool:
    return url.lower().startswith("https:")


def _with_authorization(call: HttpRequest, header: str | None) -> HttpRequest:
    if header is None:
        return call
    return call._replace(headers={**call.headers, "Authorization": header})


def _discard_body(response: BaseHTTPResponse, exchange: Exchange) -> None:
    """Discard the body of a response.

    From now on, ``exchange`` cannot shut the connection down, because another request may use the
    connection.
    """
    try:
        length = response.length_remaining
        if length is not None and length <= _MAX_DISCARDED_BYTES:
            # a small body is read, so that its connection can be kept
            response.read(_MAX_DISCARDED_BYTES, decode_content=False)
    except HTTP_EXCEPTIONS:  # the bytes are not needed, and a broken connection is not kept
        pass
    finally:
        response.close()
        exchange.detach()

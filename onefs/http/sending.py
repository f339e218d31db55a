"""Sending one request: its credentials, its redirects, a kept connection that was closed."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from urllib3 import BaseHTTPResponse

from onefs import __version__
from onefs.errors import ServerError, Unreachable, UsageError
from onefs.http.call import Call
from onefs.http.exchange import Exchange
from onefs.http.failures import RAISED, failure
from onefs.http.pools import Pools
from onefs.http.streams import ended
from onefs.once import Once
from onefs.secret import excerpt
from onefs.urls import LONGEST, host_of, is_loopback, keeps_authorization, origin, safe_url

if TYPE_CHECKING:
    from onefs.http.adapter import Adapter

MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
USER_AGENT = f"onefs/{__version__}"
#: what names a proxy in the environment, as programs write it; to look at each variable for other
#: spellings would take a tenth of a small file's time
_PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
#: the body of an answer that leads elsewhere is read up to here, to keep its connection
_SMALL_BODY = 64 * 1024


class Sender:
    """Sends calls over pooled connections. Thread-safe."""

    def __init__(self) -> None:
        self._pools = Pools()
        self._adapter: Once[Adapter] = Once(_load_adapter)

    def close(self) -> None:
        """Drop the connections."""
        self._pools.close()
        if (adapter := self._adapter.end()) is not None:
            adapter.close()

    def follow(
        self, call: Call, exchange: Exchange, seconds: float
    ) -> tuple[BaseHTTPResponse, str]:
        """Send ``call``, answer its challenge, follow its redirects: the answer and its URL."""
        call = replace(call, headers={"User-Agent": USER_AGENT, **call.headers})
        if call.auth is not None:
            call = replace(call, url=call.auth.address(call.url))
        seen = {call.url}
        while True:
            try:
                response = self._challenge(call, exchange, seconds)
            except UsageError as error:
                if len(seen) == 1:
                    raise
                # an address that a server has named is no mistake of the user
                raise ServerError(f"a redirect leads to no address: {error}") from error
            target = _redirect(response, call)
            if target is None:
                return response, call.url
            _discard(response, exchange)
            if target in seen or len(seen) > MAX_REDIRECTS:
                raise ServerError(f"{safe_url(call.url)} leads round in circles", response.status)
            seen.add(target)
            call = _redirected(call, target)

    def _challenge(self, call: Call, exchange: Exchange, seconds: float) -> BaseHTTPResponse:
        """Send ``call`` with its host's credentials."""
        if call.auth is None:
            return self._send(call, exchange, seconds)
        sent = call.auth.header(call.url)
        response = self._send(_authorized(call, sent), exchange, seconds)
        if response.status != 401:
            return response
        asks = response.headers.get("WWW-Authenticate", "")
        header = call.auth.answer(call.url, asks, sent)
        _discard(response, exchange)
        if header is not None:
            sent = header
            response = self._send(_authorized(call, sent), exchange, seconds)
            if response.status != 401:
                return response
            _discard(response, exchange)
        raise call.auth.refusal(call.url, sent)

    def _send(self, call: Call, exchange: Exchange, seconds: float) -> BaseHTTPResponse:
        """One request, one answer, up to its headers.

        A kept connection that the server has closed meanwhile is no answer: the request goes
        out once more, on a new one (RFC 9110, 9.2.2; all of ours may be repeated, also the POST
        that gets a token, which is the same each time).
        """
        try:
            return self._send_once(call, exchange, seconds)
        except Unreachable:
            if not exchange.reused:
                raise
        return self._send_once(call, exchange, seconds)

    def _send_once(self, call: Call, exchange: Exchange, seconds: float) -> BaseHTTPResponse:
        origin(call.url)
        try:
            way = self._pools if _is_plain(call.url) else self._adapter()
            return way.send_one(call, exchange)
        except RAISED as error:
            raise ended(exchange, call.url, seconds) or failure(error, host_of(call.url)) from error


def _is_plain(url: str) -> bool:
    """Whether ``url`` can be asked for without a proxy, and as it is written."""
    server = urlsplit(url).netloc
    if not server.isascii() or "@" in server:
        return False
    return not any(map(os.environ.get, _PROXIES)) or is_loopback(url)


def _load_adapter() -> Adapter:
    from onefs.http.adapter import Adapter

    return Adapter()


def _redirect(response: BaseHTTPResponse, call: Call) -> str | None:
    """Where the answer leads, None when it is to be taken as it is."""
    location = response.headers.get("Location")
    if call.method != "GET" or response.status not in REDIRECTS or not location:
        return None
    target = leads_to(call.url, location, response.status)
    return target if call.auth is None else call.auth.address(target)


def _redirected(call: Call, target: str) -> Call:
    """``call`` for the ``target`` of a redirect, with the credentials that may go there."""
    headers, auth = call.headers, call.auth
    if not keeps_authorization(call.url, target):
        headers = {k: v for k, v in headers.items() if k.lower() != "authorization"}
    if auth is not None and _is_https(call.url) and not _is_https(target):
        auth = auth.withheld()
    return replace(call, url=target, headers=headers, auth=auth)


def _is_https(url: str) -> bool:
    return url.lower().startswith("https:")


def leads_to(url: str, location: str, status: int) -> str:
    """The address that an answer of ``url`` leads to. Raises ServerError when it is none."""
    try:
        if len(location) > LONGEST:
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


def _authorized(call: Call, header: str | None) -> Call:
    if header is None:
        return call
    return replace(call, headers={**call.headers, "Authorization": header})


def _discard(response: BaseHTTPResponse, exchange: Exchange) -> None:
    """Read a small body, so that the connection can be kept; close it over a large one.

    Either way it is not the exchange's any more.
    """
    try:
        length = response.length_remaining
        if length is not None and length <= _SMALL_BODY:
            response.read(_SMALL_BODY, decode_content=False)
    except RAISED:  # nobody wants these bytes, and a broken connection is not kept
        pass
    finally:
        response.close()
        exchange.let_go()

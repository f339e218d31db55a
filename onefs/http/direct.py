"""Small answers, over ``http.client`` itself, where no proxy is in the way.

To load requests and urllib3 takes longer than Alyx takes for most searches, and a command that asks
one question uses nothing of them. What they are for is left to ``onefs.http.adapter``: proxies, and
addresses that have to be rewritten. Files come over the adapter too.
"""

from __future__ import annotations

import http.client
import os
import select
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from onefs.http.exchange import Exchange
from onefs.urls import is_loopback, origin

#: connections kept open for each server
POOL_SIZE = 32
#: what stays as it is in a request's path and query, beside letters and digits
_SAFE = "!#$%&'()*+,/:;=?@[]~"
#: told at the end whether the body was read to its own
_GiveBack = Callable[[bool], None]
_NO_DELAY = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)


class Response(Protocol):
    """An answer up to its headers, as the transport needs it: also requests' own."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def raw(self) -> Any: ...


def certificates() -> str | None:
    """The file or folder of certificates that the environment names; None for the usual ones."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None


def is_for(url: str) -> bool:
    """Whether ``url`` can be asked for here."""
    parts = urlsplit(url)
    if not parts.netloc.isascii() or "@" in parts.netloc:
        return False
    proxies = any(name.lower().endswith("_proxy") for name in os.environ)
    return not proxies or is_loopback(url)


class Direct:
    """Kept connections. Thread-safe; a request follows no redirect and is not repeated."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[str, list[_Connection]] = {}
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._closed = False

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        connect_timeout: float,
        exchange: Exchange,
    ) -> Response:
        """The answer up to its headers. Raises what sockets, ssl and ``http.client`` raise."""
        server, parts = origin(url), urlsplit(url)
        connection = self._take(server, url, connect_timeout)
        try:
            connection.carry(exchange)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(method, quote(target, safe=_SAFE), body, dict(headers))
            answer = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        return _Reply(answer, lambda whole: self._give_back(server, connection, whole=whole))

    def close(self) -> None:
        """Close the connections that nobody uses; the others when they come back."""
        with self._lock:
            self._closed = True
            idle = [each for some in self._idle.values() for each in some]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _take(self, server: str, url: str, timeout: float) -> _Connection:
        while True:
            with self._lock:
                kept = self._idle.get(server)
                connection = kept.pop() if kept else None
            if connection is None:
                break
            if not connection.was_dropped():
                return connection
            connection.close()
        parts = urlsplit(url)
        assert parts.hostname is not None
        context = self._context() if parts.scheme.lower() == "https" else None
        return _Connection(parts.hostname, parts.port, timeout, context)

    def _give_back(self, server: str, connection: _Connection, *, whole: bool) -> None:
        with self._lock:
            kept = self._idle.setdefault(server, [])
            if whole and not self._closed and len(kept) < POOL_SIZE:
                kept.append(connection)
                return
        connection.close()

    def _context(self) -> ssl.SSLContext:
        """What a TLS connection must prove, by the certificates that the adapter takes too."""
        named = certificates()
        if named not in self._contexts:
            if named is None:
                import certifi

                file = certifi.where()
            else:
                file = named
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            where = "capath" if os.path.isdir(file) else "cafile"
            context.load_verify_locations(**{where: file})
            self._contexts[named] = context
        return self._contexts[named]


class _Connection(http.client.HTTPConnection):
    """A connection that tells the exchange which uses it what its socket is."""

    def __init__(
        self, host: str, port: int | None, timeout: float, context: ssl.SSLContext | None
    ) -> None:
        self.default_port = 443 if context else 80  # of what the Host header says
        super().__init__(host, port or self.default_port, timeout=timeout)
        self._context = context
        self._exchange: Exchange | None = None

    def carry(self, exchange: Exchange) -> None:
        """Belong to an exchange from now on. Raises ConnectionAbortedError when it has ended."""
        self._exchange = exchange
        if self.sock is not None:
            exchange.attach(self.sock, reused=True)

    def connect(self) -> None:
        """Called by ``request`` where there is no connection yet."""
        assert self._exchange is not None
        assert self.timeout is not None
        self.sock = self._exchange.dial(self.host, self.port, self.timeout, _NO_DELAY)
        if self._context is not None:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)
        # from here on the watchdog ends what takes too long
        self.sock.settimeout(None)

    def was_dropped(self) -> bool:
        """Whether the server has closed it meanwhile, or said what nobody has asked for."""
        if self.sock is None:
            return True
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))


class _Reply:
    """An answer up to its headers; its body is read as urllib3's is, through ``raw``."""

    def __init__(self, answer: http.client.HTTPResponse, give_back: _GiveBack) -> None:
        self.status_code = answer.status
        self.headers: Mapping[str, str] = answer.headers  # type: ignore[assignment]
        self.raw = _Body(answer, give_back)


class _Body:
    """The bytes of an answer, and what becomes of its connection afterwards."""

    def __init__(self, answer: http.client.HTTPResponse, give_back: _GiveBack) -> None:
        self._answer = answer
        self._give_back: _GiveBack | None = give_back
        encoding = (answer.headers.get("Content-Encoding") or "identity").strip().lower()
        self._unzip = _Unzip() if encoding in ("gzip", "x-gzip") else None

    @property
    def length_remaining(self) -> int | None:
        """Bytes that are still to come; None when the server does not say."""
        return self._answer.length

    def read(self, size: int, *, decode_content: bool) -> bytes:
        """Up to ``size`` bytes, b"" at the end. Raises IncompleteRead when they are cut short."""
        if not decode_content or self._unzip is None:
            return self._receive(size)
        found = self._unzip.more(b"", size)
        while not found and (raw := self._receive(size)):
            found = self._unzip.more(raw, size)
        return found

    def close(self) -> None:
        """Keep the connection where the body was read to its end, else close it."""
        whole = self._answer.isclosed() and not self._answer.will_close
        give_back, self._give_back = self._give_back, None
        self._answer.close()
        if give_back is not None:
            give_back(whole)

    def _receive(self, size: int) -> bytes:
        found = self._answer.read(size)
        if not found and self._answer.length:
            raise http.client.IncompleteRead(found, self._answer.length)
        return found


class _Unzip:
    """gzip as it comes, never more at once than is wanted of it."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def more(self, raw: bytes, size: int) -> bytes:
        """Up to ``size`` bytes of what has come so far. Raises HTTPException for no gzip."""
        raw = self._inflate.unconsumed_tail + raw
        if self._inflate.eof:  # what follows the end is nobody's
            return b""
        try:
            return self._inflate.decompress(raw, size)
        except zlib.error as error:
            raise http.client.HTTPException("what came is no gzip") from error

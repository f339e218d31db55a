"""File servers with http and https, such as FlatIron's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import urlsplit

from onefs.config.urls import MAX_URL_LENGTH, PLAIN_URL, origin, safe_url
from onefs.download.sources.http_answer import check_answer, range_headers
from onefs.download.sources.interface import CONNECT_TIMEOUT_SECONDS, Body, ByteRequest
from onefs.errors import DataServerCredentials, ServerError, UsageError
from onefs.http import HostAuth, Stream, Transport

#: characters that are not allowed in a host name
_INVALID_HOST_CHARACTERS = re.compile(r"[\x00-\x20\x7f%\\]")


class HttpBody:
    """A :class:`Body` over an HTTP answer. ``send`` sends the request, and enters the stream."""

    def __init__(self, send: Callable[[], Stream], request: ByteRequest) -> None:
        self._send = send
        self._request = request

    def __enter__(self) -> HttpBody:
        self._stream = stream = self._send()
        try:
            answer = check_answer(stream, self._request)
        except BaseException:
            stream.__exit__()
            raise
        self.iter_chunks: Callable[..., Iterator[bytes]] = stream.iter_chunks
        self.abort = stream.abort
        self.start, self.end, self.total = answer.start, answer.end, answer.total
        self.validator, self.is_partial = answer.validator, answer.is_partial
        self.length = stream.length
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.__exit__()

    @property
    def label(self) -> str:
        """The URL, for messages."""
        return safe_url(self._stream.url)


class HttpSource:
    """File servers that are asked with http and https. Implements :class:`Source`.

    ``auth`` decides which of the servers get the user and password.
    """

    def __init__(self, transport: Transport, auth: HostAuth) -> None:
        self._transport = transport
        self._auth = auth

    def open(self, request: ByteRequest) -> Body:
        """Return the body of the answer to ``request``. Raises ServerError for an invalid URL."""
        _check_url(request.url)
        stream = self._transport.stream(
            request.url,
            headers=range_headers(request),
            auth=self._auth,
            connect_timeout=min(CONNECT_TIMEOUT_SECONDS, request.stall / 2),
            stall_timeout=request.stall,
        )
        return HttpBody(stream.__enter__, request)

    def probe(self, url: str, seconds: float) -> None:
        """Request one byte of ``url``. Raises an OnefsError if the server does not answer."""
        with (
            suppress(DataServerCredentials),  # the server answers, although it refuses
            self._transport.stream(
                url,
                headers=range_headers(ByteRequest(url, seconds, 0, 1)),
                auth=self._auth,
                connect_timeout=seconds,
                stall_timeout=seconds,
            ),
        ):
            pass


def _check_url(url: str) -> None:
    """Raise ServerError if ``url`` is invalid, so that no request can be sent."""
    if len(url) <= MAX_URL_LENGTH and PLAIN_URL.fullmatch(url):
        return
    try:
        origin(url)
        host = urlsplit(url).hostname or ""
        if ":" not in host:
            host.encode("idna")
        if not _INVALID_HOST_CHARACTERS.search(host):
            return
        reason = f"{safe_url(url)} has no valid host name"
    except (UsageError, UnicodeError) as error:
        reason = str(error)
    # status 400, as from a server that rejects a request, so that there is no retry
    raise ServerError(f"the URL of this file in the database is invalid: {reason}"[:300], 400)

"""GET requests over connections that are open already, without the work of urllib3 for each.

For a file of a few kilobytes, urllib3 and the parser of headers take longer than all other work. So
answers as file servers send them are read here: status 200 or 206, a length, and few plain headers.
All other answers are left to http.client and urllib3.
"""

from __future__ import annotations

import http.client
import queue
import re
from collections.abc import Mapping
from typing import Any

from urllib3 import BaseHTTPResponse, HTTPHeaderDict, HTTPResponse
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import ProtocolError
from urllib3.util.connection import is_connection_dropped

from onefs.integers import parse_whole_number

_PLAIN_STATUS = re.compile(rb"HTTP/1\.1 (200|206)(?: [ -~]*)?")
#: characters of a header's name
_HEADER_NAME = re.compile(r"[a-z0-9-]+")
_MAX_HEADERS = 50


class PlainHeaders(dict[str, str]):
    """The headers of an answer. The case of letters in a name does not matter."""

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a header."""
        return super().get(name.lower(), default)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())


def parse_plain_head(head: bytes) -> tuple[int, int, PlainHeaders] | None:
    """Return the status, the length of the body and the headers of an answer.

    ``head`` has all bytes before the empty line. Return None for an answer that http.client must
    read, for example because it has no length, or if the connection may not be used again.
    """
    lines = head.split(b"\r\n")
    status = _PLAIN_STATUS.fullmatch(lines[0])
    if status is None or len(lines) > _MAX_HEADERS or head.count(b"\n") != len(lines) - 1:
        return None
    headers = PlainHeaders()
    for line in lines[1:]:
        name, colon, value = line.decode("latin-1").partition(":")
        name = name.lower()
        if not colon or name in headers or not _HEADER_NAME.fullmatch(name):
            return None
        headers[name] = value.strip(" \t")
    length = parse_whole_number(headers.get("content-length", ""))
    if length is None:
        return None
    if "transfer-encoding" in headers or headers.get("connection", "keep-alive") != "keep-alive":
        return None
    return int(status[1]), length, headers


class PlainResponse:
    """An answer whose body is read from the connection without being changed.

    It has the attributes and methods of urllib3's response that ``onefs.http.stream`` uses.
    """

    def __init__(self, pool: HTTPConnectionPool, connection: Any, raw: Any) -> None:
        self._pool, self._connection, self._raw = pool, connection, raw
        self.status: int = raw.status
        self.headers: Mapping[str, str] = raw.plain_headers

    @property
    def length_remaining(self) -> int:
        """The number of bytes that are still to be read."""
        return int(self._raw.length)

    def read(self, size: int, decode_content: bool = False) -> bytes:
        """Return the next ``size`` bytes; fewer only at the end of the body."""
        return self._checked(self._raw.read(size), size)

    def read1(self, size: int, decode_content: bool = False) -> bytes:
        """Return at most ``size`` of the next bytes, as soon as some have arrived."""
        return self._checked(self._raw.read1(size), size)

    def close(self) -> None:
        """Close the connection, unless the body was read to its end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._raw.close()
            connection.close()

    def _checked(self, data: bytes, size: int) -> bytes:
        if not self._raw.length:
            self._release()
        elif not data and size:
            self.close()
            cut = http.client.IncompleteRead(b"", self._raw.length)
            raise ProtocolError("the body ended early", cut)
        return data

    def _release(self) -> None:
        """Return the connection to its pool."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._raw.close()
            self._pool._put_conn(connection)


def take_kept(pool: HTTPConnectionPool) -> Any:
    """Return an open connection of a pool. Return None if there is none."""
    kept: Any = pool.pool
    try:
        connection: Any = kept.get(block=False)
    except (queue.Empty, AttributeError):  # the second, if the pool is closed
        return None
    # bytes that wait on it were sent beyond the last answer, and would be taken for the next one
    if connection is not None and not is_connection_dropped(connection):
        return connection
    if connection is not None:
        connection.close()
    pool._put_conn(connection)
    return None


def get_over(
    pool: HTTPConnectionPool, connection: Any, path: str, headers: Mapping[str, str]
) -> PlainResponse | BaseHTTPResponse:
    """Send a GET request over a connection of :func:`take_kept`, and return the answer.

    Raises OSError or http.client.HTTPException. The connection is then closed.
    """
    try:
        http.client.HTTPConnection.request(connection, "GET", path, headers=dict(headers))
        raw: Any = connection.plain_answer()
    except BaseException:
        connection.close()
        pool._put_conn(connection)
        raise
    if raw.plain_headers is not None:
        response = PlainResponse(pool, connection, raw)
        if not raw.length:
            response._release()
        return response
    return HTTPResponse(
        body=raw,
        headers=HTTPHeaderDict(raw.headers.items()),
        status=raw.status,
        version=raw.version,
        reason=raw.reason,
        preload_content=False,
        decode_content=False,
        original_response=raw,
        pool=pool,
        connection=connection,
        request_method="GET",
        request_url=path,
    )

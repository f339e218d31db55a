"""Answers over connections that are open already: plain ones, and all others."""

from __future__ import annotations

import pytest

from onefs.config.urls import PLAIN_URL
from onefs.errors import OnefsError, ServerError, Unreachable
from onefs.http import Transport
from onefs.http.kept_connections import parse_plain_head
from tests.call_counts import counted_calls
from tests.http.calls import read
from tests.scripted_server import (
    Script,
    ScriptedServer,
    answer,
    chunked,
    no_length,
    raw,
    reset_after,
    truncate,
)

_BODY = b"0123456789" * 10_000


def test_an_answer_over_a_kept_connection_is_read_without_urllib3(client: Transport) -> None:
    body = _BODY[:1000]
    with ScriptedServer({"/x": answer(body, ETag='"a"')}) as server:
        assert read(client.stream(f"{server.url}/x")) == body
        with counted_calls() as calls, client.stream(f"{server.url}/x") as stream:
            assert (stream.status, stream.length) == (200, len(body))
            assert stream.headers["etag"] == stream.headers.get("ETag") == '"a"'
            assert "ETAG" in stream.headers
            assert b"".join(stream.iter_chunks()) == body
        assert server.connections == 1
        first, second = (request.headers for request in server.requests)
    assert first == second
    assert not [name for name in calls if name.startswith(("feedparser", "poolmanager"))]
    assert sum(calls.values()) < 250  # 175 when this was written, and 380 with urllib3


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (answer(b""), b""),
        (answer(b"abc", 206), b"abc"),
        (answer(b"abc", 404), b"abc"),
        (answer(b"abc", Connection="close"), b"abc"),
        (chunked(b"ab", b"c"), b"abc"),
        (no_length(b"abc"), b"abc"),
        (raw(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"), b"abc"),
        (raw(b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc"), b"abc"),
        (raw(b"HTTP/1.1 200\r\nContent-Length: 3\r\nX: a\r\n b\r\n\r\nabc"), b"abc"),
        (
            raw(b"HTTP/1.1 103 Hint\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:3\r\n\r\nabc"),
            b"abc",
        ),
    ],
)
def test_every_answer_over_a_kept_connection(
    client: Transport, script: Script, expected: bytes
) -> None:
    with ScriptedServer({"/x": answer(_BODY), "/y": script}) as server:
        for _ in range(2):
            assert read(client.stream(f"{server.url}/x")) == _BODY
            assert read(client.stream(f"{server.url}/y")) == expected
        assert read(client.stream(f"{server.url}/x")) == _BODY
        assert len(server.requests) == 5


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (truncate(b"abc", 9), ServerError),
        (reset_after(b"abc", 9), Unreachable),
        (raw(b"no HTTP\r\n\r\n"), ServerError),
    ],
)
def test_a_broken_answer_over_a_kept_connection_is_the_error_of_a_new_one(
    client: Transport, script: Script, error: type[OnefsError]
) -> None:
    with ScriptedServer({"/x": answer(_BODY), "/y": script}) as server:
        with pytest.raises(error) as at_first, Transport() as other:
            read(other.stream(f"{server.url}/y"))
        assert read(client.stream(f"{server.url}/x")) == _BODY
        with pytest.raises(error) as over_kept:
            read(client.stream(f"{server.url}/y"))
        assert str(over_kept.value) == str(at_first.value)
        assert read(client.stream(f"{server.url}/x")) == _BODY


def test_a_connection_that_the_server_has_closed_is_replaced(client: Transport) -> None:
    def once(talk: object) -> None:
        answer(_BODY)(talk)  # type: ignore[arg-type]
        raise ConnectionAbortedError

    with ScriptedServer({"/x": [once, answer(_BODY)]}) as server:
        assert read(client.stream(f"{server.url}/x")) == _BODY
        assert read(client.stream(f"{server.url}/x")) == _BODY
        assert (server.connections, len(server.requests)) == (2, 2)


def test_a_body_that_is_not_read_to_its_end_closes_the_connection(client: Transport) -> None:
    with ScriptedServer({"/x": answer(_BODY)}) as server:
        read(client.stream(f"{server.url}/x"))
        with client.stream(f"{server.url}/x") as stream:
            next(stream.iter_chunks(10))
        assert read(client.stream(f"{server.url}/x")) == _BODY
        assert server.connections == 2


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nContent-Length : 1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nA: b\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1" + b"".join(b"\r\nA%d: b" % n for n in range(60)),
    ],
)
def test_heads_that_http_client_reads(head: bytes) -> None:
    assert parse_plain_head(head) is None


@pytest.mark.parametrize(
    ("url", "is_plain"),
    [
        ("http://a.org/b/c-d_e~.npy", True),
        ("https://a.org:8080/b", True),
        ("http://a.org/b%20c", False),
        ("http://a.org/../b", False),
        ("http://a.org/b?c", False),
        ("http://A.org/b", False),
        ("http://user@a.org/b", False),
        ("http://a.org:65535/b", True),
        ("http://a.org:65536/b", False),
        ("http://a.org:0/b", False),
        ("http://a..org/b", False),
        ("http://a.org/b\n", False),
        ("http://a.org", False),
    ],
)
def test_urls_that_are_sent_as_they_are(url: str, is_plain: bool) -> None:
    assert (PLAIN_URL.fullmatch(url) is not None) is is_plain

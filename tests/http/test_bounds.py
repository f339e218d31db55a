"""Huge, deeply nested, endless or invalid answers take limited time and memory."""

from __future__ import annotations

import contextlib
import gzip
import json
import subprocess
import sys
import time
import zlib

import pytest

from onefs.errors import OnefsError, ServerError, TooLarge
from onefs.http import Transport
from onefs.http.retry import MAX_RETRY_AFTER_SECONDS, retry_after_seconds
from tests import scripted_server
from tests.http.calls import get, read
from tests.scripted_server import (
    ScriptedConnection,
    ScriptedServer,
    answer,
    answer_json,
    raw,
)

#: seconds for a limited answer on a busy machine; without limits an answer takes minutes
SOON = 60.0


class TestUnpacked:
    @pytest.mark.parametrize("unit", [b"[],", b"{},", b'"",', b" ", b"0,", b"[[", b'{"a":'])
    def test_a_small_body_that_unpacks_to_a_huge_one_is_refused(
        self, client: Transport, unit: bytes
    ) -> None:
        packed = scripted_server.gzipped(b"[" + unit * (60 * 1024 * 1024 // len(unit)))
        began = time.monotonic()
        with pytest.raises(TooLarge, match="more than 32 MiB"):
            get(client, packed, deadline=30.0)
        assert time.monotonic() - began < SOON

    def test_a_body_is_not_unpacked_beyond_the_bound(self, client: Transport) -> None:
        """A body of 5 MB unpacks to 5 GB, which would fill the memory without the limit."""
        packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        block = packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
        again = packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
        began = time.monotonic()
        with pytest.raises(TooLarge):
            get(client, answer(block + again * 5000, Content_Encoding="gzip"), deadline=30.0)
        assert time.monotonic() - began < SOON

    @pytest.mark.parametrize("unit", ["[]", "{}", "0", '{"a":0}'])
    def test_too_many_values_are_refused_before_parsing(self, client: Transport, unit: str) -> None:
        text = f"[{','.join([unit] * 2_000_000)}]"
        with pytest.raises(TooLarge, match="more than 2,000,000 values"):
            get(client, scripted_server.gzipped(text.encode()), deadline=30.0)

    def test_a_body_just_below_the_bounds_is_read(self, client: Transport) -> None:
        rows = [{"a": number} for number in range(900_000)]
        assert (
            get(client, scripted_server.gzipped(json.dumps(rows).encode()), deadline=60.0).body
            == rows
        )

    def test_several_gzip_streams_are_one_body(self, client: Transport) -> None:
        packed = gzip.compress(b"[1,") + gzip.compress(b"2]") + b"what follows is left out"
        assert get(client, answer(packed, Content_Encoding="gzip")).body == [1, 2]

    def test_too_many_gzip_streams_are_refused(self, client: Transport) -> None:
        packed = gzip.compress(b"") * 1000
        with pytest.raises(TooLarge, match="gzip streams"):
            get(client, answer(packed, Content_Encoding="gzip"))

    @pytest.mark.parametrize(
        ("packed", "says"),
        [
            (b"no gzip at all", "not valid gzip"),
            (gzip.compress(b"[1]" * 999)[:-12], "stopped in the middle"),
            (gzip.compress(b"[1]")[:-8] + b"\xff" * 8, "not valid gzip"),
            (b"", "stopped in the middle"),
        ],
        ids=["other bytes", "cut short", "a wrong checksum", "nothing"],
    )
    def test_an_invalid_gzip_body_is_an_error(
        self, client: Transport, packed: bytes, says: str
    ) -> None:
        with pytest.raises(ServerError, match=says):
            get(client, answer(packed, Content_Encoding="gzip"), deadline=1.0)

    def test_an_encoding_that_was_not_requested_is_an_error(self, client: Transport) -> None:
        with pytest.raises(ServerError, match="instead of gzip"):
            get(client, answer(b"[]", Content_Encoding="br\\" + "x" * 9000))
        assert get(client, answer(b"[]", 404, Content_Encoding="br")).body is None

    def test_memory_is_returned_to_the_system(self) -> None:
        """Tested after an answer just below the limits, and after an answer beyond the limits."""
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        before, *after = map(int, done.stdout.split())
        assert max(after) - before < 100 * 1024, "kB"


_MEASURE = """
import gzip, json, time
from onefs.lowlevel import memory
from onefs.errors import OnefsError
from onefs.http import Transport
from tests.scripted_server import ScriptedServer, answer

def rss():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

memory.RELEASE_DELAY_SECONDS = 0.2
good = gzip.compress(b"[" + b",".join([b'{"a":"bcdefgh"}'] * 900_000) + b"]")
bomb = gzip.compress(b"[" + b"[]," * (20 << 20))
scripts = {path: answer(body, Content_Encoding="gzip") for path, body in
           {"/good": good, "/bomb": bomb}.items()}
with ScriptedServer(scripts) as server, Transport() as client:
    print(rss())
    for path in ("/good", "/bomb", "/good"):
        errors = []
        try:
            client.get_json(server.url + path, deadline=60.0)
        except OnefsError as error:
            errors.append(error)  # as a failure is remembered for a while
        end = time.monotonic() + 30
        while memory._timer is not None and time.monotonic() < end:
            time.sleep(0.05)
        print(rss())
"""


class TestValues:
    @pytest.mark.parametrize("text", ["[" * 900 + "]" * 900, '{"a":' * 700 + "1" + "}" * 700])
    def test_deeply_nested_values_are_refused(self, client: Transport, text: str) -> None:
        with pytest.raises(ServerError, match="nested more than 600 levels"):
            get(client, answer(text.encode()))

    @pytest.mark.parametrize(
        "text",
        ["[" * 1_000_000, '{"a":' * 300_000, "[" + "9" * 5000 + "]", "[1" + "0" * 1_000_000 + "]"],
    )
    def test_a_body_that_python_cannot_parse_is_an_error(
        self, client: Transport, text: str
    ) -> None:
        with pytest.raises(ServerError, match="did not answer in JSON"):
            get(client, answer(text.encode()))

    def test_odd_but_parseable_values_are_accepted(self, client: Transport) -> None:
        """Duplicate keys, NaN and lone surrogates are accepted. Rows are checked later."""
        found = get(client, answer(rb'{"a":1,"a":[NaN,-Infinity,1e999],"b":"\ud800"}')).body
        assert str(found["a"]) == "[nan, -inf, inf]"
        assert found["b"] == "\ud800"


class TestHeads:
    OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"

    @pytest.mark.parametrize("status", [100, 102, 103, 199])
    def test_interim_responses_are_skipped(self, client: Transport, status: int) -> None:
        interim = b"HTTP/1.1 %d Wait\r\nLink: </a>; rel=preload\r\n\r\n" % status
        assert get(client, raw(interim + interim + self.OK)).body == []
        with ScriptedServer({"/x": raw(interim + self.OK)}) as server:
            assert read(client.stream(f"{server.url}/x")) == b"[]"

    def test_the_connection_is_kept_after_an_interim_response(self, client: Transport) -> None:
        def script(talk: ScriptedConnection) -> None:
            talk.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + self.OK)

        with ScriptedServer({"/x": script}) as server:
            for _ in range(3):
                assert client.get_json(f"{server.url}/x").body == []
            assert server.connections == 1

    @pytest.mark.parametrize("status", [100, 102, 103])
    def test_endless_interim_responses_are_an_error(self, client: Transport, status: int) -> None:
        def script(talk: ScriptedConnection) -> None:
            for _ in range(100_000):
                talk.send(b"HTTP/1.1 %d Wait\r\n\r\n" % status * 100)

        with pytest.raises(ServerError, match="did not answer in HTTP"):
            get(client, script, deadline=30.0)

    def test_a_switch_to_another_protocol_is_an_error(self, client: Transport) -> None:
        upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"
        with pytest.raises(ServerError, match="did not answer in HTTP"):
            get(client, raw(upgrade + self.OK))

    def test_an_endless_line_between_chunks_is_an_error(self, client: Transport) -> None:
        def script(talk: ScriptedConnection) -> None:
            talk.head(200, Transfer_Encoding="chunked")
            for _ in range(4096):
                talk.send(b"0" * (1 << 20))

        with pytest.raises(ServerError):
            get(client, script, deadline=60.0)

    @pytest.mark.parametrize("length", ["-1", "9" * 30, "9" * 5000, "x", "²", "1e3", "2,2"])
    def test_an_invalid_content_length_is_ignored_or_an_error(
        self, client: Transport, length: str
    ) -> None:
        """The body is read up to the end of the connection, or an OnefsError is raised."""
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n[]".encode("latin-1")
        with contextlib.suppress(ServerError):
            assert get(client, raw(head), deadline=1.0).body == []
        with ScriptedServer({"/x": raw(head)}) as server, contextlib.suppress(ServerError):
            assert read(client.stream(f"{server.url}/x", stall_timeout=1.0)) == b"[]"

    def test_two_content_lengths_are_an_error(self, client: Transport) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 7\r\n\r\n[]"
        with pytest.raises(ServerError):
            get(client, raw(head), deadline=1.0)


class TestRedirects:
    @pytest.mark.parametrize(
        "location",
        [
            *("http://127.0.0.1:99999/", "http://127.0.0.1:-1/", "http://127.0.0.1:x/"),
            *("http://[::1/", "http://[x]/", "http://]/", "//", "http://", "http:///x", "https:x"),
            *("ftp://h/", "file:///etc/passwd", "javascript:1", "data:,x", "http://h:²/"),
            *("http://me:secret@127.0.0.1/", "http://" + "a" * 300 + "/", "http://.../"),
            *("http://a b/", "http://\xff\xfe/", "http://h\\@x/", "?" * 20_000 + "://["),
            "http://[" + "?token=" * 5000,
        ],
    )
    def test_a_redirect_to_an_invalid_address_is_no_usage_error(
        self, hasty: Transport, location: str
    ) -> None:
        """The error is the server's (EIO) and not the user's, and is raised soon."""
        script = raw(f"HTTP/1.1 302 F\r\nLocation: {location}\r\n\r\n".encode("latin-1"))
        for ask in (_get, _stream, _post):
            with ScriptedServer({"/x": script}) as server, pytest.raises(OnefsError) as caught:
                ask(hasty, f"{server.url}/x")
            assert not isinstance(caught.value, ValueError), ask
            assert "secret" not in str(caught.value)
            assert len(str(caught.value)) < 3000

    @pytest.mark.parametrize("location", ["", " "])
    def test_a_redirect_without_a_target_is_the_answer(
        self, client: Transport, location: str
    ) -> None:
        with ScriptedServer({"/x": answer(b"", 302, Location=location)}) as server:
            assert client.get_json(f"{server.url}/x").status == 302

    def test_blanks_in_a_path_are_escaped(self, client: Transport) -> None:
        with ScriptedServer(
            {"/x": scripted_server.redirect("/y z"), "/y%20z": answer_json([1])}
        ) as server:
            assert client.get_json(f"{server.url}/x").body == [1]


def _get(client: Transport, url: str) -> object:
    return client.get_json(url, deadline=3.0)


def _post(client: Transport, url: str) -> object:
    return client.post_json(url, {}, deadline=3.0)


def _stream(client: Transport, url: str) -> object:
    with client.stream(url, connect_timeout=3.0, stall_timeout=3.0) as stream:
        if stream.status >= 300:
            raise ServerError("not followed", stream.status)
        return b"".join(stream.iter_chunks())


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        *((header, 86400.0) for header in ("9" * 50, "9" * 5000)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400.0),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_at_most_a_day(header: str, seconds: float) -> None:
    assert retry_after_seconds(header) == seconds
    assert MAX_RETRY_AFTER_SECONDS == 86400.0


@pytest.mark.parametrize(
    "header",
    [
        "",
        "-1",
        "nan",
        "inf",
        "1e9",
        "²",
        "٣",
        "0x10",
        "Mon",
        "Mon,,",
        "0 0 0 0:0:0",
        ";" * 90000,
        "Fri, 31 Dec 99999 23:59:59 GMT",
        "Fri, 99 Foo 2020",
        "1 Jan 2020 1:2:3:4 GMT",
        "\x00",
    ],
)
def test_an_odd_retry_after_is_ignored(header: str) -> None:
    assert retry_after_seconds(header) is None

"""Streams return all bytes while these arrive, or raise the right error in time."""

from __future__ import annotations

import os
import re
import threading
import time

import pytest

from onefs.errors import (
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Stopping,
    Unreachable,
)
from onefs.http import Transport
from onefs.http.stream import Stream
from tests import scripted_server
from tests.http.calls import SLACK, read, timed
from tests.scripted_server import Script, ScriptedServer, answer


class TestStream:
    @pytest.mark.parametrize("size", [1, 7, 1 << 20])
    def test_a_body_arrives_in_pieces(self, client: Transport, size: int) -> None:
        body = bytes(range(256)) * (1 if size < 10 else 9000)
        with (
            ScriptedServer({"/f": answer(body, ETag='"v1"')}) as server,
            client.stream(f"{server.url}/f") as stream,
        ):
            pieces = list(stream.iter_chunks(size))
            assert (stream.status, stream.length, stream.headers["etag"]) == (
                200,
                len(body),
                '"v1"',
            )
        assert b"".join(pieces) == body
        assert max(map(len, pieces)) <= size

    def test_one_connection_serves_many_files(self, client: Transport) -> None:
        with ScriptedServer({"/f": answer(b"x" * 100_000), "/empty": answer()}) as server:
            for path in ("/f", "/empty", "/f", "/none", "/f"):
                read(client.stream(server.url + path))
            assert server.connections == 1

    def test_unencoded_bytes_are_requested(self, client: Transport) -> None:
        with ScriptedServer({"/f": answer(b"x")}) as server:
            read(client.stream(f"{server.url}/f", headers={"Range": "bytes=0-0"}))
            sent = server.requests[0].headers
        assert sent["accept-encoding"] == "identity"
        assert sent["range"] == "bytes=0-0"
        assert re.fullmatch(r"onefs/\d+\.\d+\.\d+", sent["user-agent"])

    def test_a_hash_sign_is_sent_escaped(self, client: Transport) -> None:
        with ScriptedServer({"/a/%23r%23/f": answer(b"x")}) as server:
            assert read(client.stream(f"{server.url}/a/%23r%23/f")) == b"x"

    @pytest.mark.parametrize("status", [206, 304, 403, 404, 416, 503])
    def test_other_statuses_are_left_to_the_caller(self, client: Transport, status: int) -> None:
        with (
            ScriptedServer({"/f": answer(b"", status)}) as server,
            client.stream(f"{server.url}/f") as stream,
        ):
            assert stream.status == status
            assert len(server.requests) == 1

    def test_fewer_bytes_than_announced_are_an_error(self, client: Transport) -> None:
        with (
            ScriptedServer({"/f": scripted_server.truncate(b"x" * 1000, 1001)}) as server,
            pytest.raises(ServerError, match="stopped in the middle"),
        ):
            read(client.stream(f"{server.url}/f"))

    def test_chunks_without_the_last_one_are_an_error(self, client: Transport) -> None:
        with (
            ScriptedServer({"/f": scripted_server.chunked(b"x" * 1000, complete=False)}) as server,
            pytest.raises(ServerError, match="stopped in the middle"),
        ):
            read(client.stream(f"{server.url}/f"))

    def test_more_bytes_than_announced_are_not_read(self, client: Transport) -> None:
        with ScriptedServer({"/f": answer(b"good" + b"evil" * 10, Content_Length=4)}) as server:
            assert read(client.stream(f"{server.url}/f")) == b"good"
            assert read(client.stream(f"{server.url}/f")) == b"good"

    def test_a_body_without_length_is_read(self, client: Transport) -> None:
        with (
            ScriptedServer({"/f": scripted_server.no_length(b"x" * 5000)}) as server,
            client.stream(f"{server.url}/f") as stream,
        ):
            assert (stream.length, b"".join(stream.iter_chunks())) == (None, b"x" * 5000)

    @pytest.mark.parametrize("length", ["5, 6", "many", "-3"])
    def test_an_invalid_length_is_ignored_or_an_error(self, client: Transport, length: str) -> None:
        script = scripted_server.raw(
            f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode() + b"xx"
        )
        with ScriptedServer({"/f": script}) as server:
            try:
                found = read(client.stream(f"{server.url}/f"))
            except ServerError:
                found = b""
        assert found in (b"", b"xx")

    def test_an_answer_that_is_not_http_is_an_error(self, client: Transport) -> None:
        with (
            ScriptedServer({"/f": scripted_server.raw(b"SSH-2.0-OpenSSH_9.2\r\n")}) as server,
            pytest.raises(OnefsError) as caught,
        ):
            read(client.stream(f"{server.url}/f"))
        assert isinstance(caught.value, ServerError | Unreachable)

    def test_an_encoded_file_is_refused(self, client: Transport) -> None:
        with (
            ScriptedServer({"/f": scripted_server.gzipped(b"x")}) as server,
            pytest.raises(ServerError, match=r"compressed \(gzip\), although onefs asked"),
        ):
            read(client.stream(f"{server.url}/f"))

    def test_a_reset_within_the_body_is_an_error(self, client: Transport) -> None:
        with (
            ScriptedServer({"/f": scripted_server.reset_after(b"x" * 1000, 5000)}) as server,
            pytest.raises(Unreachable, match="Connection reset"),
        ):
            read(client.stream(f"{server.url}/f"))

    @pytest.mark.parametrize(
        "script",
        [
            scripted_server.stall(),
            scripted_server.stall_after(b"x" * 100, 1000),
            scripted_server.trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 2.0),
        ],
        ids=["headers", "body", "trickled headers"],
    )
    def test_a_stall_is_an_error_in_time(self, client: Transport, script: Script) -> None:
        with ScriptedServer({"/f": script}) as server:
            stream = client.stream(f"{server.url}/f", connect_timeout=1.0, stall_timeout=0.4)
            took, _ = timed(lambda: read(stream), DeadlineExceeded)
        assert took < 1.4 + SLACK

    def test_progress_is_no_stall(self, client: Transport) -> None:
        def slowly(talk: scripted_server.ScriptedConnection) -> None:
            talk.head(200, Content_Length=6)
            for _ in range(6):
                talk.pause(0.9)
                talk.send(b"x")

        with ScriptedServer({"/f": slowly}) as server:
            assert read(client.stream(f"{server.url}/f", stall_timeout=4.0)) == b"x" * 6

    def test_a_link_that_slows_down_is_no_stall(self, client: Transport) -> None:
        """A piece of several chunks can take longer than the stall timeout, but a chunk cannot."""
        first, rest = 256 * 1024, 1536 * 1024

        def slower_and_slower(talk: scripted_server.ScriptedConnection) -> None:
            talk.head(200, Content_Length=first + rest)
            talk.send(b"x" * first)
            for _ in range(24):
                talk.pause(0.2)
                talk.send(b"y" * (rest // 24))

        with (
            ScriptedServer({"/f": slower_and_slower}) as server,
            client.stream(f"{server.url}/f", stall_timeout=4.0) as stream,
        ):
            body = b"".join(stream.iter_chunks(4 << 20))
            assert body == b"x" * first + b"y" * rest

    def test_a_slow_reader_is_no_stall(self, client: Transport) -> None:
        with (
            ScriptedServer({"/f": answer(b"x" * 3_000_000)}) as server,
            client.stream(f"{server.url}/f", stall_timeout=2.0) as stream,
        ):
            pieces = stream.iter_chunks()
            first = next(pieces)
            time.sleep(3.0)  # the test checks that this time does not count
            assert len(first) + sum(map(len, pieces)) == 3_000_000

    def test_an_unanswered_connection_is_given_up_in_time(self, client: Transport) -> None:
        with scripted_server.unanswering_url() as url:
            stream = client.stream(url, connect_timeout=0.3)
            took, _ = timed(lambda: read(stream), Unreachable)
        assert took < 0.3 + SLACK

    @pytest.mark.parametrize(
        "script",
        [scripted_server.stall(), scripted_server.stall_after(b"x", 9)],
        ids=["headers", "body"],
    )
    def test_abort_wakes_the_reader(self, client: Transport, script: Script) -> None:
        with ScriptedServer({"/f": script}) as server:
            stream = client.stream(f"{server.url}/f", stall_timeout=60)
            timer = threading.Timer(0.2, stream.abort)
            timer.start()
            took, _ = timed(lambda: read(stream), Stopping)
            timer.join()
        assert took < 0.2 + SLACK

    def test_abort_after_the_last_byte_disturbs_no_other_request(self, client: Transport) -> None:
        """At the time of the abort, the connection is already used for another request."""
        begun = threading.Event()

        def slowly(talk: scripted_server.ScriptedConnection) -> None:
            begun.set()
            talk.pause(0.5)
            answer(b"other")(talk)

        def abort(stream: Stream) -> None:
            begun.wait(10)
            stream.abort()

        with ScriptedServer({"/f": answer(b"whole"), "/g": slowly}) as server:
            with client.stream(f"{server.url}/f") as stream:
                assert next(stream.iter_chunks()) == b"whole"
                timer = threading.Thread(target=abort, args=(stream,))
                timer.start()
                assert read(client.stream(f"{server.url}/g")) == b"other"
                timer.join(10)
            assert [request.target for request in server.requests] == ["/f", "/g"]
            assert server.connections == 1

    def test_abort_of_a_body_without_length_is_no_end_of_file(self, client: Transport) -> None:
        def script(talk: scripted_server.ScriptedConnection) -> None:
            talk.head(200, Connection="close")
            talk.send(b"half")
            talk.pause()

        with ScriptedServer({"/f": script}) as server:
            stream = client.stream(f"{server.url}/f", stall_timeout=60)
            timer = threading.Timer(0.2, stream.abort)
            timer.start()
            timed(lambda: read(stream), Stopping)
            timer.join()

    def test_abort_before_the_request_stops_it(self, client: Transport) -> None:
        with ScriptedServer({"/f": answer(b"x")}) as server:
            stream = client.stream(f"{server.url}/f")
            stream.abort()
            with pytest.raises(Stopping):
                read(stream)
            assert server.requests == []

    def test_abort_after_the_end_has_no_effect(self, client: Transport) -> None:
        with ScriptedServer({"/f": answer(b"x")}) as server:
            first = client.stream(f"{server.url}/f")
            read(first)
            first.abort()
            assert read(client.stream(f"{server.url}/f")) == b"x"
            assert server.connections == 1

    def test_many_streams_run_at_once(self, client: Transport) -> None:
        body = os.urandom(400_000)
        wrong: list[object] = []

        def reader() -> None:
            for _ in range(5):
                try:
                    if read(client.stream(f"{server.url}/f")) != body:
                        wrong.append("bytes")
                except OnefsError as error:
                    wrong.append(error)

        with ScriptedServer({"/f": answer(body)}) as server:
            threads = [threading.Thread(target=reader) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        assert wrong == []

    def test_no_descriptor_is_left_open(self, client: Transport) -> None:
        with ScriptedServer({"/f": answer(b"x"), "/s": scripted_server.stall()}) as server:
            read(client.stream(f"{server.url}/f"))
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(10):
                read(client.stream(f"{server.url}/f"))
                stream = client.stream(f"{server.url}/s", connect_timeout=0.02, stall_timeout=0.02)
                with pytest.raises((DeadlineExceeded, Unreachable)):
                    read(stream)
            # the server keeps its ends of the stalled connections open until the server is closed
            assert len(os.listdir("/proc/self/fd")) <= before + 10

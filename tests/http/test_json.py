"""JSON requests return the right answer, or raise the right error in time."""

from __future__ import annotations

import json
import re
import threading

import pytest

from onefs.config.urls import can_keep_authorization
from onefs.errors import (
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Stopping,
)
from onefs.http import Transport, json_body
from tests import scripted_server
from tests.http.calls import SLACK, get, timed
from tests.running import within
from tests.scripted_server import (
    Script,
    ScriptedServer,
    answer,
    answer_json,
)


class TestGetJson:
    def test_an_answer_has_status_headers_and_body(self, client: Transport) -> None:
        found = get(client, answer_json({"a": [1, None]}, X_Kind="test"))
        assert (found.status, found.headers["x-kind"], found.body) == (
            200,
            "test",
            {"a": [1, None]},
        )

    def test_parameters_are_quoted_and_commas_are_not(self, client: Transport) -> None:
        with ScriptedServer({"/x": answer_json([])}) as server:
            client.get_json(f"{server.url}/x", params={"users": "a,b", "name": "ü #&"})
            assert server.requests[0].target == "/x?users=a,b&name=%C3%BC+%23%26"

    def test_a_connection_serves_many_requests(self, client: Transport) -> None:
        with ScriptedServer({"/x": answer_json([1])}) as server:
            for _ in range(5):
                client.get_json(f"{server.url}/x")
            assert (server.connections, len(server.requests)) == (1, 5)

    def test_a_compressed_body_is_decoded(self, client: Transport) -> None:
        assert get(client, scripted_server.gzipped(b'{"a": 1}')).body == {"a": 1}

    def test_a_chunked_body_is_read(self, client: Transport) -> None:
        assert get(client, scripted_server.chunked(b'{"a"', b": 1}")).body == {"a": 1}

    @pytest.mark.parametrize(
        "script",
        [scripted_server.truncate(b"[1]", 4), scripted_server.chunked(b"[1]", complete=False)],
    )
    def test_a_truncated_body_is_an_error(self, hasty: Transport, script: Script) -> None:
        """A truncated body is an error even if its bytes are valid JSON."""
        with pytest.raises(ServerError, match="stopped in the middle"):
            get(hasty, script)

    def test_an_html_error_page_has_no_body(self, client: Transport) -> None:
        found = get(client, answer(b"<html>", 404))
        assert (found.status, found.body) == (404, None)

    def test_a_page_instead_of_json_is_an_error(self, client: Transport) -> None:
        with pytest.raises(ServerError, match="did not answer in JSON"):
            get(client, answer(b"<html>welcome</html>"))

    def test_a_body_beyond_the_bound_is_refused(
        self, client: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(json_body, "MAX_JSON_BYTES", 1 << 20)
        with pytest.raises(ServerError, match="more than 1 MiB"):
            get(client, scripted_server.gzipped(b" " * (3 << 20)))


class TestDeadlines:
    OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"

    @pytest.mark.parametrize(
        "script",
        [
            scripted_server.stall(),
            scripted_server.stall_after(b"[", 10),
            scripted_server.trickle(OK, 2.0),  # takes more than a minute in all
            scripted_server.raw(b""),
        ],
        ids=["silence", "half a body", "trickled headers", "closed"],
    )
    def test_the_total_deadline_holds(self, client: Transport, script: Script) -> None:
        with within(0.6 + SLACK), pytest.raises(OnefsError):
            get(client, script, deadline=0.6)

    def test_a_trickling_body_is_given_up_in_time(self, client: Transport) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n"

        def script(talk: scripted_server.ScriptedConnection) -> None:
            talk.send(head)
            for _ in range(4000):
                talk.send(b" ")
                talk.pause(0.02)

        took, _ = timed(lambda: get(client, script, deadline=0.5), DeadlineExceeded)
        assert 0.45 < took < 0.5 + SLACK

    def test_an_unanswered_connection_is_given_up_in_time(self, client: Transport) -> None:
        with scripted_server.unanswering_url() as url:
            took, error = timed(lambda: client.get_json(url, deadline=0.4), DeadlineExceeded)
        assert 0.35 < took < 0.4 + SLACK
        assert "no answer within 0.4 s" in str(error)

    def test_an_unanswered_tls_handshake_is_given_up_in_time(self, client: Transport) -> None:
        with ScriptedServer({}) as server:  # without TLS; the server waits for a request line
            url = server.url.replace("http://", "https://")
            took, _ = timed(lambda: client.get_json(url, deadline=0.5), OnefsError)
        assert took < 0.5 + SLACK

    def test_close_wakes_waiting_callers(self) -> None:
        with ScriptedServer({"/x": scripted_server.stall()}) as server:
            client = Transport()
            timer = threading.Timer(0.2, client.close)
            timer.start()
            took, _ = timed(lambda: client.get_json(f"{server.url}/x", deadline=60), Stopping)
            timer.join()
        assert took < 0.2 + SLACK


TOKEN = {"Authorization": "Token 0123"}


class TestRedirects:
    def test_a_redirect_within_the_origin_keeps_the_token(self, client: Transport) -> None:
        with ScriptedServer(
            {"/x": scripted_server.redirect("/y"), "/y": answer_json([1])}
        ) as server:
            assert client.get_json(f"{server.url}/x", headers=TOKEN).body == [1]
            assert [r.headers.get("authorization") for r in server.requests] == ["Token 0123"] * 2

    def test_a_redirect_to_another_origin_does_not_send_the_token(self, client: Transport) -> None:
        with ScriptedServer({"/y": answer_json([1])}) as other:
            script = scripted_server.redirect(f"{other.url}/y")
            assert get(client, script, headers=TOKEN).body == [1]
            assert "authorization" not in other.requests[0].headers

    def test_a_circle_of_redirects_is_an_error(self, client: Transport) -> None:
        with ScriptedServer(
            {"/x": scripted_server.redirect("/y"), "/y": scripted_server.redirect("/x")}
        ) as server:
            with pytest.raises(ServerError, match="in a circle, or too often"):
                client.get_json(f"{server.url}/x")
            assert len(server.requests) == 2

    def test_more_than_five_redirects_are_an_error(self, client: Transport) -> None:
        pages: dict[str, Script] = {
            f"/{n}": scripted_server.redirect(f"/{n + 1}") for n in range(9)
        }
        with ScriptedServer(pages | {"/5": answer_json([5])}) as server:
            assert client.get_json(f"{server.url}/0").body == [5]
        with ScriptedServer(pages) as server:
            with pytest.raises(ServerError, match="in a circle, or too often"):
                client.get_json(f"{server.url}/0")
            assert len(server.requests) == 6

    def test_a_redirect_to_another_scheme_is_an_error(self, client: Transport) -> None:
        with pytest.raises(ServerError, match="not an http"):
            get(client, scripted_server.redirect("file:///etc/passwd"))

    def test_a_post_is_not_redirected(self, client: Transport) -> None:
        with ScriptedServer({"/y": answer_json([1])}) as other:
            with (
                ScriptedServer({"/x": scripted_server.redirect(f"{other.url}/y", 307)}) as server,
                pytest.raises(ServerError, match=re.escape(f"redirects to {other.url}/y")),
            ):
                client.post_json(f"{server.url}/x", {"password": "p"})
            assert other.requests == []

    @pytest.mark.parametrize(
        ("source", "target", "kept"),
        [
            ("https://a/x", "https://A:443/y", True),
            ("http://a/x", "https://a/y", True),
            ("https://a/x", "http://a/y", False),
            ("http://a:8000/x", "https://a/y", False),
            ("https://a/x", "https://a.evil/y", False),
            ("https://a/x", "https://a@b/y", False),
        ],
    )
    def test_origins_that_keep_the_header(self, source: str, target: str, kept: bool) -> None:
        assert can_keep_authorization(source, target) is kept


def test_a_post_sends_json() -> None:
    with Transport() as client, ScriptedServer({"/t": answer_json({"token": "x"})}) as server:
        assert client.post_json(f"{server.url}/t", {"username": "ü"}).body == {"token": "x"}
        sent = server.requests[0]
    assert (sent.method, json.loads(sent.body)) == ("POST", {"username": "ü"})
    assert sent.headers["content-type"] == "application/json"

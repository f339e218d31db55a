"""Requests that are retried, and the time of each retry."""

from __future__ import annotations

import socket

import pytest

from onefs.errors import (
    DataServerCredentials,
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
)
from onefs.http import Transport, retry_delay
from onefs.http.dialing import dial
from onefs.http.exchange import Exchange, Watchdog
from onefs.http.retry import retry_after_seconds
from tests import scripted_server
from tests.http.calls import SLACK, get, timed
from tests.scripted_server import ScriptedServer, answer, answer_json
from tests.unreachable_frames import unreachable_frames


class TestRetries:
    @pytest.mark.parametrize("status", [502, 503, 504])
    def test_a_server_that_fails_once_is_retried(self, hasty: Transport, status: int) -> None:
        assert get(hasty, answer(b"", status), answer(b"", status), answer_json([1])).body == [1]

    @pytest.mark.parametrize("status", [502, 503, 504])
    def test_a_lasting_failure_is_an_error(self, hasty: Transport, status: int) -> None:
        with pytest.raises(Unreachable, match=f"is unavailable .HTTP {status}"):
            get(hasty, answer(b"", status))

    def test_a_truncated_answer_is_retried(self, hasty: Transport) -> None:
        assert get(hasty, scripted_server.truncate(b"[", 9), answer_json([1])).body == [1]

    def test_a_reset_connection_is_retried(self, hasty: Transport) -> None:
        assert get(hasty, scripted_server.reset_after(b"[", 9), answer_json([1])).body == [1]

    def test_500_with_a_detail_is_the_request_s_fault(self, hasty: Transport) -> None:
        with ScriptedServer(
            {"/x": answer_json({"status_code": 500, "detail": "bad"}, 500)}
        ) as server:
            found = hasty.get_json(f"{server.url}/x")
            assert (found.status, found.body["detail"]) == (500, "bad")
            assert len(server.requests) == 1

    def test_500_without_a_detail_is_retried(self, hasty: Transport) -> None:
        assert get(hasty, answer(b"<h1>oops", 500), answer_json([1])).body == [1]

    def test_a_lasting_500_is_an_answer(self, hasty: Transport) -> None:
        assert get(hasty, answer(b"<h1>oops", 500)).status == 500

    def test_429_waits_as_long_as_retry_after(self) -> None:
        waits: list[float] = []
        with Transport(sleep=waits.append) as client:
            limit = answer_json({"detail": "Request was throttled."}, 429, Retry_After=3)
            assert get(client, limit, answer_json([1])).body == [1]
        assert len(waits) == 1
        assert 3.0 <= waits[0] <= 3.5

    def test_429_beyond_the_deadline_is_an_error_at_once(self, client: Transport) -> None:
        limit = answer_json({"detail": "Request was throttled."}, 429, Retry_After=49)
        took, error = timed(lambda: get(client, limit, deadline=10), Throttled)
        assert isinstance(error, Throttled)
        assert error.retry_after == 49
        assert took < SLACK  # the error comes at once, because 49 s are too long

    def test_a_refused_connection_is_an_error(self, hasty: Transport) -> None:
        with (
            scripted_server.refusing_url() as url,
            pytest.raises(Unreachable, match="Connection refused"),
        ):
            hasty.get_json(url)

    def test_the_deadline_includes_retries(self) -> None:
        now, waits = [0.0], list[float]()

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            now[0] += seconds

        with (
            Transport(clock=lambda: now[0], sleep=sleep) as client,
            scripted_server.refusing_url() as url,
        ):
            with pytest.raises(Unreachable):
                client.get_json(url, deadline=100.0)
            assert len(waits) > 1
            without, waits[:], now[0] = sum(waits), [], 0.0
            with pytest.raises(Unreachable):
                client.get_json(url, deadline=without / 4)
        assert sum(waits) < without / 4

    def test_a_closed_kept_connection_is_replaced(self, client: Transport) -> None:
        def once(talk: scripted_server.ScriptedConnection) -> None:
            answer(b"[1]")(talk)
            talk.hang_up()

        with ScriptedServer({"/x": once}) as server:
            for _ in range(3):
                assert client.post_json(f"{server.url}/x", {}).body == [1]

    @pytest.mark.parametrize(
        ("outcome", "again"),
        [
            (429, True),
            (500, True),
            (502, True),
            (503, True),
            (504, True),
            (400, False),
            (403, False),
            (404, False),
            (Unreachable("x"), True),
            (ServerError("short"), True),
            (ServerError("x", 500), True),
            (ServerError("x", 500, "detail"), False),
            (ServerError("x", 404), False),
            (DeadlineExceeded("x"), False),
            (DataServerCredentials("x"), False),
        ],
    )
    def test_which_outcomes_are_retried(self, outcome: OnefsError | int, again: bool) -> None:
        assert (retry_delay(outcome, 1) is not None) is again

    def test_delays_double_and_end(self) -> None:
        delays = [retry_delay(503, n, attempts=5, jitter=lambda: 1.0) for n in range(1, 6)]
        assert delays == [0.25, 0.5, 1.0, 2.0, None]

    def test_a_delay_is_never_below_retry_after(self) -> None:
        delay = retry_delay(503, 1, 7.0, jitter=lambda: 0.0)
        assert delay is not None
        assert delay >= 7.0
        assert retry_delay(Throttled("x", 9.0), 1, jitter=lambda: 0.0) == 9.125

    @pytest.mark.parametrize(
        ("written", "seconds"),
        [
            ("49", 49.0),
            (" 7 ", 7.0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 60.0),
            ("Sun, 06 Nov 1994 08:47:37 GMT", 0.0),
            ("soon", None),
            ("-5", None),
            ("\u00b2", None),
            ("", None),
            (None, None),
        ],
    )
    def test_retry_after_is_seconds_or_a_date(
        self, written: str | None, seconds: float | None
    ) -> None:
        assert retry_after_seconds(written, now=lambda: 784111717.0) == seconds


@pytest.mark.parametrize(
    "script",
    [answer(b"", 502), scripted_server.truncate(b"[" * 9000, 9999)],
    ids=["unavailable", "truncated"],
)
def test_failed_requests_leave_no_frames(hasty: Transport, script: scripted_server.Script) -> None:
    with unreachable_frames() as names, pytest.raises(OnefsError):
        get(hasty, script)
    assert names == []


def test_an_address_that_refuses_leaves_no_frames() -> None:
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    exchange = Exchange(Watchdog())
    with unreachable_frames() as names, pytest.raises(ConnectionRefusedError):
        dial(exchange, "127.0.0.1", port, 60.0, ())
    assert names == []

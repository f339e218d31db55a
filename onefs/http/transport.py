"""The transport: JSON within a total deadline, data as a stream, on pooled connections."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

from urllib3 import BaseHTTPResponse

from onefs.config.secret import excerpt
from onefs.config.urls import host_of, safe_url
from onefs.errors import (
    DeadlineExceeded,
    Offline,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
)
from onefs.http.auth import HostAuth
from onefs.http.error_mapping import HTTP_EXCEPTIONS, to_onefs_error
from onefs.http.exchange import Clock, Exchange, Watchdog
from onefs.http.json_body import read_json
from onefs.http.request import HttpRequest
from onefs.http.retry import retry_after_seconds, retry_delay
from onefs.http.sender import REDIRECT_STATUSES, Sender, redirect_target
from onefs.http.stream import Stream, end_error

#: seconds that a metadata request may take in all
DEADLINE_SECONDS = 10.0
CONNECT_TIMEOUT_SECONDS = 10.0
#: the same while the network is known to be away
FAIL_FAST_TIMEOUT_SECONDS = 0.8
STALL_TIMEOUT_SECONDS = 60.0

#: sockets wait this much longer than the watchdog, so that it is the watchdog that speaks
_WATCHDOG_MARGIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """An answer in JSON. ``headers`` are read without regard to case."""

    status: int
    headers: Mapping[str, str]
    #: the parsed body; None when an error's body is not JSON (Django's HTML pages)
    body: Any
    #: bytes of the body, unpacked
    size: int = 0
    #: brackets, braces and commas of the body: at least the number of its values
    value_count: int = 0


class RequestPermit(Protocol):
    """What a request passes each time that it is sent: a budget, shared with others."""

    def try_acquire(self) -> float:
        """0 when it may go out now, else the seconds after which to ask again."""

    def report_throttled(self, seconds: float) -> None:
        """The server has answered 429, and wants no request for so long."""


class Transport:
    """Talks HTTP for one process. Thread-safe; to be made after a fork, not before.

    Proxies and certificates of the environment are honoured (loopback needs no proxy); netrc and
    cookies are not. No message holds a user, a password or a token.
    """

    def __init__(
        self, *, clock: Clock = time.monotonic, sleep: Callable[[float], object] | None = None
    ) -> None:
        self._clock = clock
        self._closing = threading.Event()
        self._sleep = sleep or self._closing.wait
        self._watchdog = Watchdog(clock)
        self._sender = Sender()
        self._fail_fast = False

    def set_fail_fast(self, fail_fast: bool) -> None:
        """Whether the network seems to be away: then a stream fails soon, with Offline."""
        self._fail_fast = fail_fast

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wake everybody who waits for an answer with Stopping, and drop the connections."""
        self._closing.set()
        self._watchdog.close()
        self._sender.close()

    def get_json(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        deadline: float = DEADLINE_SECONDS,
        permit: RequestPermit | None = None,
    ) -> JsonAnswer:
        """GET an answer in JSON within ``deadline`` seconds in all, retries included.

        Follows redirects; tries again as ``retry_delay`` says while time is left, each time after
        passing ``gate``. Statuses are the caller's to judge but for these: Throttled for a 429, or
        a gate, that asks for more time than is left, Unreachable for a 502, 503 or 504 that
        lasts. Raises Unreachable, DeadlineExceeded, ServerError (not JSON, broke off), TooLarge,
        Stopping.
        """
        # names are the server's own: bytes that are not UTF-8 go back to it as they came
        query = urlencode(params or {}, safe=",", errors="surrogateescape")
        full = f"{url}?{query}" if query else url
        end = self._clock() + deadline
        attempt = 0
        while True:
            attempt += 1
            if permit is not None:
                self._wait_for_permit(permit, full, end)
            answer, problem, retry_after = self._get_once(full, headers or {}, end, deadline)
            if permit is not None and isinstance(problem, Throttled):
                permit.report_throttled(problem.retry_after)
            if problem is None:
                assert answer is not None
                return answer
            delay = retry_delay(problem, attempt, retry_after)
            if delay is None or self._clock() + delay >= end:
                if answer is not None and isinstance(problem, ServerError):
                    return answer
                raise problem
            self._sleep(delay)

    def post_json(
        self,
        url: str,
        payload: Any,
        *,
        headers: Mapping[str, str] | None = None,
        deadline: float = DEADLINE_SECONDS,
    ) -> JsonAnswer:
        """POST ``payload`` as JSON, once; within ``deadline`` seconds in all.

        Never follows a redirect: what is posted is for this server only (ServerError). Else
        raises as :meth:`get_json` does.
        """
        sent = {"Content-Type": "application/json", **(headers or {})}
        wait = deadline + _WATCHDOG_MARGIN_SECONDS
        call = HttpRequest("POST", url, wait, wait, sent, json.dumps(payload).encode())
        answer = self._exchange_json(call, self._clock() + deadline, deadline)
        problem = _retryable_error(
            answer, url, retry_after_seconds(answer.headers.get("Retry-After"))
        )
        if problem is not None and not isinstance(problem, ServerError):
            raise problem
        if answer.status in REDIRECT_STATUSES:
            target = redirect_target(url, answer.headers.get("Location", ""), answer.status)
            raise ServerError(
                f"{safe_url(url)} leads to {safe_url(target)}: give that server's URL",
                answer.status,
            )
        return answer

    def stream(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: HostAuth | None = None,
        connect_timeout: float = CONNECT_TIMEOUT_SECONDS,
        stall_timeout: float = STALL_TIMEOUT_SECONDS,
    ) -> Stream:
        """GET bytes: ``with transport.stream(url) as stream: for chunk in stream.iter_chunks()``.

        ``connect_timeout`` seconds to connect, ``stall_timeout`` for the headers and between
        bytes; no limit on the whole. Nothing is tried again but a request whose kept connection
        turns out closed, and one that answers a Basic challenge of ``url``'s own origin with
        ``auth``. The bytes are never decoded.
        """
        sent = {"Accept-Encoding": "identity", **(headers or {})}
        if self._fail_fast:
            connect_timeout = min(connect_timeout, FAIL_FAST_TIMEOUT_SECONDS)
        call = HttpRequest(
            "GET", url, connect_timeout, stall_timeout + _WATCHDOG_MARGIN_SECONDS, sent, auth=auth
        )

        def send(exchange: Exchange) -> tuple[BaseHTTPResponse, str]:
            exchange.set_due(self._clock() + connect_timeout + stall_timeout)
            try:
                return self._sender.send(call, exchange, stall_timeout)
            except Unreachable as error:
                if self._fail_fast:
                    raise Offline(str(error)) from error
                raise

        return Stream(send, Exchange(self._watchdog), self._clock, url, stall_timeout)

    def _wait_for_permit(self, gate: RequestPermit, url: str, end: float) -> None:
        """Wait until ``gate`` lets a request through. Raises Throttled when that is too late."""
        while (wait := gate.try_acquire()) > 0 and not self._closing.is_set():
            if self._clock() + wait >= end:
                raise Throttled(
                    f"{host_of(url)} has been asked enough for now: free in {wait:.0f} s", wait
                )
            self._sleep(min(wait, 1.0))

    def _get_once(
        self, url: str, headers: Mapping[str, str], end: float, deadline: float
    ) -> tuple[JsonAnswer | None, OnefsError | None, float | None]:
        """One try: the answer, what is wrong if anything, and when the server wants the next."""
        left = end - self._clock()
        if left <= 0:
            raise DeadlineExceeded(f"{safe_url(url)}: no answer within {deadline:g} s")
        sent = {"Accept": "application/json", "Accept-Encoding": "gzip", **headers}
        try:
            call = HttpRequest(
                "GET", url, left + _WATCHDOG_MARGIN_SECONDS, left + _WATCHDOG_MARGIN_SECONDS, sent
            )
            answer = self._exchange_json(call, end, deadline)
        except (Unreachable, ServerError) as error:
            return None, error, None
        retry_after = retry_after_seconds(answer.headers.get("Retry-After"))
        return answer, _retryable_error(answer, url, retry_after), retry_after

    def _exchange_json(self, call: HttpRequest, end: float, deadline: float) -> JsonAnswer:
        exchange = Exchange(self._watchdog)
        exchange.set_due(end)
        try:
            response, url = self._sender.send(call, exchange, deadline)
            try:
                body = read_json(response, url)
            except HTTP_EXCEPTIONS as error:
                raise to_onefs_error(error, host_of(url)) from error
            finally:
                response.close()
            if why := end_error(exchange, url, deadline):
                raise why
        except OnefsError as error:
            raise end_error(exchange, call.url, deadline) or error from error.__cause__
        finally:
            exchange.finish()
        return JsonAnswer(
            response.status, response.headers, body.value, body.size, body.value_count
        )


def _retryable_error(answer: JsonAnswer, url: str, retry_after: float | None) -> OnefsError | None:
    """What makes an answer worth another try: too early, the server away, or failing."""
    if answer.status == 429:
        wait = f" for {retry_after:g} s" if retry_after else ""
        return Throttled(f"{host_of(url)} asks to wait{wait}: too many requests", retry_after or 0)
    if answer.status in (502, 503, 504):
        return Unreachable(f"{host_of(url)} is away (HTTP {answer.status})")
    if answer.status == 500:
        detail = answer.body.get("detail") if isinstance(answer.body, dict) else None
        return ServerError(f"{host_of(url)} failed (HTTP 500)", 500, excerpt(str(detail or "")))
    return None

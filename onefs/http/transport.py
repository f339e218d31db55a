"""The transport: gets JSON within a total deadline, and data as a stream."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

from onefs.config.secret import excerpt
from onefs.config.urls import host_of, safe_url
from onefs.errors import (
    DeadlineExceeded,
    Offline,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
    copy_error,
    strip_tracebacks,
)
from onefs.http.auth import HostAuth
from onefs.http.exchange import Clock, Exchange, Watchdog, end_error
from onefs.http.json_body import JsonAnswer, read_json
from onefs.http.redirects import REDIRECT_STATUSES, redirect_target
from onefs.http.request import HttpRequest
from onefs.http.retry import retry_after_seconds, retry_delay
from onefs.http.stream import Stream
from onefs.lowlevel.lazy import Lazy

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from onefs.http.sender import Sender

#: seconds that a metadata request may take in all, including retries
DEADLINE_SECONDS = 10.0
CONNECT_TIMEOUT_SECONDS = 10.0
#: seconds that connecting may take while the network seems unavailable
FAIL_FAST_TIMEOUT_SECONDS = 0.8
STALL_TIMEOUT_SECONDS = 60.0

#: seconds by which a socket timeout is longer than the deadline, so that the watchdog acts first
_WATCHDOG_MARGIN_SECONDS = 1.0


class RequestPermit(Protocol):
    """The rate limiter's permission to send one request and to repeat this request."""

    def try_acquire(self) -> float:
        """Return 0 if the request may be sent now, or the seconds after which to try again."""

    def report_throttled(self, seconds: float) -> None:
        """Record that the server answered 429 and asks for no requests for ``seconds``."""


class Transport:
    """Sends the HTTP requests of one process. Thread-safe; create it after a fork, not before.

    Proxies and certificates from the environment are used, but no proxy for loopback addresses.
    Neither netrc nor cookies are used. No error message contains a user name, a password or a
    token.

    The HTTP libraries are loaded with the first request, or by :meth:`load`, because this takes
    longer than most commands that need no server.
    """

    def __init__(
        self, *, clock: Clock = time.monotonic, sleep: Callable[[float], object] | None = None
    ) -> None:
        self._clock = clock
        self._closing = threading.Event()
        self._sleep = sleep or self._closing.wait
        self._watchdog = Watchdog(clock)
        self._sender: Lazy[Sender] = Lazy(_load_sender)
        self._fail_fast = False

    def set_fail_fast(self, fail_fast: bool) -> None:
        """Set whether later streams fail fast, because the network seems unavailable.

        If ``fail_fast`` is true, connecting may take at most FAIL_FAST_TIMEOUT_SECONDS, and an
        unreachable server raises Offline.
        """
        self._fail_fast = fail_fast

    def load(self) -> None:
        """Load the HTTP libraries now, so that the first request does not have to.

        Raises Stopping after :meth:`close`, unless they are loaded.
        """
        self._sender()

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Raise Stopping in all threads that wait for a response, and close the connections."""
        self._closing.set()
        self._watchdog.close()
        if (sender := self._sender.close()) is not None:
            sender.close()

    def get_json(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        deadline: float = DEADLINE_SECONDS,
        permit: RequestPermit | None = None,
    ) -> JsonAnswer:
        """GET a JSON response within ``deadline`` seconds in all, including retries.

        Redirects are followed. ``permit`` is acquired again before each attempt. Raises:

        - Throttled, if the last status is 429, or if a permit is available only after the deadline
        - Unreachable, if there is no answer, or if the last status is 502, 503 or 504
        - ServerError, if the response is truncated or not JSON
        - DeadlineExceeded, TooLarge and Stopping

        The caller checks all other statuses.
        """
        self.load()  # before the deadline begins
        # names from the server can contain bytes that are not UTF-8; they are sent back unchanged
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
                raise copy_error(problem)
            self._sleep(delay)

    def post_json(
        self,
        url: str,
        payload: Any,
        *,
        headers: Mapping[str, str] | None = None,
        deadline: float = DEADLINE_SECONDS,
    ) -> JsonAnswer:
        """POST ``payload`` as JSON, without retries, within ``deadline`` seconds in all.

        Raises ServerError for a redirect. Otherwise raises the same errors as :meth:`get_json`.
        """
        self.load()  # before the deadline begins
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
            # the payload is for this server only
            target = redirect_target(url, answer.headers.get("Location", ""), answer.status)
            raise ServerError(
                f"{safe_url(url)} redirects to {safe_url(target)}: use the URL of that server",
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
        follow_redirects: bool = True,
    ) -> Stream:
        """GET bytes: ``with transport.stream(url) as stream: for chunk in stream.iter_chunks()``.

        ``connect_timeout`` is the longest time in seconds for connecting. ``stall_timeout`` is the
        longest wait in seconds for the headers or the next byte. The total time is not limited.
        ``auth`` answers Basic challenges. Without ``follow_redirects``, an answer that redirects is
        returned as it is. A request is repeated only if it used a connection of an
        earlier request and the server has closed this connection. The bytes are not decoded.
        """
        sent = {"Accept-Encoding": "identity", **(headers or {})}
        if self._fail_fast:
            connect_timeout = min(connect_timeout, FAIL_FAST_TIMEOUT_SECONDS)
        call = HttpRequest(
            "GET",
            url,
            connect_timeout,
            stall_timeout + _WATCHDOG_MARGIN_SECONDS,
            sent,
            auth=auth,
            follow_redirects=follow_redirects,
            is_plain=True,
        )

        def send(exchange: Exchange) -> tuple[BaseHTTPResponse, str]:
            self.load()  # before the deadline begins
            exchange.set_due(self._clock() + connect_timeout + stall_timeout)
            try:
                return self._sender().send(call, exchange, stall_timeout)
            except Unreachable as error:
                if self._fail_fast:
                    raise Offline(str(error)) from error
                raise

        return Stream(send, Exchange(self._watchdog), self._clock, url, stall_timeout)

    def _wait_for_permit(self, permit: RequestPermit, url: str, end: float) -> None:
        """Wait for a permit. Raises Throttled if no permit is available before ``end``."""
        while (wait := permit.try_acquire()) > 0 and not self._closing.is_set():
            if self._clock() + wait >= end:
                raise Throttled(
                    f"the request limit of {host_of(url)} is reached; try again in {wait:.0f} s",
                    wait,
                )
            self._sleep(min(wait, 1.0))

    def _get_once(
        self, url: str, headers: Mapping[str, str], end: float, deadline: float
    ) -> tuple[JsonAnswer | None, OnefsError | None, float | None]:
        """Send the request once. Return the response, the error, and Retry-After in seconds.

        A value is None if there is no response, no error or no such header. Raises DeadlineExceeded
        after ``end``.
        """
        left = end - self._clock()
        if left <= 0:
            raise DeadlineExceeded(f"{safe_url(url)}: no answer within {deadline:g} s")
        sent = {"Accept": "application/json", "Accept-Encoding": "gzip", **headers}
        wait = left + _WATCHDOG_MARGIN_SECONDS
        call = HttpRequest("GET", url, wait, wait, sent)
        try:
            answer = self._exchange_json(call, end, deadline)
        except (Unreachable, ServerError) as error:
            # no response
            return None, strip_tracebacks(error), None
        retry_after = retry_after_seconds(answer.headers.get("Retry-After"))
        # no error if the response needs no retry
        return answer, _retryable_error(answer, url, retry_after), retry_after

    def _exchange_json(self, call: HttpRequest, end: float, deadline: float) -> JsonAnswer:
        # loaded with the first request
        from onefs.http.error_mapping import HTTP_EXCEPTIONS, to_onefs_error

        exchange = Exchange(self._watchdog)
        exchange.set_due(end)
        try:
            response, url = self._sender().send(call, exchange, deadline)
            try:
                answer = read_json(response, url)
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
        return answer


def _load_sender() -> Sender:
    from onefs.http.sender import Sender

    return Sender()


def _retryable_error(answer: JsonAnswer, url: str, retry_after: float | None) -> OnefsError | None:
    """Return the error for a response with status 429, 500, 502, 503 or 504.

    Return None for all other statuses.
    """
    if answer.status == 429:
        wait = f" for {retry_after:g} s" if retry_after else ""
        return Throttled(f"{host_of(url)} asks to wait{wait}: too many requests", retry_after or 0)
    if answer.status in (502, 503, 504):
        return Unreachable(f"{host_of(url)} is unavailable (HTTP {answer.status})")
    if answer.status == 500:
        detail = answer.body.get("detail") if isinstance(answer.body, dict) else None
        return ServerError(f"{host_of(url)} failed (HTTP 500)", 500, excerpt(str(detail or "")))
    return None

"""Sends one request to Alyx with its token and rate-limit permit, and interprets refusals.

An invalid token is a 403, which ``detail`` distinguishes from "not allowed". A 500 with a
``detail`` is the query's fault, and a retry is useless; unless the simplest query fails too: then
the server's database is unavailable.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote

from onefs.alyx.rate_limit import RateLimiter
from onefs.config.secret import excerpt
from onefs.errors import AlyxCredentials, ServerError, Throttled, Unreachable
from onefs.http import JsonAnswer, Stream, Transport

#: the simplest query, and the seconds that its answer may take
_PROBE_PATH, _PROBE_QUERY, _PROBE_DEADLINE_SECONDS = "labs", {"limit": "1"}, 3.0
#: Alyx's ``detail`` of a 403 when the token is the reason, not the permission
_LOGIN_ERROR_DETAILS = ("invalid token", "authentication credentials were not provided")


class TokenSource(Protocol):
    """The source of the client's token, and of another one when the server refuses it."""

    def current_token(self) -> str:
        """The token to send. Raises AlyxCredentials when there is none."""

    def renew(self, refused: str) -> str | None:
        """A token other than the refused one, after a new login; None without one."""


class RequestSender:
    """Sends requests to one Alyx. Thread-safe. Paths and queries are those of Alyx's REST API."""

    def __init__(
        self,
        transport: Transport,
        url: str,
        token: TokenSource,
        deadline: float,
        rate_limiter: RateLimiter | None,
    ) -> None:
        self.url = url.rstrip("/")
        self._transport = transport
        self._token = token
        self._deadline = deadline
        self._rate_limiter = rate_limiter
        self._low_priority_seconds = 0.0

    def low_priority(self, seconds: float, deadline: float | None) -> RequestSender:
        """A sender whose requests leave the rate limiter's reserve alone for ``seconds`` each."""
        other = copy.copy(self)
        other._low_priority_seconds = seconds
        other._deadline = deadline or self._deadline
        return other

    def get(self, path: str, query: Mapping[str, str]) -> JsonAnswer:
        """The answer to a GET, with a renewed token if Alyx refuses the first.

        Raises AlyxCredentials, Throttled, Unreachable when Alyx fails on any query, and what the
        transport raises.
        """
        token = self._token.current_token()
        answer = self._send(path, query, token)
        if _is_login_error(answer):
            renewed = self._token.renew(token)
            if renewed is not None:
                answer = self._send(path, query, renewed)
        if answer.status == 500 and self._is_database_down(path, token):
            raise database_down_error(self.url, answer)
        if answer.status in (401, 403):
            detail = _error_detail(answer)
            advice = "; run `onefs login`" if _is_login_error(answer) else ""
            raise AlyxCredentials(
                f"{self.url} refuses the request: {detail or answer.status}{advice}"
            )
        if answer.status == 429:
            raise Throttled(f"{self.url} asks to wait: {_error_detail(answer)}")
        return answer

    def get_object(self, path: str, what: str) -> dict[str, Any] | None:
        """The object at a path; None when Alyx has none. Error messages call it ``what``."""
        answer = self.get(path, {})
        if answer.status == 404:
            return None
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise self.unexpected_answer_error(answer, what)
        return answer.body

    def stream(self, path: str) -> Stream:
        """The bytes of a file of Alyx; the caller judges the status."""
        headers = {
            "Accept": "application/json, */*",  # without JSON Alyx answers 406
            "Authorization": f"Token {self._token.current_token()}",
        }
        return self._transport.stream(f"{self.url}/{path}", headers=headers)

    def unexpected_answer_error(self, answer: JsonAnswer, what: str) -> ServerError:
        """The error of an answer that is not ``what`` was requested."""
        detail = _error_detail(answer)
        says = f": {detail}" if detail else ""
        return ServerError(
            f"{self.url}: {what}: answer {answer.status}{says}", answer.status, detail
        )

    def _is_database_down(self, path: str, token: str) -> bool:
        """Whether the simplest query fails too, so that a 500 is not the fault of this query."""
        if path == _PROBE_PATH:
            return True
        deadline = min(self._deadline, _PROBE_DEADLINE_SECONDS)
        return self._send(_PROBE_PATH, _PROBE_QUERY, token, deadline).status == 500

    def _send(
        self, path: str, query: Mapping[str, str], token: str, deadline: float | None = None
    ) -> JsonAnswer:
        limiter = self._rate_limiter
        return self._transport.get_json(
            f"{self.url}/{quote(path)}",
            params=query,
            headers={"Authorization": f"Token {token}", "Accept": "application/json"},
            deadline=deadline or self._deadline,
            permit=limiter.permit(self._low_priority_seconds) if limiter else None,
        )


def database_down_error(url: str, answer: JsonAnswer) -> Unreachable:
    """The error of an Alyx that answers 500 to any query."""
    detail = _error_detail(answer)
    says = f": {detail}" if detail else ""
    return Unreachable(
        f"{url} answers, but its own database seems to be unavailable (HTTP 500{says}); try again "
        "later"
    )


def _error_detail(answer: JsonAnswer) -> str:
    """Alyx's message of an error: its ``detail``, or the first filter of a 400 and its complaint.

    Shortened, on one line and without secrets, for our own messages.
    """
    body = answer.body if isinstance(answer.body, dict) else {}
    detail = body.get("detail")
    if isinstance(detail, str):
        return excerpt(detail)
    complaints = (
        f"{name}: {texts[0]}" for name, texts in body.items() if isinstance(texts, list) and texts
    )
    return excerpt(next(complaints, ""))


def _is_login_error(answer: JsonAnswer) -> bool:
    """Whether an answer means "log in", and not "not allowed": Alyx answers 403 to both."""
    detail = _error_detail(answer).lower()
    return answer.status == 401 or (
        answer.status == 403 and any(words in detail for words in _LOGIN_ERROR_DETAILS)
    )

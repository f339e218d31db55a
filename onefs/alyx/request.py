"""Sends one request to Alyx with a token and a rate-limit permit, and interprets refusals.

Alyx answers 403 for an invalid token, and also if the user has no permission. Only ``detail`` in
the answer tells which of these two reasons applies. A 500 with a ``detail`` means that the query is
wrong and a retry is useless. If the simplest query fails with a 500 too, the server's database is
unavailable.
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

#: the simplest query, and the seconds that Alyx may take to answer it
_PROBE_PATH, _PROBE_QUERY, _PROBE_DEADLINE_SECONDS = "labs", {"limit": "1"}, 3.0
#: texts in Alyx's ``detail`` of a 403 if the token is refused, and not the permission
_LOGIN_ERROR_DETAILS = ("invalid token", "authentication credentials were not provided")


class TokenSource(Protocol):
    """Provides the token of the client, and another token if the server refuses the first token."""

    def current_token(self) -> str:
        """Return the token to send. Raises AlyxCredentials if there is no token."""

    def renew(self, refused: str) -> str | None:
        """Return a token other than the refused token, or None if there is no other token."""


class RequestSender:
    """Sends requests to one Alyx. Thread-safe.

    Paths and queries are described in the documentation of Alyx's REST API.
    """

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
        """Return a sender that sends each request with low priority.

        A request that has waited for ``seconds`` gets normal priority. ``deadline``, if given,
        replaces the deadline of this sender.
        """
        other = copy.copy(self)
        other._low_priority_seconds = seconds
        other._deadline = deadline or self._deadline
        return other

    def get(self, path: str, query: Mapping[str, str]) -> JsonAnswer:
        """Send a GET request and return the answer.

        Raises AlyxCredentials if Alyx refuses the request, even with another token. Raises
        Throttled if Alyx asks onefs to wait, and Unreachable if Alyx answers 500 to every query.
        Also raises what the transport raises.
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
                f"{self.url} refuses the request: {detail or f'HTTP {answer.status}'}{advice}"
            )
        if answer.status == 429:
            raise Throttled(
                f"{self.url} has received too many requests, and asks to wait: "
                f"{_error_detail(answer)}"
            )
        return answer

    def get_object(self, path: str, what: str) -> dict[str, Any] | None:
        """Return the object at ``path``, or None if Alyx does not have the object.

        Error messages call the object ``what``.
        """
        answer = self.get(path, {})
        if answer.status == 404:
            return None
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise self.unexpected_answer_error(answer, what)
        return answer.body

    def stream(self, path: str) -> Stream:
        """Return a stream of the bytes of a file on Alyx. The caller must check the stream's HTTP
        status."""
        headers = {
            "Accept": "application/json, */*",  # Alyx answers 406 if JSON is not accepted
            "Authorization": f"Token {self._token.current_token()}",
        }
        return self._transport.stream(f"{self.url}/{path}", headers=headers)

    def unexpected_answer_error(self, answer: JsonAnswer, what: str) -> ServerError:
        """Return the error for an answer with an unexpected status or form.

        ``what`` is the name of the requested list or object, for the error message.
        """
        detail = _error_detail(answer)
        says = f": {detail}" if detail else ""
        return ServerError(
            f"{self.url} answers the request for {what} with HTTP {answer.status}{says}",
            answer.status,
            detail,
        )

    def _is_database_down(self, path: str, token: str) -> bool:
        """Whether Alyx answers 500 to the simplest query too.

        If this is true, the query for ``path`` is not the reason for the 500.
        """
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
    """Return the error for an Alyx that answers 500 to every query."""
    detail = _error_detail(answer)
    says = f": {detail}" if detail else ""
    return Unreachable(
        f"{url} answers, but its own database seems to be unavailable (HTTP 500{says}); try again "
        "later"
    )


def _error_detail(answer: JsonAnswer) -> str:
    """Return Alyx's error message on one line without secrets, or '' if there is no message."""
    body = answer.body if isinstance(answer.body, dict) else {}
    detail = body.get("detail")
    if isinstance(detail, str):
        return excerpt(detail)
    # a 400 for an invalid filter has no ``detail``: the message is the first invalid filter and its
    # error
    complaints = (
        f"{name}: {texts[0]}" for name, texts in body.items() if isinstance(texts, list) and texts
    )
    return excerpt(next(complaints, ""))


def _is_login_error(answer: JsonAnswer) -> bool:
    """Whether ``answer`` refuses the token."""
    detail = _error_detail(answer).lower()
    # a 403 may also mean that the user lacks a permission: its text decides
    return answer.status == 401 or (
        answer.status == 403 and any(words in detail for words in _LOGIN_ERROR_DETAILS)
    )

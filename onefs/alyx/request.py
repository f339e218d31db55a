"""One question to Alyx: the token it goes with, the budget it counts in, what a refusal means.

A bad token is 403, told apart from "not allowed" by ``detail``; a 500 with a ``detail`` is the
query's fault and asking again is useless. Where the plainest query fails in the same way, it is the
server's database that is away.
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

#: what Alyx says in ``detail`` when the token, not the permission, is the trouble
#: a question that nothing can be wrong with, and the seconds that its answer may take
_PROBE_PATH, _PROBE_QUERY, _PROBE_DEADLINE_SECONDS = "labs", {"limit": "1"}, 3.0

_LOGIN_ERROR_DETAILS = ("invalid token", "authentication credentials were not provided")


class TokenSource(Protocol):
    """Where the client takes its token from; asked again when the server refuses it."""

    def current_token(self) -> str:
        """The token to send. Raises AlyxCredentials when there is none."""

    def renew(self, refused: str) -> str | None:
        """Another token than the refused one, if somebody has logged in meanwhile."""


class RequestSender:
    """Sends questions to one Alyx. Thread-safe; the arguments are those of Alyx."""

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
        """This one, leaving the budget's reserve to others for so long with each request."""
        other = copy.copy(self)
        other._low_priority_seconds = seconds
        other._deadline = deadline or self._deadline
        return other

    def get(self, path: str, query: Mapping[str, str]) -> JsonAnswer:
        """The answer, which is no refusal.

        Raises AlyxCredentials, Throttled, Unreachable when Alyx fails whatever it is asked, and
        what the transport raises.
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
            raise AlyxCredentials(f"{self.url} refuses us: {detail or answer.status}{advice}")
        if answer.status == 429:
            raise Throttled(f"{self.url} asks to wait: {_error_detail(answer)}")
        return answer

    def get_object(self, path: str, what: str) -> dict[str, Any] | None:
        """The one thing that stands at a path; None when Alyx has none. ``what`` names it."""
        answer = self.get(path, {})
        if answer.status == 404:
            return None
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise self.unexpected_answer_error(answer, what)
        return answer.body

    def stream(self, path: str) -> Stream:
        """A file as it comes; its status is the caller's to judge."""
        # Alyx answers 406 when JSON is not among what is accepted
        accepted = {"Accept": "application/json, */*"}
        token = {"Authorization": f"Token {self._token.current_token()}"}
        return self._transport.stream(f"{self.url}/{path}", headers={**accepted, **token})

    def unexpected_answer_error(self, answer: JsonAnswer, what: str) -> ServerError:
        """The error that an answer is, which is not what was asked for."""
        detail = _error_detail(answer)
        says = f": {detail}" if detail else ""
        return ServerError(
            f"{self.url}: {what}: answer {answer.status}{says}", answer.status, detail
        )

    def _is_database_down(self, path: str, token: str) -> bool:
        """Whether a 500 to ``path`` is not the question's fault: the plainest one gets it too."""
        if path == _PROBE_PATH:
            return True
        plain = copy.copy(self)
        plain._deadline = min(self._deadline, _PROBE_DEADLINE_SECONDS)
        return plain._send(_PROBE_PATH, _PROBE_QUERY, token).status == 500

    def _send(self, path: str, query: Mapping[str, str], token: str) -> JsonAnswer:
        return self._transport.get_json(
            f"{self.url}/{quote(path)}",
            params=dict(query),
            headers={"Authorization": f"Token {token}", "Accept": "application/json"},
            deadline=self._deadline,
            permit=self._rate_limiter.permit(self._low_priority_seconds)
            if self._rate_limiter
            else None,
        )


def database_down_error(url: str, answer: JsonAnswer) -> Unreachable:
    """The error of an Alyx that answers 500 to whatever it is asked."""
    detail = _error_detail(answer)
    says = f": {detail}" if detail else ""
    return Unreachable(
        f"{url} answers, but its own database seems to be away (HTTP 500{says}); try again later"
    )


def _error_detail(answer: JsonAnswer) -> str:
    """What Alyx says of an error: its ``detail``, or of a 400 the filter and its complaint.

    Cut, on one line and without secrets, as messages hold it.
    """
    body = answer.body if isinstance(answer.body, dict) else {}
    detail = body.get("detail")
    if isinstance(detail, str):
        return excerpt(detail)
    complaints = (
        f"{name}: {said[0]}" for name, said in body.items() if isinstance(said, list) and said
    )
    return excerpt(next(complaints, ""))


def _is_login_error(answer: JsonAnswer) -> bool:
    """403 (Alyx never says 401) means either "log in" or "not allowed": ``detail`` tells which."""
    detail = _error_detail(answer).lower()
    return answer.status == 401 or (
        answer.status == 403 and any(words in detail for words in _LOGIN_ERROR_DETAILS)
    )

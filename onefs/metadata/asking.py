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

from onefs.errors import AlyxCredentials, ServerError, Throttled, Unreachable
from onefs.http import Answer, Stream, Transport
from onefs.metadata.budget import Budget
from onefs.secret import excerpt

#: what Alyx says in ``detail`` when the token, not the permission, is the trouble
#: a question that nothing can be wrong with, and the seconds that its answer may take
_PLAIN, _PLAIN_QUERY, _PLAIN_DEADLINE = "labs", {"limit": "1"}, 3.0

_LOGIN_DETAILS = ("invalid token", "authentication credentials were not provided")


class Token(Protocol):
    """Where the client takes its token from; asked again when the server refuses it."""

    def current(self) -> str:
        """The token to send. Raises AlyxCredentials when there is none."""

    def renewed(self, refused: str) -> str | None:
        """Another token than the refused one, if somebody has logged in meanwhile."""


class Asker:
    """Sends questions to one Alyx. Thread-safe; the arguments are those of Alyx."""

    def __init__(
        self,
        transport: Transport,
        url: str,
        token: Token,
        deadline: float,
        budget: Budget | None,
    ) -> None:
        self.url = url.rstrip("/")
        self._transport = transport
        self._token = token
        self._deadline = deadline
        self._budget = budget
        self._modest_for = 0.0

    def modest(self, seconds: float, deadline: float | None) -> Asker:
        """This one, leaving the budget's reserve to others for so long with each request."""
        other = copy.copy(self)
        other._modest_for = seconds
        other._deadline = deadline or self._deadline
        return other

    def get(self, path: str, query: Mapping[str, str]) -> Answer:
        """The answer, which is no refusal.

        Raises AlyxCredentials, Throttled, Unreachable when Alyx fails whatever it is asked, and
        what the transport raises.
        """
        token = self._token.current()
        answer = self._send(path, query, token)
        if _is_login_trouble(answer):
            renewed = self._token.renewed(token)
            if renewed is not None:
                answer = self._send(path, query, renewed)
        if answer.status == 500 and self._fails_always(path, token):
            raise database_away(self.url, answer)
        if answer.status in (401, 403):
            detail = _detail(answer)
            advice = "; run `onefs login`" if _is_login_trouble(answer) else ""
            raise AlyxCredentials(f"{self.url} refuses us: {detail or answer.status}{advice}")
        if answer.status == 429:
            raise Throttled(f"{self.url} asks to wait: {_detail(answer)}")
        return answer

    def record(self, path: str, what: str) -> dict[str, Any] | None:
        """The one thing that stands at a path; None when Alyx has none. ``what`` names it."""
        answer = self.get(path, {})
        if answer.status == 404:
            return None
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise self.unexpected(answer, what)
        return answer.body

    def stream(self, path: str) -> Stream:
        """A file as it comes; its status is the caller's to judge."""
        # Alyx answers 406 when JSON is not among what is accepted
        accepted = {"Accept": "application/json, */*"}
        token = {"Authorization": f"Token {self._token.current()}"}
        return self._transport.stream(f"{self.url}/{path}", headers={**accepted, **token})

    def unexpected(self, answer: Answer, what: str) -> ServerError:
        """The error that an answer is, which is not what was asked for."""
        detail = _detail(answer)
        says = f": {detail}" if detail else ""
        return ServerError(
            f"{self.url}: {what}: answer {answer.status}{says}", answer.status, detail
        )

    def _fails_always(self, path: str, token: str) -> bool:
        """Whether a 500 to ``path`` is not the question's fault: the plainest one gets it too."""
        if path == _PLAIN:
            return True
        plain = copy.copy(self)
        plain._deadline = min(self._deadline, _PLAIN_DEADLINE)
        return plain._send(_PLAIN, _PLAIN_QUERY, token).status == 500

    def _send(self, path: str, query: Mapping[str, str], token: str) -> Answer:
        return self._transport.get_json(
            f"{self.url}/{quote(path)}",
            params=dict(query),
            headers={"Authorization": f"Token {token}", "Accept": "application/json"},
            deadline=self._deadline,
            gate=self._budget.gate(self._modest_for) if self._budget else None,
        )


def database_away(url: str, answer: Answer) -> Unreachable:
    """The error of an Alyx that answers 500 to whatever it is asked."""
    detail = _detail(answer)
    says = f": {detail}" if detail else ""
    return Unreachable(
        f"{url} answers, but its own database seems to be away (HTTP 500{says}); try again later"
    )


def _detail(answer: Answer) -> str:
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


def _is_login_trouble(answer: Answer) -> bool:
    """403 (Alyx never says 401) means either "log in" or "not allowed": ``detail`` tells which."""
    detail = _detail(answer).lower()
    return answer.status == 401 or (
        answer.status == 403 and any(words in detail for words in _LOGIN_DETAILS)
    )

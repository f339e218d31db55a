"""The Alyx client: what onefs asks of the REST server, and only GETs that write nothing.

What the server does is recorded in ``tests/data/recorded``. In short: lists are capped at 1,000
rows whatever limit is asked for; most have no order, so walking pages loses and repeats rows
while ``count`` stays right; a bad token is 403, told apart from "not allowed" by ``detail``; a 500
with a ``detail`` is the query's fault and asking again is useless; ``next`` is built from the
Host header and never followed.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol
from urllib.parse import quote

from onefs import alf
from onefs.errors import AlyxCredentials, NotFound, ServerError, Throttled
from onefs.http import Answer, Stream, Transport
from onefs.metadata import rows
from onefs.metadata.budget import Budget
from onefs.metadata.rows import DatasetRow
from onefs.model import Repository, Session

#: Alyx's cap since July 2026; older servers give as many rows as are asked for
PAGE = 1000
#: UUIDs in one ``__in``: quoted and escaped they must fit in the 4094 bytes of gunicorn's line
MOST_IDS = 85
#: the page sizes of the walks over a list whose distinct rows are fewer than its ``count``: sizes
#: that differ, so that what is lost between two pages of one walk lies inside a page of another
SIZES = (PAGE, 701, 491, 344)
#: rows of a list that one range of UUIDs is to hold: below PAGE, since ranges differ by chance
_RANGE = 900
#: a list that would take more of them is left to walks: nobody's session, but a count that lies
_MOST_RANGES = 32

#: what Alyx says in ``detail`` when the token, not the permission, is the trouble
_LOGIN_DETAILS = ("invalid token", "authentication credentials were not provided")


class Token(Protocol):
    """Where the client takes its token from; asked again when the server refuses it."""

    def current(self) -> str:
        """The token to send. Raises AlyxCredentials when there is none."""

    def renewed(self, refused: str) -> str | None:
        """Another token than the refused one, if somebody has logged in meanwhile."""


class Alyx:
    """A read-only client of one Alyx server. Thread-safe.

    ``deadline`` is the number of seconds that one request may take in all; ``budget`` bounds how
    many there are. Every method raises Unreachable, DeadlineExceeded, Throttled, AlyxCredentials
    or ServerError.
    """

    def __init__(
        self,
        transport: Transport,
        url: str,
        token: Token,
        deadline: float = 10.0,
        budget: Budget | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._transport = transport
        self._token = token
        self._deadline = deadline
        self._budget = budget
        self._modest_for = 0.0

    def modest(self, seconds: float = float("inf"), deadline: float | None = None) -> Alyx:
        """This client, leaving the budget's reserve to others for so long with each request."""
        other = copy.copy(self)
        other._modest_for = seconds
        other._deadline = deadline or self._deadline
        return other

    def probe(self, deadline: float = 3.0) -> None:
        """Return when the server answers at all, whatever it says. Raises as a request does."""
        try:
            self.modest(deadline=deadline)._get("labs", {"limit": "1"})
        except (AlyxCredentials, Throttled, ServerError):
            return

    def labs(self) -> list[str]:
        """Names of all labs."""
        return [name for name in self._list("labs", {}, rows.named("name")) if name]

    def repositories(self) -> list[Repository]:
        """All repositories, personal ones too."""
        found = self._list("data-repository", {}, lambda row: str(row.get("name") or ""))
        return [rows.repository(row) for row in found.values()]

    def subjects(self, lab: str) -> list[str]:
        """Nicknames of a lab's subjects (exact name). A subject may have no session."""
        found = self._look_up("subjects", {"lab": lab}, rows.subject_key)
        mine = [row for row in found.values() if alf.valid_text(str(row.get("lab", lab))) == lab]
        return [name for name in map(rows.named("nickname"), mine) if name]

    def sessions(self, lab: str, subject: str) -> list[tuple[Session, bool]]:
        """A subject's sessions in a lab, each with whether it has a number.

        Alyx compares names without case, so others' sessions may come along: they are dropped
        here.
        """
        found = self._sessions({"lab": lab, "subject": subject})
        return [item for item in found if item[0].lab == lab and item[0].subject == subject]

    def sessions_of_lab(self, lab: str) -> list[tuple[Session, bool]]:
        """All sessions of a lab (exact name), each with whether it has a number."""
        return [item for item in self._sessions({"lab": lab}) if item[0].lab == lab]

    def sessions_by_ref(self, subject: str, date: str, number: int) -> list[tuple[Session, bool]]:
        """The sessions of one ref; more than one when two labs share a nickname."""
        found = self._sessions(
            {"subject": subject, "date_range": f"{date},{date}", "number": str(number)}
        )
        return [item for item in found if item[0].subject == subject]

    def session(self, eid: str) -> tuple[Session, bool]:
        """One session by its eid. Raises NotFound when Alyx has none."""
        found = self._list("sessions", {"id": eid}, rows.identifier)
        if eid not in found:
            raise NotFound(f"Alyx has no session {eid}")
        return rows.session(found[eid])

    def session_record(self, eid: str) -> dict[str, Any]:
        """The whole record of a session, as Alyx gives it. Raises NotFound."""
        answer = self._get(f"sessions/{eid}", {})
        if answer.status == 404:
            raise NotFound(f"Alyx has no session {eid}")
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise self._unexpected(answer, f"session {eid}")
        return answer.body

    def datasets(self, eid: str) -> list[DatasetRow]:
        """All datasets of one session, those that nobody can fetch too. Raises NotFound."""
        try:
            found = self._list_of_uuids("datasets", {"session": eid})
        except ServerError as error:
            # Alyx's word on a session that it does not know; another 400 is Django's, on the host
            if error.status == 400 and error.detail.startswith("session:"):
                raise NotFound(f"Alyx has no session {eid}") from error
            raise
        return [rows.dataset(row, eid) for row in found.values()]

    def datasets_of(self, eids: Sequence[str]) -> dict[str, list[DatasetRow]] | None:
        """The datasets of several sessions, at most MOST_IDS, in one request.

        None when they are more than one page holds: pages without order lose rows, so there
        fewer sessions must be asked for. A session that Alyx does not know has none.
        """
        names = ",".join(f"'{eid}'" for eid in eids)
        query = {"django": f"session__in,[{names}]", "limit": str(PAGE)}
        page, count, _ = self._page("datasets", {**query, "offset": "0"})
        found: dict[str, dict[str, DatasetRow]] = {eid: {} for eid in eids}
        for row in page:
            eid = rows.session_of(row)
            if eid not in found:
                raise ServerError(f"{self.url}/datasets sent rows of sessions not asked for")
            identifier = rows.identifier(row)
            found[eid][identifier] = rows.dataset(row, eid)
        if len(page) < min(count, PAGE):
            raise ServerError(f"{self.url}/datasets: {len(page)} of {count} rows came")
        if len(page) < count or sum(map(len, found.values())) < len(page):
            return None
        return {eid: list(datasets.values()) for eid, datasets in found.items()}

    # -- what cache tables need: the tables, and what they lack

    def cache_info(self) -> dict[str, Any] | None:
        """What the server says of its cache tables; None when it has none."""
        answer = self._get("cache/info/", {})
        if answer.status == 404:
            return None
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise self._unexpected(answer, "cache/info/")
        return answer.body

    def cache_zip(self) -> Stream:
        """The tables' archive as it comes; its status is the caller's to judge."""
        # Alyx answers 406 when JSON is not among what is accepted
        accepted = {"Accept": "application/json, */*"}
        token = {"Authorization": f"Token {self._token.current()}"}
        return self._transport.stream(f"{self.url}/cache.zip", headers={**accepted, **token})

    def all_subjects(self) -> dict[str, list[str]]:
        """Nicknames of the subjects of each lab."""
        subjects: dict[str, list[str]] = {}
        for row in self._list("subjects", {}, rows.subject_key).values():
            lab, nickname = rows.named("lab")(row), rows.named("nickname")(row)
            if lab and nickname:
                subjects.setdefault(lab, []).append(nickname)
        return subjects

    def sessions_since(self, lab: str, date: str) -> list[tuple[Session, bool]]:
        """A lab's sessions on ``date`` and later, each with whether it has a number."""
        found = self._sessions({"lab": lab, "date_range": f"{date},2999-12-31"})
        return [item for item in found if item[0].lab == lab]

    def select(self, query: Mapping[str, str], most: int | None = None) -> list[rows.Row]:
        """Rows of ``/sessions`` by Alyx's own filters, each once, in the server's order.

        With ``most`` only the first so many, for which no more pages are asked than needed.
        """
        if most is None:
            return list(self._list("sessions", query, rows.identifier).values())
        found: dict[str, rows.Row] = {}
        received, count = 0, 1
        while len(found) < most and received < count:
            limit = str(min(PAGE, most - len(found)))
            page, count, _ = self._page(
                "sessions", {**query, "limit": limit, "offset": str(received)}
            )
            if not page:
                break
            received += len(page)
            for row in page:
                found.setdefault(rows.identifier(row), row)
        return list(found.values())[:most]

    def table(self, endpoint: str, column: str) -> list[rows.Row]:
        """All rows of a small table, of which ``column`` is the name."""
        found = self._list(endpoint, {}, lambda row: f"{row.get(column)} {row.get('lab')}")
        return list(found.values())

    def _sessions(self, query: Mapping[str, str]) -> list[tuple[Session, bool]]:
        found = self._look_up("sessions", query, rows.identifier)
        return [rows.session(row) for row in found.values()]

    def _look_up(
        self, endpoint: str, query: Mapping[str, str], key: Callable[[rows.Row], str]
    ) -> dict[str, rows.Row]:
        """The rows that bear certain names, and others too: who asks must look at the names.

        Alyx strips blanks from what it is asked for, so a name that ends in one is never found:
        it is not asked for, and all that the other names leave comes. A name that is no UTF-8 is
        known here as :func:`alf.valid_text` writes it, and asked for as it is.
        """
        told = {name: value for name, value in query.items() if value == value.strip()}
        found = self._list(endpoint, told, key)
        raw = {name: alf.unwritten(value) for name, value in told.items()}
        return found if found or raw == told else self._list(endpoint, raw, key)

    def _list(
        self, endpoint: str, query: Mapping[str, str], key: Callable[[rows.Row], str]
    ) -> dict[str, rows.Row]:
        """Every row of a list once, by key.

        Pages by the rows received, never by the limit asked for; walks again with another page
        size while distinct rows are fewer than ``count``, since pages without order lose rows.
        Raises ServerError when rows stay missing: a listing is whole or it is none.
        """
        found: dict[str, rows.Row] = {}
        count = 0
        for size in SIZES:
            count = self._walk(endpoint, {**query, "limit": str(size)}, key, found)
            if len(found) >= count:
                return found
        raise ServerError(
            f"{self.url}/{endpoint}: {len(found)} of {count} rows came in {len(SIZES)} walks"
        )

    def _list_of_uuids(self, endpoint: str, query: Mapping[str, str]) -> dict[str, rows.Row]:
        """Every row once, by its UUID, of a list that has no order.

        When one page does not hold them all the rest comes by ranges of UUIDs, each of a page or
        less: these are spread evenly, so that no bound need be known. What ranges miss, and a
        server that does not know them, is left to :meth:`_list`.
        """
        first = {**query, "limit": str(PAGE)}
        page, count, more = self._page(endpoint, {**first, "offset": "0"})
        found = {rows.identifier(row): row for row in page}
        parts = -(-count // _RANGE) if more else 0
        if not more and len(found) >= count:
            return found
        for span in _spans(parts if parts <= _MOST_RANGES else 0):
            try:
                page, _, _ = self._page(endpoint, {**first, "django": span, "offset": "0"})
            except ServerError:
                break
            if not page:
                break
            found.update((rows.identifier(row), row) for row in page)
        if parts and len(found) >= count:
            return found
        return self._list(endpoint, query, rows.identifier)

    def _walk(
        self,
        endpoint: str,
        query: Mapping[str, str],
        key: Callable[[rows.Row], str],
        found: dict[str, rows.Row],
    ) -> int:
        """One walk over all pages, adding to ``found``; the distinct rows there should be.

        A row that came twice within one page is a join's doing and inflates ``count``, so it is
        taken off; one that came on two pages is the missing order's doing, and is not.
        """
        received, doubled, count, more = 0, 0, 0, True
        seen: set[str] = set()
        while more:
            page, count, more = self._page(endpoint, {**query, "offset": str(received)})
            keys = [key(row) for row in page]
            doubled += len(keys) - len(set(keys))
            found.update(zip(keys, page, strict=True))
            received += len(page)
            # a page without anything new: a server that says the same again and again
            more = more and not seen.issuperset(keys)
            seen.update(keys)
        return max(count - doubled, len(seen))

    def _page(self, endpoint: str, query: dict[str, str]) -> tuple[list[rows.Row], int, bool]:
        """One page: its rows, the number of all rows, and whether there are more.

        Alyx's ``count`` is right where pages are not. Should it be too small for once, a full
        page whose ``next`` leads on tells.
        """
        reached, limit = int(query["offset"]), int(query["limit"])
        if query["offset"] == "0":
            del query["offset"]
        answer = self._get(endpoint, query)
        body = answer.body
        if answer.status != 200:
            raise self._unexpected(answer, endpoint)
        if isinstance(body, list):  # before mid-2019: the bare rows, all of them
            return _checked(body, endpoint), len(body), False
        if isinstance(body, dict) and isinstance(body.get("count"), int):
            page, count = _checked(body.get("results"), endpoint), body["count"]
            full = len(page) >= limit and body.get("next") is not None
            return page, count, bool(page) and (full or reached + len(page) < count)
        raise ServerError(f"{self.url}/{endpoint} did not answer with a list: is this an Alyx?")

    def _get(self, path: str, query: Mapping[str, str]) -> Answer:
        token = self._token.current()
        answer = self._send(path, query, token)
        if _is_login_trouble(answer):
            renewed = self._token.renewed(token)
            if renewed is not None:
                answer = self._send(path, query, renewed)
        if answer.status in (401, 403):
            detail = _detail(answer)
            advice = "; run `onefs login`" if _is_login_trouble(answer) else ""
            raise AlyxCredentials(f"{self.url} refuses us: {detail or answer.status}{advice}")
        if answer.status == 429:
            raise Throttled(f"{self.url} asks to wait: {_detail(answer)}")
        return answer

    def _send(self, path: str, query: Mapping[str, str], token: str) -> Answer:
        return self._transport.get_json(
            f"{self.url}/{quote(path)}",
            params=dict(query),
            headers={"Authorization": f"Token {token}", "Accept": "application/json"},
            deadline=self._deadline,
            gate=self._budget.gate(self._modest_for) if self._budget else None,
        )

    def _unexpected(self, answer: Answer, what: str) -> ServerError:
        detail = _detail(answer)
        says = f": {detail}" if detail else ""
        return ServerError(
            f"{self.url}: {what}: answer {answer.status}{says}", answer.status, detail
        )


def _spans(parts: int) -> Iterator[str]:
    """All UUIDs in so many ranges of one length, as look-ups."""
    bounds = [(part << 128) // parts for part in range(parts + 1)] if parts else []
    for low, high in pairwise(bounds):
        yield f"id__range,['{uuid.UUID(int=low)}','{uuid.UUID(int=high - 1)}']"


def _checked(page: object, endpoint: str) -> list[rows.Row]:
    if isinstance(page, list) and all(isinstance(row, dict) for row in page):
        return page
    raise ServerError(f"Alyx's answer for {endpoint} holds something that is no row")


def _detail(answer: Answer) -> str:
    """What Alyx says of an error: its ``detail``, or of a 400 the filter and its complaint."""
    body = answer.body if isinstance(answer.body, dict) else {}
    detail = body.get("detail")
    if isinstance(detail, str):
        return detail
    complaints = (
        f"{name}: {said[0]}" for name, said in body.items() if isinstance(said, list) and said
    )
    return next(complaints, "")


def _is_login_trouble(answer: Answer) -> bool:
    """403 (Alyx never says 401) means either "log in" or "not allowed": ``detail`` tells which."""
    detail = _detail(answer).lower()
    return answer.status == 401 or (
        answer.status == 403 and any(words in detail for words in _LOGIN_DETAILS)
    )

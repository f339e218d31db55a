"""The Alyx client: what onefs asks of the REST server, and only GETs that write nothing.

What the server does is recorded in ``tests/data/recorded``. How one question is asked stands in
``asking.py``, how a list comes to be whole in ``pages.py``, what a row means in ``rows.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from onefs import alf
from onefs.alyx import parsing
from onefs.alyx.pagination import PAGE_ROWS, Paginator
from onefs.alyx.parsing import DatasetRow
from onefs.alyx.rate_limit import RateLimiter
from onefs.alyx.request import RequestSender, TokenSource
from onefs.errors import AlyxCredentials, NotFound, ServerError, Throttled, TooLarge
from onefs.http import Stream, Transport
from onefs.model import Repository, Session

#: UUIDs in one ``__in``: quoted and escaped they must fit in the 4094 bytes of gunicorn's line
MAX_IDS_PER_REQUEST = 85


class AlyxClient:
    """A read-only client of one Alyx server. Thread-safe.

    ``deadline`` is the number of seconds that one request may take in all; ``budget`` bounds how
    many there are. Every method raises Unreachable, DeadlineExceeded, Throttled, AlyxCredentials
    or ServerError.
    """

    def __init__(
        self,
        transport: Transport,
        url: str,
        token: TokenSource,
        deadline: float = 10.0,
        rate_limiter: RateLimiter | None = None,
    ) -> None:
        self._sender = RequestSender(transport, url, token, deadline, rate_limiter)
        self._paginator = Paginator(self._sender)
        self.url = self._sender.url

    def low_priority(
        self, seconds: float = float("inf"), deadline: float | None = None
    ) -> AlyxClient:
        """This client, leaving the budget's reserve to others for so long with each request."""
        other = copy.copy(self)
        other._sender = self._sender.low_priority(seconds, deadline)
        other._paginator = Paginator(other._sender)
        return other

    def probe(self, deadline: float = 3.0) -> None:
        """Return when the server answers, whatever it says. Raises as a request does, also when
        it fails whatever it is asked (see :meth:`RequestSender.get`)."""
        try:
            self.low_priority(deadline=deadline)._sender.get("labs", {"limit": "1"})
        except (AlyxCredentials, Throttled, ServerError):
            return

    def labs(self) -> list[str]:
        """Names of all labs."""
        name = parsing.name_parser("name")
        found = parsing.parse_rows(
            self._paginator.all_rows("labs", {}, name).values(), name, "labs"
        )
        return list(dict.fromkeys(found))

    def repositories(self) -> list[Repository]:
        """All repositories, personal ones too."""
        found = self._paginator.all_rows("data-repository", {}, parsing.name_parser("name"))
        return parsing.parse_rows(found.values(), parsing.parse_repository, "data-repository")

    def subjects(self, lab: str) -> list[str]:
        """Nicknames of a lab's subjects (exact name). A subject may have no session."""
        found = self._paginator.rows_by_name("subjects", {"lab": lab}, parsing.subject_key)
        mine = [row for row in found.values() if alf.valid_text(str(row.get("lab", lab))) == lab]
        return parsing.parse_rows(mine, parsing.name_parser("nickname"), f"subjects of {lab}")

    def sessions(self, lab: str, subject: str) -> list[tuple[Session, bool]]:
        """A subject's sessions in a lab, each with whether it has a number.

        Alyx compares names without case, so others' sessions may come along: they are dropped
        here.
        """
        found = self._find_sessions({"lab": lab, "subject": subject})
        return [item for item in found if item[0].lab == lab and item[0].subject == subject]

    def sessions_of_lab(self, lab: str) -> list[tuple[Session, bool]]:
        """All sessions of a lab (exact name), each with whether it has a number."""
        return [item for item in self._find_sessions({"lab": lab}) if item[0].lab == lab]

    def sessions_by_ref(self, subject: str, date: str, number: int) -> list[tuple[Session, bool]]:
        """The sessions of one ref; more than one when two labs share a nickname."""
        found = self._find_sessions(
            {"subject": subject, "date_range": f"{date},{date}", "number": str(number)}
        )
        return [item for item in found if item[0].subject == subject]

    def session(self, eid: str) -> tuple[Session, bool]:
        """One session by its eid. Raises NotFound when Alyx has none."""
        found = self._paginator.all_rows("sessions", {"id": eid}, parsing.uuid_of)
        if eid not in found:
            raise NotFound(f"Alyx has no session {eid}")
        return parsing.parse_session(found[eid])

    def sessions_by_eid(self, eids: Sequence[str]) -> list[tuple[Session, bool]]:
        """Those of some sessions that Alyx has, at most :data:`MOST_IDS`, in one request."""
        names = ",".join(f"'{eid}'" for eid in eids)
        found = self._find_sessions({"django": f"id__in,[{names}]"})
        return [item for item in found if item[0].eid in eids]

    def session_record(self, eid: str) -> dict[str, Any]:
        """The whole record of a session, as Alyx gives it. Raises NotFound."""
        record = self._sender.get_object(f"sessions/{eid}", f"session {eid}")
        if record is None:
            raise NotFound(f"Alyx has no session {eid}")
        return record

    def session_id_of_dataset(self, dataset_id: str) -> str:
        """The eid of the session that a dataset belongs to. Raises NotFound."""
        record = self._sender.get_object(f"datasets/{dataset_id}", f"dataset {dataset_id}")
        eid = "" if record is None else parsing.session_id_of(record)
        if not eid:
            raise NotFound(f"Alyx has no dataset {dataset_id} of a session")
        return eid

    def datasets(self, eid: str) -> list[DatasetRow]:
        """All datasets of one session, those that nobody can fetch too. Raises NotFound."""
        try:
            found = self._paginator.all_rows_by_uuid("datasets", {"session": eid})
        except ServerError as error:
            # Alyx's word on a session that it does not know; another 400 is Django's, on the host
            if error.status == 400 and error.detail.startswith("session:"):
                raise NotFound(f"Alyx has no session {eid}") from error
            raise
        return self._parse_datasets(eid, found.values())

    def datasets_of_sessions(self, eids: Sequence[str]) -> dict[str, list[DatasetRow]] | None:
        """The datasets of several sessions, at most MOST_IDS, in one request.

        None when they are more than one page or one answer holds: pages without order lose rows,
        so there fewer sessions must be asked for. A session that Alyx does not know has none.
        """
        names = ",".join(f"'{eid}'" for eid in eids)
        query = {"django": f"session__in,[{names}]", "limit": str(PAGE_ROWS)}
        cost = self._paginator.new_cost("datasets")
        try:
            page = self._paginator.fetch_page("datasets", {**query, "offset": "0"}, cost)
        except TooLarge:
            if len(eids) == 1:
                raise
            return None
        found: dict[str, dict[str, parsing.Row]] = {eid: {} for eid in eids}
        for row in page.rows:
            eid = parsing.session_id_of(row)
            if eid not in found:
                raise ServerError(f"{self.url}/datasets sent rows of sessions not asked for")
            found[eid][parsing.uuid_of(row)] = row
        came = len(page.rows)
        if came < min(page.count, PAGE_ROWS):
            raise ServerError(f"{self.url}/datasets: {came} of {page.count} rows came")
        if came < page.count or sum(map(len, found.values())) < came:
            return None
        return {eid: self._parse_datasets(eid, of_one.values()) for eid, of_one in found.items()}

    # -- what cache tables need: the tables, and what they lack

    def cache_info(self) -> dict[str, Any] | None:
        """What the server says of its cache tables; None when it has none."""
        return self._sender.get_object("cache/info/", "cache/info/")

    def cache_zip(self) -> Stream:
        """The tables' archive as it comes; its status is the caller's to judge."""
        return self._sender.stream("cache.zip")

    def subjects_by_lab(self) -> dict[str, list[str]]:
        """Nicknames of the subjects of each lab."""
        subjects: dict[str, list[str]] = {}
        found = self._paginator.all_rows("subjects", {}, parsing.subject_key).values()
        lab, nickname = parsing.name_parser("lab"), parsing.name_parser("nickname")
        for where, name in parsing.parse_rows(
            found, lambda row: (lab(row), nickname(row)), "subjects"
        ):
            subjects.setdefault(where, []).append(name)
        return subjects

    def sessions_since(self, lab: str, moment: datetime) -> list[tuple[Session, bool]]:
        """A lab's sessions registered or changed since then, by Alyx's clock, whatever their date;
        each with whether it has a number."""
        since = f"auto_datetime__gte,{moment.isoformat(timespec='seconds')}"
        try:
            found = self._find_sessions({"lab": lab, "django": since})
        except ServerError as error:
            if error.status != 500:
                raise
            return self.sessions_of_lab(lab)  # an Alyx that does not know this look-up
        return [item for item in found if item[0].lab == lab]

    def select_sessions(
        self, query: Mapping[str, str], most: int | None = None
    ) -> list[parsing.Row]:
        """Rows of ``/sessions`` by Alyx's own filters, each once, in the server's order.

        With ``most`` only the first so many, for which no more pages are asked than needed.
        """
        if most is None:
            return list(self._paginator.all_rows("sessions", query, parsing.uuid_of).values())
        found: dict[str, parsing.Row] = {}
        received, count = 0, 1
        cost = self._paginator.new_cost("sessions")
        while len(found) < most and received < count:
            # where rows are repeated, what is left to find may be many rows away
            limit = PAGE_ROWS if len(found) < received else min(PAGE_ROWS, most - len(found))
            page = self._paginator.fetch_page(
                "sessions", {**query, "limit": str(limit), "offset": str(received)}, cost
            )
            if not page.rows:
                break
            count = page.count
            received += len(page.rows)
            cost.add_rows(found, page, parsing.uuid_of)
        return list(found.values())[:most]

    def table_rows(self, endpoint: str, column: str) -> list[parsing.Row]:
        """All rows of a small table, of which ``column`` is the name."""
        found = self._paginator.all_rows(
            endpoint, {}, lambda row: f"{row.get(column)} {row.get('lab')}"
        )
        return list(found.values())

    def _find_sessions(self, query: Mapping[str, str]) -> list[tuple[Session, bool]]:
        found = self._paginator.rows_by_name("sessions", query, parsing.uuid_of)
        return parsing.parse_rows(found.values(), parsing.parse_session, "sessions")

    @staticmethod
    def _parse_datasets(eid: str, found: Iterable[parsing.Row]) -> list[DatasetRow]:
        what = f"datasets of session {eid}"
        return parsing.parse_rows(found, lambda row: parsing.parse_dataset(row, eid), what)

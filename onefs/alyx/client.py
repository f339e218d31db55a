"""The Alyx client: the queries of onefs to the REST server, all of them GETs.

Answers of a real server are recorded in ``tests/data/recorded``. ``request.py`` sends one query,
``pagination.py`` completes lists, ``parsing.py`` interprets rows.
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

#: UUIDs in one ``__in``: quoted and escaped they must fit into gunicorn's request line, 4094 bytes
MAX_IDS_PER_REQUEST = 85


class AlyxClient:
    """A read-only client of one Alyx server. Thread-safe.

    ``deadline`` is the number of seconds that one request may take in all; ``rate_limiter`` bounds
    the number of requests. Every method raises Unreachable, DeadlineExceeded, Throttled,
    AlyxCredentials or ServerError. A session comes with a flag: whether it has a number.
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
        """A client whose requests leave the rate limiter's reserve alone for ``seconds`` each."""
        other = copy.copy(self)
        other._sender = self._sender.low_priority(seconds, deadline)
        other._paginator = Paginator(other._sender)
        return other

    def probe(self, deadline: float = 3.0) -> None:
        """Return when the server answers, whatever the answer is.

        Raises as :meth:`RequestSender.get`, also when the server fails on any query.
        """
        try:
            self.low_priority(deadline=deadline)._sender.get("labs", {"limit": "1"})
        except (AlyxCredentials, Throttled, ServerError):
            return

    def labs(self) -> list[str]:
        """Names of all labs."""
        name = parsing.name_parser("name")
        rows = self._paginator.all_rows("labs", {}, name).values()
        return list(dict.fromkeys(parsing.parse_rows(rows, name, "labs")))

    def repositories(self) -> list[Repository]:
        """All repositories, personal ones too."""
        rows = self._paginator.all_rows("data-repository", {}, parsing.name_parser("name"))
        return parsing.parse_rows(rows.values(), parsing.parse_repository, "data-repository")

    def subjects(self, lab: str) -> list[str]:
        """Nicknames of a lab's subjects (exact name). A subject may have no session."""
        rows = self._paginator.rows_by_name("subjects", {"lab": lab}, parsing.subject_key)
        of_lab = [row for row in rows.values() if alf.valid_text(str(row.get("lab", lab))) == lab]
        return parsing.parse_rows(of_lab, parsing.name_parser("nickname"), f"subjects of {lab}")

    def sessions(self, lab: str, subject: str) -> list[tuple[Session, bool]]:
        """A subject's sessions in a lab (exact names).

        Alyx ignores case in names: sessions of other subjects in its answer are dropped.
        """
        sessions = self._find_sessions({"lab": lab, "subject": subject})
        return [item for item in sessions if item[0].lab == lab and item[0].subject == subject]

    def sessions_of_lab(self, lab: str) -> list[tuple[Session, bool]]:
        """All sessions of a lab (exact name)."""
        return [item for item in self._find_sessions({"lab": lab}) if item[0].lab == lab]

    def sessions_by_ref(self, subject: str, date: str, number: int) -> list[tuple[Session, bool]]:
        """The sessions of one ref; more than one when two labs share a nickname."""
        query = {"subject": subject, "date_range": f"{date},{date}", "number": str(number)}
        return [item for item in self._find_sessions(query) if item[0].subject == subject]

    def session(self, eid: str) -> tuple[Session, bool]:
        """One session by its eid. Raises NotFound when Alyx has none."""
        rows = self._paginator.all_rows("sessions", {"id": eid}, parsing.uuid_of)
        if eid not in rows:
            raise NotFound(f"Alyx has no session {eid}")
        return parsing.parse_session(rows[eid])

    def sessions_by_eid(self, eids: Sequence[str]) -> list[tuple[Session, bool]]:
        """The sessions among ``eids`` that Alyx has, in one request.

        ``eids`` are at most :data:`MAX_IDS_PER_REQUEST`.
        """
        names = ",".join(f"'{eid}'" for eid in eids)
        sessions = self._find_sessions({"django": f"id__in,[{names}]"})
        return [item for item in sessions if item[0].eid in eids]

    def session_record(self, eid: str) -> dict[str, Any]:
        """The complete record of a session, as Alyx sends it. Raises NotFound."""
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
        """All datasets of one session, also those without replicas. Raises NotFound."""
        try:
            rows = self._paginator.all_rows_by_uuid("datasets", {"session": eid})
        except ServerError as error:
            # Alyx's answer for an unknown session; any other 400 is Django's, for a wrong host name
            if error.status == 400 and error.detail.startswith("session:"):
                raise NotFound(f"Alyx has no session {eid}") from error
            raise
        return self._parse_datasets(eid, rows.values())

    def datasets_of_sessions(self, eids: Sequence[str]) -> dict[str, list[DatasetRow]] | None:
        """The datasets of several sessions by eid, in one request.

        ``eids`` are at most :data:`MAX_IDS_PER_REQUEST`. A session that Alyx does not know has no
        datasets. None when the datasets exceed one page or one answer: pages have no order and
        lose rows, so that the caller must request fewer sessions.
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
        rows_by_eid: dict[str, dict[str, parsing.Row]] = {eid: {} for eid in eids}
        for row in page.rows:
            eid = parsing.session_id_of(row)
            if eid not in rows_by_eid:
                raise ServerError(f"{self.url}/datasets sent rows of sessions not asked for")
            rows_by_eid[eid][parsing.uuid_of(row)] = row
        received = len(page.rows)
        if received < min(page.count, PAGE_ROWS):
            raise ServerError(f"{self.url}/datasets: {received} of {page.count} rows came")
        if received < page.count or sum(map(len, rows_by_eid.values())) < received:
            return None
        return {eid: self._parse_datasets(eid, rows.values()) for eid, rows in rows_by_eid.items()}

    # -- cache tables, and the rows that they lack

    def cache_info(self) -> dict[str, Any] | None:
        """The server's description of its cache tables; None when it has none."""
        return self._sender.get_object("cache/info/", "cache/info/")

    def cache_zip(self) -> Stream:
        """The bytes of the archive of cache tables; the caller judges the status."""
        return self._sender.stream("cache.zip")

    def subjects_by_lab(self) -> dict[str, list[str]]:
        """Nicknames of the subjects of each lab."""
        subjects: dict[str, list[str]] = {}
        rows = self._paginator.all_rows("subjects", {}, parsing.subject_key).values()
        lab_of, nickname_of = parsing.name_parser("lab"), parsing.name_parser("nickname")
        pairs = parsing.parse_rows(rows, lambda row: (lab_of(row), nickname_of(row)), "subjects")
        for lab, nickname in pairs:
            subjects.setdefault(lab, []).append(nickname)
        return subjects

    def sessions_since(self, lab: str, moment: datetime) -> list[tuple[Session, bool]]:
        """A lab's sessions that were registered or changed since ``moment`` of Alyx's clock."""
        since = f"auto_datetime__gte,{moment.isoformat(timespec='seconds')}"
        try:
            sessions = self._find_sessions({"lab": lab, "django": since})
        except ServerError as error:
            if error.status != 500:
                raise
            return self.sessions_of_lab(lab)  # an Alyx without this look-up
        return [item for item in sessions if item[0].lab == lab]

    def select_sessions(
        self, query: Mapping[str, str], most: int | None = None
    ) -> list[parsing.Row]:
        """Rows of ``/sessions`` by Alyx's own filters, each once, in the server's order.

        With ``most`` only the first ``most`` rows, by as few pages as possible.
        """
        if most is None:
            return list(self._paginator.all_rows("sessions", query, parsing.uuid_of).values())
        rows: dict[str, parsing.Row] = {}
        received, count = 0, 1
        cost = self._paginator.new_cost("sessions")
        while len(rows) < most and received < count:
            # where rows are repeated, the next new row can be many rows away
            limit = PAGE_ROWS if len(rows) < received else min(PAGE_ROWS, most - len(rows))
            page = self._paginator.fetch_page(
                "sessions", {**query, "limit": str(limit), "offset": str(received)}, cost
            )
            if not page.rows:
                break
            count = page.count
            received += len(page.rows)
            cost.add_rows(rows, page, parsing.uuid_of)
        return list(rows.values())[:most]

    def table_rows(self, endpoint: str, column: str) -> list[parsing.Row]:
        """All rows of a small table, whose name is in ``column``."""

        def key(row: parsing.Row) -> str:
            return f"{row.get(column)} {row.get('lab')}"

        return list(self._paginator.all_rows(endpoint, {}, key).values())

    def _find_sessions(self, query: Mapping[str, str]) -> list[tuple[Session, bool]]:
        rows = self._paginator.rows_by_name("sessions", query, parsing.uuid_of)
        return parsing.parse_rows(rows.values(), parsing.parse_session, "sessions")

    @staticmethod
    def _parse_datasets(eid: str, rows: Iterable[parsing.Row]) -> list[DatasetRow]:
        what = f"datasets of session {eid}"
        return parsing.parse_rows(rows, lambda row: parsing.parse_dataset(row, eid), what)

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
from onefs.errors import AlyxCredentials, NotFound, ServerError, Throttled, TooLarge
from onefs.http import Stream, Transport
from onefs.metadata import rows
from onefs.metadata.asking import Asker, Token
from onefs.metadata.budget import Budget
from onefs.metadata.pages import PAGE, Pages
from onefs.metadata.rows import DatasetRow
from onefs.model import Repository, Session

#: UUIDs in one ``__in``: quoted and escaped they must fit in the 4094 bytes of gunicorn's line
MOST_IDS = 85


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
        self._asker = Asker(transport, url, token, deadline, budget)
        self._pages = Pages(self._asker)
        self.url = self._asker.url

    def modest(self, seconds: float = float("inf"), deadline: float | None = None) -> Alyx:
        """This client, leaving the budget's reserve to others for so long with each request."""
        other = copy.copy(self)
        other._asker = self._asker.modest(seconds, deadline)
        other._pages = Pages(other._asker)
        return other

    def probe(self, deadline: float = 3.0) -> None:
        """Return when the server answers, whatever it says. Raises as a request does, also when
        it fails whatever it is asked (see :meth:`Asker.get`)."""
        try:
            self.modest(deadline=deadline)._asker.get("labs", {"limit": "1"})
        except (AlyxCredentials, Throttled, ServerError):
            return

    def labs(self) -> list[str]:
        """Names of all labs."""
        name = rows.named("name")
        found = rows.readable(self._pages.whole("labs", {}, name).values(), name, "labs")
        return list(dict.fromkeys(found))

    def repositories(self) -> list[Repository]:
        """All repositories, personal ones too."""
        found = self._pages.whole("data-repository", {}, rows.named("name"))
        return rows.readable(found.values(), rows.repository, "data-repository")

    def subjects(self, lab: str) -> list[str]:
        """Nicknames of a lab's subjects (exact name). A subject may have no session."""
        found = self._pages.look_up("subjects", {"lab": lab}, rows.subject_key)
        mine = [row for row in found.values() if alf.valid_text(str(row.get("lab", lab))) == lab]
        return rows.readable(mine, rows.named("nickname"), f"subjects of {lab}")

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
        found = self._pages.whole("sessions", {"id": eid}, rows.identifier)
        if eid not in found:
            raise NotFound(f"Alyx has no session {eid}")
        return rows.session(found[eid])

    def sessions_by_eid(self, eids: Sequence[str]) -> list[tuple[Session, bool]]:
        """Those of some sessions that Alyx has, at most :data:`MOST_IDS`, in one request."""
        names = ",".join(f"'{eid}'" for eid in eids)
        found = self._sessions({"django": f"id__in,[{names}]"})
        return [item for item in found if item[0].eid in eids]

    def session_record(self, eid: str) -> dict[str, Any]:
        """The whole record of a session, as Alyx gives it. Raises NotFound."""
        record = self._asker.record(f"sessions/{eid}", f"session {eid}")
        if record is None:
            raise NotFound(f"Alyx has no session {eid}")
        return record

    def session_of_dataset(self, dataset_id: str) -> str:
        """The eid of the session that a dataset belongs to. Raises NotFound."""
        record = self._asker.record(f"datasets/{dataset_id}", f"dataset {dataset_id}")
        eid = "" if record is None else rows.session_of(record)
        if not eid:
            raise NotFound(f"Alyx has no dataset {dataset_id} of a session")
        return eid

    def datasets(self, eid: str) -> list[DatasetRow]:
        """All datasets of one session, those that nobody can fetch too. Raises NotFound."""
        try:
            found = self._pages.whole_by_uuid("datasets", {"session": eid})
        except ServerError as error:
            # Alyx's word on a session that it does not know; another 400 is Django's, on the host
            if error.status == 400 and error.detail.startswith("session:"):
                raise NotFound(f"Alyx has no session {eid}") from error
            raise
        return self._read_datasets(eid, found.values())

    def datasets_of(self, eids: Sequence[str]) -> dict[str, list[DatasetRow]] | None:
        """The datasets of several sessions, at most MOST_IDS, in one request.

        None when they are more than one page or one answer holds: pages without order lose rows,
        so there fewer sessions must be asked for. A session that Alyx does not know has none.
        """
        names = ",".join(f"'{eid}'" for eid in eids)
        query = {"django": f"session__in,[{names}]", "limit": str(PAGE)}
        cost = self._pages.cost("datasets")
        try:
            page = self._pages.page("datasets", {**query, "offset": "0"}, cost)
        except TooLarge:
            if len(eids) == 1:
                raise
            return None
        found: dict[str, dict[str, rows.Row]] = {eid: {} for eid in eids}
        for row in page.rows:
            eid = rows.session_of(row)
            if eid not in found:
                raise ServerError(f"{self.url}/datasets sent rows of sessions not asked for")
            found[eid][rows.identifier(row)] = row
        came = len(page.rows)
        if came < min(page.count, PAGE):
            raise ServerError(f"{self.url}/datasets: {came} of {page.count} rows came")
        if came < page.count or sum(map(len, found.values())) < came:
            return None
        return {eid: self._read_datasets(eid, of_one.values()) for eid, of_one in found.items()}

    # -- what cache tables need: the tables, and what they lack

    def cache_info(self) -> dict[str, Any] | None:
        """What the server says of its cache tables; None when it has none."""
        return self._asker.record("cache/info/", "cache/info/")

    def cache_zip(self) -> Stream:
        """The tables' archive as it comes; its status is the caller's to judge."""
        return self._asker.stream("cache.zip")

    def all_subjects(self) -> dict[str, list[str]]:
        """Nicknames of the subjects of each lab."""
        subjects: dict[str, list[str]] = {}
        found = self._pages.whole("subjects", {}, rows.subject_key).values()
        lab, nickname = rows.named("lab"), rows.named("nickname")
        for where, name in rows.readable(found, lambda row: (lab(row), nickname(row)), "subjects"):
            subjects.setdefault(where, []).append(name)
        return subjects

    def sessions_since(self, lab: str, moment: datetime) -> list[tuple[Session, bool]]:
        """A lab's sessions registered or changed since then, by Alyx's clock, whatever their date;
        each with whether it has a number."""
        since = f"auto_datetime__gte,{moment.isoformat(timespec='seconds')}"
        try:
            found = self._sessions({"lab": lab, "django": since})
        except ServerError as error:
            if error.status != 500:
                raise
            return self.sessions_of_lab(lab)  # an Alyx that does not know this look-up
        return [item for item in found if item[0].lab == lab]

    def select(self, query: Mapping[str, str], most: int | None = None) -> list[rows.Row]:
        """Rows of ``/sessions`` by Alyx's own filters, each once, in the server's order.

        With ``most`` only the first so many, for which no more pages are asked than needed.
        """
        if most is None:
            return list(self._pages.whole("sessions", query, rows.identifier).values())
        found: dict[str, rows.Row] = {}
        received, count = 0, 1
        cost = self._pages.cost("sessions")
        while len(found) < most and received < count:
            # where rows are repeated, what is left to find may be many rows away
            limit = PAGE if len(found) < received else min(PAGE, most - len(found))
            page = self._pages.page(
                "sessions", {**query, "limit": str(limit), "offset": str(received)}, cost
            )
            if not page.rows:
                break
            count = page.count
            received += len(page.rows)
            cost.add_rows(found, page, rows.identifier)
        return list(found.values())[:most]

    def table(self, endpoint: str, column: str) -> list[rows.Row]:
        """All rows of a small table, of which ``column`` is the name."""
        found = self._pages.whole(endpoint, {}, lambda row: f"{row.get(column)} {row.get('lab')}")
        return list(found.values())

    def _sessions(self, query: Mapping[str, str]) -> list[tuple[Session, bool]]:
        found = self._pages.look_up("sessions", query, rows.identifier)
        return rows.readable(found.values(), rows.session, "sessions")

    @staticmethod
    def _read_datasets(eid: str, found: Iterable[rows.Row]) -> list[DatasetRow]:
        what = f"datasets of session {eid}"
        return rows.readable(found, lambda row: rows.dataset(row, eid), what)

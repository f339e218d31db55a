"""The Alyx client: sends the queries of onefs to the REST server. All queries are GET requests.

Answers of a real server are recorded in ``tests/data/recorded``. ``request.py`` sends one query,
``pagination.py`` reads complete lists, and ``parsing.py`` interprets rows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from onefs import alf
from onefs.alyx import parsing
from onefs.alyx.pagination import PAGE_ROWS, Paginator
from onefs.alyx.parsing import DatasetRow
from onefs.alyx.rate_limit import RateLimiter
from onefs.alyx.request import RequestSender, TokenSource
from onefs.config.bucket import Bucket, parse_bucket
from onefs.errors import AlyxCredentials, NotFound, ServerError, Throttled, TooLarge
from onefs.http import Stream, Transport
from onefs.model import Repository, Session

#: largest number of UUIDs in one ``__in`` query; the quoted and escaped UUIDs must fit into the
#: 4094 bytes of a request line in gunicorn
MAX_IDS_PER_REQUEST = 85
#: the repository that ONE asks for the bucket and the keys of all datasets
KEYS_REPOSITORY = "aws_cortexlab"


class AlyxClient:
    """A read-only client of one Alyx server. Thread-safe.

    ``deadline`` is the longest time in seconds for one request with its retries. Every method
    raises Unreachable, DeadlineExceeded, Throttled, AlyxCredentials or ServerError. Many methods
    return each session as a tuple of the session and a flag. The flag is True if the session has a
    number.
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
        """Return a client that sends each request with low priority.

        A request that has waited for ``seconds`` gets normal priority. ``deadline``, if given,
        replaces the deadline of this client.
        """
        other = copy.copy(self)
        other._sender = self._sender.low_priority(seconds, deadline)
        other._paginator = Paginator(other._sender)
        return other

    def probe(self, deadline: float = 3.0) -> None:
        """Check that the server answers within ``deadline`` seconds, with any status except 500.

        Raises Unreachable if there is no answer or if the answer is a 500. Raises DeadlineExceeded
        after ``deadline`` seconds.
        """
        try:
            self.low_priority(deadline=deadline)._sender.get("labs", {"limit": "1"})
        except (AlyxCredentials, Throttled, ServerError):
            return

    # -- any query of the REST interface

    def get_body(self, path: str, query: Mapping[str, str]) -> Any:
        """Return the body of Alyx's answer to a GET request for any path.

        Raises NotFound for the status 404, and ServerError for another error.
        """
        answer = self._sender.get(path, query)
        if answer.status == 404:
            raise NotFound(f"{self.url} has no {path}")
        if answer.status != 200:
            raise self._sender.unexpected_answer_error(answer, path)
        return answer.body

    def complete_rows(self, endpoint: str, query: Mapping[str, str]) -> list[parsing.Row]:
        """Return every row of any list once, although pages may lose and repeat rows."""
        return list(self._paginator.all_rows(endpoint, query, parsing.any_key).values())

    # -- the lists of the catalogue

    def labs(self) -> list[str]:
        """Return the names of all labs."""
        name = parsing.name_parser("name")
        rows = self._paginator.all_rows("labs", {}, name).values()
        return list(dict.fromkeys(parsing.parse_rows(rows, name, "labs")))

    def repositories(self) -> list[Repository]:
        """Return all repositories, including personal repositories."""
        rows = self._paginator.all_rows("data-repository", {}, parsing.name_parser("name"))
        return parsing.parse_rows(rows.values(), parsing.parse_repository, "data repositories")

    def bucket(self, repository: str) -> Bucket:
        """Return the S3 bucket of a repository, with its keys if Alyx shows them to this user.

        If Alyx has no bucket or no keys for a repository, those of the repository that ONE asks are
        used. Raises NotFound if that one has no bucket either.
        """
        bucket = self._bucket_in_record(repository)
        is_usable = bucket is not None and (bucket.access_key or bucket.is_public)
        if not is_usable and repository != KEYS_REPOSITORY:
            default = self._bucket_in_record(KEYS_REPOSITORY)
            if bucket is None or (default is not None and default.name == bucket.name):
                bucket = default
        if bucket is None:
            raise NotFound(f"Alyx names no bucket of the data repository {repository}")
        return bucket

    def _bucket_in_record(self, repository: str) -> Bucket | None:
        path = f"data-repository/{quote(repository, safe='')}"
        record = self._sender.get_object(path, f"data repository {repository}")
        described = None if record is None else record.get("json")
        return parse_bucket(described) if isinstance(described, dict) else None

    def subjects(self, lab: str) -> list[str]:
        """Return the nicknames of all subjects in a lab. Subjects without sessions are included.

        The name of the lab must be exact, including upper and lower case.
        """
        rows = self._paginator.rows_by_name("subjects", {"lab": lab}, parsing.subject_key)
        of_lab = [row for row in rows.values() if alf.valid_text(str(row.get("lab", lab))) == lab]
        return parsing.parse_rows(of_lab, parsing.name_parser("nickname"), f"subjects of {lab}")

    def sessions(self, lab: str, subject: str) -> list[tuple[Session, bool]]:
        """Return the sessions of a subject in a lab.

        Both names must be exact, including upper and lower case.
        """
        sessions = self._find_sessions({"lab": lab, "subject": subject})
        # Alyx ignores upper and lower case, so its answer may have sessions of other subjects
        return [item for item in sessions if item[0].lab == lab and item[0].subject == subject]

    def sessions_of_lab(self, lab: str) -> list[tuple[Session, bool]]:
        """Return all sessions of a lab. The name must be exact, including upper and lower case."""
        return [item for item in self._find_sessions({"lab": lab}) if item[0].lab == lab]

    def sessions_by_ref(self, subject: str, date: str, number: int) -> list[tuple[Session, bool]]:
        """Return the sessions with this subject, date and number. The list may be empty.

        Several sessions are returned if several labs have a subject with the same nickname.
        """
        query = {"subject": subject, "date_range": f"{date},{date}", "number": str(number)}
        return [item for item in self._find_sessions(query) if item[0].subject == subject]

    def session(self, eid: str) -> tuple[Session, bool]:
        """Return the session with this eid. Raises NotFound if Alyx does not have the session."""
        rows = self._paginator.all_rows("sessions", {"id": eid}, parsing.uuid_of)
        if eid not in rows:
            raise NotFound(f"Alyx has no session {eid}")
        return parsing.parse_session(rows[eid])

    def sessions_by_eid(self, eids: Sequence[str]) -> list[tuple[Session, bool]]:
        """Return the sessions with these eids, with one query.

        There may be at most :data:`MAX_IDS_PER_REQUEST` eids. Eids that Alyx does not have are left
        out.
        """
        names = ",".join(f"'{eid}'" for eid in eids)
        sessions = self._find_sessions({"django": f"id__in,[{names}]"})
        return [item for item in sessions if item[0].eid in eids]

    def session_record(self, eid: str) -> dict[str, Any]:
        """Return the complete record of a session, as Alyx sends it.

        Raises NotFound if Alyx does not have the session.
        """
        record = self._sender.get_object(f"sessions/{eid}", f"session {eid}")
        if record is None:
            raise NotFound(f"Alyx has no session {eid}")
        return record

    def session_id_of_dataset(self, dataset_id: str) -> str:
        """Return the eid of the session that a dataset belongs to.

        Raises NotFound if Alyx does not have the dataset, or if the dataset has no session.
        """
        record = self._sender.get_object(f"datasets/{dataset_id}", f"dataset {dataset_id}")
        eid = "" if record is None else parsing.session_id_of(record)
        if not eid:
            raise NotFound(f"Alyx has no dataset {dataset_id} that belongs to a session")
        return eid

    def datasets(self, eid: str) -> list[DatasetRow]:
        """Return all datasets of one session, including datasets without replicas.

        Raises NotFound if Alyx does not have the session.
        """
        try:
            rows = self._paginator.all_rows_by_uuid("datasets", {"session": eid})
        except ServerError as error:
            # Alyx answers this for an unknown session; Django answers 400 to a wrong host name
            if error.status == 400 and error.detail.startswith("session:"):
                raise NotFound(f"Alyx has no session {eid}") from error
            raise
        return self._parse_datasets(eid, rows.values())

    def aggregates(self) -> list[DatasetRow]:
        """Return all datasets that belong to no session, including datasets without replicas."""
        query = {"django": "session__isnull,True"}
        rows = self._paginator.all_rows("datasets", query, parsing.uuid_of)
        return self._parse_datasets("", rows.values())

    def datasets_of_sessions(self, eids: Sequence[str]) -> dict[str, list[DatasetRow]] | None:
        """Return a dictionary from each eid to the datasets of this session, with one request.

        There may be at most :data:`MAX_IDS_PER_REQUEST` eids. A session that Alyx does not know
        gets an empty list. Return None if the datasets do not fit into one answer: the caller must
        request fewer sessions. Raises TooLarge if a single session does not fit.
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
                raise ServerError(
                    f"{self.url}/datasets sent datasets of other sessions than requested"
                )
            rows_by_eid[eid][parsing.uuid_of(row)] = row
        received = len(page.rows)
        if received < min(page.count, PAGE_ROWS):
            raise ServerError(f"{self.url}/datasets sent only {received} of {page.count} rows")
        # not read from several pages: Alyx's pages have no order, and rows can be lost between two
        # pages
        if received < page.count or sum(map(len, rows_by_eid.values())) < received:
            return None
        return {eid: self._parse_datasets(eid, rows.values()) for eid, rows in rows_by_eid.items()}

    def datasets_since(
        self, moment: str, eids: Sequence[str] | None = None
    ) -> list[tuple[DatasetRow, str, str]]:
        """Return the datasets that Alyx has saved since ``moment``, a time of Alyx's clock.

        Each dataset comes with the time of its creation, and the time at which it was saved last,
        as Alyx has them. Datasets that belong to no session are left out. ``eids``, if given, are
        the only sessions whose datasets are returned.
        """
        lookups = f"auto_datetime__gte,{moment}"
        wanted = None if eids is None else set(eids)
        if wanted is not None and len(wanted) <= MAX_IDS_PER_REQUEST // 2:
            if not wanted:
                return []
            names = ",".join(f"'{eid}'" for eid in sorted(wanted))
            lookups += f",session__in,[{names}]"
        rows = self._paginator.all_rows_by_uuid("datasets", {"django": lookups}).values()
        of_sessions = [
            row
            for row in rows
            if (eid := parsing.session_id_of(row)) and (wanted is None or eid in wanted)
        ]
        return parsing.parse_rows(of_sessions, _parse_saved_dataset, "changed datasets")

    # -- cache tables, and rows that are missing in the cache tables

    def cache_info(self, tag: str = "") -> dict[str, Any] | None:
        """Return the server's description of its cache tables (files that list all datasets).

        ``tag`` selects the tables of a release. Return None if the server has no such tables.
        """
        path = f"cache/info/{tag}/" if tag else "cache/info/"
        return self._sender.get_object(path, path)

    def cache_zip(self) -> Stream:
        """Return a stream of the archive of Alyx's cache tables (files that list all datasets).

        The caller must check the stream's HTTP status.
        """
        return self._sender.stream("cache.zip")

    def subjects_by_lab(self) -> dict[str, list[str]]:
        """Return a dictionary from the name of each lab to the nicknames of the subjects in this
        lab."""
        subjects: dict[str, list[str]] = {}
        rows = self._paginator.all_rows("subjects", {}, parsing.subject_key).values()
        lab_of, nickname_of = parsing.name_parser("lab"), parsing.name_parser("nickname")
        pairs = parsing.parse_rows(rows, lambda row: (lab_of(row), nickname_of(row)), "subjects")
        for lab, nickname in pairs:
            subjects.setdefault(lab, []).append(nickname)
        return subjects

    def sessions_since(self, lab: str, moment: datetime) -> list[tuple[Session, bool]]:
        """Return a lab's sessions that were registered or changed since ``moment``.

        ``moment`` is a time of Alyx's clock. If this Alyx cannot filter by time, all sessions of
        the lab are returned.
        """
        since = f"auto_datetime__gte,{moment.isoformat(timespec='seconds')}"
        try:
            sessions = self._find_sessions({"lab": lab, "django": since})
        except ServerError as error:
            if error.status != 500:
                raise
            return self.sessions_of_lab(lab)  # this Alyx cannot filter by time
        return [item for item in sessions if item[0].lab == lab]

    def select_sessions(
        self, query: Mapping[str, str], most: int | None = None
    ) -> list[parsing.Row]:
        """Return the rows of ``/sessions`` that Alyx's filters in ``query`` select.

        The rows have the order of the server. With ``most``, only the first ``most`` rows are
        returned, and as few pages as possible are requested.
        """
        if most is None:
            return list(self._paginator.all_rows("sessions", query, parsing.uuid_of).values())
        rows: dict[str, parsing.Row] = {}
        received, count = 0, 1
        cost = self._paginator.new_cost("sessions")
        while len(rows) < most and received < count:
            # if rows are repeated, many rows can come before the next new row
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

    def insertion_rows(self, query: Mapping[str, str]) -> list[parsing.Row]:
        """Return the rows of ``/insertions`` that Alyx's filters in ``query`` select.

        The rows have the order of the server. Each row is returned once.
        """
        # with any look-up, Alyx sends each row only once, and not once for each dataset or region
        distinct = query if "django" in query else {**query, "django": "id__isnull,False"}
        return list(self._paginator.all_rows("insertions", distinct, parsing.uuid_of).values())

    def table_rows(self, endpoint: str, column: str) -> list[parsing.Row]:
        """Return all rows of a small table of Alyx. ``column`` has the name of each row."""

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


def _parse_saved_dataset(row: parsing.Row) -> tuple[DatasetRow, str, str]:
    """Parse a row of ``/datasets``, with the times of its creation and of its last change."""
    created, saved = (str(row.get(key) or "") for key in ("created_datetime", "auto_datetime"))
    return parsing.parse_dataset(row, parsing.session_id_of(row)), created, saved

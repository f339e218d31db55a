"""What has changed in a database since a date: from the journal of the syncs, or from Alyx.

The journal knows what was added, replaced and removed between the first and the last sync. Alyx
knows only which rows it has saved last, and does not say which rows it has deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import date, datetime, timezone
from pathlib import Path
from typing import NamedTuple

from onefs import alf
from onefs.alyx import parsing
from onefs.alyx.client import MAX_IDS_PER_REQUEST, AlyxClient
from onefs.alyx.parsing import Row
from onefs.cache_tables.differences import ADDED, CHANGED
from onefs.catalogue.change_journal import ChangeJournal, JournalRow
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.dates import parse_timestamp
from onefs.errors import DeadlineExceeded, Throttled, Unreachable, UsageError
from onefs.model import Dataset, Session
from onefs.search import offline
from onefs.search.alyx_search import search_alyx
from onefs.search.queries import SessionQueries
from onefs.search.vocabulary import Query

SYNCS, ALYX = "syncs", "alyx"
#: seconds that the answer of Alyx counts as older, because the zone of Alyx's clock is unknown
_CLOCK_DOUBT_SECONDS = 86400.0


class Change(NamedTuple):
    """One change of a session, or of a dataset. A value that is unknown is '' or None."""

    #: when the change was noted, as ``yyyy-mm-ddThh:mm:ss``: for syncs, when the tables with it
    #: were made (UTC); from Alyx, when it has saved the dataset's row (Alyx's clock)
    time: str
    #: added, replaced, removed or changed
    change: str
    #: session or dataset
    what: str
    lab: str
    subject: str
    date: str
    number: int | None
    eid: str
    dataset_id: str = ""
    #: the dataset's path in the folder of its session
    path: str = ""
    size: int | None = None
    md5: str = ""
    old_path: str = ""
    old_size: int | None = None
    old_md5: str = ""


class Changes:
    """The changes since a date, in a fixed order. Can be iterated again and again."""

    def __init__(
        self, since: str, known_until: str, source: str, read: Callable[[], Iterable[Change]]
    ) -> None:
        #: the date of the question, as ``yyyy-mm-ddThh:mm:ss``
        self.since = since
        #: all changes until then are known. The next question can begin here
        self.known_until = known_until
        #: ``syncs`` or ``alyx``
        self.source = source
        #: kinds of change that this source cannot know
        self.unknown: tuple[str, ...] = () if source == SYNCS else ("removed",)
        #: a sentence about what was left out, or ''
        self.hint = ""
        self._read = read

    def __iter__(self) -> Iterator[Change]:
        return iter(self._read())


class ChangeFinder:
    """Finds the changes in one database.

    - ``state_dir`` is the folder with the journal.
    - ``alyx``, ``database`` and ``queries`` are the client, the catalogue and the search.
    """

    def __init__(
        self,
        state_dir: Path,
        alyx: AlyxClient,
        database: CatalogueDatabase,
        queries: SessionQueries,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state_dir = state_dir
        self._alyx = alyx
        self._database = database
        self._queries = queries
        self._clock = clock

    def find(self, since: object, until: object, source: object, query: Query | None) -> Changes:
        """Return the changes after ``since`` until ``until``, in the sessions of a search.

        Without ``source``, the journal answers if it knows, and otherwise Alyx. Raises UsageError
        for an invalid argument, and Unreachable if nothing here knows what has changed.
        """
        if source not in (None, SYNCS, ALYX):
            raise UsageError(f"{source!r:.80} is not a source of changes: give syncs or alyx")
        begin = parse_date("since", since)
        end = float("inf") if until is None else parse_date("until", until)
        if end <= begin:
            raise UsageError("the changes end before they begin: give a later date as the end")
        unknown: Unreachable | None = None
        if source != ALYX:
            try:
                last = self._last_time_known(begin)
            except Unreachable as error:
                if source == SYNCS:
                    raise
                unknown = error
            else:
                return self._in_journal(begin, end, last, query)
        if until is not None:
            reason = f" ({unknown})" if unknown else ""
            raise UsageError(
                "Alyx keeps only the last change of a row, so that changes before a date are known "
                f"from syncs alone: leave out the end{reason}"
            )
        try:
            span = None if source == ALYX else self._journal_span()
            return self._in_alyx(begin, query, span[1] if span is not None else float("inf"))
        except (Unreachable, DeadlineExceeded, Throttled) as error:
            if unknown is None:
                raise
            raise Unreachable(f"{unknown}; {error}") from error

    def _last_time_known(self, begin: float) -> float:
        """Return until when the journal knows all changes since ``begin``.

        Raises Unreachable, with the reason, if it does not know them.
        """
        span = self._journal_span()
        if span is None:
            raise Unreachable(
                "no sync has noted a change yet: run `onefs sync` now, and again when the database "
                "has newer tables"
            )
        first, last = span
        if begin < first:
            raise Unreachable(
                f"what changed since {format_time(begin)} is unknown here: the first sync that "
                f"was compared has the tables of {format_time(first)}"
            )
        if begin >= last:
            raise Unreachable(
                f"what changed since {format_time(begin)} is unknown here: the last sync has the "
                f"tables of {format_time(last)}, run `onefs sync` for newer ones"
            )
        return last

    def _journal_span(self) -> tuple[float, float] | None:
        journal = ChangeJournal.open_existing(self._state_dir)
        if journal is None:
            return None
        with closing(journal):
            return journal.span()

    def _in_journal(self, begin: float, end: float, last: float, query: Query | None) -> Changes:
        matches, hint = self._match_of(query, begin, end)
        changes = Changes(
            format_time(begin),
            format_time(min(end, last)),
            SYNCS,
            lambda: map(_change_in_journal, self._journal_rows(begin, end, matches)),
        )
        changes.hint = hint
        return changes

    def _journal_rows(
        self, begin: float, end: float, matches: Callable[[Session], bool]
    ) -> Iterator[JournalRow]:
        with closing(ChangeJournal(self._state_dir)) as journal:
            yield from (row for row in journal.rows(begin, end) if matches(row.session))

    def _match_of(
        self, query: Query | None, begin: float, end: float
    ) -> tuple[Callable[[Session], bool], str]:
        """Return the test for sessions of a search, and a sentence about what it leaves out."""
        if query is None:
            return lambda _: True, ""
        others = [name for name, _ in query.values if name not in offline.ROW_TERMS]
        if not others:
            return lambda s: offline.is_match(offline.row_of_session(s, self._alyx.url), query), ""
        eids = set(self._queries.search(query).eids)
        with closing(ChangeJournal(self._state_dir)) as journal:
            has_removed = journal.has_removed_sessions(begin, end)
        hint = (
            f"sessions that were removed cannot be searched by {', '.join(others)}: they are left "
            "out"
            if has_removed
            else ""
        )
        return lambda session: session.eid in eids, hint

    def _in_alyx(self, begin: float, query: Query | None, last_sync: float) -> Changes:
        # not after the last sync: the next one may know what was removed since, and Alyx does not
        known_until = max(begin, min(self._clock() - _CLOCK_DOUBT_SECONDS, last_sync))
        moment = format_time(begin)
        changed = search_alyx(self._alyx, _with_lookup(query, moment), None)
        eids = None if query is None else self._queries.search(query).eids
        rows = self._alyx.datasets_since(moment, eids)
        sessions = {eid: _session_of(row) for eid, row in changed.items()}
        unseen = sorted({row.dataset.eid for row, *_ in rows} - set(sessions))
        sessions.update((each.eid, each) for each in self._sessions(unseen))
        found = [_change_of_session(sessions[eid], begin) for eid in changed]
        for row, created, saved in rows:
            session = sessions.get(row.dataset.eid)
            if session is not None:
                change = ADDED if (parse_timestamp(created) or 0.0) >= begin else CHANGED
                found.append(_change_of_dataset(saved, change, session, row.dataset))
        found.sort(key=lambda each: (*each[3:6], each.number or 0, each.eid, each.path))
        return Changes(moment, format_time(known_until), ALYX, lambda: found)

    def _sessions(self, eids: list[str]) -> list[Session]:
        known = self._database.sessions_by_eid(eids)
        missing = sorted(set(eids) - {session.eid for session in known})
        for start in range(0, len(missing), MAX_IDS_PER_REQUEST):
            batch = missing[start : start + MAX_IDS_PER_REQUEST]
            known += [session for session, _ in self._alyx.sessions_by_eid(batch)]
        return known


def parse_date(name: str, value: object) -> float:
    """Return the time that a date or a date with a time means, in seconds since the epoch.

    A date is its midnight, and a time without a zone counts as UTC. Raises UsageError.
    """
    text = value.isoformat() if isinstance(value, date) else str(value).strip()
    moment = parse_timestamp(text)
    if moment is None:
        raise UsageError(f"{name}: {value!r:.80} is not a date like 2024-05-01 or 2024-05-01T20:00")
    return moment


def format_time(seconds: float) -> str:
    """Return a time (UTC) as ``yyyy-mm-ddThh:mm:ss``, with microseconds if it has any."""
    return datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None).isoformat()


def _with_lookup(query: Query | None, moment: str) -> Query:
    """Return the search, restricted to the sessions that Alyx has saved since ``moment``."""
    values = {} if query is None else dict(query.values)
    since = f"auto_datetime__gte,{moment}"
    lookups = [*values.pop("django", ()), since]
    return Query((*values.items(), ("django", (",".join(lookups),))))


def _session_of(row: Row) -> Session:
    return parsing.parse_session(row)[0]


def _change_in_journal(row: JournalRow) -> Change:
    what = "dataset" if row.dataset_id else "session"
    head = (format_time(row.time), row.change, what)
    return Change._make((*head, *_place(row.session), *row[3:]))


def _change_of_session(session: Session, begin: float) -> Change:
    # a session that has begun since then was registered since then
    change = ADDED if session.start_time >= begin else CHANGED
    return Change("", change, "session", *_place(session))


def _change_of_dataset(saved: str, change: str, session: Session, dataset: Dataset) -> Change:
    path = "/".join((*alf.dataset_folder(dataset), dataset.name))
    return Change(
        saved, change, "dataset", *_place(session), dataset.id, path, dataset.size, dataset.md5
    )


def _place(session: Session) -> tuple[str, str, str, int | None, str]:
    number = session.number if session.number >= 0 else None
    return session.lab, session.subject, session.date, number, session.eid

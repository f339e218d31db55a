"""The probe insertions in another user's mount, read from ``.insertions.tsv`` and ``.by-pid``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from onefs.alyx.parsing import Row
from onefs.cache.folder import Place
from onefs.catalogue.listing import Listing, ListingVersion
from onefs.errors import NotFound, UsageError
from onefs.model import Insertion, Session
from onefs.one.mount_files import MountFiles
from onefs.search.insertions import ATLAS_TERMS, SESSION_TERMS
from onefs.search.vocabulary import Query, parse_terms
from onefs.tree.path_patterns import BY_EID, BY_PID
from onefs.tree.search_cache import SEARCH
from onefs.tree.sidecars import INSERTIONS_TSV, SESSION_JSON

#: by filter of ``/insertions``, the term of a search in the mount that means the same
_TERMS = {
    **SESSION_TERMS,
    **{name: name for name in ATLAS_TERMS},
    "name": "probe",
}


class MountInsertions:
    """The insertions in a mount (see :class:`onefs.one.laboratory.ProbeInsertions`)."""

    def __init__(self, files: MountFiles, place: Callable[[str], Place]) -> None:
        self._files = files
        #: returns the place of a session by its eid
        self._place = place

    def get(self, pid: str) -> Insertion:
        try:
            place = self._files.link_target(BY_PID, pid, "session")
        except NotFound:
            raise NotFound(f"the mount at {self._files.root} has no insertion {pid}") from None
        found = (each for each in self._in_record(place) if each.id == pid)
        insertion = next(found, None)
        if insertion is None:
            raise NotFound(f"the mount at {self._files.root} has no insertion {pid}")
        return insertion

    def of_session(self, session: Session) -> Listing[list[Insertion]]:
        """Return the insertions of a session, with all fields of Alyx's rows."""
        insertions = self._in_record(self._place(session.eid))
        return Listing(insertions, ListingVersion(time.time()))

    def of_sessions(self, sessions: Sequence[Session]) -> list[Insertion]:
        """Return the insertions of sessions. Their rows have only the columns of the table."""
        return [
            Insertion(row["id"], row["session"], row["name"], json.dumps(row))
            for session in sessions
            for row in rows_of_table(self._files.text(*self._place(session.eid), INSERTIONS_TSV))
        ]

    def stored(self, pid: str) -> Insertion | None:
        """Return the insertion, because the mount does not say what it has stored."""
        with suppress(NotFound):
            return self.get(pid)
        return None

    def stored_of(self, eid: str) -> list[Insertion]:
        """Return the insertions of a session, because the mount does not say what is stored."""
        return self._in_record(self._place(eid))

    def _in_record(self, place: Place) -> list[Insertion]:
        """Return the insertions in Alyx's record of the session at ``place``, sorted by name."""
        record = json.loads(self._files.text(*place, SESSION_JSON))
        rows = record.get("probe_insertion") or []
        insertions = (
            Insertion(str(row["id"]), str(row["session"])[-36:], str(row["name"]), json.dumps(row))
            for row in rows
        )
        return sorted(insertions, key=lambda each: each.name)


def search_insertions(files: MountFiles, filters: Mapping[str, str]) -> list[Row]:
    """Return the insertions in a mount that match all filters, with the columns of the table.

    Raises UsageError for a filter that the mount does not have.
    """
    filters = dict(filters)
    eid = filters.pop("session", None)
    unknown = sorted(set(filters) - set(_TERMS))
    if unknown:
        raise UsageError(
            f"the mount at {files.root} cannot search probe insertions by {', '.join(unknown)}: "
            "run `onefs setup` to ask the database yourself"
        )
    query = parse_terms({_TERMS[name]: value for name, value in filters.items()})
    if eid is None:
        return list(rows_of_table(_table_of_search(files, query)))
    place = files.link_target(BY_EID, eid.strip().lower())
    return [
        row
        for row in rows_of_table(files.text(*place, INSERTIONS_TSV))
        if not filters or row in list(rows_of_table(_table_of_search(files, query)))
    ]


def _table_of_search(files: MountFiles, query: Query) -> str:
    if not query.values:
        raise UsageError(
            f"the mount at {files.root} cannot list all probe insertions: give a search term"
        )
    return files.text(SEARCH, str(query), INSERTIONS_TSV)


def rows_of_table(text: str) -> Iterator[Row]:
    """Yield the insertions in a table ``.insertions.tsv``, in the form of rows of Alyx."""
    header, *lines = (line.split("\t") for line in text.splitlines())
    for line in lines:
        cells = dict(zip(header, line, strict=True))
        yield {
            "id": cells["pid"],
            "session": cells["eid"],
            "name": cells["name"],
            "model": cells["model"],
            "serial": cells["serial"],
            "json": {"qc": cells["qc"]},
            "session_info": {
                "id": cells["eid"],
                "subject": cells["subject"],
                "start_time": cells["date"],
                "number": int(cells["number"]),
                "lab": cells["lab"],
            },
        }

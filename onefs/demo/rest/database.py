"""The rows of a Source with the indexes that quick answers need."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onefs.demo.alyx_rows import with_uuid
from onefs.demo.records import DatasetRecord, FileRecord, SessionRecord, Source

Row = Mapping[str, Any]

#: table -> the column that Alyx looks its rows up by; ``name`` for all other tables
_KEYS = {
    "subjects": "nickname",
    "users": "username",
    **dict.fromkeys(("insertions", "trajectories", "channels", "notes", "brain-regions"), "id"),
}


class DemoDatabase:
    """A Source, read: small tables and sessions indexed once, datasets a session at a time."""

    def __init__(self, source: Source, data_url: str) -> None:
        self._source = source
        self._data_url = data_url
        self._seen = source.sessions()
        self.sessions: Sequence[SessionRecord] = tuple(self._seen)
        self._by_eid = {session.eid: session for session in self.sessions}
        self._by_subject: dict[str, list[SessionRecord]] = defaultdict(list)
        self._by_lab: dict[str, list[SessionRecord]] = defaultdict(list)
        for session in self.sessions:
            self._by_subject[session.subject.casefold()].append(session)
            self._by_lab[session.lab.casefold()].append(session)
        tables = dict(source.tables())
        tables["data-repository"] = [
            _with_address(row, data_url) for row in tables.get("data-repository", ())
        ]
        places = sorted({(each.location, each.lab) for each in self.sessions if each.location})
        tables["locations"] = [{"name": name, "lab": lab, "json": None} for name, lab in places]
        self._tables: dict[str, Sequence[Row]] = tables
        self._rows = {
            name: {row[self.key_of(name)]: row for row in rows} for name, rows in tables.items()
        }
        self._has_servers = any(
            row.get("globus_is_personal") is False for row in self.table("data-repository")
        )
        #: the performance of a session without trials is what makes the whole query fail
        self.has_empty_session = any(
            s.n_trials == 0 and s.n_correct_trials is not None for s in self.sessions
        )

    def refreshed(self) -> DemoDatabase:
        """Itself, or a new one once the source has changed (its sessions are another object)."""
        if self._source.sessions() is self._seen:
            return self
        return DemoDatabase(self._source, self._data_url)

    # -- small tables ------------------------------------------------------------------------

    @staticmethod
    def key_of(table: str) -> str:
        """The column that Alyx looks up the rows of a small table by."""
        return _KEYS.get(table, "name")

    def table(self, name: str) -> Sequence[Row]:
        """The rows of a small table."""
        return self._tables.get(name, ())

    def row(self, table: str, key: str | int | None) -> Row | None:
        """One row of a small table by what Alyx looks it up by (a name, mostly)."""
        return None if key is None else self._rows.get(table, {}).get(key)

    def revision(self, name: str) -> Row:
        """The row of a revision, {} where there is none.

        A source may have met it only now, when it was asked for the datasets that bear it.
        """
        known = self.row("revisions", name)
        if known is None and name:
            fresh = self._source.tables().get("revisions", ())
            known = next((row for row in fresh if row["name"] == name), None)
        return known or {}

    # -- sessions ----------------------------------------------------------------------------

    def session(self, eid: str | None) -> SessionRecord | None:
        """One session."""
        return None if eid is None else self._by_eid.get(eid)

    def sessions_of_subject(self, nickname: str) -> Sequence[SessionRecord]:
        """The sessions of a nickname, whatever its case, in whatever lab."""
        return self._by_subject.get(nickname.casefold(), ())

    def sessions_of_lab(self, lab: str) -> Sequence[SessionRecord]:
        """The sessions of a lab, whatever its case."""
        return self._by_lab.get(lab.casefold(), ())

    # -- datasets ----------------------------------------------------------------------------

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """The datasets of one session."""
        return self._source.datasets(eid)

    def dataset(self, dataset_id: str) -> DatasetRecord | None:
        """One dataset."""
        return self._source.dataset(dataset_id)

    def aggregates(self) -> Sequence[DatasetRecord]:
        """The datasets that belong to no session."""
        return self._source.aggregates()

    def all_datasets(self) -> Iterator[DatasetRecord]:
        """Every dataset: a scan, as in Alyx."""
        for session in self.sessions:
            yield from self.datasets(session.eid)
        yield from self.aggregates()

    def repository(self, record: FileRecord) -> Row:
        """The repository of a file record; empty when the tables have none of that name."""
        return self.row("data-repository", record.repository) or {}

    def on_server(self, record: FileRecord) -> bool:
        """Whether a file record is one of a server (not a lab's own machine, not a tape)."""
        return self.repository(record).get("globus_is_personal") is False

    def is_on_server(self, dataset: DatasetRecord) -> bool:
        """Whether a dataset exists on a server, by what its file records say."""
        return any(record.exists and self.on_server(record) for record in dataset.file_records)

    def reachable(self, dataset: DatasetRecord) -> bool:
        """Whether a session's detail shows a dataset.

        It must exist on a server, if the database knows any server at all.
        """
        return not self._has_servers or self.is_on_server(dataset)

    def file_url(self, dataset: DatasetRecord, record: FileRecord) -> str | None:
        """Where a file record's file is: the repository's address, then the path with UUID."""
        base = self.repository(record).get("data_url")
        if not base:
            return None
        return f"{base}{with_uuid(record.relative_path, dataset.id)}"

    def best_url(self, dataset: DatasetRecord) -> str | None:
        """The address that Alyx itself would choose: servers first, then by name, last first."""
        candidates = [
            (not self.on_server(record), record.repository, url)
            for record in dataset.file_records
            if record.exists and (url := self.file_url(dataset, record)) is not None
        ]
        candidates.sort(key=lambda item: item[1], reverse=True)
        candidates.sort(key=lambda item: item[0])
        return candidates[0][2] if candidates else None


def _with_address(row: Row, data_url: str) -> Row:
    address = row.get("data_url")
    if not isinstance(address, str):
        return row
    return {**row, "data_url": address.replace("{data}", data_url, 1)}

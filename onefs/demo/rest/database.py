"""The rows of a laboratory, with indexes for fast queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onefs.demo.alyx_rows import with_uuid
from onefs.demo.records import DatasetRecord, FileRecord, SessionRecord, Source

Row = Mapping[str, Any]

#: table -> the column by which Alyx finds a row. For tables that are not here, it is ``name``
_KEYS = {
    "subjects": "nickname",
    "users": "username",
    **dict.fromkeys(("insertions", "trajectories", "channels", "notes", "brain-regions"), "id"),
}


class DemoDatabase:
    """The rows of a laboratory, with indexes of its small tables and sessions.

    Datasets are not indexed.
    """

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
        locations = sorted({(s.location, s.lab) for s in self.sessions if s.location})
        tables["locations"] = [{"name": name, "lab": lab, "json": None} for name, lab in locations]
        self._tables: dict[str, Sequence[Row]] = tables
        self._rows = {
            name: {row[self.key_of(name)]: row for row in rows} for name, rows in tables.items()
        }
        self._has_servers = any(
            row.get("globus_is_personal") is False for row in self.table("data-repository")
        )
        #: whether any session has 0 trials, so that a query by performance fails
        self.has_empty_session = any(
            s.n_trials == 0 and s.n_correct_trials is not None for s in self.sessions
        )

    def refreshed(self) -> DemoDatabase:
        """Return this database if the source has not changed. Otherwise return a new database.

        The source has changed if its method ``sessions`` returns another object than before.
        """
        if self._source.sessions() is self._seen:
            return self
        return DemoDatabase(self._source, self._data_url)

    # -- small tables ------------------------------------------------------------------------

    @staticmethod
    def key_of(table: str) -> str:
        """Return the name of the column by which Alyx finds a row of the small table ``table``."""
        return _KEYS.get(table, "name")

    def table(self, name: str) -> Sequence[Row]:
        """Return the rows of a small table."""
        return self._tables.get(name, ())

    def row(self, table: str, key: str | int | None) -> Row | None:
        """Return the row whose key is ``key`` in the small table ``table``, or None.

        :meth:`key_of` gives the column of the key.
        """
        return None if key is None else self._rows.get(table, {}).get(key)

    def revision(self, name: str) -> Row:
        """Return the row of a revision, or {} for an unknown name."""
        row = self.row("revisions", name)
        if row is None and name:
            # the source may have added the revision when it listed datasets
            fresh = self._source.tables().get("revisions", ())
            row = next((each for each in fresh if each["name"] == name), None)
        return row or {}

    # -- sessions ----------------------------------------------------------------------------

    def session(self, eid: str | None) -> SessionRecord | None:
        """Return one session, or None for an unknown eid."""
        return None if eid is None else self._by_eid.get(eid)

    def sessions_of_subject(self, nickname: str) -> Sequence[SessionRecord]:
        """Return the sessions of all subjects named ``nickname``, in upper or lower case."""
        return self._by_subject.get(nickname.casefold(), ())

    def sessions_of_lab(self, lab: str) -> Sequence[SessionRecord]:
        """Return the sessions of a lab. In the lab's name, upper and lower case are equal."""
        return self._by_lab.get(lab.casefold(), ())

    # -- datasets ----------------------------------------------------------------------------

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """Return the datasets of one session."""
        return self._source.datasets(eid)

    def dataset(self, dataset_id: str) -> DatasetRecord | None:
        """Return one dataset, or None for an unknown id."""
        return self._source.dataset(dataset_id)

    def aggregates(self) -> Sequence[DatasetRecord]:
        """Return the datasets that belong to no session."""
        return self._source.aggregates()

    def all_datasets(self) -> Iterator[DatasetRecord]:
        """Yield every dataset. This lists every session, because there is no index."""
        for session in self.sessions:
            yield from self.datasets(session.eid)
        yield from self.aggregates()

    def repository(self, record: FileRecord) -> Row:
        """Return the repository of a file record, or {} if the repository is unknown."""
        return self.row("data-repository", record.repository) or {}

    def on_server(self, record: FileRecord) -> bool:
        """Whether a file record is in a repository on a server, not on a lab's own machine."""
        return self.repository(record).get("globus_is_personal") is False

    def is_on_server(self, dataset: DatasetRecord) -> bool:
        """Whether a replica of the dataset exists on a server, according to the file records."""
        return any(record.exists and self.on_server(record) for record in dataset.file_records)

    def reachable(self, dataset: DatasetRecord) -> bool:
        """Whether Alyx shows ``dataset`` in the detail of its session.

        Alyx shows a dataset that exists on a server. Without any server, Alyx shows every dataset.
        """
        return not self._has_servers or self.is_on_server(dataset)

    def file_url(self, dataset: DatasetRecord, record: FileRecord) -> str | None:
        """Return the address of a replica. Return None if the repository has no address."""
        base = self.repository(record).get("data_url")
        if not base:
            return None
        return f"{base}{with_uuid(record.relative_path, dataset.id)}"

    def best_url(self, dataset: DatasetRecord) -> str | None:
        """Return the address that Alyx chooses for a dataset, or None if there is no address."""
        candidates = [
            (not self.on_server(record), record.repository, url)
            for record in dataset.file_records
            if record.exists and (url := self.file_url(dataset, record)) is not None
        ]
        # replicas on servers come first, then the repository name that is last in the alphabet
        candidates.sort(key=lambda item: item[1], reverse=True)
        candidates.sort(key=lambda item: item[0])
        return candidates[0][2] if candidates else None


def _with_address(row: Row, data_url: str) -> Row:
    address = row.get("data_url")
    if not isinstance(address, str):
        return row
    return {**row, "data_url": address.replace("{data}", data_url, 1)}

"""The rows of the embedded laboratory, and the border between their sources and the servers.

``onefs.demo.rest`` (Alyx) and ``onefs.demo.flatiron`` (the file server) serve any :class:`Source`:
the synthetic laboratory, a folder on disk, or recorded rows. Names of fields are Alyx's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One replica of a dataset in a repository, existing or not (Alyx: ``/files``)."""

    id: str
    #: the repository's name
    repository: str
    #: from the subject on, without UUID: ``KS023/2019-12-10/001/alf/spikes.times.npy``
    relative_path: str
    exists: bool = True


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """One dataset (Alyx: ``/datasets``)."""

    id: str
    #: None for an aggregate
    eid: str | None
    name: str
    dataset_type: str
    collection: str = ""
    revision: str = ""
    default_dataset: bool = True
    file_size: int | None = None
    hash: str = ""
    created_by: str | None = None
    created_datetime: str = ""
    auto_datetime: str = ""
    data_format: str = "unknown"
    version: str = ""
    experiment_number: int | None = None
    protected: int = 0
    public: int = 0
    tags: tuple[str, ...] = ()
    qc: str = "NOT_SET"
    json: Any = None
    file_records: tuple[FileRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One session (Alyx: ``/sessions``), without its datasets."""

    eid: str
    lab: str
    subject: str
    #: as Alyx writes it: local time, no zone, microseconds only when not 0
    start_time: str
    number: int | None
    task_protocol: str = ""
    projects: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    location: str | None = None
    procedures: tuple[str, ...] = ()
    type: str = "Experiment"
    end_time: str | None = None
    narrative: str = ""
    parent_session: str | None = None
    n_trials: int | None = None
    n_correct_trials: int | None = None
    qc: str = "NOT_SET"
    extended_qc: Mapping[str, Any] | None = None
    auto_datetime: str = ""
    json: Any = None
    #: further keys of the session's detail, as Alyx shapes them (``wateradmin_session_related``,
    #: ``probe_insertion``, ``notes``, ``field_of_view``)
    related: Mapping[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """A laboratory: small tables whole, datasets a session at a time, files by their URL path.

    Thread-safe. ``sessions`` and ``tables`` are cheap; ``datasets`` may do work the first time a
    session is listed (computing arrays, hashing files) and caches it. ``tables`` may get a dataset
    type or a revision only once a dataset that has it is listed.
    """

    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return rows in Alyx's shape by endpoint name: ``labs``, ``subjects``, ``users``,
        ``projects``, ``data-repository``, ``dataset-types``, ``data-formats``, ``revisions``,
        ``tags``, ``notes``, ``insertions``, ``trajectories``, ``channels``, ``brain-regions``; a
        missing key is an empty table. ``{data}`` at the start of a repository's ``data_url`` is
        the placeholder for the file server's own address."""

    def sessions(self) -> Sequence[SessionRecord]:
        """Return all sessions, latest first; a new object once they or the tables change."""

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """Return the datasets of one session, [] for an unknown one."""

    def dataset(self, dataset_id: str) -> DatasetRecord | None:
        """Return one dataset by its UUID, None for an unknown one."""

    def aggregates(self) -> Sequence[DatasetRecord]:
        """Return the datasets that belong to no session; none by default."""
        return ()

    def file(self, path: str) -> Path | bytes | None:
        """Return the file that the file server has at ``path`` (decoded, starting with ``/``,
        UUID in the name), or None. Bytes for a synthetic file, which exists in memory only."""


@dataclass(frozen=True, slots=True)
class Login:
    """The accounts of the embedded laboratory: Alyx's, and the file server's own."""

    username: str = "test_user"
    password: str = "TapetesBloc18"
    data_username: str = "iblmember"
    data_password: str = "flatiron-demo"
    #: further Alyx users, name -> password
    others: Mapping[str, str] = field(default_factory=dict)

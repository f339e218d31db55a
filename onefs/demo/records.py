"""The rows of the embedded laboratory, and the interface through which servers read them.

``onefs.demo.rest`` (Alyx) and ``onefs.demo.flatiron`` (the file server) serve any :class:`Source`:
the synthetic laboratory, a folder on disk, or recorded rows. Fields have the same names as in Alyx.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One replica of a dataset in a repository (Alyx: ``/files``).

    ``exists`` is False if the repository does not have the bytes.
    """

    id: str
    #: the repository's name
    repository: str
    #: starts with the subject, without UUID: ``KS023/2019-12-10/001/alf/spikes.times.npy``
    relative_path: str
    exists: bool = True


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """One dataset (Alyx: ``/datasets``)."""

    id: str
    #: None for an aggregate, a dataset that belongs to no session
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
    #: in Alyx's format: local time without zone, with microseconds only if they are not 0
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
    #: further keys of the session's detail, with values in Alyx's format
    #: (``wateradmin_session_related``, ``probe_insertion``, ``notes``, ``field_of_view``)
    related: Mapping[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """A laboratory: its small tables, its sessions, the datasets of each session, and its files.

    Thread-safe. ``sessions`` and ``tables`` are fast. ``datasets`` may be slow at the first call
    for a session. Before this call, ``tables`` may lack dataset types and revisions of the session.
    """

    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return the rows of each small table, in Alyx's format, by the name of the endpoint.

        The names are ``labs``, ``subjects``, ``users``, ``projects``, ``data-repository``,
        ``dataset-types``, ``data-formats``, ``revisions``, ``tags``, ``notes``, ``insertions``,
        ``trajectories``, ``channels`` and ``brain-regions``. A missing name means an empty table.
        In a repository's ``data_url``, ``{data}`` stands for the address of the file server.
        """

    def sessions(self) -> Sequence[SessionRecord]:
        """Return all sessions, latest first.

        The same object is returned until the sessions or the tables change.
        """

    # at the first call, arrays are computed or files are hashed; sizes and md5 sums are cached
    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """Return the datasets of one session, or an empty sequence for an unknown eid."""

    def dataset(self, dataset_id: str) -> DatasetRecord | None:
        """Return one dataset by its UUID, or None for an unknown UUID."""

    def aggregates(self) -> Sequence[DatasetRecord]:
        """Return the datasets that belong to no session.

        A laboratory that does not replace this method has none.
        """
        return ()

    def file(self, path: str) -> Path | bytes | None:
        """Return the file that the file server has at ``path``, or None if there is no file.

        ``path`` is decoded, starts with ``/`` and has the UUID in its name. A file on disk is
        returned as a path, a synthetic file as bytes.
        """


@dataclass(frozen=True, slots=True)
class Login:
    """The accounts of the embedded laboratory, for Alyx and for the file server."""

    username: str = "test_user"
    password: str = "TapetesBloc18"
    data_username: str = "iblmember"
    data_password: str = "flatiron-demo"
    #: further Alyx users: name -> password
    others: Mapping[str, str] = field(default_factory=dict)

"""The value types that every layer above the servers speaks. Frozen, no I/O.

Alyx's quirks end in ``onefs.alyx.client``: what stands here is already clean.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Repository:
    """A place that Alyx knows files to be in (Alyx: ``/data-repository``)."""

    name: str
    #: where its files are served, ending as Alyx has it; '' when they are not served
    data_url: str
    #: a rig's own disk: its files cannot be fetched by others (``globus_is_personal``)
    personal: bool


@dataclass(frozen=True, slots=True)
class Session:
    """One experiment: ``lab/subject/date/number``."""

    #: the experiment id, a lower-case UUID with dashes
    eid: str
    lab: str
    subject: str
    #: ``YYYY-MM-DD``, the folder's date (the first ten characters of Alyx's start_time)
    date: str
    number: int
    #: seconds since the epoch; Alyx's local time without a zone is taken as UTC
    start_time: float = 0.0
    task_protocol: str = ""
    projects: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """ONE's short name: ``2019-12-10_1_KS023``."""
        return f"{self.date}_{self.number}_{self.subject}"

    @property
    def has_folder(self) -> bool:
        """Whether it has all that its folder's path is made of; ``number`` is -1 for none."""
        return bool(self.lab and self.subject and self.date) and self.number >= 0


@dataclass(frozen=True, slots=True)
class Replica:
    """Where one copy of a dataset can be fetched."""

    #: the repository's name
    repository: str
    #: the full URL, ready to be sent (``#`` already written as ``%23``)
    url: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """One file of a session, as the database describes it."""

    #: the dataset's UUID, lower-case with dashes
    id: str
    #: its session
    eid: str
    #: the file name without UUID, as Alyx has it (not yet safe as a path: see ``onefs.alf``)
    name: str
    #: the folder inside the session, '' for the session's own; as Alyx has it
    collection: str = ""
    #: the revision's name without ``#``, '' for the original
    revision: str = ""
    dataset_type: str = ""
    #: bytes; None when Alyx does not know
    size: int | None = None
    #: lower-case hex of the md5 (32) or sha1 (40); '' when Alyx does not know
    md5: str = ""
    #: Alyx's flag: this revision is the one to use
    default: bool = True
    qc: str = "NOT_SET"
    #: the database's date of it, in seconds since the epoch, 0 when it says none: never shown
    #: (see ``onefs.dates``)
    mtime: float = 0.0
    #: where it can be fetched, best first; a dataset without any is never listed
    replicas: tuple[Replica, ...] = ()
    #: known from cache tables only: its type, its own date and where it really is are not known
    #: yet; ``copies`` is then where it should be, and may be empty
    from_tables: bool = False

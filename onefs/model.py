"""Types for sessions, datasets, replicas (copies of datasets) and repositories. No I/O.

The values cannot change. ``onefs.alyx`` checks and corrects the answers of Alyx, so that values of
these types are valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID, uuid5

#: the UUID namespace of the ids that datasets have in releases only
_RELEASES = UUID("6f1f5d0c-8d0e-5b6a-9a55-2f0c3c1a7e42")


class Repository(NamedTuple):
    """A file server or disk that has replicas (Alyx: ``/data-repository``)."""

    name: str
    #: the URL of the repository's files, as Alyx has it (with or without a final slash). '' means
    #: that no server has the files
    data_url: str
    #: whether this is the disk of a rig, which serves no files (Alyx: ``globus_is_personal``)
    personal: bool


@dataclass(frozen=True, slots=True)
class Session:
    """One session of an experiment: ``lab/subject/date/number``."""

    #: the experiment id, a lower-case UUID with dashes
    eid: str
    lab: str
    subject: str
    #: ``yyyy-mm-dd``, the first ten characters of Alyx's ``start_time``
    date: str
    #: the number of the session on its day, usually from 1 on; -1 if Alyx has no number
    number: int
    #: seconds since the epoch. Alyx has a local time without a zone, which counts as UTC
    start_time: float = 0.0
    task_protocol: str = ""
    projects: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """Return ONE's short name for the session, like ``2019-12-10_1_KS023``."""
        return f"{self.date}_{self.number}_{self.subject}"

    @property
    def has_folder(self) -> bool:
        """Whether the session has a lab, a subject, a date and a number, and so a folder."""
        return bool(self.lab and self.subject and self.date) and self.number >= 0


@dataclass(frozen=True, slots=True)
class Insertion:
    """A probe insertion: a probe that was in the brain during one session."""

    #: the probe insertion id (pid), a lower-case UUID with dashes
    id: str
    #: the eid of the session
    eid: str
    #: the label of the probe, such as ``probe00``, which is also the name of its collections
    name: str
    #: Alyx's whole row of the insertion, as JSON
    record: str = "{}"


@dataclass(frozen=True, slots=True)
class Replica:
    """A copy of a dataset on a file server."""

    #: the repository's name
    repository: str
    #: the full URL, in which ``#`` is written as ``%23``
    url: str


def shown_url(replicas: Sequence[Replica]) -> str:
    """Return the URL of a dataset for people and other programs: the first with http or https.

    Return another replica's URL if there is none, and '' without replicas.
    """
    urls = [replica.url for replica in replicas]
    return next((url for url in urls if url.startswith("http")), urls[0] if urls else "")


def id_in_release(uuid: str, md5: str, size: int | None) -> str:
    """Return the id of a dataset in releases, if the whole database has other content of it."""
    return str(uuid5(_RELEASES, f"{uuid} {md5 or size}"))


@dataclass(frozen=True, slots=True)
class Dataset:
    """One file of a session, as the database describes it."""

    #: the dataset's UUID, lower-case with dashes, or the id in the cache: see ``published_id``
    id: str
    #: the eid of the session that has the dataset
    eid: str
    #: the file name as Alyx has it, without a UUID; for the name in a path see ``onefs.alf``
    name: str
    #: the folder inside the session, as Alyx has it; '' for the session's own folder
    collection: str = ""
    #: the revision's name without ``#``; '' if there is no revision
    revision: str = ""
    dataset_type: str = ""
    #: bytes; None if Alyx does not have the size
    size: int | None = None
    #: 32 lower-case hex digits of an md5, or 40 of a sha1; '' if Alyx does not have the hash
    md5: str = ""
    #: whether this revision is the one to use (Alyx: ``default_dataset``)
    default: bool = True
    qc: str = "NOT_SET"
    #: the date in the database, in seconds since the epoch; 0 if there is none. This is not the
    #: mtime of the file (see ``onefs.dates``)
    mtime: float = 0.0
    #: the replicas, the best one first; a dataset without replicas is not listed
    replicas: tuple[Replica, ...] = ()
    #: whether the dataset is known only from cache tables. Then its type and date are unknown, and
    #: ``replicas`` has the expected URLs of the file, or is empty
    from_tables: bool = False
    #: the dataset's UUID in a release, if ``id`` is another one; else ''. See
    #: ``onefs.catalogue.storage.release``
    published_id: str = ""

    @property
    def uuid(self) -> str:
        """The dataset's UUID in the database, in names and URLs. ``id`` is that in the cache."""
        return self.published_id or self.id

    def with_replicas(self, replicas: tuple[Replica, ...]) -> Dataset:
        """Return a copy of the dataset with other replicas."""
        # four times as fast as dataclasses.replace, for listings with many datasets
        return Dataset(
            self.id,
            self.eid,
            self.name,
            self.collection,
            self.revision,
            self.dataset_type,
            self.size,
            self.md5,
            self.default,
            self.qc,
            self.mtime,
            replicas,
            self.from_tables,
            self.published_id,
        )

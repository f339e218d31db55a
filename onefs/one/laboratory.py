"""The interface of a laboratory (an open database), as the methods of ``ONE`` use it.

Two classes implement :class:`Laboratory`. :class:`onefs.access.Access` sends requests to the
servers with this user's login. :class:`onefs.one.mount_access.MountAccess` reads another user's
mount.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from onefs import alf
from onefs.alyx.parsing import Row
from onefs.cache.folder import Place
from onefs.catalogue.listing import Listing
from onefs.download.progress import Transfer
from onefs.model import Dataset, Insertion, Session
from onefs.search.queries import FoundSessions
from onefs.search.vocabulary import Query
from onefs.tree.layout import SessionLayout
from onefs.tree.variant import Variant


class ProbeInsertions(Protocol):
    """The probe insertions in a laboratory."""

    def get(self, pid: str) -> Insertion:
        """Return the insertion with the given pid. Raises NotFound if there is none."""

    def of_session(self, session: Session) -> Listing[list[Insertion]]:
        """Return the insertions of a session, sorted by name."""

    def of_sessions(self, sessions: Sequence[Session]) -> list[Insertion]:
        """Return the insertions of sessions, in the order of the sessions."""

    def stored(self, pid: str) -> Insertion | None:
        """Return the insertion with the given pid if it is stored. Sends no request."""

    def stored_of(self, eid: str) -> list[Insertion]:
        """Return the stored insertions of a session, sorted by name. Sends no request."""


class SessionCatalogue(Protocol):
    """The sessions in a laboratory, by eid."""

    @property
    def insertions(self) -> ProbeInsertions:
        """The probe insertions."""

    def session(self, eid: str) -> Session:
        """Return the session with the given eid.

        Raises NotFound if there is no such session, or if the session has no folder.
        """

    def any_session(self, eid: str) -> Session:
        """Return the session with the given eid, with or without a folder.

        Raises NotFound if there is no such session.
        """

    def record(self, session: Session) -> Listing[str]:
        """Return Alyx's record of a session with all fields, as JSON text."""

    def prefetch(self, eids: Sequence[str]) -> None:
        """Fetch sessions and the listings of their datasets, with as few requests as possible."""

    def refresh_datasets(self, session: Session) -> None:
        """Wait for a new listing of a session's datasets if the cached listing is past its TTL."""

    def remember_size(self, dataset: Dataset, size: int) -> None:
        """Store the size in bytes that a file server reported for a dataset."""


class SessionSearch(Protocol):
    """Searches for sessions, and tables of names such as all labs or all subjects."""

    def search(self, query: Query, limit: int | None = None) -> FoundSessions:
        """Return at most ``limit`` sessions that match every term, the latest session first."""

    def search_insertions(self, filters: Mapping[str, str]) -> list[Row]:
        """Return Alyx's rows of the insertions that match all filters of ``/insertions``."""

    def stored_insertions(self) -> list[Row]:
        """Return Alyx's rows of all stored insertions. Sends no request."""

    def suggest_names(self, query: Query) -> str:
        """Return a sentence about an unknown name, such as a subject, in a search without results.

        The sentence may suggest a similar name. Return '' if no name is unknown.
        """

    def list_table(self, what: str) -> list[Row]:
        """Return the rows of the table ``what`` (see ``onefs.search.name_tables.NAME_TABLES``)."""

    def save_search(self, name: str, query: Query) -> None:
        """Save a search under a name. Raises UsageError for an invalid name."""

    def delete_saved_search(self, name: str) -> None:
        """Delete a saved search. Raises NotFound if there is no saved search of that name."""


class DatasetFiles(Protocol):
    """The files of datasets."""

    def cached_path(self, dataset: Dataset, place: Place | None = None) -> Path | None:
        """Return the path of a dataset's file if the whole file is in the cache.

        Return None if bytes of the file are missing in the cache. With ``place``, also return the
        path of a file on a disk that may be served.
        """

    def begin_fetch(self, dataset: Dataset, place: Place) -> bool:
        """Begin what :meth:`fetch_file` waits for, without waiting.

        Return False if that cannot be begun without waiting. Raises Stopping.
        """

    def fetch_file(self, dataset: Dataset, place: Place) -> Path:
        """Return the path of a dataset's verified file. Downloads the file if it is not cached."""

    def probe_size(self, dataset: Dataset) -> int:
        """Return the size in bytes that a file server reports for a dataset."""

    def state(self, dataset: Dataset, place: Place | None = None) -> tuple[str, str]:
        """Return the state of a dataset, and a sentence that says what is wrong, or ''.

        The state is the value of the attribute ``user.onefs.state``, for example ``cached``.
        """

    def transfers(self) -> Sequence[Transfer]:
        """Return the downloads in progress."""


class Laboratory(Protocol):
    """An opened laboratory: a database and its file servers. Thread-safe."""

    @property
    def cache_dir(self) -> Path:
        """The folder that contains the files: ONE-api's cache folder, or a mount point."""

    @property
    def catalogue(self) -> SessionCatalogue:
        """The sessions of the laboratory."""

    @property
    def queries(self) -> SessionSearch:
        """The searches in the laboratory."""

    @property
    def content(self) -> DatasetFiles:
        """The files of the laboratory's datasets."""

    def read_head(self, dataset: Dataset, length: int, place: Place | None = None) -> bytes:
        """Return the first bytes of a dataset, at most ``length`` bytes."""

    def read_range(self, dataset: Dataset, place: Place, first: int, count: int) -> Iterator[bytes]:
        """Yield at most ``count`` bytes of a dataset from the byte ``first`` on, in pieces."""

    def interrupt(self) -> None:
        """Make all threads that wait for a request raise Stopping.

        Does not wait until these threads have ended their work.
        """

    def close(self) -> None:
        """Close all connections and files."""


class SessionPaths(Protocol):
    """The folders of sessions, and the datasets in these folders. Thread-safe.

    A ``Place`` is a path as a tuple of its parts. A place in the tree begins with the lab. A place
    below a session begins after the session's folder.
    """

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        """Return the sessions with a ref such as 2019-12-10_1_KS023. Return [] if there are none.

        Sessions of several labs may have the same ref.
        """

    def session_at(self, place: Place) -> Session:
        """Return the session that has its folder at ``place``.

        Raises NotFound if there is no such session.
        """

    def place(self, session: Session) -> Place:
        """Return the place of a session's folder."""

    def places(self, found: FoundSessions) -> dict[str, Place]:
        """Return a dict from the eid of each session in ``found`` to the place of the folder.

        Sessions without a folder are left out.
        """

    def file_path(self, place: Place) -> Path:
        """Return the path on this machine of the file at ``place``. The file may be missing."""

    def layout(self, session: Session, variant: Variant) -> SessionLayout:
        """Return the folders and datasets that a session has in the tree ``variant``.

        ``variant`` is the full tree, the tree as of a day, or the flat tree.
        """

    def datasets(self, layout: SessionLayout) -> list[tuple[Place, Dataset]]:
        """Return the datasets in the folders of a session, each with its path below the session.

        If a dataset is from ONE's cache tables, which have no dataset types, its type is guessed.
        """

    def registered_types(self, session: Session) -> set[str]:
        """Return the types of all the session's datasets in Alyx.

        Datasets that are on no file server are included.
        """

    def unserved_datasets(self, session: Session) -> list[Dataset]:
        """Return a session's datasets that are registered, and on no server. Sends no request."""

    def refuse_unserved(self, session: Session, below: Place, variant: Variant) -> None:
        """Raise NotFound, with the reason, if the dataset at ``below`` is on no file server.

        ``below`` is the path below the session's folder.
        """

"""The interface of an opened laboratory, as the methods of ``ONE`` use it.

Two classes implement :class:`Laboratory`. :class:`onefs.access.Access` sends requests to the
servers with this user's login. :class:`onefs.one.mount_access.MountAccess` reads another user's
mount.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from onefs import alf
from onefs.alyx.parsing import Row
from onefs.cache.folder import Place
from onefs.catalogue.listing import Listing
from onefs.download.progress import Transfer
from onefs.model import Dataset, Session
from onefs.search.queries import FoundSessions
from onefs.search.vocabulary import Query
from onefs.tree.layout import SessionLayout
from onefs.tree.variant import Variant


class SessionCatalogue(Protocol):
    """The sessions in a laboratory, by eid."""

    def session(self, eid: str) -> Session:
        """Return the session of an eid. Raises NotFound, also if the session has no folder."""

    def any_session(self, eid: str) -> Session:
        """Return the session of an eid, with or without a folder. Raises NotFound."""

    def record(self, session: Session) -> Listing[str]:
        """Return Alyx's whole record of a session, as JSON."""

    def prefetch(self, eids: Sequence[str]) -> None:
        """Fetch sessions and the listings of their datasets, with as few requests as possible."""

    def refresh_datasets(self, session: Session) -> None:
        """Wait for a new listing of a session's datasets if the cached listing is past its TTL."""

    def remember_size(self, dataset: Dataset, size: int) -> None:
        """Store the size in bytes that a file server reported for a dataset."""


class SessionSearch(Protocol):
    """Searches for sessions, and the tables of names that can be searched for."""

    def search(self, query: Query, limit: int | None = None) -> FoundSessions:
        """Return at most ``limit`` sessions that match every term, the latest session first."""

    def suggest_names(self, query: Query) -> str:
        """Return a suggestion of similar names for a search that found nothing.

        Return '' if all names in the search are known.
        """

    def list_table(self, what: str) -> list[Row]:
        """Return the rows of the table ``what`` (see ``onefs.search.name_tables.NAME_TABLES``)."""

    def save_search(self, name: str, query: Query) -> None:
        """Save a search under a name. Raises UsageError for an invalid name."""

    def delete_saved_search(self, name: str) -> None:
        """Delete a saved search. Raises NotFound."""


class DatasetFiles(Protocol):
    """The files of datasets."""

    def cached_path(self, dataset: Dataset) -> Path | None:
        """Return the file of a dataset. Return None unless the whole file is cached."""

    def fetch_file(self, dataset: Dataset, place: Place) -> Path:
        """Return the verified file of a dataset. Downloads the file first if necessary."""

    def probe_size(self, dataset: Dataset) -> int:
        """Return the size in bytes that a file server reports for a dataset."""

    def state(self, dataset: Dataset) -> tuple[str, str]:
        """Return the value of ``user.onefs.state``, and a sentence that says what is wrong.

        The sentence is '' if nothing is wrong.
        """

    def transfers(self) -> Sequence[Transfer]:
        """Return the downloads in progress."""


class Laboratory(Protocol):
    """An opened laboratory. Thread-safe."""

    @property
    def cache_dir(self) -> Path:
        """The folder that contains the files: a ONE cache folder, or a mount point."""

    @property
    def catalogue(self) -> SessionCatalogue:
        """The sessions of the laboratory."""

    @property
    def queries(self) -> SessionSearch:
        """The searches in the laboratory."""

    @property
    def content(self) -> DatasetFiles:
        """The files of the laboratory's datasets."""

    def read_head(self, dataset: Dataset, length: int) -> bytes:
        """Return the first bytes of a dataset, at most ``length`` bytes."""

    def interrupt(self) -> None:
        """Raise Stopping in all threads that wait for a request. Does not wait for them."""

    def close(self) -> None:
        """Close all connections and files."""


class SessionPaths(Protocol):
    """The folders of sessions, and the datasets in these folders. Thread-safe.

    A ``Place`` is a path as a tuple of its parts. Unless it is a place below a session, it begins
    with the lab's folder.
    """

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        """Return the sessions that have a ref: more than one if several labs have the ref.

        Return [] if no session has the ref.
        """

    def session_at(self, place: Place) -> Session:
        """Return the session that has its folder at ``place``. Raises NotFound."""

    def place(self, session: Session) -> Place:
        """Return the place of a session's folder."""

    def places(self, found: FoundSessions) -> dict[str, Place]:
        """Return the places of the folders of all sessions that a search has found, by eid."""

    def file_path(self, place: Place) -> Path:
        """Return the path on this machine for a file at ``place``, also if it is not cached."""

    def layout(self, session: Session, variant: Variant) -> SessionLayout:
        """Return the folders and datasets of a session in a variant of the tree."""

    def datasets(self, layout: SessionLayout) -> list[tuple[Place, Dataset]]:
        """Return the datasets of a layout, with types, and their places below the session."""

    def registered_types(self, session: Session) -> set[str]:
        """Return the types of all the session's datasets in Alyx, also of those on no server."""

    def refuse_unserved(self, session: Session, below: Place, variant: Variant) -> None:
        """Raise NotFound, with the reason, if the dataset at ``below`` is on no server.

        ``below`` is a place below the session.
        """

"""What the verbs of ONE need of an opened laboratory.

There are two: :class:`onefs.access.Access`, which asks the servers with this user's login, and
:class:`onefs.one.mount_access.MountAccess`, which reads another user's mount.
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
    """The sessions of a laboratory, by eid."""

    def session(self, eid: str) -> Session:
        """Return a session that has a folder. Raises NotFound."""

    def any_session(self, eid: str) -> Session:
        """Return a session, with or without a folder. Raises NotFound."""

    def record(self, session: Session) -> Listing[str]:
        """Return Alyx's whole record of a session, as JSON."""

    def prefetch(self, eids: Sequence[str]) -> None:
        """Fetch the sessions and their datasets with as few requests as possible."""

    def refresh_datasets(self, session: Session) -> None:
        """Wait for a new listing of a session's datasets if the cached one is past its TTL."""

    def remember_size(self, dataset: Dataset, size: int) -> None:
        """Store the size in bytes that a file server reported for a dataset."""


class SessionSearch(Protocol):
    """Searches, and the lists of names that searches use."""

    def search(self, query: Query, limit: int | None = None) -> FoundSessions:
        """Return the sessions that match every term, the latest first, at most ``limit``."""

    def suggest_names(self, query: Query) -> str:
        """Return what a search without result may have meant; '' if all its names are known."""

    def list_table(self, what: str) -> list[Row]:
        """Return the rows of one of ``onefs.search.queries.NAME_TABLES``."""

    def save_search(self, name: str, query: Query) -> None:
        """Save a search under a name. Raises UsageError for an invalid name."""

    def delete_saved_search(self, name: str) -> None:
        """Delete a saved search. Raises NotFound."""


class DatasetFiles(Protocol):
    """The files of datasets."""

    def cached_path(self, dataset: Dataset) -> Path | None:
        """Return the file of a dataset if all of it is cached, else None."""

    def fetch_file(self, dataset: Dataset, place: Place) -> Path:
        """Return the verified file of a dataset, downloading it first if necessary."""

    def probe_size(self, dataset: Dataset) -> int:
        """Return the size in bytes that a file server reports."""

    def state(self, dataset: Dataset) -> tuple[str, str]:
        """Return the value of ``user.onefs.state``, and a sentence on what is wrong, or ''."""

    def transfers(self) -> Sequence[Transfer]:
        """Return the downloads in progress."""


class Laboratory(Protocol):
    """An opened laboratory. Thread-safe."""

    @property
    def cache_dir(self) -> Path:
        """The folder that paths of files begin with: a ONE cache folder, or a mount point."""

    @property
    def catalogue(self) -> SessionCatalogue:
        """The sessions."""

    @property
    def queries(self) -> SessionSearch:
        """The searches."""

    @property
    def content(self) -> DatasetFiles:
        """The files of datasets."""

    def read_head(self, dataset: Dataset, length: int) -> bytes:
        """Return the first bytes of a dataset, at most ``length``."""

    def interrupt(self) -> None:
        """End all requests in progress, which raise Stopping; return at once."""

    def close(self) -> None:
        """Close connections and files."""


class SessionPaths(Protocol):
    """The folders of sessions, and the datasets in them. Thread-safe.

    A ``Place`` is the parts of a path that begins with the lab's folder.
    """

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        """Return the sessions of a ref, one for each lab that has it; [] if there is none."""

    def session_at(self, place: Place) -> Session:
        """Return the session whose folder is at a place. Raises NotFound."""

    def place(self, session: Session) -> Place:
        """Return the folder of a session."""

    def places(self, found: FoundSessions) -> dict[str, Place]:
        """Return the folders of the sessions that a search has found, by eid."""

    def file_path(self, place: Place) -> Path:
        """Return where a file of the tree is stored, or would be, on this machine."""

    def layout(self, session: Session, variant: Variant) -> SessionLayout:
        """Return the folders and datasets of a session in a variant of the tree."""

    def datasets(self, layout: SessionLayout) -> list[tuple[Place, Dataset]]:
        """Return the datasets of a layout, with their types and places below the session."""

    def registered_types(self, session: Session) -> set[str]:
        """Return the types of all datasets that Alyx lists, including those on no server."""

    def refuse_unserved(self, session: Session, below: Place, variant: Variant) -> None:
        """Raise NotFound, with the reason, if the dataset at a place is on no server."""

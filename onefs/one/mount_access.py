"""A laboratory that is read through another user's mount. This user needs no login and no cache.

Only files and folders in the mount are read: the folders of sessions, ``.by-eid``, ``.by-ref``,
``.search``, ``.session.json``, ``.datasets.tsv`` and extended attributes. All requests are sent by
the daemon of the other user.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from onefs.alyx.parsing import Row, parse_session
from onefs.cache.folder import Place
from onefs.catalogue.listing import Listing, ListingVersion
from onefs.config.settings import Settings, resolve_settings
from onefs.download.progress import Transfer
from onefs.errors import NotFound, OnefsError, UsageError
from onefs.model import Dataset, Session
from onefs.mount.kernel_mounts import other_owner_of
from onefs.mount.mount_registry import MountInfo
from onefs.one.mount_files import MountFiles
from onefs.search.alyx_search import SearchHit
from onefs.search.queries import FoundSessions
from onefs.search.vocabulary import Query
from onefs.tree.path_patterns import BY_EID
from onefs.tree.search_cache import EIDS, PATHS, SEARCH
from onefs.tree.sidecars import SESSION_JSON

if TYPE_CHECKING:
    from onefs.one.mount_insertions import MountInsertions

#: most sessions with details in one search, because each record may need a request by the mount
MAX_RECORDS = 40
_CHUNK_BYTES = 2**20
#: states of a file that is completely in the cache of the mount
_CACHED_STATES = ("cached", "unverified", "accepted")


class MountCatalogue:
    """The sessions in a mount (see :class:`onefs.one.laboratory.SessionCatalogue`)."""

    def __init__(self, files: MountFiles) -> None:
        self._files = files

    @property
    def insertions(self) -> MountInsertions:
        """The probe insertions in the mount."""
        # imported here, because few commands need them
        from onefs.one.mount_insertions import MountInsertions

        return MountInsertions(self._files, self.place)

    def session(self, eid: str) -> Session:
        return self.session_at(self.place(eid))

    any_session = session

    def session_at(self, place: Place) -> Session:
        """Return the session that has its folder at ``place``.

        Raises NotFound if there is no such session.
        """
        try:
            return parse_session(self._record_row(place))[0]
        except OnefsError:  # without the record, the folder still shows the important fields
            return parse_session(self._files.session_row(place))[0]

    def place(self, eid: str) -> Place:
        """Return the place of a session's folder.

        Raises NotFound if the mount has no such session.
        """
        try:
            return self._files.link_target(BY_EID, eid)
        except NotFound:
            raise NotFound(f"the mount at {self._files.root} has no session {eid}") from None

    def record(self, session: Session) -> Listing[str]:
        text = self._files.text(*self.place(session.eid), SESSION_JSON)
        return Listing(text, ListingVersion(time.time()))

    def records(self, eids: Sequence[str]) -> list[Row]:
        """Return Alyx's record of each session, with all fields.

        Raises UsageError for more than :data:`MAX_RECORDS` sessions.
        """
        if len(eids) > MAX_RECORDS:
            raise UsageError(
                f"the details of {len(eids)} sessions are too many to read through the mount at "
                f"{self._files.root}: ask for at most {MAX_RECORDS} sessions (limit), or run "
                "`onefs setup` to ask the database yourself"
            )
        return [self._record_row(self.place(eid)) for eid in eids]

    def prefetch(self, eids: Sequence[str]) -> None:
        """Do nothing, because the mount fetches each session when this class reads the session."""

    def refresh_datasets(self, session: Session) -> None:
        """Do nothing, because the mount itself refreshes its listings."""

    def remember_size(self, dataset: Dataset, size: int) -> None:
        """Do nothing, because the mount itself stores sizes."""

    def _record_row(self, place: Place) -> Row:
        row: Row = json.loads(self._files.text(*place, SESSION_JSON))
        return row


class MountQueries:
    """Searches with the folder ``.search`` (see :class:`onefs.one.laboratory.SessionSearch`)."""

    def __init__(self, files: MountFiles) -> None:
        self._files = files

    def search(self, query: Query, limit: int | None = None) -> FoundSessions:
        name = str(replace(query, limit=limit))
        try:
            eids = self._files.text(SEARCH, name, EIDS).splitlines()
        except UsageError as error:
            raise UsageError(
                f"the search is too long for a folder's name in {self._files.root}: give fewer "
                "terms, or run `onefs setup` to ask the database yourself"
            ) from error
        return FoundSessions(eids, lambda: self._hits(name, eids))

    def _hits(self, name: str, eids: Sequence[str]) -> Iterator[SearchHit]:
        """Yield the sessions that the search ``name`` found, in the order of ``eids``.

        ``name`` is the search's folder in ``.search``. Sessions without a folder are included.
        """
        places = [line.split("/") for line in self._files.text(SEARCH, name, PATHS).split("\n")]
        rows = [self._files.session_row(tuple(place)) for place in places if len(place) == 4]
        by_eid = {row["id"]: row for row in rows}
        for eid in eids:
            if eid in by_eid:
                yield SearchHit.from_row(by_eid[eid])
            else:
                yield SearchHit({"id": eid}, Session(eid, "", "", "", -1), False)

    def search_insertions(self, filters: Mapping[str, str]) -> list[Row]:
        from onefs.one.mount_insertions import search_insertions

        return search_insertions(self._files, filters)

    def stored_insertions(self) -> list[Row]:
        """Raise UsageError, because the mount does not say what it has stored."""
        raise self.unsupported("list the insertions that are stored")

    def suggest_names(self, query: Query) -> str:
        """Return '', because the mount does not list all values of a term."""
        return ""

    def list_table(self, what: str) -> list[Row]:
        """Return the rows of the labs or subjects. Raises UsageError for any other table."""
        labs = self._files.folder_names()
        if what == "labs":
            return [{"name": lab} for lab in labs]
        if what == "subjects":
            return [
                {"nickname": subject, "lab": lab}
                for lab in labs
                for subject in self._files.folder_names(lab)
            ]
        raise self.unsupported(f"list {what.replace('-', ' ')}")

    def save_search(self, name: str, query: Query) -> None:
        """Raise UsageError, because only the user that has made the mount can save a search."""
        raise self.unsupported("save a search")

    def delete_saved_search(self, name: str) -> None:
        """Raise UsageError, because only the user that has made the mount can delete a search."""
        raise self.unsupported("forget a search")

    def unsupported(self, action: str) -> UsageError:
        """Return the error for an action that needs a login for the database."""
        root = self._files.root
        return UsageError(
            f"{root} is {other_owner_of(str(root))}'s mount, which cannot {action}: run `onefs "
            "setup` to use the database with a login of your own"
        )


class MountContent:
    """The files of datasets in a mount (see :class:`onefs.one.laboratory.DatasetFiles`).

    ``paths`` gives the path of a dataset's file by the dataset's id. ``paths`` has only
    datasets that :class:`onefs.one.mount_paths.MountPaths` has listed before.
    """

    def __init__(self, files: MountFiles) -> None:
        self._files = files
        self.paths: dict[str, Path] = {}

    def cached_path(self, dataset: Dataset, place: Place | None = None) -> Path | None:
        return self.paths[dataset.id] if self.state(dataset)[0] in _CACHED_STATES else None

    def begin_fetch(self, dataset: Dataset, place: Place) -> bool:
        """Return False, because the mount downloads what is read."""
        return False

    def fetch_file(self, dataset: Dataset, place: Place) -> Path:
        """Read a dataset's whole file, so that the mount downloads and verifies the file.

        Return the path of the file in the mount.
        """
        path = self.paths[dataset.id]
        with self._files.translate_errors(path), path.open("rb", buffering=0) as file:
            while file.read(_CHUNK_BYTES):
                pass
        return path

    def probe_size(self, dataset: Dataset) -> int:
        path = self.paths[dataset.id]
        with self._files.translate_errors(path):
            return path.stat().st_size

    def read_head(self, dataset: Dataset, length: int, place: Place | None = None) -> bytes:
        """Return the first bytes of a dataset, at most ``length`` bytes."""
        path = self.paths[dataset.id]
        with self._files.translate_errors(path), path.open("rb", buffering=0) as file:
            return file.read(length)

    def read_range(self, dataset: Dataset, place: Place, first: int, count: int) -> Iterator[bytes]:
        """Yield at most ``count`` bytes of a dataset from the byte ``first`` on, in pieces."""
        path = self.paths[dataset.id]
        with self._files.translate_errors(path), path.open("rb", buffering=0) as file:
            file.seek(first)
            while piece := file.read(min(count, _CHUNK_BYTES)):
                yield piece
                count -= len(piece)

    def state(self, dataset: Dataset, place: Place | None = None) -> tuple[str, str]:
        path = self.paths[dataset.id]
        return self._files.attribute(path, "state"), self._files.attribute(path, "error")

    def transfers(self) -> Sequence[Transfer]:
        """Return (), because the daemon does the downloads."""
        return ()


class MountAccess:
    """The laboratory in another user's mount (see :class:`onefs.one.laboratory.Laboratory`)."""

    def __init__(self, mounted: MountInfo) -> None:
        #: the variant of the tree that the mount shows
        self.variant = mounted.variant
        self.cache_dir = Path(mounted.mountpoint)
        self.files = MountFiles(self.cache_dir)
        self.catalogue = MountCatalogue(self.files)
        self.queries = MountQueries(self.files)
        self.content = MountContent(self.files)
        self.read_head, self.read_range = self.content.read_head, self.content.read_range
        self._url = mounted.url

    def settings(self) -> Settings:
        """Return settings with the address of the database, and without a login."""
        settings = resolve_settings({"url": self._url})
        return replace(settings, url=self._url, username="", cache_dir=self.cache_dir)

    def close(self) -> None:
        """Do nothing, because no file is kept open."""

    def interrupt(self) -> None:
        """Do nothing, because Ctrl-C already ends the system call that reads the mount."""

"""A laboratory as another user's mount shows it: what the verbs need, without a login or a cache.

Nothing is read but the mount: its listings, ``.by-eid``, ``.by-ref``, ``.search``, the tables and
records of sessions, and extended attributes. The daemon of the other user asks the servers.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from onefs import alf
from onefs.access import Access
from onefs.alyx.parsing import Row
from onefs.cache.store import Place
from onefs.catalogue.listing import Listing
from onefs.config.settings import Settings, resolve_settings
from onefs.errors import (
    Ambiguous,
    BadContent,
    CacheFull,
    CredentialsError,
    DeadlineExceeded,
    MountError,
    NotFound,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
    UsageError,
)
from onefs.model import Dataset, Replica, Session
from onefs.mount.kernel_mounts import other_owner_of
from onefs.mount.mount_registry import MountInfo
from onefs.one.resolver import SessionResolver
from onefs.search.alyx_search import SearchHit
from onefs.search.queries import FoundSessions
from onefs.search.vocabulary import Query
from onefs.tree.layout import Folders, SessionLayout, session_layout
from onefs.tree.lookup_folders import BY_EID, BY_REF
from onefs.tree.nodes import XATTR_PREFIX
from onefs.tree.search_cache import EIDS, PATHS, SEARCH
from onefs.tree.sidecars import DATASETS_TSV, SESSION_JSON
from onefs.tree.variant import FULL_TREE, Variant

#: sessions whose whole records one search may read: each may cost the mount a request
MOST_RECORDS = 40
_CHUNK = 2**20
#: states of a file whose bytes are all in the cache of the mount
_WHOLE = ("cached", "unverified", "accepted")

#: the error for each errno that the mount answers; see ``onefs.errors``
_KINDS: dict[int, type[OnefsError]] = {
    errno.ENOENT: NotFound,
    errno.ENOTDIR: NotFound,
    errno.ENOTUNIQ: Ambiguous,
    errno.EHOSTUNREACH: Unreachable,
    errno.ETIMEDOUT: DeadlineExceeded,
    errno.EBUSY: Throttled,
    errno.EACCES: CredentialsError,
    errno.ENOSPC: CacheFull,
    errno.ENAMETOOLONG: UsageError,
    errno.ENOTCONN: MountError,
    errno.ECONNABORTED: MountError,
}


class MountTree:
    """The files of a mount as texts, links and attributes.

    Methods raise the error that the daemon answered, with its reason where it tells one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, *place: str) -> Path:
        """Return the path of a place of the tree."""
        return self.root.joinpath(*place)

    def text(self, *place: str) -> str:
        """Return the text of a file."""
        path = self.path(*place)
        with self.asking(path):
            return os.fsdecode(path.read_bytes())

    def link(self, *place: str) -> Place:
        """Return the place that a link of a folder of the root leads to."""
        path = self.path(*place)
        with self.asking(path):
            return tuple(part for part in os.readlink(path).split("/") if part != "..")

    def names(self, *place: str) -> list[str]:
        """Return the names of the folders in a folder."""
        path = self.path(*place)
        with self.asking(path):
            return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())

    def attribute(self, path: Path, name: str) -> str:
        """Return one of our attributes of a file or folder; '' where it has none."""
        try:
            with self.asking(path):
                return os.fsdecode(os.getxattr(path, XATTR_PREFIX + name))
        except _NoAttribute:
            return ""

    @contextmanager
    def asking(self, path: Path) -> Iterator[None]:
        """Raise what the mount answers for ``path`` as one of our errors."""
        try:
            yield
        except OSError as error:
            if error.errno == errno.ENODATA:
                raise _NoAttribute from None
            kind = _KINDS.get(error.errno or 0, ServerError)
            if kind is ServerError and _told(path, "state") == "bad":
                kind = BadContent
            raise kind(f"{path}: {_told(path, 'error') or error.strerror}") from error

    def record(self, place: Place) -> Row:
        """Return Alyx's whole record of the session whose folder is at ``place``."""
        import json

        row: Row = json.loads(self.text(*place, SESSION_JSON))
        return row

    def session_at(self, path: str) -> Session:
        """Return the session whose folder is at ``path``, as ``LaboratoryTree`` does.

        While Alyx's record is unavailable, it is built from the folder and its attributes.
        """
        place = tuple(path.strip("/").split("/"))
        try:
            return _hit(self.record(place)).session
        except OnefsError:
            folder = self.path(*place)
            ref = alf.parse_ref(self.attribute(folder, "ref"))
            subject = ref.subject if ref is not None else place[1]
            number = alf.parse_number_folder(place[3])
            eid = self.attribute(folder, "eid")
            return Session(eid, place[0], subject, place[2], -1 if number is None else number)


class _NoAttribute(Exception):
    """A file or folder has no attribute of that name."""


def _told(path: Path, name: str) -> str:
    try:
        return os.fsdecode(os.getxattr(path, XATTR_PREFIX + name))
    except OSError:
        return ""


class MountCatalogue:
    """Sessions, as the catalogue gives them."""

    def __init__(self, tree: MountTree) -> None:
        self._tree = tree

    def session(self, eid: str) -> Session:
        """Return a session. Raises NotFound."""
        return self._tree.session_at("/".join(self.place(eid)))

    any_session = session

    def place(self, eid: str) -> Place:
        """Return the folders of a session from the lab on. Raises NotFound."""
        try:
            return self._tree.link(BY_EID, eid)
        except NotFound:
            raise NotFound(f"the mount at {self._tree.root} has no session {eid}") from None

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        """Return the session of a ref; [] for none. Raises Ambiguous for several."""
        name = f"{ref.date}_{ref.number}_{ref.subject}"
        try:
            place = self._tree.link(BY_REF, name)
        except NotFound:
            return []
        except Ambiguous:
            raise Ambiguous(f"{name} is several sessions: give an eid or a path") from None
        return [self._tree.session_at("/".join(place))]

    def record(self, session: Session) -> Listing[str]:
        """Return Alyx's whole record of a session."""
        return Listing(self._tree.text(*self.place(session.eid), SESSION_JSON), time.time())

    def records(self, eids: Sequence[str]) -> list[Row]:
        """Return Alyx's whole records of some sessions. Raises UsageError for too many."""
        if len(eids) > MOST_RECORDS:
            raise UsageError(
                f"details of {len(eids)} sessions are too many to be read through the mount at "
                f"{self._tree.root}: ask for the latest {MOST_RECORDS} at most (limit), or run "
                "`onefs setup` to ask the database yourself"
            )
        return [self._tree.record(self.place(eid)) for eid in eids]

    # -- what only a catalogue of one's own has

    def refresh_datasets(self, session: Session) -> None:
        """Do nothing: the mount keeps its listings as fresh as it can."""

    def prefetch(self, eids: Sequence[str]) -> None:
        """Do nothing: the mount asks for what is read."""

    def with_types(self, datasets: Sequence[Dataset]) -> list[Dataset]:
        """Return the datasets: their types were in the session's table."""
        return list(datasets)

    def unserved_datasets(self, session: Session) -> list[tuple[Dataset, tuple[str, ...]]]:
        """Return []: the mount lists files that are on a server."""
        return []

    def remember_size(self, dataset: Dataset, size: int) -> None:
        """Do nothing: the mount remembers sizes."""


class MountQueries:
    """Searches and lists of names, as ``SessionQueries`` gives them."""

    def __init__(self, tree: MountTree) -> None:
        self._tree = tree

    def search(self, query: Query, limit: int | None = None) -> FoundSessions:
        """Return the sessions that fulfil a query, the latest first."""
        name = str(replace(query, limit=limit))
        try:
            eids = self._tree.text(SEARCH, name, EIDS).splitlines()
        except UsageError as error:
            raise UsageError(
                f"the search is too long for a folder's name in {self._tree.root}: give fewer "
                "terms, or run `onefs setup` to ask the database yourself"
            ) from error
        return FoundSessions(eids, lambda: self._hits(name, eids))

    def _hits(self, name: str, eids: Sequence[str]) -> Iterable[SearchHit]:
        places = [
            tuple(line.split("/")) for line in self._tree.text(SEARCH, name, PATHS).split("\n")
        ]
        rows: dict[str, Row] = {}
        for place in filter(lambda each: len(each) == 4, places):
            path = self._tree.path(*place)
            ref = alf.parse_ref(self._tree.attribute(path, "ref"))
            eid = self._tree.attribute(path, "eid")
            subject = ref.subject if ref is not None else place[1]
            number = alf.parse_number_folder(place[3])
            rows[eid] = {"id": eid, "lab": place[0], "subject": subject, "number": number,
                         "start_time": place[2]}  # fmt: skip
        return [_hit(rows.get(eid) or _nowhere(eid)) for eid in eids]

    def suggest_names(self, query: Query) -> str:
        """Return '': the mount does not list all values of a term."""
        return ""

    def list_table(self, what: str) -> list[Row]:
        """Return the labs or subjects. Raises UsageError for what the tree does not show."""
        labs = self._tree.names()
        if what == "labs":
            return [{"name": lab} for lab in labs]
        if what == "subjects":
            return [
                {"nickname": name, "lab": lab} for lab in labs for name in self._tree.names(lab)
            ]
        raise self._refused(f"list {what.replace('-', ' ')}")

    def save_search(self, name: str, query: Query) -> None:
        """Raise UsageError: searches are saved by the user of the mount."""
        raise self._refused("save a search")

    def delete_saved_search(self, name: str) -> None:
        """Raise UsageError: as :meth:`save`."""
        raise self._refused("forget a search")

    def _refused(self, what: str) -> UsageError:
        root = self._tree.root
        return UsageError(
            f"{root} is {other_owner_of(str(root))}'s mount, which cannot {what}: run `onefs "
            "setup` to use "
            "the database with a login of your own"
        )


class MountContent:
    """The bytes of datasets, as the content gives them."""

    def __init__(self, tree: MountTree) -> None:
        self._tree = tree
        #: by a dataset's id, where the mount shows it
        self.paths: dict[str, Path] = {}

    def cached_path(self, dataset: Dataset) -> Path | None:
        """Return the file of a dataset whose bytes are all here; None for any other."""
        return self.paths[dataset.id] if self.state(dataset)[0] in _WHOLE else None

    def fetch_file(self, dataset: Dataset, place: Place) -> Path:
        """Return the file of a dataset after the mount has fetched and verified it."""
        path = self.paths[dataset.id]
        with self._tree.asking(path), path.open("rb", buffering=0) as file:
            while file.read(_CHUNK):
                pass
        return path

    def probe_size(self, dataset: Dataset) -> int:
        """Return the size of a dataset in bytes."""
        path = self.paths[dataset.id]
        with self._tree.asking(path):
            return path.stat().st_size

    def read_head(self, dataset: Dataset, length: int) -> bytes:
        """Return the first bytes of a dataset, at most ``length``."""
        path = self.paths[dataset.id]
        with self._tree.asking(path), path.open("rb", buffering=0) as file:
            return file.read(length)

    def state(self, dataset: Dataset) -> tuple[str, str]:
        """Return a dataset's state, and what is wrong with it; '' for nothing."""
        path = self.paths[dataset.id]
        return self._tree.attribute(path, "state"), self._tree.attribute(path, "error")

    def transfers(self) -> list[Any]:
        """Return []: the downloads are the daemon's."""
        return []


class NoDatabase:
    """The part of a catalogue's file that the verbs look into: empty."""

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        """Return []."""
        return []

    def datasets(self, eid: str) -> list[Any]:
        """Return []."""
        return []


class MountAccess:
    """What the verbs need of an ``Access``, over another user's mount."""

    def __init__(self, mounted: MountInfo) -> None:
        self.mounted = mounted
        self.url = mounted.url
        self.cache_dir = Path(mounted.mountpoint)
        self.tree = MountTree(self.cache_dir)
        self.catalogue = MountCatalogue(self.tree)
        self.queries = MountQueries(self.tree)
        self.content = MountContent(self.tree)
        self.database = NoDatabase()
        self.read_head = self.content.read_head

    def settings(self) -> Settings:
        """Return settings that name the database, and no login."""
        named = resolve_settings({"url": self.url})
        return replace(named, url=self.url, username="", cache_dir=self.cache_dir)

    def close(self) -> None:
        """Do nothing: nothing is held open."""

    def interrupt(self) -> None:
        """Do nothing: a read of the mount ends with its system call."""

    def as_access(self) -> Access:
        """Return this object for what is declared to take an ``Access``."""
        return cast("Access", self)


class MountAddresses(SessionResolver):
    """Names of sessions and datasets, looked up in a mount."""

    def __init__(self, access: MountAccess) -> None:
        super().__init__(access.as_access())
        self._mount = access

    def place(self, session: Session) -> Place:
        """See :class:`Addresses`."""
        return self._mount.catalogue.place(session.eid)

    def places(self, found: FoundSessions) -> dict[str, Place]:
        """See :class:`Addresses`."""
        return {session.eid: self.place(session) for session in found.sessions()}

    def content(self, session: Session, variant: Variant = FULL_TREE) -> SessionLayout:
        """See :class:`Addresses`; of the sessions's table in a variant of the tree."""
        folder = (*variant.folders, *self.place(session))
        self._have_listed(folder)
        rows = self._rows(folder)
        shown = variant if self._mount.mounted.variant.is_full_tree else self._mount.mounted.variant
        places: dict[str, Folders] = {}
        datasets = []
        for cells in rows:
            place = tuple(cells[0].split("/"))
            dataset = self._dataset(session, self._mount.tree.path(*folder, *place), place, cells)
            places[dataset.id] = place
            datasets.append(dataset)
        shape = session_layout(datasets, lambda dataset: places[dataset.id][:-1])
        if shown.is_full_tree:
            return shape
        return replace(shape, canonical_paths=places if shown is not variant else _layout(datasets))

    def cache_path(self, place: Place) -> Path:
        """See :class:`Addresses`: in the mount, where each file stands."""
        return self._mount.tree.path(*place)

    def _have_listed(self, folder: Place) -> None:
        """Have the mount ask Alyx for what only cache tables know: it does for a name that they
        lack. Where Alyx is away their word stands."""
        with (
            suppress(OnefsError),
            self._mount.tree.asking(path := self._mount.tree.path(*folder, "%")),
        ):
            path.lstat()

    def _rows(self, folder: Place) -> list[list[str]]:
        """A session's datasets: path, type, size, md5, revision, qc and state of each."""
        lines = self._mount.tree.text(*folder, DATASETS_TSV).split("\n")
        return [line.split("\t") for line in lines[1:] if line]

    def _dataset(self, session: Session, path: Path, place: Place, cells: Sequence[str]) -> Dataset:
        """Return the dataset of a line of the table; what that lacks is in its attributes."""
        _, kind, size, md5, revision, qc, *_ = cells
        tell = self._mount.tree.attribute
        url = tell(path, "url")
        folders = place[:-2] if revision and place[-2:-1] == (f"#{revision}#",) else place[:-1]
        found = Dataset(
            id=tell(path, "dataset_id") or str(path),
            eid=session.eid,
            name=place[-1],
            collection="/".join(folders),
            revision=revision,
            dataset_type=kind or alf.dataset_type(place[-1]),
            size=int(size) if size else None,
            md5=md5,
            # a mount of an older onefs does not say: the last revision is the one to use then
            default=tell(path, "default") == "1",
            qc=qc,
            replicas=(Replica("", url),) if url else (),
        )
        self._mount.content.paths[found.id] = path
        return found


def _layout(datasets: Iterable[Dataset]) -> dict[str, Folders]:
    """The places of datasets in ONE's layout, by id."""
    return {each.id: (*alf.dataset_folder(each), alf.dataset_file(each)) for each in datasets}


def _hit(row: Row) -> SearchHit:
    return (
        SearchHit.from_row(row)
        if row.get("start_time")
        else SearchHit(row, Session(row["id"], "", "", "", -1), False)
    )


def _nowhere(eid: str) -> Row:
    """A session without a folder: the mount knows its eid alone."""
    return {"id": eid}

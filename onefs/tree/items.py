"""The things in the tree, each knowing its children: the one place where names become things.

::

    <lab>/<subject>/<yyyy-mm-dd>/<nnn>/[<collection>/][#<revision>#/]<name>
    <lab>/Subjects -> .                 <date>/<n> -> <nnn>
    <nnn>/<name> -> <collection>/<name>                <nnn>/.session.json, .datasets.tsv
    .by-eid/<uuid> -> ../<lab>/...                     .by-ref/<ref> -> ../<lab>/...
    .search/<term>=<value>&.../<ref> -> ../../<lab>/...

Nothing virtual is listed, and links are relative: walkers end, and see each file once. A folder
costs its own listing and no more; a name that cannot exist costs nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from onefs import alf
from onefs.content.store import Place
from onefs.errors import (
    DeadlineExceeded,
    NotFound,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
)
from onefs.model import Dataset, Session
from onefs.tree.basis import (
    PREFIX,
    Item,
    Rooms,
    date_node,
    date_time,
    file_node,
    fixed_link,
    plain_node,
    session_node,
    session_time,
)
from onefs.tree.nodes import Handle, Kind, Node, inode_of_path
from onefs.tree.opened import HeldHandle
from onefs.tree.searches import SEARCH, SearchRoot
from onefs.tree.shape import (
    Folders,
    SessionShape,
    SubjectShape,
    lab_shape,
    session_shape,
    subject_shape,
    subjects_shape,
)
from onefs.tree.sidecars import DATASETS_TSV, DatasetsTsv
from onefs.tree.text import TextHandle
from onefs.tree.views import BY_EID, BY_REF, ByEid, ByRef

SESSION_JSON = ".session.json"


@dataclass(frozen=True, slots=True)
class File:
    """A dataset."""

    rooms: Rooms
    #: the one that is shown, which may not be the listing's newest (see ``onefs.tree.opened``)
    dataset: Dataset
    place: Place
    #: the other files of its folder
    siblings: Callable[[], list[Dataset]]
    #: the same name in Alyx's own listing, for one that only cache tables know
    listed_by_alyx: Callable[[], Item]

    def node(self) -> Node:
        return file_node(self.rooms, self._known())

    def open(self) -> Handle:
        really = self._located()
        if really is not None:
            return really.open()
        dataset = self.rooms.opened.hold(self._known(), self.place)
        try:
            shown = self.rooms.content.size(dataset)
            handle = self.rooms.content.open(dataset, self.place)
            if handle.size != shown:  # accepted just now: the kernel is to look the path up again
                handle.close()
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        except BaseException:
            self.rooms.opened.let_go(self.place)
            raise
        return HeldHandle(handle, self.rooms.opened, self.place)

    def xattrs(self) -> dict[str, str]:
        state, error = self.rooms.content.state(self.rooms.sizes.described(self.dataset))
        if self.rooms.opened.is_replaced(self.place):
            state = "replaced-pending"
        dataset = self._described()
        found = {
            "eid": dataset.eid,
            "dataset_id": dataset.id,
            "md5": dataset.md5,
            "revision": dataset.revision,
            "qc": dataset.qc,
            "state": state,
        }
        if not dataset.from_tables:
            found["dataset_type"] = dataset.dataset_type
        if dataset.copies:
            found["url"] = dataset.copies[0].url
        if error:
            found["error"] = error
        return {PREFIX + name: value for name, value in found.items()}

    def _known(self) -> Dataset:
        """The dataset with its size, which the file server is asked for when Alyx has none."""
        if self.dataset.size is not None:
            return self.dataset
        try:
            return self.rooms.sizes.find(self.dataset, self.siblings())
        except ServerError:
            if not self.dataset.from_tables:
                raise
        # it is not where the layout has it, or no repository of the layout is known
        really = self.listed_by_alyx()
        if isinstance(really, File):
            return really._known()
        raise NotFound(f"Alyx does not have {self.dataset.name} ({self.dataset.id}) any more")

    def _located(self) -> File | None:
        """The file by Alyx's listing, when it must be read and only cache tables know it.

        While Alyx is away the layout says where it should be.
        """
        if not self.dataset.from_tables or self.rooms.content.may_have(
            self.rooms.sizes.described(self.dataset), self.place
        ):
            return None
        try:
            really = self.listed_by_alyx()
        except (Unreachable, DeadlineExceeded, Throttled):
            if not self.dataset.copies:
                raise
            return None
        if not isinstance(really, File):
            raise NotFound(f"Alyx does not have {self.dataset.name} ({self.dataset.id}) any more")
        return really

    def _described(self) -> Dataset:
        """The dataset with all that can be known of it now."""
        if not self.dataset.from_tables:
            return self.dataset
        try:
            really = self.listed_by_alyx()
        except OnefsError:
            return self.dataset
        return really.dataset if isinstance(really, File) else self.dataset


@dataclass(frozen=True, slots=True)
class SessionJson:
    """The whole Alyx record of a session, as one text."""

    rooms: Rooms
    session: Session

    def node(self) -> Node:
        return Node(
            Kind.FILE,
            inode_of_path(SESSION_JSON, self.session.eid),
            len(self._text()),
            self.rooms.catalogue.record(self.session).fetched_at,
        )

    def open(self) -> Handle:
        return TextHandle(self._text())

    def xattrs(self) -> dict[str, str]:
        return {}

    def _text(self) -> bytes:
        return self.rooms.catalogue.record(self.session).value.encode()


@dataclass(frozen=True, slots=True)
class SessionFolder:
    """A session, or a collection or revision inside it (``folders`` below the session)."""

    rooms: Rooms
    session: Session
    #: the session's folders from the lab on
    place: Place
    folders: Folders = ()

    def node(self) -> Node:
        return session_node(self.session, self.folders)

    def child(self, name: str) -> Item:
        if not self.folders and name == SESSION_JSON:
            return SessionJson(self.rooms, self.session)
        if not self.folders and name == DATASETS_TSV:
            return DatasetsTsv(self.rooms, self.session)
        try:
            return self._listed(name)
        except NotFound:
            # Cache tables leave some datasets out, but what shows folders looks for hidden
            # files in each of them.
            if name.startswith(".") or not self._completed():
                raise
        return self._listed(name)

    def children(self) -> list[tuple[str, Node]]:
        return [
            (name, self._file_node(name, dataset))
            if dataset is not None
            else (name, session_node(self.session, (*self.folders, name)))
            for name, dataset in self._here(self._shape()).items()
        ]

    def xattrs(self) -> dict[str, str]:
        if self.folders:
            return {}
        return {PREFIX + "eid": self.session.eid, PREFIX + "ref": self.session.ref}

    def _listed(self, name: str) -> Item:
        """The child of that name by the listing that is known. Raises NotFound."""
        shape = self._shape()
        children = self._here(shape)
        if name in children:
            dataset = children[name]
            if dataset is None:
                return replace(self, folders=(*self.folders, name))
            place = (*self.place, *self.folders, name)
            shown = self.rooms.opened.shown(dataset, place)
            return File(
                self.rooms,
                shown,
                place,
                lambda: _files(children),
                lambda: self._listed_by_alyx(name),
            )
        if not self.folders and name in shape.shortcuts:
            ino = inode_of_path("shortcut", self.session.eid, name)
            return fixed_link(ino, shape.shortcuts[name], session_time(self.session))
        raise NotFound(f"session {self.session.ref} has no {'/'.join((*self.folders, name))}")

    def _listed_by_alyx(self, name: str) -> Item:
        self.rooms.catalogue.complete(self.session)
        return self._listed(name)

    def _completed(self) -> bool:
        """Whether Alyx has listed what only cache tables knew. While it cannot, theirs stands."""
        try:
            return self.rooms.catalogue.complete(self.session)
        except (Unreachable, DeadlineExceeded, Throttled):
            return False

    def _shape(self) -> SessionShape:
        listing = self.rooms.catalogue.datasets(self.session)
        opened, place = self.rooms.opened, self.place
        return self.rooms.shapes.of(
            f"session/{self.session.eid}",
            listing,
            session_shape,
            lambda before, after: opened.listed_anew(place, before, after),
        )

    def _file_node(self, name: str, dataset: Dataset) -> Node:
        """A file as the folder lists it: without a size when nobody knows it yet."""
        shown = self.rooms.opened.shown(dataset, (*self.place, *self.folders, name))
        return file_node(self.rooms, self.rooms.sizes.described(shown))

    def _here(self, shape: SessionShape) -> Mapping[str, Dataset | None]:
        try:
            return shape.folders[self.folders]
        except KeyError:
            folder = "/".join(self.folders)
            raise NotFound(f"session {self.session.ref} has no folder {folder}") from None


@dataclass(frozen=True, slots=True)
class DateFolder:
    """A date of a subject: number folders, and their unpadded aliases."""

    rooms: Rooms
    place: Place
    sessions: Mapping[str, Session]

    def node(self) -> Node:
        return date_node(self.place)

    def child(self, name: str) -> Item:
        if name in self.sessions:
            return SessionFolder(self.rooms, self.sessions[name], (*self.place, name))
        padded = alf.unpadded_number(name)
        if padded is not None and padded in self.sessions:
            return fixed_link(
                inode_of_path("number", *self.place, name), padded, date_time(self.place[-1])
            )
        raise NotFound(f"{'/'.join(self.place)} has no session {name}")

    def children(self) -> list[tuple[str, Node]]:
        return [(name, session_node(session)) for name, session in self.sessions.items()]

    def xattrs(self) -> dict[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class SubjectFolder:
    """A subject: the dates of its sessions."""

    rooms: Rooms
    lab: str
    subject: str
    place: Place

    def node(self) -> Node:
        return plain_node(self.rooms, "subject", self.lab, self.subject)

    def child(self, name: str) -> Item:
        # a name that is no date cannot be here, and asking for it costs nothing
        sessions = self._shape().dates.get(name) if alf.is_date(name) else None
        if sessions is None:
            raise NotFound(f"subject {self.subject} has no session on {name}")
        return DateFolder(self.rooms, (*self.place, name), sessions)

    def children(self) -> list[tuple[str, Node]]:
        return [(date, date_node((*self.place, date))) for date in self._shape().dates]

    def xattrs(self) -> dict[str, str]:
        return {}

    def _shape(self) -> SubjectShape:
        listing = self.rooms.catalogue.sessions(self.lab, self.subject)
        return self.rooms.shapes.of(f"subject/{self.lab}/{self.subject}", listing, subject_shape)


@dataclass(frozen=True, slots=True)
class LabFolder:
    """A lab: its subjects, and ``Subjects``, which is the lab's own folder again."""

    rooms: Rooms
    lab: str
    place: Place

    def node(self) -> Node:
        return plain_node(self.rooms, "lab", self.lab)

    def child(self, name: str) -> Item:
        if name == alf.SUBJECTS:
            ino = inode_of_path("subjects", self.lab)
            return fixed_link(ino, ".", self.rooms.catalogue.created)
        subjects = self._subjects()
        if name not in subjects:
            raise NotFound(f"lab {self.lab} has no subject {name}")
        return SubjectFolder(self.rooms, self.lab, subjects[name], (*self.place, name))

    def children(self) -> list[tuple[str, Node]]:
        return [
            (name, plain_node(self.rooms, "subject", self.lab, subject))
            for name, subject in self._subjects().items()
        ]

    def xattrs(self) -> dict[str, str]:
        return {}

    def _subjects(self) -> Mapping[str, str]:
        listing = self.rooms.catalogue.subjects(self.lab)
        return self.rooms.shapes.of(f"lab/{self.lab}", listing, subjects_shape)


@dataclass(frozen=True, slots=True)
class Root:
    """The mount point: the labs, and the views, whose names all start with a dot."""

    rooms: Rooms

    def node(self) -> Node:
        return replace(plain_node(self.rooms, "root"), ino=1)

    def child(self, name: str) -> Item:
        if name == BY_EID:
            return ByEid(self.rooms)
        if name == BY_REF:
            return ByRef(self.rooms)
        if name == SEARCH:
            return SearchRoot(self.rooms)
        labs = {} if name.startswith(".") else self._labs()
        if name not in labs:
            raise NotFound(f"there is no lab {name}")
        return LabFolder(self.rooms, labs[name], (name,))

    def children(self) -> list[tuple[str, Node]]:
        return [(name, plain_node(self.rooms, "lab", lab)) for name, lab in self._labs().items()]

    def xattrs(self) -> dict[str, str]:
        offline = "1" if self.rooms.catalogue.offline else "0"
        return {PREFIX + "url": self.rooms.url, PREFIX + "offline": offline}

    def _labs(self) -> Mapping[str, str]:
        return self.rooms.shapes.of("labs", self.rooms.catalogue.labs(), lab_shape)


def _files(children: Mapping[str, Dataset | None]) -> list[Dataset]:
    return [dataset for dataset in children.values() if dataset is not None]

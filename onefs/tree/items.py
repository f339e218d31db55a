"""The things in the tree, each knowing its children: the one place where names become things.

::

    <lab>/<subject>/<yyyy-mm-dd>/<nnn>/[<collection>/][#<revision>#/]<name>
    <lab>/Subjects -> .                 <date>/<n> -> <nnn>
    <nnn>/[<collection>/]<name with its UUID> -> the file
    <nnn>/.session.json, .datasets.tsv
    .by-eid/<uuid> -> ../<lab>/...                     .by-ref/<ref> -> ../<lab>/...
    .search/<term>=<value>&.../<ref> -> ../../<lab>/...
    .as-of/<day>/<lab>/...              all of this, with the revisions of that day
    .flat/<lab>/.../<nnn>/<name>        default datasets, without collections and revisions
    sessions.pqt, datasets.pqt          .rest -> a folder that can be written
    histology, cache ... -> folders of the user's own

Nothing virtual is listed but the two tables, and links are relative unless they lead out of the
tree: walkers end, and see each file once. Names that are not listed begin with a dot, are numbers
or hold a UUID, but for a few folders: a pattern for files, which looks literal names up in each
folder, asks for none of them. A folder costs its own listing and no more; a name that cannot exist
costs nothing.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from onefs import alf
from onefs.content.store import Place
from onefs.dates import midnight
from onefs.errors import DeadlineExceeded, NotFound, Throttled, Unreachable
from onefs.model import Dataset, Session
from onefs.tree.basis import (
    PREFIX,
    Item,
    Rooms,
    date_node,
    file_node,
    fixed_link,
    plain_node,
    session_node,
    session_time,
)
from onefs.tree.days import AS_OF, is_as_of
from onefs.tree.files import SESSION_JSON, File, SessionJson
from onefs.tree.nodes import Node, inode_of_path
from onefs.tree.own_folders import OwnLink
from onefs.tree.revised import revision_folder
from onefs.tree.searches import SEARCH, SearchRoot
from onefs.tree.shape import (
    Folders,
    SessionShape,
    lab_shape,
    no_such_name,
    place_by_uuid,
    subject_shape,
    subjects_shape,
)
from onefs.tree.sidecars import DATASETS_TSV, DatasetsTsv
from onefs.tree.variant import FLAT
from onefs.tree.views import BY_EID, BY_REF, ByEid, ByRef


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
            path = (*self._path(), *self.folders, name)
            shown = self.rooms.opened.shown(dataset, path)
            return File(
                self.rooms,
                shown,
                path,
                partial(self._kept, shape, name),
                lambda: _files(children),
                lambda: self._listed_by_alyx(name),
            )
        place = place_by_uuid(shape, self.folders, name)
        if place is not None:
            return self._link_to(name, place)
        if self.rooms.variant.day:
            revised = revision_folder(self.session, (*self.folders, name), children)
            if revised is not None:
                return revised
        raise NotFound(no_such_name(shape, f"session {self.session.ref}", self.folders, name))

    def _link_to(self, name: str, place: Folders) -> Item:
        """A link from here to a file of the session."""
        ino = inode_of_path("uuid", self.session.eid, *self.folders, name)
        target = posixpath.relpath("/".join(place), "/".join(self.folders) or ".")
        return fixed_link(ino, target, session_time(self.session))

    def _listed_by_alyx(self, name: str) -> Item:
        self.rooms.catalogue.complete(self.session)
        return self._listed(name)

    def _completed(self) -> bool:
        """Whether Alyx has listed what only cache tables knew. While it is away, theirs stands;
        an answer that is none, or a refusal, is not taken for "no such file"."""
        try:
            return self.rooms.catalogue.complete(self.session)
        except (Unreachable, DeadlineExceeded, Throttled):
            return False

    def _shape(self) -> SessionShape:
        listing = self.rooms.catalogue.datasets(self.session)
        opened, path = self.rooms.opened, self._path()
        return self.rooms.shapes.of(
            f"session/{self.session.eid}@{self.rooms.variant}",
            listing,
            self.rooms.variant.shape,
            lambda before, after: opened.listed_anew(path, before, after),
        )

    def _path(self) -> Place:
        """The session's folders from the root of the tree on."""
        return (*self.rooms.above, *self.place)

    def _kept(self, shape: SessionShape, name: str, dataset: Dataset) -> Place:
        """Where the store keeps the dataset that is shown as ``name``: in ONE's layout."""
        if self.rooms.variant.is_everything:
            return (*self.place, *self.folders, name)
        own = (*alf.dataset_folder(dataset), alf.dataset_file(dataset))
        return (*self.place, *shape.kept.get(dataset.id, own))

    def _file_node(self, name: str, dataset: Dataset) -> Node:
        """A file as the folder lists it: without a size when nobody knows it yet."""
        opened = self.rooms.opened
        if opened.any():
            dataset = opened.shown(dataset, (*self._path(), *self.folders, name))
        return file_node(self.rooms, self.rooms.sizes.described(dataset), self.place[2])

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
    subject: SubjectFolder

    def node(self) -> Node:
        return date_node(self.place)

    def child(self, name: str) -> Item:
        padded = alf.unpadded_number(name)
        number = padded or name
        if (
            number not in self.sessions
            and alf.marked_number(number) is not None
            and self.subject.sought()
        ):
            sessions = self.subject.dates().get(self.place[-1], {})
            return replace(self, sessions=sessions)._listed(name, padded)
        return self._listed(name, padded)

    def _listed(self, name: str, padded: str | None) -> Item:
        if name in self.sessions:
            return SessionFolder(self.rooms, self.sessions[name], (*self.place, name))
        if padded is not None and padded in self.sessions:
            return fixed_link(
                inode_of_path("number", *self.place, name), padded, midnight(self.place[-1])
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
        sessions = self.dates().get(name) if alf.is_date(name) else None
        if sessions is None and alf.is_day(name) and self.sought():
            sessions = self.dates().get(name)
        if sessions is None:
            raise NotFound(f"subject {self.subject} has no session on {name}")
        return DateFolder(self.rooms, (*self.place, name), sessions, self)

    def children(self) -> list[tuple[str, Node]]:
        return [(date, date_node((*self.place, date))) for date in self.dates()]

    def xattrs(self) -> dict[str, str]:
        return {}

    def dates(self) -> Mapping[str, Mapping[str, Session]]:
        """The sessions of each date, by the names of their folders."""
        listing = self.rooms.catalogue.sessions(self.lab, self.subject)
        key = f"subject/{self.lab}/{self.subject}"
        return self.rooms.shapes.of(key, listing, subject_shape).dates

    def sought(self) -> bool:
        """Whether :meth:`dates` may have more now, after Alyx was asked for newer sessions."""
        return self.rooms.catalogue.sought(self.lab, self.subject)


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
        seekable = name not in subjects and not name.startswith(".")
        if seekable and self.rooms.catalogue.sought_subject(self.lab):
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
class AsOf:
    """``.as-of``: lists nothing, and has the whole tree once more for every day."""

    rooms: Rooms

    def node(self) -> Node:
        return plain_node(self.rooms, AS_OF)

    def child(self, name: str) -> Item:
        if not is_as_of(name):
            raise NotFound(f"{name} is no day: write it as 2021-07-05")
        variant = replace(self.rooms.variant, day=name)
        return Root(replace(self.rooms, variant=variant, above=(*self.rooms.above, AS_OF, name)))

    def children(self) -> list[tuple[str, Node]]:
        return []

    def xattrs(self) -> dict[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class Root:
    """The labs, and the views, whose names all start with a dot: the mount point or a variant."""

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
        variant = self.rooms.variant
        if name == AS_OF and variant.is_everything:
            return AsOf(self.rooms)
        if name == FLAT and not variant.flat:
            above = (*self.rooms.above, FLAT)
            return Root(replace(self.rooms, variant=replace(variant, flat=True), above=above))
        for_one = self.rooms.one_folder.child(name) if variant.is_everything else None
        if for_one is not None:
            return for_one
        own = self._own(name)
        if own is not None:
            return own
        labs = {} if name.startswith(".") else self._labs()
        if labs and name not in labs and self.rooms.catalogue.sought_lab():
            labs = self._labs()
        if name not in labs:
            raise NotFound(f"there is no lab {name}")
        return LabFolder(self.rooms, labs[name], (name,))

    def children(self) -> list[tuple[str, Node]]:
        everything = self.rooms.variant.is_everything
        tables = self.rooms.one_folder.children() if everything else {}
        return [
            *((name, plain_node(self.rooms, "lab", lab)) for name, lab in self._labs().items()),
            *((name, table.node()) for name, table in tables.items()),
        ]

    def xattrs(self) -> dict[str, str]:
        offline = "1" if self.rooms.catalogue.offline else "0"
        found = {PREFIX + "url": self.rooms.url, PREFIX + "offline": offline}
        if self.rooms.variant.day:
            found[PREFIX + "as_of"] = self.rooms.variant.day
        if self.rooms.variant.flat:
            found[PREFIX + "flat"] = "1"
        if refusal := self.rooms.catalogue.presence.refusal:
            found[PREFIX + "error"] = refusal
        return found

    def _own(self, name: str) -> OwnLink | None:
        """The link to a folder of the user's. A lab that is known has its name; none is asked
        for, so that what is written needs no network."""
        if self.rooms.own is None or self.rooms.above:
            return None
        link = self.rooms.own.child(name)
        if link is not None and name in lab_shape(self.rooms.catalogue.known_labs()):
            return None
        return link

    def _labs(self) -> Mapping[str, str]:
        return self.rooms.shapes.of("labs", self.rooms.catalogue.labs(), lab_shape)


def _files(children: Mapping[str, Dataset | None]) -> list[Dataset]:
    return [dataset for dataset in children.values() if dataset is not None]

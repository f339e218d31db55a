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
from onefs.cache.store import Place
from onefs.dates import midnight
from onefs.errors import DeadlineExceeded, NotFound, Throttled, Unreachable
from onefs.model import Dataset, Session
from onefs.tree.as_of import AS_OF, is_as_of_day
from onefs.tree.context import (
    XATTR_PREFIX,
    TreeContext,
    TreeEntry,
    dataset_node,
    date_folder_node,
    fixed_link,
    session_folder_node,
    session_mtime,
    undated_folder_node,
)
from onefs.tree.dataset_file import SESSION_JSON, DatasetFile, SessionJson
from onefs.tree.layout import (
    Folders,
    SessionLayout,
    lab_folder_names,
    missing_name_message,
    path_by_uuid,
    subject_folder_names,
    subject_layout,
)
from onefs.tree.lookup_folders import (
    BY_EID,
    BY_REF,
    ByEidFolder,
    ByRefFolder,
)
from onefs.tree.nodes import Node, inode_of_path
from onefs.tree.revisions import find_revision_folder
from onefs.tree.search_folders import SEARCH, SearchRoot
from onefs.tree.sidecars import DATASETS_TSV, DatasetsTsv
from onefs.tree.user_folders import UserFolderLink
from onefs.tree.variant import FLAT


@dataclass(frozen=True, slots=True)
class SessionFolder:
    """A session, or a collection or revision inside it (``folders`` below the session)."""

    context: TreeContext
    session: Session
    #: the session's folders from the lab on
    place: Place
    folders: Folders = ()

    def node(self) -> Node:
        return session_folder_node(self.session, self.folders)

    def child(self, name: str) -> TreeEntry:
        if not self.folders and name == SESSION_JSON:
            return SessionJson(self.context, self.session)
        if not self.folders and name == DATASETS_TSV:
            return DatasetsTsv(self.context, self.session)
        try:
            return self._listed_child(name)
        except NotFound:
            # Cache tables leave some datasets out, but what shows folders looks for hidden
            # files in each of them.
            if name.startswith(".") or not self._complete_from_alyx():
                raise
        return self._listed_child(name)

    def children(self) -> list[tuple[str, Node]]:
        return [
            (name, self._listed_file_node(name, dataset))
            if dataset is not None
            else (name, session_folder_node(self.session, (*self.folders, name)))
            for name, dataset in self._children_in(self._layout()).items()
        ]

    def xattrs(self) -> dict[str, str]:
        if self.folders:
            return {}
        return {XATTR_PREFIX + "eid": self.session.eid, XATTR_PREFIX + "ref": self.session.ref}

    def _listed_child(self, name: str) -> TreeEntry:
        """The child of that name by the listing that is known. Raises NotFound."""
        shape = self._layout()
        children = self._children_in(shape)
        if name in children:
            dataset = children[name]
            if dataset is None:
                return replace(self, folders=(*self.folders, name))
            path = (*self._path_from_root(), *self.folders, name)
            shown = self.context.open_files.effective_dataset(dataset, path)
            return DatasetFile(
                self.context,
                shown,
                path,
                partial(self._canonical_path, shape, name),
                lambda: _datasets_in(children),
                lambda: self._child_from_alyx(name),
            )
        place = path_by_uuid(shape, self.folders, name)
        if place is not None:
            return self._uuid_link(name, place)
        if self.context.variant.day:
            revised = find_revision_folder(self.session, (*self.folders, name), children)
            if revised is not None:
                return revised
        raise NotFound(
            missing_name_message(shape, f"session {self.session.ref}", self.folders, name)
        )

    def _uuid_link(self, name: str, place: Folders) -> TreeEntry:
        """A link from here to a file of the session."""
        ino = inode_of_path("uuid", self.session.eid, *self.folders, name)
        target = posixpath.relpath("/".join(place), "/".join(self.folders) or ".")
        return fixed_link(ino, target, session_mtime(self.session))

    def _child_from_alyx(self, name: str) -> TreeEntry:
        self.context.catalogue.fetch_full_listing(self.session)
        return self._listed_child(name)

    def _complete_from_alyx(self) -> bool:
        """Whether Alyx has listed what only cache tables knew. While it is away, theirs stands;
        an answer that is none, or a refusal, is not taken for "no such file"."""
        try:
            return self.context.catalogue.fetch_full_listing(self.session)
        except (Unreachable, DeadlineExceeded, Throttled):
            return False

    def _layout(self) -> SessionLayout:
        listing = self.context.catalogue.datasets(self.session)
        opened, path = self.context.open_files, self._path_from_root()
        return self.context.layouts.get_or_build(
            f"session/{self.session.eid}@{self.context.variant}",
            listing,
            self.context.variant.build_layout,
            lambda before, after: opened.listing_changed(path, before, after),
        )

    def _path_from_root(self) -> Place:
        """The session's folders from the root of the tree on."""
        return (*self.context.path_prefix, *self.place)

    def _canonical_path(self, shape: SessionLayout, name: str, dataset: Dataset) -> Place:
        """Where the store keeps the dataset that is shown as ``name``: in ONE's layout."""
        if self.context.variant.is_full_tree:
            return (*self.place, *self.folders, name)
        own = (*alf.dataset_folder(dataset), alf.dataset_file(dataset))
        return (*self.place, *shape.canonical_paths.get(dataset.id, own))

    def _listed_file_node(self, name: str, dataset: Dataset) -> Node:
        """A file as the folder lists it: without a size when nobody knows it yet."""
        opened = self.context.open_files
        if opened.has_pinned():
            dataset = opened.effective_dataset(
                dataset, (*self._path_from_root(), *self.folders, name)
            )
        return dataset_node(
            self.context, self.context.sizes.with_known_size(dataset), self.place[2]
        )

    def _children_in(self, shape: SessionLayout) -> Mapping[str, Dataset | None]:
        try:
            return shape.folders[self.folders]
        except KeyError:
            folder = "/".join(self.folders)
            raise NotFound(f"session {self.session.ref} has no folder {folder}") from None


@dataclass(frozen=True, slots=True)
class DateFolder:
    """A date of a subject: number folders, and their unpadded aliases."""

    context: TreeContext
    place: Place
    sessions: Mapping[str, Session]
    subject: SubjectFolder

    def node(self) -> Node:
        return date_folder_node(self.place)

    def child(self, name: str) -> TreeEntry:
        padded = alf.padded_number_folder(name)
        number = padded or name
        if (
            number not in self.sessions
            and alf.parse_number_folder(number) is not None
            and self.subject.ask_for_new_sessions()
        ):
            sessions = self.subject.sessions_by_date().get(self.place[-1], {})
            return replace(self, sessions=sessions)._listed_child(name, padded)
        return self._listed_child(name, padded)

    def _listed_child(self, name: str, padded: str | None) -> TreeEntry:
        if name in self.sessions:
            return SessionFolder(self.context, self.sessions[name], (*self.place, name))
        if padded is not None and padded in self.sessions:
            return fixed_link(
                inode_of_path("number", *self.place, name), padded, midnight(self.place[-1])
            )
        raise NotFound(f"{'/'.join(self.place)} has no session {name}")

    def children(self) -> list[tuple[str, Node]]:
        return [(name, session_folder_node(session)) for name, session in self.sessions.items()]

    def xattrs(self) -> dict[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class SubjectFolder:
    """A subject: the dates of its sessions."""

    context: TreeContext
    lab: str
    subject: str
    place: Place

    def node(self) -> Node:
        return undated_folder_node(self.context, "subject", self.lab, self.subject)

    def child(self, name: str) -> TreeEntry:
        # a name that is no date cannot be here, and asking for it costs nothing
        sessions = self.sessions_by_date().get(name) if alf.is_date(name) else None
        if sessions is None and alf.is_calendar_day(name) and self.ask_for_new_sessions():
            sessions = self.sessions_by_date().get(name)
        if sessions is None:
            raise NotFound(f"subject {self.subject} has no session on {name}")
        return DateFolder(self.context, (*self.place, name), sessions, self)

    def children(self) -> list[tuple[str, Node]]:
        return [(date, date_folder_node((*self.place, date))) for date in self.sessions_by_date()]

    def xattrs(self) -> dict[str, str]:
        return {}

    def sessions_by_date(self) -> Mapping[str, Mapping[str, Session]]:
        """The sessions of each date, by the names of their folders."""
        listing = self.context.catalogue.sessions(self.lab, self.subject)
        key = f"subject/{self.lab}/{self.subject}"
        return self.context.layouts.get_or_build(key, listing, subject_layout).sessions_by_date

    def ask_for_new_sessions(self) -> bool:
        """Whether :meth:`dates` may have more now, after Alyx was asked for newer sessions."""
        return self.context.catalogue.ask_for_new_sessions(self.lab, self.subject)


@dataclass(frozen=True, slots=True)
class LabFolder:
    """A lab: its subjects, and ``Subjects``, which is the lab's own folder again."""

    context: TreeContext
    lab: str
    place: Place

    def node(self) -> Node:
        return undated_folder_node(self.context, "lab", self.lab)

    def child(self, name: str) -> TreeEntry:
        if name == alf.SUBJECTS:
            ino = inode_of_path("subjects", self.lab)
            return fixed_link(ino, ".", self.context.catalogue.created)
        subjects = self._subjects()
        seekable = name not in subjects and not name.startswith(".")
        if seekable and self.context.catalogue.ask_for_new_subjects(self.lab):
            subjects = self._subjects()
        if name not in subjects:
            raise NotFound(f"lab {self.lab} has no subject {name}")
        return SubjectFolder(self.context, self.lab, subjects[name], (*self.place, name))

    def children(self) -> list[tuple[str, Node]]:
        return [
            (name, undated_folder_node(self.context, "subject", self.lab, subject))
            for name, subject in self._subjects().items()
        ]

    def xattrs(self) -> dict[str, str]:
        return {}

    def _subjects(self) -> Mapping[str, str]:
        listing = self.context.catalogue.subjects(self.lab)
        return self.context.layouts.get_or_build(f"lab/{self.lab}", listing, subject_folder_names)


@dataclass(frozen=True, slots=True)
class AsOfFolder:
    """``.as-of``: lists nothing, and has the whole tree once more for every day."""

    context: TreeContext

    def node(self) -> Node:
        return undated_folder_node(self.context, AS_OF)

    def child(self, name: str) -> TreeEntry:
        if not is_as_of_day(name):
            raise NotFound(f"{name} is no day: write it as 2021-07-05")
        variant = replace(self.context.variant, day=name)
        return RootFolder(
            replace(
                self.context, variant=variant, path_prefix=(*self.context.path_prefix, AS_OF, name)
            )
        )

    def children(self) -> list[tuple[str, Node]]:
        return []

    def xattrs(self) -> dict[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class RootFolder:
    """The labs, and the views, whose names all start with a dot: the mount point or a variant."""

    context: TreeContext

    def node(self) -> Node:
        return replace(undated_folder_node(self.context, "root"), ino=1)

    def child(self, name: str) -> TreeEntry:
        if name == BY_EID:
            return ByEidFolder(self.context)
        if name == BY_REF:
            return ByRefFolder(self.context)
        if name == SEARCH:
            return SearchRoot(self.context)
        variant = self.context.variant
        if name == AS_OF and variant.is_full_tree:
            return AsOfFolder(self.context)
        if name == FLAT and not variant.flat:
            above = (*self.context.path_prefix, FLAT)
            return RootFolder(
                replace(self.context, variant=replace(variant, flat=True), path_prefix=above)
            )
        for_one = self.context.one_api_folder.child(name) if variant.is_full_tree else None
        if for_one is not None:
            return for_one
        own = self._user_folder_link(name)
        if own is not None:
            return own
        labs = {} if name.startswith(".") else self._labs()
        if labs and name not in labs and self.context.catalogue.ask_for_new_labs():
            labs = self._labs()
        if name not in labs:
            raise NotFound(f"there is no lab {name}")
        return LabFolder(self.context, labs[name], (name,))

    def children(self) -> list[tuple[str, Node]]:
        everything = self.context.variant.is_full_tree
        tables = self.context.one_api_folder.children() if everything else {}
        return [
            *(
                (name, undated_folder_node(self.context, "lab", lab))
                for name, lab in self._labs().items()
            ),
            *((name, table.node()) for name, table in tables.items()),
        ]

    def xattrs(self) -> dict[str, str]:
        offline = "1" if self.context.catalogue.offline else "0"
        found = {XATTR_PREFIX + "url": self.context.url, XATTR_PREFIX + "offline": offline}
        if self.context.variant.day:
            found[XATTR_PREFIX + "as_of"] = self.context.variant.day
        if self.context.variant.flat:
            found[XATTR_PREFIX + "flat"] = "1"
        if refusal := self.context.catalogue.availability.refusal:
            found[XATTR_PREFIX + "error"] = refusal
        return found

    def _user_folder_link(self, name: str) -> UserFolderLink | None:
        """The link to a folder of the user's. A lab that is known has its name; none is asked
        for, so that what is written needs no network."""
        if self.context.user_folders is None or self.context.path_prefix:
            return None
        link = self.context.user_folders.child(name)
        if link is not None and name in lab_folder_names(self.context.catalogue.known_labs()):
            return None
        return link

    def _labs(self) -> Mapping[str, str]:
        return self.context.layouts.get_or_build(
            "labs", self.context.catalogue.labs(), lab_folder_names
        )


def _datasets_in(children: Mapping[str, Dataset | None]) -> list[Dataset]:
    return [dataset for dataset in children.values() if dataset is not None]

"""A session's folder, and the folders of its collections and revisions."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic

from onefs import alf
from onefs.cache.folder import Place
from onefs.errors import DeadlineExceeded, NotFound, Throttled, Unreachable
from onefs.model import Dataset, Session
from onefs.tree.context import TreeContext, dataset_node, session_folder_node, session_mtime
from onefs.tree.dataset_file import DatasetFile
from onefs.tree.entries import Folder, TreeEntry, fixed_link
from onefs.tree.layout import Folders, SessionLayout, missing_name_message, path_by_uuid
from onefs.tree.nodes import Node, inode_of_path
from onefs.tree.revisions import find_revision_folder
from onefs.tree.sidecars import SIDECARS


@dataclass(frozen=True, slots=True)
class LastLayout:
    """A session's layout, and for how long it is used without asking the catalogue again."""

    layout: SessionLayout
    #: the number of the catalogue's changes: with another number, the catalogue is asked
    changes: int
    #: see :meth:`Catalogue.unchanged_until`
    unchanged_until: float


@dataclass(frozen=True, slots=True)
class SessionFolder(Folder):
    """The folder of a session, or of a collection or revision in the session."""

    context: TreeContext
    session: Session
    #: the path of the session's folder from the lab on
    place: Place
    #: the path of this folder below the session; () for the session's own folder
    folders: Folders = ()
    #: the last layout of the session; the folders of its collections have the same list
    _last: list[LastLayout] = field(default_factory=list, repr=False, compare=False)

    def node(self) -> Node:
        return session_folder_node(self.session, self.folders)

    def child(self, name: str) -> TreeEntry:
        if not self.folders and name in SIDECARS:
            return SIDECARS[name](self.context, self.session)
        try:
            return self._listed_child(name)
        except NotFound:
            # Cache tables lack some datasets, so Alyx is asked before a name is reported missing.
            # Alyx is not asked for dot files, because file managers look for them in every folder.
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
        return {} if self.folders else {"eid": self.session.eid, "ref": self.session.ref}

    def _listed_child(self, name: str) -> TreeEntry:
        """Return the child named ``name``, without asking Alyx for datasets that cache tables lack.

        Raises NotFound if the listing has no such child.
        """
        last = self._current_layout()
        layout = last.layout
        children = self._children_in(layout)
        if name in children:
            dataset = children[name]
            if dataset is None:
                return replace(self, folders=(*self.folders, name))
            return DatasetFile(
                self.context,
                dataset,
                (*self._path_from_root(), *self.folders, name),
                self._canonical_path(layout, name, dataset),
                partial(self._canonical_path, layout, name),
                lambda: [each for each in children.values() if each is not None],
                lambda: self._child_from_alyx(name),
                last.unchanged_until,
            )
        place = path_by_uuid(layout, self.folders, name)
        if place is not None:
            return self._uuid_link(name, place)
        if self.context.variant.day:
            revision = find_revision_folder(self.session, (*self.folders, name), children)
            if revision is not None:
                return revision
        raise NotFound(
            missing_name_message(layout, f"session {self.session.ref}", self.folders, name)
        )

    def _uuid_link(self, name: str, place: Folders) -> TreeEntry:
        """Return a link in this folder with the name ``name``, which contains a UUID.

        The link leads to the file at ``place``, a path below the session.
        """
        ino = inode_of_path("uuid", self.session.eid, *self.folders, name)
        target = posixpath.relpath("/".join(place), "/".join(self.folders) or ".")
        return fixed_link(ino, target, session_mtime(self.session))

    def _child_from_alyx(self, name: str) -> TreeEntry:
        self.context.catalogue.fetch_full_listing(self.session)
        return self._listed_child(name)

    def _complete_from_alyx(self) -> bool:
        """Ask Alyx for the session's listing if the present listing is from cache tables.

        Return True if the listing has changed. Return False if it is unchanged, or if Alyx is
        unreachable.
        """
        try:
            return self.context.catalogue.fetch_full_listing(self.session)
        # The listing from cache tables is used. Any other error is raised, so that programs do not
        # take a failed request for a missing file.
        except (Unreachable, DeadlineExceeded, Throttled):
            return False

    def _layout(self) -> SessionLayout:
        return self._current_layout().layout

    def _current_layout(self) -> LastLayout:
        catalogue = self.context.catalogue
        changes = catalogue.changes  # before the listing, which may change meanwhile
        if self._last:
            last = self._last[0]
            if last.changes == changes and monotonic() < last.unchanged_until:
                return last
        listing = catalogue.datasets(self.session)
        open_files, path = self.context.open_files, self._path_from_root()
        layout = self.context.layouts.get_or_build(
            f"session/{self.session.eid}@{self.context.variant}",
            listing,
            self.context.variant.build_layout,
            lambda before, after: open_files.listing_changed(path, before, after),
        )
        last = LastLayout(layout, changes, catalogue.unchanged_until(listing))
        self._last[:] = [last]
        return last

    def _path_from_root(self) -> Place:
        """Return the path of the session's folder from the root of the tree."""
        return (*self.context.path_prefix, *self.place)

    def _canonical_path(self, layout: SessionLayout, name: str, dataset: Dataset) -> Place:
        """Return the path of ``dataset`` in the cache, as a tuple that begins with the lab.

        ``name`` is the dataset's name in this folder.
        """
        if self.context.variant.is_full_tree:
            return (*self.place, *self.folders, name)
        default = (*alf.dataset_folder(dataset), alf.dataset_file(dataset))
        return (*self.place, *layout.canonical_paths.get(dataset.id, default))

    def _listed_file_node(self, name: str, dataset: Dataset) -> Node:
        """Return the node (the values of ``stat``) of a file, for a listing of this folder.

        Sends no request. The node's size is None if the size is unknown.
        """
        open_files = self.context.open_files
        if open_files.has_pinned():
            path = (*self._path_from_root(), *self.folders, name)
            dataset = open_files.effective_dataset(dataset, path)
        dataset = self.context.sizes.with_known_size(dataset)
        return dataset_node(self.context, dataset, "".join(self.place[2:3]))

    def _children_in(self, layout: SessionLayout) -> Mapping[str, Dataset | None]:
        try:
            return layout.folders[self.folders]
        except KeyError:
            folder = "/".join(self.folders)
            raise NotFound(f"session {self.session.ref} has no folder {folder}") from None

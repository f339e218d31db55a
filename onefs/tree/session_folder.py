"""A session's folder, and the folders of its collections and revisions."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import NamedTuple

from onefs import alf
from onefs.cache.folder import Place
from onefs.catalogue.listing import ListingVersion
from onefs.errors import DeadlineExceeded, NotFound, Throttled, Unreachable
from onefs.model import Dataset, Session
from onefs.tree.context import TreeContext, dataset_node, session_folder_node, session_mtime
from onefs.tree.dataset_file import DatasetFile
from onefs.tree.entries import Folder, TreeEntry, fixed_link, listed_entry
from onefs.tree.layout import Folders, SessionLayout, missing_name_message, path_by_uuid
from onefs.tree.listed_sessions import ListedState
from onefs.tree.nodes import ListedEntry, Node, inode_of_path


class LastLayout(NamedTuple):
    """A session's layout, and for how long it is used without asking the catalogue again."""

    layout: SessionLayout
    #: the version of the listing that the layout was built from
    version: ListingVersion
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
        if not self.folders and name.startswith("."):
            # imported here, because few commands need it; a daemon has loaded all modules
            from onefs.tree.sidecars import SIDECARS

            if name in SIDECARS:
                return SIDECARS[name](self.context, self.session)
        if self._has_listed_folder((*self.folders, name)):
            return self.subfolder(name)
        try:
            return self._listed_child(name)
        except NotFound:
            # Cache tables lack some datasets, so Alyx is asked before a name is reported missing.
            # Alyx is not asked for dot files, because file managers look for them in every folder.
            if name.startswith(".") or not self._complete_from_alyx():
                raise
        return self._listed_child(name)

    def children(self) -> list[tuple[str, Node]]:
        return self._nodes(self._layout(), self._open_or_listed)

    def entries(self) -> list[ListedEntry]:
        if not self.context.variant.is_full_tree:
            return Folder.entries(self)
        entries = self._listed_entries()
        # the path of an open file shows its dataset until it is closed. Asked last, because a file
        # may be opened, and replaced in the listing, meanwhile
        is_open = self.context.open_files.has_open_in((*self._path_from_root(), *self.folders))
        return Folder.entries(self) if is_open else entries

    def _listed_entries(self) -> list[ListedEntry]:
        context, eid = self.context, self.session.eid
        version = context.listed_sessions.version_of(self.session, context.catalogue)
        known = context.listed_sessions.entries(eid, self.folders, self._listed_state(version))
        if known is not None:
            return known
        last = self._current_layout()
        # another thread may have listed another version since the layout was built
        self._note_changed_entries(last.layout, last.version)
        self._children_in(last.layout)  # raises NotFound if this folder does not exist
        return self._list_all_folders(last.layout, last.version)[self.folders]

    def subfolder(self, name: str) -> SessionFolder:
        """Return the folder ``name`` in this folder, without a check that it exists.

        If it does not exist, :meth:`entries` raises NotFound.
        """
        return replace(self, folders=(*self.folders, name))

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
                return self.subfolder(name)
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
            from onefs.tree.revisions import find_revision_folder  # as in child()

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

    def _has_listed_folder(self, folders: Folders) -> bool:
        """Whether the listed entries, which need no rows of the catalogue, have a folder."""
        context = self.context

        def current_state() -> ListedState:
            version = context.listed_sessions.version_of(self.session, context.catalogue)
            return self._listed_state(version)

        return context.variant.is_full_tree and context.listed_sessions.has_folder(
            self.session.eid, folders, current_state
        )

    def _listed_state(self, version: ListingVersion) -> ListedState:
        context = self.context
        return ListedState(
            version, self.session.date, context.content.accepted_state, context.sizes.state
        )

    def _list_all_folders(
        self, layout: SessionLayout, version: ListingVersion
    ) -> dict[Folders, list[ListedEntry]]:
        """Return the entries of all folders of the session as they are listed, and keep them.

        ``layout`` was built from the listing with this version.
        """
        # a program that lists one folder of a session usually lists all its folders
        state = self._listed_state(version)  # before the entries, which may change meanwhile
        entries = {
            folders: [
                listed_entry(name, node)
                for name, node in replace(self, folders=folders)._nodes(layout, _as_listed)
            ]
            for folders in layout.folders
        }
        self.context.listed_sessions.put(self.session.eid, state, entries)
        return entries

    def _note_changed_entries(self, layout: SessionLayout, version: ListingVersion) -> None:
        """Invalidate the kernel's caches of files that were listed with other values of ``stat``.

        ``layout`` was built from the listing with this version.
        """
        before = self.context.listed_sessions.outdated(self.session.eid, version)
        if before is None:
            return
        after = self._list_all_folders(layout, version)
        if before.state.date != self.session.date:  # it was listed at another path
            return
        files = [
            (path, dataset)
            for path, former in before.changed_files(after)
            if (dataset := layout.folders[path[:-1]][path[-1]]) is not None
            and not self._was_listed_so(dataset, former, before.state.version.from_tables)
        ]
        self.context.open_files.note_replaced(self._path_from_root(), files)

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
            self.context.build_layout,
            lambda before, after: open_files.listing_changed(path, before, after),
        )
        if self.context.variant.is_full_tree:
            self._note_changed_entries(layout, listing.version)
        until = catalogue.unchanged_until(listing.version)
        last = LastLayout(layout, listing.version, changes, until)
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

    def _nodes(
        self, layout: SessionLayout, shown: Callable[[str, Dataset], Dataset]
    ) -> list[tuple[str, Node]]:
        """Return the names and nodes of this folder's children. Sends no request.

        ``shown`` returns the dataset that is shown for a name and its dataset in the layout. The
        node's size is None if the size is unknown.
        """
        return [
            (name, self._file_node(shown(name, dataset)))
            if dataset is not None
            else (name, session_folder_node(self.session, (*self.folders, name)))
            for name, dataset in self._children_in(layout).items()
        ]

    def _open_or_listed(self, name: str, dataset: Dataset) -> Dataset:
        """Return the dataset that programs have open at a name, or else the listing's dataset."""
        open_files = self.context.open_files
        if not open_files.has_pinned():
            return dataset
        path = (*self._path_from_root(), *self.folders, name)
        return open_files.effective_dataset(dataset, path)

    def _file_node(self, dataset: Dataset) -> Node:
        """Return the node (the values of ``stat``) of a file. Sends no request."""
        return dataset_node(
            self.context, self.context.sizes.with_known_size(dataset), "".join(self.place[2:3])
        )

    def _was_listed_so(self, dataset: Dataset, former: ListedEntry, from_tables: bool) -> bool:
        """Whether a former entry may be that of ``dataset``, when less was known about it.

        Its size may have been unknown, and also its hash if the entry was from cache tables.
        """
        _, _, ino, size, mtime = former
        known = replace(dataset, size=size, md5="" if from_tables else dataset.md5)
        node = dataset_node(self.context, known, self.place[2])
        sizes_agree = None in (size, dataset.size) or size == dataset.size
        return sizes_agree and (node.ino, node.mtime) == (ino, mtime)

    def _children_in(self, layout: SessionLayout) -> Mapping[str, Dataset | None]:
        try:
            return layout.folders[self.folders]
        except KeyError:
            folder = "/".join(self.folders)
            raise NotFound(f"session {self.session.ref} has no folder {folder}") from None


def _as_listed(_name: str, dataset: Dataset) -> Dataset:
    return dataset

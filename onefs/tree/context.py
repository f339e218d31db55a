"""Objects that all entries of a tree share, and the ``stat`` values of folders and datasets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from onefs.cache.folder import Place
from onefs.dates import dataset_day, file_mtime, midnight
from onefs.model import Dataset, Session
from onefs.tree.layout import Folders, SessionLayout
from onefs.tree.nodes import Node, NodeKind, inode_of_path, inode_of_uuid
from onefs.tree.variant import FULL_TREE, Variant

if TYPE_CHECKING:
    from onefs.catalogue.catalogue import Catalogue
    from onefs.content.content import Content
    from onefs.qc import QC
    from onefs.tree.layout_cache import LayoutCache
    from onefs.tree.listed_sessions import ListedSessions
    from onefs.tree.one_api_compat import OneApiFolder
    from onefs.tree.open_files import OpenFiles
    from onefs.tree.releases import Releases
    from onefs.tree.search_cache import SearchCache
    from onefs.tree.size_lookup import SizeLookup
    from onefs.tree.user_folders import UserFolders

_MAX_CACHED_NODES = 4096


@dataclass(frozen=True, slots=True)
class TreeContext:
    """The objects that all entries of a tree share, such as the catalogue and the caches.

    The full tree, each tree as of a day and each flat tree differ in ``variant`` and
    ``path_prefix``.
    """

    catalogue: Catalogue
    content: Content
    layouts: LayoutCache
    sizes: SizeLookup
    open_files: OpenFiles
    #: the database's address, an extended attribute of the root
    url: str
    searches: SearchCache
    one_api_folder: OneApiFolder
    listed_sessions: ListedSessions
    #: the folders that users' code writes to; None if the tree has no such folders
    user_folders: UserFolders | None = None
    #: the releases of the database, in the tree of the whole database; None in other trees
    releases: Releases | None = None
    #: decides the datasets that are shown, and their paths
    variant: Variant = FULL_TREE
    #: the path from the root of the tree to the folder that contains the labs
    path_prefix: Place = ()
    #: the worst QC of the datasets that are shown; None if all are shown
    worst_qc: QC | None = None

    def shows(self, dataset: Dataset) -> bool:
        """Whether the tree shows a dataset with this QC."""
        if self.worst_qc is None:
            return True
        from onefs.qc import is_at_most  # only a mount with --qc needs it

        return is_at_most(dataset.qc, self.worst_qc)

    def build_layout(self, datasets: Iterable[Dataset]) -> SessionLayout:
        """Return the folders and files that this tree shows for a session's datasets."""
        if self.worst_qc is not None:
            datasets = filter(self.shows, datasets)
        return self.variant.build_layout(datasets)

    def load_layout(self, session: Session) -> SessionLayout:
        """Return the folders and files that this tree shows for a session.

        Raises an error such as Unreachable if the listing fails.
        """
        # not the key of the session's folder, which must itself notice that a listing has changed
        key = f"content/{session.eid}@{self.variant}"
        listing = self.catalogue.datasets(session)
        return self.layouts.get_or_build(key, listing, self.build_layout)


def _make_file_node(dataset_id: str, size: int | None, day: str, identity: bytes) -> Node:
    return Node(NodeKind.FILE, inode_of_uuid(dataset_id), size, file_mtime(day, identity))


_cached_file_node = lru_cache(maxsize=_MAX_CACHED_NODES)(_make_file_node)


def dataset_node(
    context: TreeContext, dataset: Dataset, date: str, *, is_cached: bool = False
) -> Node:
    """Return the node (the values of ``stat``) of a dataset. Sends no request.

    ``date`` is the date of the dataset's session. ``is_cached``: return the same object again as
    long as the values are the same. The node's size is None if the size is unknown.
    """
    size, identity = context.content.size_of(dataset), context.content.identity_of(dataset)
    make = _cached_file_node if is_cached else _make_file_node
    return make(dataset.id, size, dataset_day(date, dataset), identity)


def session_folder_node(session: Session, folders: Folders = ()) -> Node:
    """Return the node (the values of ``stat``) of the folder at ``folders`` below a session.

    ``folders`` is () for the session's own folder.
    """
    ino = inode_of_path("folder", session.eid, *folders) if folders else inode_of_uuid(session.eid)
    return Node(NodeKind.DIRECTORY, ino, 0, session_mtime(session))


def date_folder_node(place: Place) -> Node:
    """Return the node (the values of ``stat``) of a date's folder.

    ``place`` is the folder's path: lab, subject and date.
    """
    return Node(NodeKind.DIRECTORY, inode_of_path("date", *place), 0, midnight(place[-1]))


def undated_folder_node(context: TreeContext, *key: str) -> Node:
    """Return the node (the values of ``stat``) of a folder that has no date.

    ``key`` identifies the folder, and decides its inode number. The folder's modification time is
    the time at which the catalogue was created.
    """
    return Node(NodeKind.DIRECTORY, inode_of_path(*key), 0, context.catalogue.created)


def session_mtime(session: Session) -> float:
    """Return the modification time of a session's folder: midnight of the session's date."""
    # not the session's start time, because some listings lack the start time
    return midnight(session.date)

"""What all things in the tree share: where to ask, links, and the nodes of folders and files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from onefs.cache.store import Place
from onefs.catalogue.catalogue import Catalogue
from onefs.content.content import Content
from onefs.dates import dataset_day, file_mtime, midnight
from onefs.model import Dataset, Session
from onefs.tree.layout import Folders
from onefs.tree.layout_cache import LayoutCache
from onefs.tree.nodes import Node, NodeKind, inode_of_path, inode_of_uuid
from onefs.tree.one_api_compat import OneApiFolder
from onefs.tree.open_files import OpenFiles
from onefs.tree.search_folders import SearchCache
from onefs.tree.size_lookup import SizeLookup
from onefs.tree.user_folders import UserFolders
from onefs.tree.variant import FULL_TREE, Variant

#: what the names of our extended attributes begin with
XATTR_PREFIX = "user.onefs."


@dataclass(frozen=True, slots=True)
class TreeContext:
    """What every item needs: where to ask, and the shapes that were built already."""

    catalogue: Catalogue
    content: Content
    layouts: LayoutCache
    sizes: SizeLookup
    open_files: OpenFiles
    #: the database's address, shown on the root
    url: str
    searches: SearchCache
    one_api_folder: OneApiFolder
    #: the folders that code of users writes to; None where there are none
    user_folders: UserFolders | None = None
    #: what of the datasets is shown, and at which paths
    variant: Variant = FULL_TREE
    #: the folders that the labs stand in
    path_prefix: Place = ()


class TreeEntry(Protocol):
    """Anything that a path leads to."""

    def node(self) -> Node:
        """What it is."""

    def xattrs(self) -> dict[str, str]:
        """Its extended attributes, full names."""


class Folder(TreeEntry, Protocol):
    """Anything with children."""

    def child(self, name: str) -> TreeEntry:
        """The child of that name, listed or not. Raises NotFound."""

    def children(self) -> list[tuple[str, Node]]:
        """The listed children."""


@dataclass(frozen=True, slots=True)
class SymbolicLink:
    """A relative symbolic link."""

    ino: int
    size: int
    mtime: float
    read_target: Callable[[], str]

    def node(self) -> Node:
        return Node(NodeKind.LINK, self.ino, self.size, self.mtime)

    def xattrs(self) -> dict[str, str]:
        return {}


def fixed_link(ino: int, target: str, mtime: float) -> SymbolicLink:
    """A link whose target is known."""
    return SymbolicLink(ino, len(target.encode()), mtime, lambda: target)


def dataset_node(context: TreeContext, dataset: Dataset, date: str) -> Node:
    """The node of a dataset in a session of ``date``; its size is None when it is not known yet."""
    size, identity = context.content.size_of(dataset), context.content.identity_of(dataset)
    mtime = file_mtime(dataset_day(date, dataset), identity)
    return Node(NodeKind.FILE, inode_of_uuid(dataset.id), size, mtime)


def session_folder_node(session: Session, folders: Folders = ()) -> Node:
    """A session's folder, or one inside it."""
    ino = inode_of_path("folder", session.eid, *folders) if folders else inode_of_uuid(session.eid)
    return Node(NodeKind.DIRECTORY, ino, 0, session_mtime(session))


def date_folder_node(place: Place) -> Node:
    """A date's folder."""
    return Node(NodeKind.DIRECTORY, inode_of_path("date", *place), 0, midnight(place[-1]))


def undated_folder_node(context: TreeContext, *what: str) -> Node:
    """A folder without a date of its own: it has the catalogue's."""
    return Node(NodeKind.DIRECTORY, inode_of_path(*what), 0, context.catalogue.created)


def session_mtime(session: Session) -> float:
    """Midnight of a session's date: when it began is not known to every listing."""
    return midnight(session.date)

"""What all things in the tree share: where to ask, links, and the nodes of folders and files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from onefs.content.reader import Content
from onefs.content.store import Place
from onefs.dates import dataset_day, file_time, midnight
from onefs.metadata.catalogue import Catalogue
from onefs.model import Dataset, Session
from onefs.tree.nodes import Kind, Node, inode_of_path, inode_of_uuid
from onefs.tree.one_folder import OneFolder
from onefs.tree.opened import Opened
from onefs.tree.own_folders import OwnFolders
from onefs.tree.searches import Searches
from onefs.tree.shape import Folders
from onefs.tree.shapes import Shapes
from onefs.tree.sizes import Sizes
from onefs.tree.variant import EVERYTHING, Variant

#: what the names of our extended attributes begin with
PREFIX = "user.onefs."


@dataclass(frozen=True, slots=True)
class Rooms:
    """What every item needs: where to ask, and the shapes that were built already."""

    catalogue: Catalogue
    content: Content
    shapes: Shapes
    sizes: Sizes
    opened: Opened
    #: the database's address, shown on the root
    url: str
    searches: Searches
    one_folder: OneFolder
    #: the folders that code of users writes to; None where there are none
    own: OwnFolders | None = None
    #: what of the datasets is shown, and at which paths
    variant: Variant = EVERYTHING
    #: the folders that the labs stand in
    above: Place = ()


class Item(Protocol):
    """Anything that a path leads to."""

    def node(self) -> Node:
        """What it is."""

    def xattrs(self) -> dict[str, str]:
        """Its extended attributes, full names."""


class Folder(Item, Protocol):
    """Anything with children."""

    def child(self, name: str) -> Item:
        """The child of that name, listed or not. Raises NotFound."""

    def children(self) -> list[tuple[str, Node]]:
        """The listed children."""


@dataclass(frozen=True, slots=True)
class Link:
    """A relative symbolic link."""

    ino: int
    size: int
    mtime: float
    follow: Callable[[], str]

    def node(self) -> Node:
        return Node(Kind.LINK, self.ino, self.size, self.mtime)

    def xattrs(self) -> dict[str, str]:
        return {}


def fixed_link(ino: int, target: str, mtime: float) -> Link:
    """A link whose target is known."""
    return Link(ino, len(target.encode()), mtime, lambda: target)


def file_node(rooms: Rooms, dataset: Dataset, date: str) -> Node:
    """The node of a dataset in a session of ``date``; its size is None when it is not known yet."""
    size, identity = rooms.content.size(dataset), rooms.content.identity(dataset)
    mtime = file_time(dataset_day(date, dataset), identity)
    return Node(Kind.FILE, inode_of_uuid(dataset.id), size, mtime)


def session_node(session: Session, folders: Folders = ()) -> Node:
    """A session's folder, or one inside it."""
    ino = inode_of_path("folder", session.eid, *folders) if folders else inode_of_uuid(session.eid)
    return Node(Kind.DIRECTORY, ino, 0, session_time(session))


def date_node(place: Place) -> Node:
    """A date's folder."""
    return Node(Kind.DIRECTORY, inode_of_path("date", *place), 0, midnight(place[-1]))


def plain_node(rooms: Rooms, *what: str) -> Node:
    """A folder without a date of its own: it has the catalogue's."""
    return Node(Kind.DIRECTORY, inode_of_path(*what), 0, rooms.catalogue.created)


def session_time(session: Session) -> float:
    """Midnight of a session's date: when it began is not known to every listing."""
    return midnight(session.date)

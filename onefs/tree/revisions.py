"""``#<revision>#`` folders in a tree as of a day, so that paths with a revision also work there.

A tree as of a day shows each file at its path without a revision. The folder of the file's revision
is not listed, but can be looked up. It contains links, so that the path with the revision leads to
the same file. Only the revisions that are shown for the day have a folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onefs import alf
from onefs.errors import NotFound
from onefs.model import Dataset, Session
from onefs.tree.context import session_folder_node, session_mtime
from onefs.tree.entries import Folder, SymbolicLink, fixed_link
from onefs.tree.layout import Folders
from onefs.tree.nodes import Node, inode_of_path


@dataclass(frozen=True, slots=True)
class RevisionFolder(Folder):
    """The files of one revision, as links to the files in the parent folder."""

    session: Session
    #: path of this folder below the session
    folders: Folders
    #: names of the files
    names: tuple[str, ...]

    def node(self) -> Node:
        return session_folder_node(self.session, self.folders)

    def child(self, name: str) -> SymbolicLink:
        if name not in self.names:
            raise NotFound(f"the file {name} has another revision on that day, or does not exist")
        ino = inode_of_path("revised", self.session.eid, *self.folders, name)
        return fixed_link(ino, f"../{name}", session_mtime(self.session))

    def children(self) -> list[tuple[str, Node]]:
        return [(name, self.child(name).node()) for name in self.names]


def find_revision_folder(
    session: Session, folders: Folders, children: Mapping[str, Dataset | None]
) -> RevisionFolder | None:
    """Return the folder of a revision. It has a link for each file that has this revision.

    ``folders`` is the folder's path below the session. ``children`` are the children of its parent
    folder. Return None if no file in ``children`` has the revision.
    """
    names = tuple(
        name
        for name, dataset in children.items()
        if dataset is not None
        and dataset.revision
        and alf.dataset_folder(dataset)[-1] == folders[-1]
    )
    return RevisionFolder(session, folders, names) if names else None

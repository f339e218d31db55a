"""``#<revision>#`` in a tree as of a day: ONE's own paths of what the day shows.

There each file stands at its plain path. The folder of its revision is never listed, and holds
links, so that a path which names the day's revision leads to the same file; that of another
revision is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onefs import alf
from onefs.errors import NotFound
from onefs.model import Dataset, Session
from onefs.tree.context import (
    SymbolicLink,
    fixed_link,
    session_folder_node,
    session_mtime,
)
from onefs.tree.layout import Folders
from onefs.tree.nodes import Node, inode_of_path


@dataclass(frozen=True, slots=True)
class RevisionFolder:
    """The files of one revision in a folder, as links to where they stand: one folder up."""

    session: Session
    folders: Folders
    names: tuple[str, ...]

    def node(self) -> Node:
        return session_folder_node(self.session, self.folders)

    def child(self, name: str) -> SymbolicLink:
        if name not in self.names:
            raise NotFound(f"{name} is of another revision on that day, or not there")
        ino = inode_of_path("revised", self.session.eid, *self.folders, name)
        return fixed_link(ino, f"../{name}", session_mtime(self.session))

    def children(self) -> list[tuple[str, Node]]:
        return [(name, self.child(name).node()) for name in self.names]

    def xattrs(self) -> dict[str, str]:
        return {}


def find_revision_folder(
    session: Session, folders: Folders, children: Mapping[str, Dataset | None]
) -> RevisionFolder | None:
    """The folder of a revision at ``folders``, if ``children``, shown one up, have it."""
    names = tuple(
        name
        for name, dataset in children.items()
        if dataset is not None
        and dataset.revision
        and alf.dataset_folder(dataset)[-1] == folders[-1]
    )
    return RevisionFolder(session, folders, names) if names else None

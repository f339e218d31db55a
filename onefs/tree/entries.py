"""The kinds of entry in the tree, and the layout that they form.

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

Of the virtual entries, only the two tables are listed, and links are relative unless they lead out
of the tree. So programs that walk the tree terminate, and see each file once. With few exceptions,
names that are not listed begin with a dot, are numbers or contain a UUID: shell patterns, which
look up literal names in each folder, match none of them. A folder costs its own listing and no
more; a name that cannot exist costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onefs.tree.nodes import Handle, Node, NodeKind


class TreeEntry:
    """Anything that a path leads to."""

    __slots__ = ()

    def node(self) -> Node:
        """Return what ``stat`` shows."""
        raise NotImplementedError

    def xattrs(self) -> dict[str, str]:
        """Return the extended attributes, their names without the prefix ``user.onefs.``."""
        return {}


class Folder(TreeEntry):
    """An entry with children."""

    __slots__ = ()

    def child(self, name: str) -> TreeEntry:
        """Return the child of that name, listed or not. Raises NotFound."""
        raise NotImplementedError

    def children(self) -> list[tuple[str, Node]]:
        """Return the listed children: none, unless a subclass says otherwise."""
        return []


class File(TreeEntry):
    """An entry with bytes."""

    __slots__ = ()

    def open(self) -> Handle:
        """Open the file for reading."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class SymbolicLink(TreeEntry):
    """A relative symbolic link, whose target is computed when the link is read."""

    ino: int
    #: bytes of the target; 0 if it is not known yet
    size: int
    #: seconds since the epoch
    mtime: float
    read_target: Callable[[], str]

    def node(self) -> Node:
        return Node(NodeKind.LINK, self.ino, self.size, self.mtime)


def fixed_link(ino: int, target: str, mtime: float) -> SymbolicLink:
    """Return a link whose target is known."""
    return SymbolicLink(ino, len(target.encode()), mtime, lambda: target)

"""The kinds of entries in the tree, and the tree's layout.

::

    <lab>/<subject>/<yyyy-mm-dd>/<nnn>/[<collection>/][#<revision>#/]<name>
    <lab>/Subjects -> .                 <date>/<n> -> <nnn>
    <nnn>/[<collection>/]<name with its UUID> -> the file
    <nnn>/.session.json, .datasets.tsv
    .by-eid/<uuid> -> ../<lab>/...                     .by-ref/<ref> -> ../<lab>/...
    .search/<term>=<value>&.../<ref> -> ../../<lab>/...
    .as-of/<day>/<lab>/...              the whole tree, with the revisions of that day
    .flat/<lab>/.../<nnn>/<name>        default datasets, without collections and revisions
    sessions.pqt, datasets.pqt          .rest -> a folder that can be written
    histology, cache ... -> the user's own folders

Of the virtual entries, only the two tables are listed. So programs that walk the tree terminate,
and see each file once. Links are relative unless they lead out of the tree. With few exceptions,
names that are not listed begin with a dot, are numbers or contain a UUID. So they are never equal
to the literal names that shell patterns make a program look up in each folder. Opening a folder
requests only its own listing. Looking up a name that cannot exist makes no request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onefs.tree.nodes import Handle, Node, NodeKind


class TreeEntry:
    """An entry of the tree: a folder, a file or a link."""

    __slots__ = ()

    def node(self) -> Node:
        """Return the values that ``stat`` shows for the entry."""
        raise NotImplementedError

    def xattrs(self) -> dict[str, str]:
        """Return the extended attributes. Their names lack the prefix ``user.onefs.``."""
        return {}


class Folder(TreeEntry):
    """An entry that contains other entries, its children."""

    __slots__ = ()

    def child(self, name: str) -> TreeEntry:
        """Return the child named ``name``, also if it is not listed. Raises NotFound."""
        raise NotImplementedError

    def children(self) -> list[tuple[str, Node]]:
        """Return the names and nodes of the listed children. Here [], for folders without any."""
        return []


class File(TreeEntry):
    """An entry that can be opened and read."""

    __slots__ = ()

    def open(self) -> Handle:
        """Open the file for reading."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class SymbolicLink(TreeEntry):
    """A relative symbolic link. Its target is computed when the link is read."""

    ino: int
    #: length of the target in bytes; 0 if the target is not known yet
    size: int
    #: seconds since the epoch
    mtime: float
    read_target: Callable[[], str]

    def node(self) -> Node:
        return Node(NodeKind.LINK, self.ino, self.size, self.mtime)


def fixed_link(ino: int, target: str, mtime: float) -> SymbolicLink:
    """Return a link to a target that is already known."""
    return SymbolicLink(ino, len(target.encode()), mtime, lambda: target)

"""The kinds of entries in the tree. The tree has these paths.

::

    <lab>/<subject>/<yyyy-mm-dd>/<nnn>/[<collection>/][#<revision>#/]<name>
    <lab>/Subjects -> .                 <date>/<n> -> <nnn>
    <nnn>/[<collection>/]<name with its UUID> -> the file
    <nnn>/.session.json, .datasets.tsv, .insertions.tsv
    .by-eid/<uuid> -> ../<lab>/...                     .by-ref/<ref> -> ../<lab>/...
    .by-pid/<uuid>/session, alf, raw, sorting -> ../../<lab>/...
    .search/<term>=<value>&.../<ref> -> ../../<lab>/...
    .as-of/<day>/<lab>/...              all labs, with the revisions of that day
    .flat/<lab>/.../<nnn>/<name>        default datasets, without collections and revisions
    sessions.pqt, datasets.pqt          .rest -> a folder that can be written
    histology, cache ... -> the user's own folders

A ref is ONE's short name of a session, such as ``2019-12-10_1_KS023``. A default dataset is the
revision of a file that ONE loads by default.

A program that lists folders from the root on finds only the paths in the first line, and the two
tables. All other entries are not listed, but can be looked up by name. So programs that walk the
tree terminate, and see each file once. Almost every name that is not listed begins with a dot, is a
number or contains a UUID. A shell pattern such as ``*/alf`` makes a program look up ``alf`` in each
folder, and this look-up never finds an unlisted name by chance. Links are relative, except links
that lead out of the tree. Opening a folder requests only the listing of this folder. Looking up a
name that cannot exist makes no request.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from onefs.tree.nodes import Handle, ListedEntry, Node, NodeKind


class TreeEntry:
    """An entry of the tree: a folder, a file or a link."""

    __slots__ = ()

    def node(self) -> Node:
        """Return the values that ``stat`` shows for the entry."""
        raise NotImplementedError

    def xattrs(self) -> dict[str, str]:
        """Return the extended attributes, by their names without the prefix ``user.onefs.``."""
        return {}


class Folder(TreeEntry):
    """An entry that contains other entries, which are called its children."""

    __slots__ = ()

    def child(self, name: str) -> TreeEntry:
        """Return the child named ``name``, even if :meth:`children` does not list this child.

        Raises NotFound if there is no such child.
        """
        raise NotImplementedError

    def children(self) -> list[tuple[str, Node]]:
        """Return the names and nodes (values of ``stat``) of the children that the folder lists.

        Return [] if a subclass does not replace this method.
        """
        return []

    def entries(self) -> list[ListedEntry]:
        """Return what :meth:`children` returns, as entries of a listing."""
        return [listed_entry(name, node) for name, node in self.children()]


class File(TreeEntry):
    """An entry that can be opened and read."""

    __slots__ = ()

    def open(self) -> Handle:
        """Open the file for reading."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class SymbolicLink(TreeEntry):
    """A relative symbolic link. The link's target is computed when the link is read."""

    ino: int
    #: length of the target in bytes; 0 if the target is not known yet
    size: int
    #: seconds since the epoch
    mtime: float
    read_target: Callable[[], str]

    def node(self) -> Node:
        return Node(NodeKind.LINK, self.ino, self.size, self.mtime)


def listed_entry(name: str, node: Node) -> ListedEntry:
    """Return an entry of a folder's listing."""
    return os.fsencode(name), node.kind, node.ino, node.size, node.mtime


def fixed_link(ino: int, target: str, mtime: float) -> SymbolicLink:
    """Return a link to ``target``, for a target that is known before the link is read."""
    return SymbolicLink(ino, len(target.encode()), mtime, lambda: target)

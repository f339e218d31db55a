"""The interface between a tree and the mount that shows the tree.

Its types are nodes (the values that ``stat`` shows), handles (open files), and the tree itself.

The mount uses only these types of the tree. If a method raises an error from ``onefs.errors``, the
file operation fails with the error's ``errno``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Protocol

#: prefix of the names of all extended attributes
XATTR_PREFIX = "user.onefs."

_MAX_CACHED_INODES = 20_000


class NodeKind(Enum):
    """The kind of an entry in a tree: a directory, a file or a symbolic link."""

    DIRECTORY = "directory"
    FILE = "file"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Node:
    """The values that ``stat`` shows for an entry. No bytes of the file are fetched for them."""

    kind: NodeKind
    #: inode number, never 0; derived from a UUID or a path, so that it is stable across remounts
    ino: int
    #: size in bytes. For a dataset: Alyx's value. For a link: the target's length, or 0 if the
    #: target is unknown. For a directory: 0. In a listing, None means that the size is unknown;
    #: :meth:`Tree.node` looks up this size.
    size: int | None = 0
    #: seconds since the epoch, never 0
    mtime: float = 1.0


#: an entry of a folder's listing: its name, and the values of its :class:`Node`
ListedEntry = tuple[bytes, NodeKind, int, "int | None", float]


class Handle(Protocol):
    """An open file of a tree. The methods return descriptors from which the bytes are read."""

    #: size of the file in bytes at the time of opening
    size: int
    #: whether the kernel may keep its cached pages of this file, because the bytes are the same
    keep_cache: bool
    #: whether the bytes that are read, and few others, are fetched from a server
    in_parts: bool

    # The mount calls ``try_fd`` first, and ``wait_fd`` only for a limited number of reads at the
    # same time. So reads of cached bytes always find a free thread.
    def try_fd(self, offset: int, length: int) -> int | None:
        """Return a descriptor to read bytes from, like :meth:`wait_fd`, but never wait.

        Return None if the bytes must be fetched from a server.
        """

    def wait_fd(self, offset: int, length: int) -> int:
        """Wait for ``length`` bytes from ``offset`` on, and return a descriptor to read them from.

        The bytes are at ``offset`` in the descriptor's file, too. If reading them there may block,
        the descriptor is a :class:`onefs.lowlevel.files.ReadDescriptor`, which has the bytes. The
        descriptor is valid until :meth:`close`. ``offset + length`` must be at most ``size``.
        Raises an error of ``onefs.errors`` if a byte is unavailable.
        """

    def close(self) -> None:
        """Close the file. Never raises."""


class Tree(Protocol):
    """A read-only tree. Paths begin with ``/``, and are decoded by ``os.fsdecode``."""

    def node(self, path: str) -> Node:
        """Return the node (the values of ``stat``) of ``path``.

        May wait for listings of folders, and for the size of a dataset. Raises NotFound if ``path``
        does not exist.
        """

    def children(self, path: str) -> list[tuple[str, Node]]:
        """Return the names and nodes (values of ``stat``) of a folder's listed children.

        The order is always the same. ``.`` and ``..`` are left out.
        """

    def entries(self, path: str) -> list[ListedEntry]:
        """Return a folder's listed children, after ``.`` and ``..``, with their ``stat`` values.

        The order is that of :meth:`children`.
        """

    def target(self, path: str, caller: int = 0, user: int | None = None) -> str:
        """Return the target of the link at ``path``.

        A target in the tree is relative. A target outside the tree is absolute.

        - ``caller``: the id of the thread that reads the link; 0 if the thread is unknown
        - ``user``: the id of the thread's user; None for the user of this process
        """

    def open(self, path: str) -> tuple[Node, Handle]:
        """Open a file for reading, and return its node (the values of ``stat``) and its handle.

        Opening requests no bytes from the file server; reading does.
        """

    def xattrs(self, path: str) -> dict[str, str]:
        """Return the extended attributes of ``path``, by full name (``user.onefs.eid``)."""

    def space(self) -> tuple[int, int]:
        """Return the total bytes and the free bytes of the disk that contains the cache."""


def inode_of_uuid(text: str) -> int:
    """Return the inode number for an entry, computed from the entry's UUID ``text``.

    The number has at most 63 bits, and is at least 2.
    """
    return _fold_to_inode(int(text.replace("-", ""), 16))


# A program that walks the tree needs each inode number twice: when it lists the folder of an entry,
# and when it looks up the entry.
@lru_cache(maxsize=_MAX_CACHED_INODES)
def inode_of_path(*parts: str) -> int:
    """Return the inode number for an entry without a UUID, computed from ``parts``.

    ``parts`` must identify the entry. The number has at most 63 bits, and is at least 2.
    """
    raw = "\0".join(parts).encode("utf-8", "surrogatepass")
    return _fold_to_inode(int.from_bytes(hashlib.sha1(raw).digest()[:8], "big"))


def _fold_to_inode(number: int) -> int:
    folded = (number ^ (number >> 64)) & 0x7FFF_FFFF_FFFF_FFFF
    return folded if folded > 1 else folded + 2

"""The interface between a tree and the mount that shows the tree: nodes, handles, and the tree.

The mount uses these types only. Every call may raise an error from ``onefs.errors``. The ``errno``
of that error is the result of the file operation.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Protocol

#: prefix of the names of all extended attributes
XATTR_PREFIX = "user.onefs."

_MAX_CACHED_INODES = 20_000


class NodeKind(Enum):
    """The three kinds of entries in a tree."""

    DIRECTORY = "directory"
    FILE = "file"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Node:
    """The values that ``stat`` shows. They are known without fetching any bytes of the file."""

    kind: NodeKind
    #: inode number, never 0; derived from a UUID or a path, so that it is stable across remounts
    ino: int
    #: size in bytes: Alyx's value for a dataset; the target's length for a link, 0 if unknown;
    #: 0 for a directory. In a listing, None is an unknown size; :meth:`Tree.node` looks it up
    size: int | None = 0
    #: seconds since the epoch, never 0
    mtime: float = 1.0


class Handle(Protocol):
    """An open file."""

    #: size of the file in bytes at the time of opening
    size: int
    #: whether the kernel may keep its cached pages of this file, because the bytes are the same
    keep_cache: bool

    def try_fd(self, offset: int, length: int) -> int | None:
        """Return what :meth:`wait_fd` returns, or None if the bytes need the network. Never waits.

        The mount calls this method first. It limits the number of reads that wait, so that reads
        of cached bytes always find a free thread.
        """

    def wait_fd(self, offset: int, length: int) -> int:
        """Wait for the bytes, and return a descriptor that has these bytes at the same offset.

        The descriptor is valid until :meth:`close`. ``offset + length`` must not exceed ``size``.
        Raises an error of ``onefs.errors`` if any of the bytes is unavailable.
        """

    def close(self) -> None:
        """Close the file. Never raises."""


class Tree(Protocol):
    """A read-only tree. Paths begin with ``/``, and are decoded by ``os.fsdecode``."""

    def node(self, path: str) -> Node:
        """Return the node of ``path``. May wait for listings of folders, and for the size."""

    def children(self, path: str) -> list[tuple[str, Node]]:
        """Return the names and nodes of a folder's listed children, always in the same order.

        ``.`` and ``..`` are left out.
        """

    def target(self, path: str, caller: int = 0, user: int | None = None) -> str:
        """Return the target of a link. The target is relative, unless it is outside the tree.

        ``caller`` is the id of the thread that reads the link, 0 if unknown. ``user`` is the id of
        the thread's user, None for the user of this process.
        """

    def open(self, path: str) -> Handle:
        """Open a file. The first read requests bytes from the file server, not this call."""

    def xattrs(self, path: str) -> dict[str, str]:
        """Return the extended attributes of ``path``, by full name (``user.onefs.eid``)."""

    def space(self) -> tuple[int, int]:
        """Return ``(total, free)``: bytes on the disk that contains the cache."""


# A program that walks the tree needs each inode number twice: when it lists the folder of an entry,
# and when it looks up the entry.
@lru_cache(maxsize=_MAX_CACHED_INODES)
def inode_of_uuid(text: str) -> int:
    """Return the inode number for an entry with a UUID: 63 bits of the UUID, never 0 or 1."""
    return _fold_to_inode(uuid.UUID(text).int)


@lru_cache(maxsize=_MAX_CACHED_INODES)
def inode_of_path(*parts: str) -> int:
    """Return the inode number for an entry that has no UUID. ``parts`` identify the entry."""
    raw = "\0".join(parts).encode("utf-8", "surrogatepass")
    return _fold_to_inode(int.from_bytes(hashlib.sha1(raw).digest()[:8], "big"))


def _fold_to_inode(number: int) -> int:
    folded = (number ^ (number >> 64)) & 0x7FFF_FFFF_FFFF_FFFF
    return folded if folded > 1 else folded + 2

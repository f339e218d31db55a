"""The interface between a tree and the mount that shows it: nodes, handles, the tree itself.

The mount uses these types only. Every call may raise an error of ``onefs.errors``, whose ``errno``
is the result of the file operation.
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
    """The three kinds of entry."""

    DIRECTORY = "directory"
    FILE = "file"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Node:
    """The values that ``stat`` shows; they need no byte of the file to be fetched."""

    kind: NodeKind
    #: inode number, stable across remounts: derived from a UUID or the path, never 0
    ino: int
    #: bytes: Alyx's value for a dataset, the target's length for a link (0 if unknown), 0 for a
    #: directory. None, in a listing only, for an unknown size, which :meth:`Tree.node` looks up
    size: int | None = 0
    #: seconds since the epoch, never 0
    mtime: float = 1.0


class Handle(Protocol):
    """An open file."""

    #: bytes, as of the opening of the file
    size: int
    #: whether the kernel may keep its pages of this file (the content has not changed)
    keep_cache: bool

    def try_fd(self, offset: int, length: int) -> int | None:
        """Return the descriptor of :meth:`wait_fd` if it needs no network, else None. Never waits.

        The mount limits the number of waiting reads, so that reads of cached files always find a
        free thread.
        """

    def wait_fd(self, offset: int, length: int) -> int:
        """Wait for the bytes, and return a descriptor that has them at the same offset.

        The descriptor is valid until :meth:`close`. ``offset + length`` must not exceed ``size``.
        Raises if any of the bytes are unavailable.
        """

    def close(self) -> None:
        """Release the file. Never raises."""


class Tree(Protocol):
    """A read-only tree. Paths are absolute, ``/``-separated, decoded by ``os.fsdecode``."""

    def node(self, path: str) -> Node:
        """Return the node of ``path``. Waits at most for the listing of its folder, and a size."""

    def children(self, path: str) -> list[tuple[str, Node]]:
        """Return the listed children of a folder, without ``.`` and ``..``, in a stable order."""

    def target(self, path: str, caller: int = 0, user: int | None = None) -> str:
        """Return the target of a link: relative, unless it leads out of the tree.

        ``caller`` is the id of the thread that reads the link, 0 if unknown; ``user`` is the id of
        its user, None for the user of this process.
        """

    def open(self, path: str) -> Handle:
        """Open a file. The file server is asked by the first read, not by this call."""

    def xattrs(self, path: str) -> dict[str, str]:
        """Return the extended attributes of ``path``: full names (``user.onefs.eid``), values."""

    def space(self) -> tuple[int, int]:
        """Return ``(total, free)`` bytes of the disk that the cache is stored on."""


# A program that walks the tree needs each number twice: on listing a folder, and on entering it.
@lru_cache(maxsize=_MAX_CACHED_INODES)
def inode_of_uuid(text: str) -> int:
    """Return the inode number of an entry with a UUID: 63 bits of it, never 0 or 1."""
    return _fold_to_inode(uuid.UUID(text).int)


@lru_cache(maxsize=_MAX_CACHED_INODES)
def inode_of_path(*parts: str) -> int:
    """Return the inode number of an entry that is identified by ``parts`` alone."""
    raw = "\0".join(parts).encode("utf-8", "surrogatepass")
    return _fold_to_inode(int.from_bytes(hashlib.sha1(raw).digest()[:8], "big"))


def _fold_to_inode(number: int) -> int:
    folded = (number ^ (number >> 64)) & 0x7FFF_FFFF_FFFF_FFFF
    return folded if folded > 1 else folded + 2

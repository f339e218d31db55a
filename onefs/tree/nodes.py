"""What a path can be: the small language between the tree and who shows it.

The mount (and whoever else shows the tree) sees these types only. Every call may raise an error
of ``onefs.errors``, whose ``errno`` is the answer of the file operation.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Protocol

_MAX_CACHED_INODES = 20_000


class NodeKind(Enum):
    """The three kinds of thing that the tree holds."""

    DIRECTORY = "directory"
    FILE = "file"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Node:
    """What ``stat`` needs to know, all of it known before any byte is fetched."""

    kind: NodeKind
    #: stable across remounts: from a UUID or the path, never 0
    ino: int
    #: bytes: Alyx's claim for a dataset, the target's length for a link, 0 for a directory.
    #: None, only among children, for a size that nobody knows yet: whoever wants it asks
    #: for the node itself
    size: int | None = 0
    #: seconds since the epoch, never 0
    mtime: float = 1.0


class Handle(Protocol):
    """An open file."""

    #: bytes, as it was when the file was opened
    size: int
    #: the kernel may keep the pages that it has of this file (the identity is the same)
    keep_cache: bool

    def try_fd(self, offset: int, length: int) -> int | None:
        """What :meth:`fd` would answer for these bytes without the network, else None.

        Never waits.
        Who shows the tree keeps count of the reads that wait, so that these never take the
        last thread from reads that would not.
        """

    def wait_fd(self, offset: int, length: int) -> int:
        """A descriptor that holds these bytes at this very offset; waits until it does.

        The descriptor stays good until :meth:`close`. ``offset + length`` never exceeds
        ``size``: the caller clips. Raises rather than hand out fewer bytes.
        """

    def close(self) -> None:
        """Let go. Never raises."""


class Tree(Protocol):
    """A read-only tree. Paths are absolute, ``/``-separated, decoded by ``os.fsdecode``."""

    def node(self, path: str) -> Node:
        """What ``path`` is. Waits at most for the one listing of its folder."""

    def children(self, path: str) -> list[tuple[str, Node]]:
        """The listed children of a folder, without ``.`` and ``..``, in a stable order."""

    def target(self, path: str, caller: int = 0, user: int | None = None) -> str:
        """What a link points to: relative, unless it leads out of the tree.

        ``caller`` is the thread that follows it, 0 when it is unknown; ``user`` is the id of its
        user, None for the user of this process.
        """

    def open(self, path: str) -> Handle:
        """Open a file. Asks no file server: the first read does."""

    def xattrs(self, path: str) -> dict[str, str]:
        """The extended attributes of ``path``: full names (``user.onefs.eid``) and values."""

    def space(self) -> tuple[int, int]:
        """``(total, free)`` bytes of the disk that the cache lies on."""


# a walk asks for the same ones again: when it lists a folder, and when it looks into it
@lru_cache(maxsize=_MAX_CACHED_INODES)
def inode_of_uuid(text: str) -> int:
    """An inode number for a thing with a UUID: 63 bits of it, never 0 or 1."""
    return _fold_to_inode(uuid.UUID(text).int)


@lru_cache(maxsize=_MAX_CACHED_INODES)
def inode_of_path(*parts: str) -> int:
    """An inode number for a thing that only has a place."""
    raw = "\0".join(parts).encode("utf-8", "surrogatepass")
    return _fold_to_inode(int.from_bytes(hashlib.sha1(raw).digest()[:8], "big"))


def inode_in_as_of(day: str, number: int) -> int:
    """An inode number for what is ``number`` in the tree of today, as it is on a day.

    Two days may show other bytes in one place, and ``diff -r`` passes over what it takes to be
    one folder.
    """
    return inode_of_path("as of", day, str(number))


def inode_in_flat(number: int) -> int:
    """An inode number for what is ``number`` in the tree, as the flat tree has it."""
    return inode_of_path("flat", str(number))


def _fold_to_inode(number: int) -> int:
    folded = (number ^ (number >> 64)) & 0x7FFF_FFFF_FFFF_FFFF
    return folded if folded > 1 else folded + 2

"""A tree for the tests of the mount. It shows a real folder, and some file names cause errors.

The tree runs in the daemon's process, because a test that accesses a mount of its own process may
wait for itself. The root's attribute ``user.onefs.calls`` says how often each method was called.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

from onefs import errors
from onefs.tree.entries import listed_entry
from onefs.tree.nodes import Handle, ListedEntry, Node, NodeKind, inode_of_path

#: a read of a file whose name begins with this prefix waits until the tree is stopped
STALLED = "stalled"
#: opening ``open-Unreachable.bin`` raises the error Unreachable. Reading a file with the other
#: prefix raises an error in the same way.
OPEN_FAILS = "open-"
READ_FAILS = "read-"
#: listing a folder whose name begins with this prefix raises an error in the same way
LIST_FAILS = "list-"
#: a file whose name begins with this prefix has only half of the bytes that its size promises
SHORT = "short"
#: a listing does not contain the size of a file whose name begins with this prefix
UNSIZED = "unsized"
#: the kernel may not cache the pages of a file whose name begins with this prefix
UNKEPT = "unkept"
#: the mount takes a file whose name begins with this prefix for one that is fetched in parts
IN_PARTS = "parts"
CALLS = "user.onefs.calls"


class Unforeseen(Exception):
    """An exception that no part of onefs expects."""


def _fail(name: str, prefix: str) -> None:
    if name.startswith(prefix):
        wanted = name.removeprefix(prefix).split(".")[0]
        raise getattr(errors, wanted, Unforeseen)(f"{wanted}, as this test asks")


class FolderHandle:
    """An open file in the folder."""

    def __init__(self, tree: FolderTree, path: Path, size: int) -> None:
        self.size = size
        self.keep_cache = not path.name.startswith(UNKEPT)
        self.in_parts = path.name.startswith(IN_PARTS)
        self._tree = tree
        self._name = path.name
        self._fd = os.open(path, os.O_RDONLY)

    def try_fd(self, offset: int, length: int) -> int | None:
        return (
            None if self._name.startswith((STALLED, READ_FAILS)) else self.wait_fd(offset, length)
        )

    def wait_fd(self, offset: int, length: int) -> int:
        self._tree.calls["fd"] += 1
        if self._name.startswith(STALLED):
            self._tree.stall(self._name)
        _fail(self._name, READ_FAILS)
        return self._fd

    def close(self) -> None:
        self._tree.calls["close"] += 1
        os.close(self._fd)


class FolderTree:
    """A tree that shows the folder ``root``. Stalled reads fail after ``deadline`` seconds."""

    def __init__(
        self, root: Path, deadline: float = 60.0, xattrs: dict[str, dict[str, str]] | None = None
    ) -> None:
        self._root = root
        self._deadline = deadline
        self._xattrs = xattrs or {}
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()

    def stop(self) -> None:
        self._stopped.set()

    def stall(self, name: str) -> None:
        with self._lock:
            self.calls["stuck"] += 1
        if self._stopped.wait(self._deadline):
            raise errors.Stopping(f"{name}: the mount is going down.")
        raise errors.DeadlineExceeded(f"{name}: no bytes came.")

    def node(self, path: str) -> Node:
        self.calls["node"] += 1
        return self._node(self._path(path))

    def children(self, path: str) -> list[tuple[str, Node]]:
        self.calls["children"] += 1
        here = self._path(path)
        _fail(here.name, LIST_FAILS)
        return [(entry.name, self._listed(entry)) for entry in sorted(here.iterdir())]

    def entries(self, path: str) -> list[ListedEntry]:
        parent = path.rpartition("/")[0] or "/"
        own = [(".", self.node(path)), ("..", self.node(parent))]
        return [listed_entry(name, node) for name, node in own + self.children(path)]

    def target(self, path: str, caller: int = 0, user: int | None = None) -> str:
        return os.readlink(self._path(path))

    def open(self, path: str) -> tuple[Node, Handle]:
        self.calls["open"] += 1
        here = self._path(path)
        _fail(here.name, OPEN_FAILS)
        node = self._node(here)
        assert node.size is not None
        return node, FolderHandle(self, here, node.size)

    def xattrs(self, path: str) -> dict[str, str]:
        if path == "/":
            return {CALLS: json.dumps(self.calls)}
        self.calls["xattrs"] += 1
        return self._xattrs.get(path, {})

    def space(self) -> tuple[int, int]:
        return 1 << 40, 1 << 39

    def _path(self, path: str) -> Path:
        return self._root / path.lstrip("/")

    def _listed(self, here: Path) -> Node:
        node = self._node(here)
        return replace(node, size=None) if here.name.startswith(UNSIZED) else node

    def _node(self, here: Path) -> Node:
        try:
            found = here.lstat()
        except FileNotFoundError:
            raise errors.NotFound(f"{here.name} is not there") from None
        inode = inode_of_path(str(here.relative_to(self._root)))
        if stat.S_ISDIR(found.st_mode):
            return Node(NodeKind.DIRECTORY, inode, mtime=found.st_mtime)
        if stat.S_ISLNK(found.st_mode):
            return Node(NodeKind.LINK, inode, len(os.readlink(here)), found.st_mtime)
        size = found.st_size * 2 if here.name.startswith(SHORT) else found.st_size
        return Node(NodeKind.FILE, inode, size, found.st_mtime)

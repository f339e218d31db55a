"""What a reader sees of a laboratory, whole: to be compared with what there is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from onefs.access import Access
from onefs.errors import OnefsError
from onefs.one import ONE
from onefs.tree.nodes import Node, NodeKind

_PIECE = 1 << 20
#: no true tree is deeper
_DEEPEST = 12

#: path or question -> what was seen there, or the error
Snapshot = dict[str, str]


def walk(access: Access, top: str = "/", depth: int = _DEEPEST) -> Iterator[tuple[str, Node]]:
    """Every path below ``top`` that is listed. Raises what listing raises."""
    for name, node in access.tree.children(top):
        path = f"{top.rstrip('/')}/{name}"
        yield path, node
        if node.kind is NodeKind.DIRECTORY and depth > 1:
            yield from walk(access, path, depth - 1)


def read(access: Access, path: str) -> bytes:
    """The bytes of a file. Raises what opening and reading raise."""
    _, handle = access.tree.open(path)
    parts = []
    try:
        for offset in range(0, handle.size, _PIECE):
            length = min(_PIECE, handle.size - offset)
            parts.append(os.pread(handle.wait_fd(offset, length), length, offset))
    finally:
        handle.close()
    return b"".join(parts)


def take_snapshot(access: Access, one: ONE) -> Snapshot:
    """Everything that is listed, with its bytes, and some answers to ONE's questions.

    An OnefsError is what is seen; anything else is raised.
    """
    seen: Snapshot = {}
    _snapshot_folder(access, "/", seen)
    for question, ask in (
        ("search", lambda: sorted(one.search(number=[1, 2]))),
        ("list", lambda: [one.list(eid) for eid in sorted(one.search(lab="labone"))]),
        (".search", lambda: sorted(n for n, _ in access.tree.children("/.search/lab=labone"))),
    ):
        try:
            seen[question] = repr(ask())
        except OnefsError as error:
            seen[question] = shown(error)
    return seen


def _snapshot_folder(access: Access, folder: str, seen: Snapshot, depth: int = _DEEPEST) -> None:
    try:
        children = access.tree.children(folder)
    except OnefsError as error:
        seen[folder] = shown(error)
        return
    for name, node in children:
        path = f"{folder.rstrip('/')}/{name}"
        seen[path] = node.kind.value
        if node.kind is NodeKind.DIRECTORY and depth > 1:
            _snapshot_folder(access, path, seen, depth - 1)
        elif node.kind is NodeKind.FILE:
            seen[path] = _digest(access, path)


def _digest(access: Access, path: str) -> str:
    try:
        found = read(access, path)
    except OnefsError as error:
        return shown(error)
    except OSError as error:  # replaced while it was open: the kernel would come back
        return f"error {error}"
    return f"{len(found)} {hashlib.sha1(found).hexdigest()}"


def shown(error: BaseException) -> str:
    """An error as it is compared."""
    return f"error {type(error).__name__}: {str(error)[:200]}"

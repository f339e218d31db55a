"""Search for the paths in a tree that match a shell pattern, and for the files below a path."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from onefs.errors import NotFound, UsageError
from onefs.tree.nodes import NodeKind, Tree

#: a character that makes a part of a path a pattern
_WILDCARD = re.compile(r"[*?[]")
#: prefix of a pattern ``dataset:<uuid>``, which means the dataset with that UUID
DATASET_PREFIX = "dataset:"
#: the folders of links to sessions, by eid and by ref (``onefs.tree.symlink_views``)
BY_EID = ".by-eid"
BY_REF = ".by-ref"
#: the folder of probe insertions, by pid (``onefs.tree.by_pid``)
BY_PID = ".by-pid"
#: most links that are followed, one after the other
_MAX_LINK_DEPTH = 8


def expand_pattern(tree: Tree, pattern: str) -> Iterator[str]:
    """Yield the paths that match a pattern like ``/lab/*/2021-*``. Links are resolved.

    A wildcard matches only names that the folder lists. Raises NotFound if no path matches.
    """
    # a part without a wildcard is looked up by name, and the folder is not listed
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    path = None
    for path in _expand_parts(tree, "", parts):
        yield path
    if path is None:
        raise NotFound(f"nothing matches {pattern}")


def _expand_parts(tree: Tree, folder: str, parts: list[str]) -> Iterator[str]:
    if not parts:
        yield folder or "/"
        return
    part, rest = parts[0], parts[1:]
    if not _WILDCARD.search(part):
        yield from _expand_parts(tree, _resolve_link(tree, f"{folder}/{part}"), rest)
        return
    for name, _ in tree.children(folder or "/"):
        if fnmatchcase(name, part) or name == part:
            try:
                yield from _expand_parts(tree, _resolve_link(tree, f"{folder}/{name}"), rest)
            except (NotFound, UsageError):  # the child is a file, or lacks the rest of the pattern
                continue


def _resolve_link(tree: Tree, path: str) -> str:
    """Return the path that ``path`` leads to after all links, or ``path`` if it is not a link.

    Raises NotFound if links lead in a circle.
    """
    for _ in range(_MAX_LINK_DEPTH):
        if tree.node(path).kind is not NodeKind.LINK:
            return path
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), tree.target(path)))
    raise NotFound(f"{path}: links lead in a circle")


def walk_files(tree: Tree, path: str) -> Iterator[str]:
    """Yield the listed files at and below a path.

    Links are followed only in a folder of ``.search``, to the sessions that the search found.
    """
    if tree.node(path).kind is NodeKind.FILE:
        yield path
        return
    for name, node in tree.children(path):
        inner = f"{path.rstrip('/')}/{name}"
        if node.kind is NodeKind.FILE:
            yield inner
        elif node.kind is NodeKind.DIRECTORY:
            yield from walk_files(tree, inner)
        elif "/.search/" in inner:
            yield from walk_files(tree, _resolve_link(tree, inner))

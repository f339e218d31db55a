"""Datasets by path, folder or shell pattern, for whoever wants many of them at once."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from onefs.errors import NotFound, UsageError
from onefs.tree.nodes import NodeKind, Tree

#: what makes a part of a path a pattern
_WILDCARD = re.compile(r"[*?[]")
#: begins a pattern that stands for the one dataset with the UUID behind it
DATASET_PREFIX = "dataset:"
#: links that lead to links, at most
_MAX_LINK_DEPTH = 8


def expand_pattern(tree: Tree, pattern: str) -> Iterator[str]:
    """The paths that a pattern stands for, links followed; wildcards match what is listed.

    Costs the listings on the way. Raises NotFound when a path does not exist, or nothing matches.
    """
    found = False
    for path in _expand_parts(
        tree, "", [part for part in pattern.split("/") if part not in ("", ".")]
    ):
        found = True
        yield path
    if not found:
        raise NotFound(f"nothing matches {pattern}")


def _expand_parts(tree: Tree, here: str, rest: list[str]) -> Iterator[str]:
    if not rest:
        yield here or "/"
        return
    part, rest = rest[0], rest[1:]
    if not _WILDCARD.search(part):
        yield from _expand_parts(tree, _resolve_link(tree, f"{here}/{part}"), rest)
        return
    for name, _ in tree.children(here or "/"):
        if fnmatchcase(name, part) or name == part:
            try:
                yield from _expand_parts(tree, _resolve_link(tree, f"{here}/{name}"), rest)
            except (NotFound, UsageError):  # what follows is not in this folder, or it is a file
                continue


def _resolve_link(tree: Tree, path: str) -> str:
    """Where a path leads: itself, unless it is a link."""
    for _ in range(_MAX_LINK_DEPTH):
        if tree.node(path).kind is not NodeKind.LINK:
            return path
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), tree.target(path)))
    raise NotFound(f"{path}: links lead in a circle")


def walk_files(tree: Tree, path: str) -> Iterator[str]:
    """The listed files at a path and below; below ``.search`` those of the sessions found, too."""
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

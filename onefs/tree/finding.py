"""Datasets by path, folder or shell pattern, for whoever wants many of them at once."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from onefs.errors import NotFound, UsageError
from onefs.tree.nodes import Kind, Tree

#: what makes a part of a path a pattern
_WILD = re.compile(r"[*?[]")
#: begins a pattern that stands for the one dataset with the UUID behind it
DATASET = "dataset:"
#: links that lead to links, at most
_LINKS = 8


def expand(tree: Tree, pattern: str) -> Iterator[str]:
    """The paths that a pattern stands for, links followed; wildcards match what is listed.

    Costs the listings on the way. Raises NotFound when a path does not exist, or nothing matches.
    """
    found = False
    for path in _expand(tree, "", [part for part in pattern.split("/") if part not in ("", ".")]):
        found = True
        yield path
    if not found:
        raise NotFound(f"nothing matches {pattern}")


def _expand(tree: Tree, here: str, rest: list[str]) -> Iterator[str]:
    if not rest:
        yield here or "/"
        return
    part, rest = rest[0], rest[1:]
    if not _WILD.search(part):
        yield from _expand(tree, _follow(tree, f"{here}/{part}"), rest)
        return
    for name, _ in tree.children(here or "/"):
        if fnmatchcase(name, part) or name == part:
            try:
                yield from _expand(tree, _follow(tree, f"{here}/{name}"), rest)
            except (NotFound, UsageError):  # what follows is not in this folder, or it is a file
                continue


def _follow(tree: Tree, path: str) -> str:
    """Where a path leads: itself, unless it is a link."""
    for _ in range(_LINKS):
        if tree.node(path).kind is not Kind.LINK:
            return path
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), tree.target(path)))
    raise NotFound(f"{path}: links lead in a circle")


def walk(tree: Tree, path: str) -> Iterator[str]:
    """The listed files at a path and below; below ``.search`` those of the sessions found, too."""
    if tree.node(path).kind is Kind.FILE:
        yield path
        return
    for name, node in tree.children(path):
        inner = f"{path.rstrip('/')}/{name}"
        if node.kind is Kind.FILE:
            yield inner
        elif node.kind is Kind.DIRECTORY:
            yield from walk(tree, inner)
        elif "/.search/" in inner:
            yield from walk(tree, _follow(tree, inner))

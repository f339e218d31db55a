"""The variants of the tree: the full tree, the tree as of a day, and the flat tree.

All variants have the same folders from the lab down to the session. Their roots differ::

    <lab>/...                       the full tree
    .as-of/<day>/<lab>/...          the revisions of that day
    .flat/<lab>/...                 the default revisions, each in its session's own folder
    .as-of/<day>/.flat/<lab>/...    the revisions of that day, each in its session's own folder
    .tags/<tag>/<lab>/...           the datasets of a release

Only the full tree and the tree as of a day contain other variants.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from onefs.model import Dataset
from onefs.tree.as_of import AS_OF, is_as_of_day, layout_as_of
from onefs.tree.layout import Folders, SessionLayout, flat_layout, session_layout

#: the folder of the root that contains the flat tree
FLAT = ".flat"
#: the folder of the root that contains a tree for each release
TAGS = ".tags"


class Variant(NamedTuple):
    """One variant of the tree: the full tree, the tree as of a day, or a flat tree.

    There is one flat tree of the default revisions, and one flat tree for each day.
    """

    #: the day whose revisions are shown, each at its path without revision; '' for all revisions
    day: str = ""
    #: whether only default datasets are shown, without the folders of collections and revisions
    flat: bool = False
    #: the release that is shown; '' for the whole database
    tag: str = ""

    def __str__(self) -> str:
        return "/".join(self.folders)

    @property
    def folders(self) -> Folders:
        """The path from the full tree's root to this tree's root, such as ``(".flat",)``."""
        tag = (TAGS, self.tag) if self.tag else ()
        return (*tag, *((AS_OF, self.day) if self.day else ()), *((FLAT,) if self.flat else ()))

    @property
    def is_full_tree(self) -> bool:
        """Whether this is the full tree, which shows all revisions in their own folders."""
        return not self.folders

    def path_in_full_tree(self, inner: str) -> str:
        """Return the path from the full tree's root for the path ``inner`` in this tree."""
        return "/".join((*self.folders, inner))

    def build_layout(self, datasets: Iterable[Dataset]) -> SessionLayout:
        """Return the folders and files that this tree shows for a session's datasets."""
        layout = layout_as_of(datasets, self.day) if self.day else session_layout(datasets)
        return flat_layout(layout) if self.flat else layout


FULL_TREE = Variant()


def split_variant(parts: Sequence[str]) -> tuple[Variant, Folders]:
    """Return which tree contains a path (full, as of a day, or flat), and the path in this tree.

    ``parts`` are the names in the path, from the root of the full tree on.
    """
    rest = tuple(parts)
    if rest[:1] == (TAGS,) and len(rest) > 1:
        return Variant(tag=rest[1]), rest[2:]
    day = ""
    if rest[:1] == (AS_OF,) and len(rest) > 1 and is_as_of_day(rest[1]):
        day, rest = rest[1], rest[2:]
    flat = rest[:1] == (FLAT,)
    return Variant(day, flat), rest[1:] if flat else rest


def variant_of_path(parts: Sequence[str]) -> Variant:
    """Return which tree contains a session: the full tree, a tree as of a day, or a flat tree.

    ``parts`` are the names in the session's path. The path may begin at the root of the full tree,
    or at any folder above the mount point, as in ``home/me/mount/.flat/lab/...``. Return the
    full tree if the path contains neither ``.as-of/<day>`` nor ``.flat``.
    """
    for at, part in enumerate(parts):
        if part in (AS_OF, FLAT, TAGS):
            variant, _ = split_variant(parts[at:])
            if not variant.is_full_tree:
                return variant
    return FULL_TREE

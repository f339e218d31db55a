"""The variants of the tree: everything, the revisions of a day, default datasets without folders.

All of them have the same folders down to a session, below another one of the root::

    <lab>/...                       everything
    .as-of/<day>/<lab>/...          the revisions of that day
    .flat/<lab>/...                 default datasets, each in its session's own folder
    .as-of/<day>/.flat/<lab>/...    both

A variant holds no other variant, but that of a day holds its flat one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onefs.model import Dataset
from onefs.tree.as_of import AS_OF, is_as_of_day, layout_as_of
from onefs.tree.layout import (
    Folders,
    SessionLayout,
    flat_layout,
    session_layout,
)

#: the folder of the root that holds the flat tree
FLAT = ".flat"


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant of the tree."""

    #: the day whose revisions are shown, each file at its plain path; '' for all revisions
    day: str = ""
    #: default datasets only, without the folders of collections and revisions
    flat: bool = False

    def __str__(self) -> str:
        return "/".join(self.folders)

    @property
    def folders(self) -> Folders:
        """The folders of the whole tree that hold its labs."""
        return (*((AS_OF, self.day) if self.day else ()), *((FLAT,) if self.flat else ()))

    @property
    def is_full_tree(self) -> bool:
        """Whether it is the tree with all revisions, each at its path in ONE's layout."""
        return not self.folders

    def path_in_full_tree(self, inner: str) -> str:
        """A path of this variant, as the whole tree has it."""
        return "/".join((*self.folders, inner))

    def build_layout(self, datasets: Iterable[Dataset]) -> SessionLayout:
        """The folders and files of a session that has these datasets."""
        found = layout_as_of(datasets, self.day) if self.day else session_layout(datasets)
        return flat_layout(found) if self.flat else found


FULL_TREE = Variant()


def split_variant(parts: Sequence[str]) -> tuple[Variant, Folders]:
    """The variant that a path of the whole tree lies in, and the parts from its lab on."""
    rest = tuple(parts)
    day = ""
    if rest[:1] == (AS_OF,) and len(rest) > 1 and is_as_of_day(rest[1]):
        day, rest = rest[1], rest[2:]
    flat = rest[:1] == (FLAT,)
    return Variant(day, flat), rest[1:] if flat else rest


def variant_of_path(parts: Sequence[str]) -> Variant:
    """The variant that the folders of a session name, wherever the tree is mounted."""
    for at, part in enumerate(parts):
        if part in (AS_OF, FLAT):
            variant, _ = split_variant(parts[at:])
            if not variant.is_full_tree:
                return variant
    return FULL_TREE

"""The root folder, and ``.as-of``, which contains a tree with its own root for each day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from onefs import alf
from onefs.errors import NotFound
from onefs.tree.as_of import AS_OF, is_as_of_day
from onefs.tree.context import TreeContext, undated_folder_node
from onefs.tree.entries import Folder, TreeEntry
from onefs.tree.lab_folders import LabFolder
from onefs.tree.layout import lab_folder_names
from onefs.tree.nodes import Node
from onefs.tree.path_patterns import BY_EID, BY_PID, BY_REF
from onefs.tree.search_cache import SEARCH
from onefs.tree.variant import FLAT, TAGS, Variant

if TYPE_CHECKING:
    from onefs.tree.releases import Releases
    from onefs.tree.user_folders import UserFolderLink


@dataclass(frozen=True, slots=True)
class AsOfFolder(Folder):
    """The folder ``.as-of``. No day is listed, but every day (``2021-07-05``) can be looked up.

    The folder of a day is the root of the tree as of this day.
    """

    context: TreeContext

    def node(self) -> Node:
        return undated_folder_node(self.context, AS_OF)

    def child(self, name: str) -> TreeEntry:
        if not is_as_of_day(name):
            raise NotFound(f"{name} is not a day: write a day like 2021-07-05")
        return _variant_root(self.context, self.context.variant._replace(day=name), AS_OF, name)


@dataclass(frozen=True, slots=True)
class TagsFolder(Folder):
    """The folder ``.tags``. It contains a folder for each release whose tables are loaded.

    The folder of a release is the root of the tree of its datasets.
    """

    context: TreeContext
    releases: Releases

    def node(self) -> Node:
        return undated_folder_node(self.context, TAGS)

    def child(self, name: str) -> TreeEntry:
        return RootFolder(self.releases.context_of(self.context, name))

    def children(self) -> list[tuple[str, Node]]:
        return [
            (name, undated_folder_node(self.context, TAGS, name)) for name in self.releases.tags()
        ]


@dataclass(frozen=True, slots=True)
class RootFolder(Folder):
    """The root of a tree: the full tree, a tree as of a day, or a flat tree.

    It contains the labs, and virtual entries such as ``.search`` and ``.by-eid``.
    """

    context: TreeContext

    def node(self) -> Node:
        if self.context.variant.tag:
            return undated_folder_node(self.context, TAGS, self.context.variant.tag)
        return replace(undated_folder_node(self.context, "root"), ino=1)

    def child(self, name: str) -> TreeEntry:
        if name in (BY_EID, BY_PID, BY_REF, SEARCH):
            return _lookup_folder(name, self.context)
        variant = self.context.variant
        if name == AS_OF and variant.is_full_tree:
            return AsOfFolder(self.context)
        if name == TAGS and self.context.releases is not None:
            return TagsFolder(self.context, self.context.releases)
        if name == FLAT and not (variant.flat or variant.tag):
            return _variant_root(self.context, variant._replace(flat=True), FLAT)
        one_api_entry = self.context.one_api_folder.child(name) if variant.is_full_tree else None
        entry = one_api_entry or self._user_folder_link(name)
        if entry is not None:
            return entry
        if name == alf.AGGREGATES and variant.is_full_tree and self._has_aggregates():
            from onefs.tree.aggregates import AggregatesFolder  # as in _lookup_folder

            return AggregatesFolder(self.context)
        labs = {} if name.startswith(".") else self._labs()
        if labs and name not in labs and self.context.catalogue.ask_for_new_labs():
            labs = self._labs()
        if name not in labs:
            raise NotFound(f"there is no lab {name}")
        return LabFolder(self.context, labs[name], (name,))

    def children(self) -> list[tuple[str, Node]]:
        one_api_folder = self.context.one_api_folder
        tables = one_api_folder.children() if self.context.variant.is_full_tree else {}
        return [
            *(
                (name, undated_folder_node(self.context, "lab", lab))
                for name, lab in self._labs().items()
            ),
            *((name, table.node()) for name, table in tables.items()),
        ]

    def xattrs(self) -> dict[str, str]:
        variant, catalogue = self.context.variant, self.context.catalogue
        optional = {
            "as_of": variant.day,
            "flat": "1" if variant.flat else "",
            "tag": variant.tag,
            "qc": "" if self.context.worst_qc is None else self.context.worst_qc.name,
            "error": catalogue.availability.refusal,
        }
        return {
            "url": self.context.url,
            "offline": "1" if catalogue.offline else "0",
            **{name: value for name, value in optional.items() if value},
        }

    def _user_folder_link(self, name: str) -> UserFolderLink | None:
        """Return the link named ``name`` to a folder that belongs to the user.

        Return None if there is no such link, or if a lab has the same name.
        """
        if self.context.user_folders is None or self.context.path_prefix:
            return None
        link = self.context.user_folders.child(name)
        # Alyx is not asked for labs, so that writing to the user's folders needs no network
        if link is not None and name in lab_folder_names(self.context.catalogue.known_labs()):
            return None
        return link

    def _has_aggregates(self) -> bool:
        catalogue = self.context.catalogue
        is_lab = alf.AGGREGATES in lab_folder_names(catalogue.known_labs())
        return catalogue.has_aggregates() and not is_lab

    def _labs(self) -> Mapping[str, str]:
        return self.context.layouts.get_or_build(
            "labs", self.context.catalogue.labs(), lab_folder_names
        )


def _lookup_folder(name: str, context: TreeContext) -> Folder:
    """Return the folder ``.by-eid``, ``.by-pid``, ``.by-ref`` or ``.search``."""
    # imported here, because a command that looks up the path of a file needs none of these modules;
    # a daemon has loaded all modules
    if name == SEARCH:
        from onefs.tree.search_folders import SearchRoot

        return SearchRoot(context)
    if name == BY_PID:
        from onefs.tree.by_pid import ByPidFolder

        return ByPidFolder(context)
    from onefs.tree.symlink_views import ByEidFolder, ByRefFolder

    return ByEidFolder(context) if name == BY_EID else ByRefFolder(context)


def _variant_root(context: TreeContext, variant: Variant, *folders: str) -> RootFolder:
    """Return the root of another tree: a tree as of a day, or a flat tree.

    ``context`` is the context of another root, and ``folders`` is the path from that root to the
    returned root.
    """
    prefix = (*context.path_prefix, *folders)
    return RootFolder(replace(context, variant=variant, path_prefix=prefix))

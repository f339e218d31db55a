"""The folder ``aggregates``: the datasets of no session, at ONE's own paths.

It is like the folder of a session: its folders are collections and revisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from onefs import alf
from onefs.model import Session
from onefs.tree.context import undated_folder_node
from onefs.tree.entries import Folder, TreeEntry
from onefs.tree.nodes import ListedEntry, Node
from onefs.tree.session_folder import LastLayout, SessionFolder

#: stands for the session of datasets that have none
_NO_SESSION = Session(eid="", lab=alf.AGGREGATES, subject="", date="", number=-1)
#: the path of the folder
AGGREGATES_PLACE = (alf.AGGREGATES,)


@dataclass(frozen=True, slots=True)
class AggregatesFolder(SessionFolder):
    """The folder ``aggregates``, or a folder in it."""

    session: Session = _NO_SESSION
    place: tuple[str, ...] = AGGREGATES_PLACE

    def node(self) -> Node:
        return undated_folder_node(self.context, alf.AGGREGATES, *self.folders)

    def child(self, name: str) -> TreeEntry:
        return self._listed_child(name)

    def children(self) -> list[tuple[str, Node]]:
        return [
            (name, self._file_node(self._open_or_listed(name, dataset)))
            if dataset is not None
            else (name, undated_folder_node(self.context, alf.AGGREGATES, *self.folders, name))
            for name, dataset in self._children_in(self._layout()).items()
        ]

    def entries(self) -> list[ListedEntry]:
        return Folder.entries(self)

    def xattrs(self) -> dict[str, str]:
        return {}

    def _child_from_alyx(self, name: str) -> TreeEntry:
        return self._listed_child(name)

    def _current_layout(self) -> LastLayout:
        catalogue = self.context.catalogue
        changes = catalogue.changes
        listing = catalogue.aggregates()
        layout = self.context.layouts.get_or_build(
            alf.AGGREGATES,
            listing,
            self.context.build_layout,
            lambda before, after: self.context.open_files.listing_changed(
                AGGREGATES_PLACE, before, after
            ),
            is_kept=True,  # a layout for each look-up would take seconds: there may be many
        )
        return LastLayout(layout, listing.version, changes, monotonic())

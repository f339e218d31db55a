"""The folder ``.by-pid``: a folder with links for each probe insertion, named by its pid.

``.by-pid/<pid>/`` has the links ``session``, ``alf`` (the probe's collection), ``raw`` (its
recording) and ``sorting``. The last one leads to the collection that brainbox's SpikeSortingLoader
would choose. A link exists only if its folder exists. ``.by-pid`` itself lists nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onefs import alf
from onefs.errors import NotFound
from onefs.model import Insertion, Session
from onefs.tree.context import TreeContext, undated_folder_node
from onefs.tree.entries import Folder, SymbolicLink
from onefs.tree.layout import Folders, SessionLayout
from onefs.tree.nodes import Node, inode_of_path
from onefs.tree.path_patterns import BY_PID
from onefs.tree.session_paths import session_path

#: the names of the links
_SESSION, _ALF, _RAW, _SORTING = "session", "alf", "raw", "sorting"
_LINKS = (_SESSION, _ALF, _RAW, _SORTING)
#: the sorters whose collections are preferred, the best one first
SORTERS = ("iblsorter", "pykilosort")


def sorting_collection(name: str, collections: Iterable[str]) -> str:
    """Return the collection with the spike sorting of the probe ``name``, or '' if there is none.

    ``collections`` are those with a file ``spikes*``, in alphabetical order. The choice is that of
    ``SpikeSortingLoader._get_spike_sorting_collection`` in brainbox.io.one.
    """
    of_probe = [each for each in collections if each.startswith(f"alf/{name}")]
    for sorter in SORTERS:
        if f"alf/{name}/{sorter}" in of_probe:
            return f"alf/{name}/{sorter}"
    return min(of_probe, key=len, default="")


@dataclass(frozen=True, slots=True)
class ByPidFolder(Folder):
    """The folder ``.by-pid``. It contains a folder for each insertion of the database."""

    context: TreeContext

    def node(self) -> Node:
        return undated_folder_node(self.context, BY_PID)

    def child(self, name: str) -> InsertionFolder:
        if not alf.is_uuid(name.lower()):
            raise NotFound(f"{name} is no pid: a pid is a UUID with dashes")
        catalogue = self.context.catalogue
        insertion = catalogue.insertions.get(name.lower())
        return InsertionFolder(self.context, name, insertion, catalogue.session(insertion.eid))


@dataclass(frozen=True, slots=True)
class InsertionFolder(Folder):
    """The folder of one insertion, with links to the folders that belong to it."""

    context: TreeContext
    #: the name of this folder, which is the pid
    pid: str
    insertion: Insertion
    session: Session

    def node(self) -> Node:
        return undated_folder_node(self.context, BY_PID, self.pid)

    def child(self, name: str) -> SymbolicLink:
        if name == _SESSION:
            return self._link(name, ())
        layout = self.context.load_layout(self.session) if name in _LINKS else None
        folders = self._targets(layout).get(name) if layout is not None else None
        if folders is None:
            raise NotFound(f"the probe insertion {self.pid} has no {name}")
        return self._link(name, folders)

    def children(self) -> list[tuple[str, Node]]:
        targets = {_SESSION: (), **self._targets(self.context.load_layout(self.session))}
        return [(name, self._link(name, folders).node()) for name, folders in targets.items()]

    def xattrs(self) -> dict[str, str]:
        return {"eid": self.session.eid, "ref": self.session.ref, "probe": self.insertion.name}

    def _targets(self, layout: SessionLayout) -> dict[str, Folders]:
        """Return the path below the session of each link to an existing folder but the session."""
        name = alf.path_component(self.insertion.name)
        with_spikes = sorted(
            "/".join(folders)
            for folders, children in layout.folders.items()
            if any(
                child.startswith("spikes") and dataset is not None
                for child, dataset in children.items()
            )
        )
        # a revision is a folder in its collection
        collections = dict.fromkeys(each.partition("/#")[0] for each in with_spikes)
        sorting = sorting_collection(name, collections)
        targets: dict[str, Folders] = {_ALF: ("alf", name), _RAW: ("raw_ephys_data", name)}
        existing = {link: path for link, path in targets.items() if path in layout.folders}
        return existing | ({_SORTING: tuple(sorting.split("/"))} if sorting else {})

    def _link(self, name: str, folders: Folders) -> SymbolicLink:
        context, session = self.context, self.session

        def target() -> str:
            place = session_path(context.catalogue, context.layouts, session)
            return "../../" + "/".join((*place, *folders))

        ino = inode_of_path(BY_PID, self.pid, name)
        return SymbolicLink(ino, 0, context.catalogue.created, target)

"""``.rest``: a link to the folder where ONE-api stores Alyx's responses, outside of the mount.

Each process gets its own folder, because ONE-api cannot share a folder between processes. ONE-api
writes a response in place, and removes a response that another process has only half written. If
two processes remove the same file, the later process ends with FileNotFoundError. Hosts and
containers may share the state folder (the folder for onefs's databases and for these folders), so
the name of a process's folder is ``<pid>-<pid namespace>``.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from onefs.errors import reason_of
from onefs.integers import parse_whole_number
from onefs.lowlevel.pids import is_abandoned, mark_used, pid_namespace_id, process_of_thread
from onefs.tree.entries import TreeEntry
from onefs.tree.nodes import Node, NodeKind, inode_of_path

log = logging.getLogger(__name__)

REST = ".rest"


@dataclass(frozen=True, slots=True)
class RestLink(TreeEntry):
    """The link ``.rest``. Reading the link creates the folder of the reading process."""

    #: the folder that contains the folders of all processes
    root: Path
    #: seconds since the epoch
    mtime: float

    def node(self) -> Node:
        return Node(NodeKind.LINK, inode_of_path(REST), 0, self.mtime)

    def read_target(self, caller: int) -> str:
        """Return the target of ``.rest``: the folder of the process with the thread ``caller``.

        ``caller`` is the thread's id, or 0 if the thread is unknown. The folder is created if it
        does not exist. The error of a failed creation is logged.
        """
        # another PID namespace's process may be hidden; its thread is better than no number
        process = process_of_thread(caller) or max(caller, 0)
        own = self.root / f"{process}-{pid_namespace_id()}"
        try:
            mark_used(own)
        except OSError:
            try:
                _make_process_folder(self.root, own)
            except OSError as error:
                log.warning(
                    "the folder %s, to which the link %s leads, cannot be created: %s",
                    own,
                    REST,
                    reason_of(error, own),
                )
        return str(own)


def _make_process_folder(root: Path, own: Path) -> None:
    """Create the folder ``own``, and remove the folders of processes that have ended."""
    root.mkdir(mode=0o700, exist_ok=True)  # not the parents: if one is missing, its disk is absent
    for folder in list(root.iterdir()):
        # in older versions of onefs the name was the pid alone
        pid, _, namespace = folder.name.partition("-")
        is_ours = folder != own and parse_whole_number(pid) is not None
        if is_ours and is_abandoned(folder, pid, namespace):
            shutil.rmtree(folder, ignore_errors=True)
    own.mkdir(mode=0o700, exist_ok=True)

"""``.rest``: a link to the folder where ONE-api stores Alyx's responses, outside of the mount.

Each process gets its own folder. ONE writes a response in place, removes a half-written one as
invalid, and fails if another process has removed it first: eight processes that share a folder
lose responses, and sometimes one of them ends with FileNotFoundError. Hosts and containers may
share the state folder, so the name of a process's folder is ``<pid>-<pid namespace>``.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from onefs.errors import reason_of
from onefs.integers import parse_whole_number
from onefs.lowlevel.pids import is_abandoned, mark_used, pid_namespace_id
from onefs.tree.entries import TreeEntry
from onefs.tree.nodes import Node, NodeKind, inode_of_path

log = logging.getLogger(__name__)

REST = ".rest"

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class RestLink(TreeEntry):
    """The link to the reading process's folder, which is created when the link is read."""

    #: the folder of all processes' folders
    root: Path
    #: seconds since the epoch
    mtime: float

    def node(self) -> Node:
        return Node(NodeKind.LINK, inode_of_path(REST), 0, self.mtime)

    def read_target(self, caller: int) -> str:
        """Return the folder for the process of the thread id ``caller``, 0 if it is unknown."""
        own = self.root / f"{_process_id_of(caller)}-{pid_namespace_id()}"
        try:
            mark_used(own)
        except OSError:
            try:
                _make_process_folder(self.root, own)
            except OSError as error:
                log.warning(
                    "%s, the target of %s, cannot be created: %s", own, REST, reason_of(error, own)
                )
        return str(own)


def _make_process_folder(root: Path, own: Path) -> None:
    """Create the folder, and remove those of processes that have ended."""
    root.mkdir(mode=0o700, exist_ok=True)  # not its parents: they exist, or their disk is absent
    for folder in list(root.iterdir()):
        # older versions used the pid alone, whichever the host
        pid, _, namespace = folder.name.partition("-")
        is_ours = folder != own and parse_whole_number(pid) is not None
        if is_ours and is_abandoned(folder, pid, namespace):
            shutil.rmtree(folder, ignore_errors=True)
    own.mkdir(mode=0o700, exist_ok=True)


def _process_id_of(thread: int) -> int:
    """Return the process of a thread id; the thread id itself if ``/proc`` does not show it."""
    try:
        with (_PROC / str(thread) / "status").open(errors="replace") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))
    except (OSError, StopIteration, ValueError):
        return thread if thread > 0 else 0

"""``.rest``: where ONE-api keeps Alyx's answers, and the one link that leads out of the mount.

Each process gets a folder of its own. ONE writes an answer in place, takes a half-written one for
broken and removes it, and fails when another process has removed it first: eight processes that
share a folder lose answers, and now and then one ends with FileNotFoundError. Hosts and containers
may share the state folder, so a folder's name is ``<pid>-<what the pid is of>``.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from onefs.errors import reason_of
from onefs.integers import parse_whole_number
from onefs.lowlevel.pids import is_abandoned, mark_used, pid_namespace_id
from onefs.tree.nodes import Node, NodeKind, inode_of_path

log = logging.getLogger(__name__)

REST = ".rest"

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class RestLink:
    """The link, to a folder below ``root`` that is made when it is followed."""

    root: Path
    #: seconds since the epoch
    mtime: float

    def node(self) -> Node:
        return Node(NodeKind.LINK, inode_of_path(REST), 0, self.mtime)

    def read_target(self, caller: int) -> str:
        """The folder of the process that the thread ``caller`` is of; 0 when it is unknown."""
        own = self.root / f"{_process_id_of(caller)}-{pid_namespace_id()}"
        try:
            mark_used(own)
        except OSError:
            try:
                _make_process_folder(self.root, own)
            except OSError as error:
                log.warning(
                    "%s, where %s leads, cannot be made: %s", own, REST, reason_of(error, own)
                )
        return str(own)

    def xattrs(self) -> dict[str, str]:
        return {}


def _make_process_folder(root: Path, own: Path) -> None:
    """Make the folder, and remove those of processes that have ended."""
    root.mkdir(mode=0o700, exist_ok=True)  # the folder above is there, or its disk is away
    for folder in list(root.iterdir()):
        # names were numbers only before, whichever host's
        pid, _, space = folder.name.partition("-")
        if (
            folder != own
            and parse_whole_number(pid) is not None
            and is_abandoned(folder, pid, space)
        ):
            shutil.rmtree(folder, ignore_errors=True)
    own.mkdir(mode=0o700, exist_ok=True)


def _process_id_of(thread: int) -> int:
    """The process of a thread; the thread itself when that cannot be seen."""
    try:
        with (_PROC / str(thread) / "status").open(errors="replace") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))
    except (OSError, StopIteration, ValueError):
        return thread if thread > 0 else 0

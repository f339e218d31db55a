"""``.rest``: where ONE-api keeps Alyx's answers, and the one link that leads out of the mount.

Each process gets a folder of its own. ONE writes an answer in place, takes a half-written one for
broken and removes it, and fails when another process has removed it first: eight processes that
share a folder lose answers, and now and then one ends with FileNotFoundError. Hosts and containers
may share the state folder, so a folder's name is ``<pid>-<what the pid is of>``.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from onefs.tree.nodes import Kind, Node, inode_of_path

log = logging.getLogger(__name__)

REST = ".rest"

#: days without use after which a folder of another host, or container, is removed
UNUSED_DAYS = 30
_DAY = 86400.0

_PROC = Path("/proc")
_BOOT_ID = _PROC / "sys/kernel/random/boot_id"


@dataclass(frozen=True, slots=True)
class RestLink:
    """The link, to a folder below ``root`` that is made when it is followed."""

    root: Path
    #: seconds since the epoch
    mtime: float

    def node(self) -> Node:
        return Node(Kind.LINK, inode_of_path(REST), 0, self.mtime)

    def follow(self, caller: int) -> str:
        """The folder of the process that the thread ``caller`` is of; 0 when it is unknown."""
        own = self.root / f"{_process_of(caller)}-{_pid_space()}"
        try:
            _keep(own)
        except OSError:
            try:
                _make(self.root, own)
            except OSError as error:
                log.warning("%s, where %s leads, cannot be made: %s", own, REST, error.strerror)
        return str(own)

    def xattrs(self) -> dict[str, str]:
        return {}


def _keep(own: Path) -> None:
    """Mark a folder as used, once a day. Raises OSError when it is not there."""
    if time.time() - own.stat().st_mtime > _DAY:
        os.utime(own)


def _make(root: Path, own: Path) -> None:
    """Make the folder, and remove those of processes that have ended."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in list(root.iterdir()):
        if folder != own and _is_forsaken(folder):
            shutil.rmtree(folder, ignore_errors=True)
    own.mkdir(mode=0o700, exist_ok=True)


def _is_forsaken(folder: Path) -> bool:
    """Whether the process of a folder has ended; one of another kernel, when it is long unused.

    Nothing here says whether a process of another host or container still runs. Before, names were
    numbers only, whichever host's.
    """
    pid, _, space = folder.name.partition("-")
    if not pid.isdecimal():
        return False
    if space == _pid_space():
        return pid != "0" and not _runs(int(pid))
    try:
        return time.time() - folder.stat().st_mtime > UNUSED_DAYS * _DAY
    except OSError:
        return False


def _runs(pid: int) -> bool:
    """Whether there is such a process; ``/proc`` may hide those of other users."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


@lru_cache(maxsize=1)
def _pid_space() -> str:
    """What tells a process's number from the same number elsewhere: host, boot and container."""
    parts = [platform.node()]
    for read in (_BOOT_ID.read_text, partial(os.readlink, _PROC / "self/ns/pid")):
        with suppress(OSError):
            parts.append(read())
    return hashlib.sha1("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _process_of(thread: int) -> int:
    """The process of a thread; the thread itself when that cannot be seen."""
    try:
        with (_PROC / str(thread) / "status").open(errors="replace") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))
    except (OSError, StopIteration, ValueError):
        return thread if thread > 0 else 0

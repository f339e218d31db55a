"""Numbers of processes in names of files that hosts and containers share."""

from __future__ import annotations

import hashlib
import os
import platform
import time
import uuid
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

#: days without use after which what belongs to a process elsewhere is removed
UNUSED_DAYS = 30
_DAY_SECONDS = 86400.0


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return the kernel's identifier of this boot of the machine, a UUID.

    Where the kernel has none, it is random for each process: data of another process then counts
    as of another boot, which is the safe side.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return str(uuid.uuid4())


def pid_namespace_id() -> str:
    """What tells a process's number from the same number elsewhere: host, boot and container."""
    parts = [platform.node(), boot_id() + "\n"]
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha1("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def is_abandoned(folder: Path, pid: str, namespace_id: str) -> bool:
    """Whether the process of a folder has ended; of one elsewhere, whether it is long unused.

    Nothing here says whether a process of another host or container still runs. The number 0 is of
    an unknown process.
    """
    if namespace_id == pid_namespace_id():
        return pid != "0" and not _is_running(int(pid))
    try:
        return time.time() - folder.stat().st_mtime > UNUSED_DAYS * _DAY_SECONDS
    except OSError:
        return False


def mark_used(folder: Path) -> None:
    """Note once a day that a folder is in use. Raises OSError when it is not there."""
    if time.time() - folder.stat().st_mtime > _DAY_SECONDS:
        os.utime(folder)


def _is_running(pid: int) -> bool:
    """Whether there is such a process; ``/proc`` may hide those of other users."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True

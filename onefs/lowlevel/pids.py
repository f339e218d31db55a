"""Process ids in names of files that several hosts and containers share, and the boot id."""

from __future__ import annotations

import hashlib
import os
import platform
import time
import uuid
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

#: days without use after which the folder of a process on another host is removed
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
    """Return 12 hex digits for this host, boot and container, in which process ids are unique."""
    parts = [platform.node(), boot_id() + "\n"]
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha1("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def is_abandoned(folder: Path, pid: str, namespace_id: str) -> bool:
    """Whether the process of ``folder`` has ended, or on another host, whether it is long unused.

    Whether a process of another host or container still runs cannot be found out. The process id 0
    stands for an unknown process.
    """
    if namespace_id == pid_namespace_id():
        return pid != "0" and not _is_running(int(pid))
    try:
        return time.time() - folder.stat().st_mtime > UNUSED_DAYS * _DAY_SECONDS
    except OSError:
        return False


def mark_used(folder: Path) -> None:
    """Update a folder's mtime once a day while it is in use. Raises OSError if it is missing."""
    if time.time() - folder.stat().st_mtime > _DAY_SECONDS:
        os.utime(folder)


def _is_running(pid: int) -> bool:
    """Whether the process exists; ``/proc`` may hide processes of other users."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True

"""Process ids: of threads, and in the names of files that several hosts share; and the boot id."""

from __future__ import annotations

import hashlib
import os
import platform
import time
import uuid
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from onefs.lowlevel.files import read_small_file

#: days without use after which the folder of a process on another host is removed
UNUSED_DAYS = 30
_DAY_SECONDS = 86400.0


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return the kernel's identifier for this boot of the machine, a UUID.

    If there is none, return a random UUID, which is different in each process.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        # data of another process then counts as data of another boot, which is safe
        return str(uuid.uuid4())


def pid_namespace_id() -> str:
    """Return 12 hex digits that identify this host, boot and container.

    Process ids are unique among processes with the same 12 digits.
    """
    parts = [platform.node(), boot_id() + "\n"]
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha1("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def process_of_thread(thread: int) -> int | None:
    """Return the pid of the process that a thread belongs to.

    Return None if ``/proc`` does not show the thread.
    """
    if thread <= 0:
        return None
    try:
        lines = read_small_file(f"/proc/{thread}/status").splitlines()
    except OSError:
        return None
    fields = (line.partition(b":\t") for line in lines)
    return next((int(value) for name, _, value in fields if name == b"Tgid"), None)


def is_abandoned(folder: Path, pid: str, namespace_id: str) -> bool:
    """Whether the folder of a process is no longer used.

    ``pid`` and ``namespace_id`` identify the process.

    - A process of this host and container uses its folder until it ends.
    - If the pid is unknown (0), the folder counts as used.
    - The folder of a process of another host or container is abandoned after UNUSED_DAYS without
      use.
    """
    if namespace_id == pid_namespace_id():
        return pid != "0" and not _is_running(int(pid))
    try:
        # on another host or in another container: the process may still run
        return time.time() - folder.stat().st_mtime > UNUSED_DAYS * _DAY_SECONDS
    except OSError:
        return False


def mark_used(folder: Path) -> None:
    """Set a folder's mtime to now if the mtime is more than one day old.

    Raises OSError if the folder is missing.
    """
    if time.time() - folder.stat().st_mtime > _DAY_SECONDS:
        os.utime(folder)


def _is_running(pid: int) -> bool:
    """Whether the process exists, also if it belongs to another user.

    ``/proc`` is not used, because it may hide processes of other users.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True

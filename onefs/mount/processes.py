"""Find out from ``/proc`` whether a process is still running, and which processes use a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from onefs.integers import parse_whole_number

_PROC = Path("/proc")
_POLL_SECONDS = 0.05


class ProcessInUse(NamedTuple):
    """A process that uses a folder of a mount, so that the mount is busy."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.command} ({self.pid})"


def start_ticks_of(pid: int) -> int | None:
    """Return the time at which a process started, in clock ticks since the boot.

    Return None if the process has ended.
    """
    # with the id of the boot, this time distinguishes a process from a later one with the same pid
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # the command is in parentheses before the fields, and may contain any character
    fields = text.rpartition(")")[2].split()
    state, threads, ticks = fields[0], int(fields[17]), int(fields[19])
    # While other threads of a killed process still have files open, its first thread is a zombie.
    return None if state in "ZX" and threads <= 1 else ticks


def wait_for_exit(pid: int, timeout: float) -> bool:
    """Wait until a process has ended.

    Return False if the process is still running after ``timeout`` seconds, True otherwise.
    """
    started = start_ticks_of(pid)
    return started is None or wait_until(lambda: start_ticks_of(pid) != started, timeout)


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Wait until ``condition`` returns True.

    Return False if ``condition`` is still false after ``timeout`` seconds, True otherwise.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def processes_using(folder: str) -> list[ProcessInUse]:
    """Return the processes that use ``folder``, sorted by pid. Does not access ``folder``.

    A process uses the folder if its working directory, or a file that it has open or mapped, is in
    the folder. Only processes that this user may inspect are found.
    """
    # all information comes from ``/proc``
    inside = folder.rstrip("/") + "/"
    users = []
    for process in _PROC.iterdir():
        pid = parse_whole_number(process.name)
        if pid is not None and _uses_folder(process, inside):
            command = _read_text(process / "comm", "replace").strip()
            users.append(ProcessInUse(pid, command or "?"))
    return sorted(users, key=lambda user: user.pid)


def _uses_folder(process: Path, inside: str) -> bool:
    links = [process / "cwd", process / "root", process / "exe"]
    with suppress(OSError):  # the process has ended, or belongs to another user
        links += (process / "fd").iterdir()
    for link in links:
        with suppress(OSError):
            if (os.readlink(link) + "/").startswith(inside):
                return True
    return f" {inside}" in _read_text(process / "maps", "surrogateescape")


def _read_text(file: Path, errors: str) -> str:
    try:
        return file.read_text(errors=errors)
    except OSError:
        return ""

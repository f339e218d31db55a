"""Processes in ``/proc``: whether one still runs, and which ones use a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from onefs.integers import parse_whole_number

_PROC = Path("/proc")
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ProcessInUse:
    """A process that keeps a mount busy."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.command} ({self.pid})"


def start_ticks_of(pid: int) -> int | None:
    """Return when a process started, in clock ticks since the boot; None if it has ended.

    Together with the boot, this distinguishes a process from a later one with the same pid.
    """
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the command before may contain any character
    state, threads, ticks = fields[0], int(fields[17]), int(fields[19])
    # The first thread of a killed process is a zombie while other threads still have files open.
    return None if state in "ZX" and threads <= 1 else ticks


def wait_for_exit(pid: int, timeout: float) -> bool:
    """Wait until a process has ended; return False if it still runs after ``timeout`` seconds."""
    started = start_ticks_of(pid)
    return started is None or wait_until(lambda: start_ticks_of(pid) != started, timeout)


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Wait until a condition is true; return False if it is not after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def processes_using(folder: str) -> list[ProcessInUse]:
    """Return the processes with an open or mapped file, or a working directory, in ``folder``.

    Only those that this user may inspect. Reads ``/proc``, and does not access the folder.
    """
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
    with suppress(OSError):  # it has ended, or belongs to another user
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

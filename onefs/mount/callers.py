"""The programs that request operations: the process of a thread, and its names."""

from __future__ import annotations

import time
from typing import NamedTuple

from onefs.lowlevel.files import read_small_file

#: seconds for which the answer of ``/proc`` counts. Each file that is not cached needs it several
#: times, and a program reads many files in this time
_TTL_SECONDS = 0.25
_MAX_REMEMBERED = 256


class Caller(NamedTuple):
    """A thread that requests operations."""

    #: the name of the thread, then that of its process if it is another thread than the first
    names: tuple[str, ...]
    #: the pid; None if ``/proc`` does not show the thread
    process: int | None


UNKNOWN_CALLER = Caller((), None)
_remembered: dict[int, tuple[float, Caller]] = {}


def caller_of(thread: int) -> Caller:
    """Return what ``/proc`` says about the thread with the id ``thread``, now or just before.

    Return UNKNOWN_CALLER if ``/proc`` does not show the thread.
    """
    now = time.monotonic()
    known = _remembered.get(thread)
    if known is not None and now < known[0]:
        return known[1]
    if len(_remembered) >= _MAX_REMEMBERED:
        _remembered.clear()
    caller = _read(thread)
    _remembered[thread] = now + _TTL_SECONDS, caller
    return caller


def _read(thread: int) -> Caller:
    if thread <= 0:
        return UNKNOWN_CALLER
    try:
        head = _read_proc_file(f"/proc/{thread}/status").splitlines()[:6]
        status = dict(line.split(":\t", 1) for line in head if ":\t" in line)
        name, process = status["Name"], int(status["Tgid"])
    except (OSError, KeyError, ValueError):
        return UNKNOWN_CALLER
    if process == thread:  # the first thread and the process have the same name
        return Caller((name,), process)
    try:
        return Caller((name, _read_proc_file(f"/proc/{process}/comm").rstrip("\n")), process)
    except OSError:
        return UNKNOWN_CALLER


def _read_proc_file(path: str) -> str:
    return read_small_file(path).decode("utf-8", "replace")

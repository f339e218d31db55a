"""Programs that read whatever they find: indexers and thumbnailers cause no downloads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from onefs.errors import IndexerBlocked
from onefs.lowlevel.files import read_small_file

#: the kernel cuts a program's name (comm) off here
_COMM_CHARACTERS = 15

log = logging.getLogger(__name__)


class IndexerFilter:
    """Refuses bytes that would have to be fetched to the programs of a list.

    ``reader`` gives the thread id of whoever the running operation is for, 0 when it is unknown:
    who cannot be known is served.
    """

    def __init__(self, blocked_programs: Iterable[str], caller_thread: Callable[[], int]) -> None:
        self._blocked_programs = frozenset(name[:_COMM_CHARACTERS] for name in blocked_programs)
        self._caller_thread = caller_thread
        self._logged_programs: set[str] = set()
        self._lock = threading.Lock()

    def check_caller(self, path: str) -> None:
        """Raise IndexerBlocked when the reader is one of the list; logged once for each program."""
        if not self._blocked_programs:
            return
        thread = self._caller_thread()
        name = next(
            (name for name in program_names_of(thread) if name in self._blocked_programs), None
        )
        if name is None:
            return
        refusal = IndexerBlocked(
            f"{path} is not fetched for {name}: programs of its kind read cached files only "
            "(ONEFS_INDEXERS)"
        )
        with self._lock:
            if name not in self._logged_programs:
                self._logged_programs.add(name)
                log.warning("%s", refusal)
        raise refusal


#: refuses nobody
ALLOW_ALL = IndexerFilter((), lambda: 0)


def program_names_of(thread: int) -> list[str]:
    """What a thread, and its process, are called; [] when it is gone or cannot be seen."""
    if thread <= 0:
        return []
    try:
        head = _read_proc_file(f"/proc/{thread}/status").splitlines()[:6]
        status = dict(line.split(":\t", 1) for line in head if ":\t" in line)
        found, process = [status["Name"]], status["Tgid"]
        if process != str(thread):
            found.append(_read_proc_file(f"/proc/{process}/comm").rstrip("\n"))
    except (OSError, KeyError):
        return []
    return found


def _read_proc_file(path: str) -> str:
    return read_small_file(path).decode("utf-8", "replace")

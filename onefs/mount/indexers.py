"""Prevent downloads for programs that read all files, such as indexers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from onefs.errors import IndexerBlocked
from onefs.mount.callers import caller_of

#: the kernel truncates a program's name (comm) to this length
_COMM_CHARACTERS = 15

log = logging.getLogger(__name__)


class IndexerFilter:
    """A filter that lets the programs ``blocked_programs`` read only bytes that are cached.

    ``caller_thread`` returns the id of the thread that requested the running operation. Its result
    is 0 for an unknown thread, which may read all bytes.
    """

    def __init__(self, blocked_programs: Iterable[str], caller_thread: Callable[[], int]) -> None:
        self._blocked_programs = frozenset(name[:_COMM_CHARACTERS] for name in blocked_programs)
        self._caller_thread = caller_thread
        self._logged_programs: set[str] = set()
        self._lock = threading.Lock()

    def check_caller(self, path: str) -> None:
        """Raise IndexerBlocked if a blocked program has requested the running operation.

        ``path`` is named in the error. The error is logged once for each program.
        """
        if not self._blocked_programs:
            return
        names = caller_of(self._caller_thread()).names
        name = next((name for name in names if name in self._blocked_programs), None)
        if name is None:
            return
        refusal = IndexerBlocked(
            f"{path} is not fetched for the program {name}: programs that index files can read "
            "only cached files (ONEFS_INDEXERS changes the list of these programs)"
        )
        with self._lock:
            if name not in self._logged_programs:
                self._logged_programs.add(name)
                log.warning("%s", refusal)
        raise refusal


#: a filter that refuses no program
ALLOW_ALL = IndexerFilter((), lambda: 0)
